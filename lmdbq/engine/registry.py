"""Who works: workers that have said so in the last minute, kept in memory, as nothing of it is worth a sync.

What they say of their types is stored (``changes`` tells what is new of it), so it outlives them and the daemon. A
worker says the same every few seconds. Only its first word changes types: two workers of different releases would
otherwise overwrite each other for as long as both run.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from lmdbq.limits import SECOND_NS
from lmdbq.model import TypePut, TypeView
from lmdbq.wire.registrations import Registration, type_answer
from lmdbq.wire.workers import WorkerAnswer, WorkersAnswer

KNOWN_NS: Final = 60 * SECOND_NS  # for so long after its last word a worker is shown, and counts as a consumer


class _Known(Struct):
    said: Registration
    registered_at: int
    seen_at: int


class Registry:
    """The workers of an engine."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}

    def changes(self, said: Registration, stored: list[TypeView]) -> tuple[TypePut, ...]:
        """Return the ops that make the store know what ``said`` says of types; none if the worker said it before."""
        known = self._known.get(said.name)
        if known is not None and known.said == said:
            return ()
        views = {view.name: (view.settings, view.schema) for view in stored}
        nothing = TypePut("")
        return tuple(
            put
            for put in said.types
            if views.get(put.name, (nothing.settings, nothing.schema)) != (put.settings, put.schema)
        )

    def note(self, said: Registration, now_wall: int) -> WorkerAnswer:
        """Remember that a worker was heard of, and return it."""
        known = self._known.get(said.name)
        began_at = known.registered_at if known is not None else now_wall
        self._known[said.name] = found = _Known(said, began_at, now_wall)
        return _answer(found)

    def touch(self, name: str, now_wall: int) -> WorkerAnswer | None:
        """Remember that a worker was heard of; None if it is not known."""
        self._expire(now_wall)
        known = self._known.get(name)
        return None if known is None else self.note(known.said, now_wall)

    def forget(self, name: str) -> None:
        """Forget a worker that ends."""
        self._known.pop(name, None)

    def takes(self, queue: str, kind: str, now_wall: int) -> bool:
        """Whether a worker that was heard of lately runs this type of this queue."""
        self._expire(now_wall)
        return any(
            queue in known.said.queue_names and (not known.said.types or kind in _names(known))
            for known in self._known.values()
        )

    def answer(self, now_wall: int, stored: list[TypeView]) -> WorkersAnswer:
        """Return who works, by name, and what is stored of types."""
        self._expire(now_wall)
        workers = [_answer(known) for _, known in sorted(self._known.items())]
        return WorkersAnswer(workers, [type_answer(view) for view in stored])

    def _expire(self, now_wall: int) -> None:
        for name in [name for name, known in self._known.items() if abs(now_wall - known.seen_at) > KNOWN_NS]:
            del self._known[name]  # also where the clock was put back: who still works says so again


def _names(known: _Known) -> set[str]:
    return {put.name for put in known.said.types}


def _answer(known: _Known) -> WorkerAnswer:
    said = known.said
    types = [put.name for put in said.types]
    return WorkerAnswer(said.name, list(said.queue_names), types, said.concurrency, known.registered_at, known.seen_at)
