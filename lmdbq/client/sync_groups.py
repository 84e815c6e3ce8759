"""A group of a ``Client``. Made from ``aio_groups.py`` by ``packaging/make_sync.py``: change that one."""

from __future__ import annotations

from typing import Unpack

from lmdbq.client import core_groups as core
from lmdbq.client.group_options import GroupOptions, group_fields_of
from lmdbq.client.info import GroupInfo
from lmdbq.client.places import Transport


class GroupHandle:
    """A group, by its key; it comes with its first task, or with settings."""

    def __init__(self, transport: Transport, key: str) -> None:
        self._transport = transport
        self.key = key

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.key!r}>"

    def info(self) -> GroupInfo:
        """Return it as it stands: what holds for it, what runs and waits, its tokens. Raises NotFound."""
        return self._transport.call(core.group(self.key))

    def put(self, **settings: Unpack[GroupOptions]) -> GroupInfo:
        """Give it settings of its own, in place of all that it had: ``put(max_running=3, rate=(10, 60))``."""
        return self._transport.call(core.put_group(self.key, group_fields_of(settings)))

    def set(self, **settings: Unpack[GroupOptions]) -> GroupInfo:
        """Replace the settings that are named; None: it says nothing of it any more, so that a rule may."""
        return self._transport.call(core.patch_group(self.key, group_fields_of(settings)))

    def pause(self) -> GroupInfo:
        """Start nothing more of it; what runs goes on."""
        return self._transport.call(core.pause_group(self.key))

    def resume(self) -> GroupInfo:
        """Start its tasks again."""
        return self._transport.call(core.resume_group(self.key))

    def delete(self) -> None:
        """Take its own settings away; its tasks stay, and rules hold for it again. Raises NotFound."""
        self._transport.call(core.delete_group(self.key))
