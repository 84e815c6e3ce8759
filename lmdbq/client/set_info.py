"""Sets in Python's values: how they are made, and how one stands (``SetInfo``)."""

from __future__ import annotations

import inspect
from datetime import datetime
from typing import Any, Final, Literal, TypedDict

from msgspec import UNSET, Struct

from lmdbq.client.entries import Entry
from lmdbq.client.options import Seconds, entry_fields, moment, seconds, translate
from lmdbq.client.tasks import Task
from lmdbq.sets import COUNTED
from lmdbq.wire.set_shapes import SetAnswer

TOLD: Final = ("set_id", "state", "members", *COUNTED)


class SetOptions(TypedDict, total=False):
    """What a set waits for, and what is enqueued once, in the same transaction as what decides it.

    condition: "all" members succeeded (default), "any" did, or all are "finished", however they ended. callback: what
    is enqueued when the set is met; on_unmet: when it is closed, all are over, and it is not. An entry has arguments
    (or a payload) of its own; a task is called without any if it takes none, else with ``set_id``, ``state`` and the
    counts of SetInfo: ``def report(set_id: str, **counts: Any)``. keep: seconds for which the set can be read after
    that (default 7 days).
    """

    condition: Literal["all", "any", "finished"]
    callback: Entry[Any] | Task[..., Any]
    on_unmet: Entry[Any] | Task[..., Any]
    keep: Seconds


class SetInfo(Struct, frozen=True, kw_only=True):
    """A set as it was when it was asked for; once it is met or unmet, how its members stood then.

    members = pending + succeeded + dead + cancelled + expired + deleted. state: open, closed, met or unmet. ended_at:
    when it was decided. remove_at: when it is forgotten. reason: why the queue itself has ended it.
    """

    id: str
    state: str
    condition: str
    members: int
    pending: int
    succeeded: int
    dead: int
    cancelled: int
    expired: int
    deleted: int
    created_at: datetime | None
    ended_at: datetime | None
    remove_at: datetime | None
    reason: str

    @property
    def is_decided(self) -> bool:
        """Whether it is met or unmet, and so for ever."""
        return self.state in ("met", "unmet")


def set_info(answer: SetAnswer) -> SetInfo:
    """Return an answer of the API in Python's values."""
    return SetInfo(
        id=answer.id,
        state=answer.state,
        condition=answer.condition,
        members=answer.members,
        pending=answer.pending,
        succeeded=answer.succeeded,
        dead=answer.dead,
        cancelled=answer.cancelled,
        expired=answer.expired,
        deleted=answer.deleted,
        created_at=moment(answer.created_at),
        ended_at=moment(answer.ended_at),
        remove_at=moment(answer.remove_at),
        reason="" if answer.reason is UNSET else answer.reason,
    )


def _follower(what: Entry[Any] | Task[..., Any]) -> dict[str, Any]:
    return entry_fields(what if isinstance(what, Entry) else _told(what))


def _told(task: Task[..., Any]) -> Entry[Any]:
    """Return a task as what follows a set. Raises TypeError if it cannot be called with what it will be told."""
    parameters = inspect.signature(task.function).parameters.values()
    if not parameters:
        return task.entry()
    takes_rest = any(one.kind is inspect.Parameter.VAR_KEYWORD for one in parameters)
    named = [one for one in parameters if one.kind is not inspect.Parameter.VAR_KEYWORD]
    strange = [one.name for one in named if one.default is inspect.Parameter.empty and one.name not in TOLD]
    untold = [] if takes_rest else [name for name in TOLD if name not in {one.name for one in named}]
    if strange or untold:
        raise TypeError(
            f"{task.name} cannot follow a set as it is: it is told {', '.join(TOLD)}; make it "
            f"{task.name}(set_id, **counts), or let it take nothing, or give an entry with arguments of its own"
        )
    return Entry(task.name, **task.options)


def set_fields_of(options: SetOptions) -> dict[str, Any]:
    """Return the fields of the API that say what a set is. Raises TypeError for an option that does not exist."""
    readers: Any = {
        "condition": ("condition", str),
        "callback": ("callback", _follower),
        "on_unmet": ("on_unmet", _follower),
        "keep": ("keep_in_seconds", seconds),
    }
    return {name: value for name, value in translate(options, readers).items() if value is not None}
