"""How the engine learns that another process has committed to the file.

On Linux inotify tells at once that somebody wrote to it (LMDB writes through a descriptor, so each commit shows as
IN_MODIFY). Where there is no inotify, or the user has run out of watches, the value of ``store.changed()`` is polled.

Our own commits show as well. They are told apart by a chain of values of ``changed()``: ``_known`` is the value whose
news everybody has. An apply notes the value before and after itself, and a gap means that somebody else was there.
Between applies, while the writer is surely idle, the value itself is compared. The trap would be to compare while an
apply runs: our own commit would look foreign, and a foreign one that came together with it would be missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from lmdbq.store.base import Store

_IN_MODIFY: Final = 0x2
_IN_CLOSE_WRITE: Final = 0x8
_EVENTS_BYTES: Final = 64 * 1024


class CommitWatch:
    """Calls ``foreign`` on the event loop when another process has committed to ``store``.

    idle: whether no apply of ours runs or waits. A store that is no file, which no other process can open, is not
    watched: ``watched`` is False, and everything else here does nothing.
    """

    def __init__(self, store: Store, idle: Callable[[], bool], foreign: Callable[[], None]) -> None:
        self._store = store
        self._idle = idle
        self._foreign = foreign
        self._loop = asyncio.get_running_loop()
        path = Path(store.info().path)
        self.watched = path.is_file()
        self._known = store.changed() if self.watched else 0
        self._file = open_watch(path) if self.watched else None
        if self._file is not None:
            self._loop.add_reader(self._file.fileno(), self._heard)

    @property
    def must_poll(self) -> bool:
        """Whether nobody tells us, so that ``look`` has to be called often."""
        return self.watched and self._file is None

    def applied(self, before: int, after: int, wrote: bool) -> None:
        """Take note of an apply of ours, and of ``changed()`` before and after it. A commit moves that by one."""
        if self.watched:
            others = before != self._known or after - before not in (0, int(wrote))
            self._known = after
            if others:
                self._foreign()

    def look(self) -> None:
        """Compare now; while an apply of ours runs, ``applied`` will find out instead."""
        if self.watched and self._idle():
            changed = self._store.changed()
            if changed != self._known:
                self._known = changed
                self._foreign()

    def close(self) -> None:
        """Stop watching; once."""
        if self._file is not None:
            self._loop.remove_reader(self._file.fileno())
            self._file.close()

    def _heard(self) -> None:
        assert self._file is not None
        self._file.drain()
        self.look()


class FileWatch:
    """An inotify descriptor on one file: readable when somebody wrote to it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._descriptor

    def drain(self) -> None:
        """Take the events that wait, if any do. If there are more of them than fit, the descriptor stays readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._descriptor, _EVENTS_BYTES)

    def close(self) -> None:
        """Give up the descriptor; once."""
        os.close(self._descriptor)


def open_watch(path: Path) -> FileWatch | None:
    """Return a watch on the file ``path``, None where that cannot be had."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    descriptor = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    if descriptor < 0:
        return None
    if libc.inotify_add_watch(descriptor, os.fsencode(path), _IN_MODIFY | _IN_CLOSE_WRITE) < 0:
        os.close(descriptor)
        return None
    return FileWatch(descriptor)
