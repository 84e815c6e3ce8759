"""Dedupe keys in a simulation: who holds a slot, whether it stands in a newcomer's way, and what a task is folded to.

Only keys of the scope "queue" are drawn. A slot names the last task that took it; it blocks *surely* if each state that
the task can be in blocks, and *maybe* if one of them does. A newcomer that was let in may not have been surely blocked,
and one that was joined to the holder must have been maybe.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from lmdbq.lifecycle import ResolvedDedupe, resolve_dedupe
from lmdbq.model import DEFAULT_SETTINGS, Entry, Fold, Outcome, Placed, State, Until
from lmdbq.storm.sim_life import Fault, Life

_BLOCKING = {
    Until.STARTED: {State.SCHEDULED, State.READY},
    Until.FINISHED: {State.SCHEDULED, State.READY, State.RUNNING},
    Until.DELETED: set(State),
}


class Slot(NamedTuple):
    """Who took a key last, when, and for how long it stands in the way whatever becomes of it (0: it does not)."""

    life: Life
    taken_at: int
    ttl_ns: int


class Keys:
    """Hears of each entry that has a key, and raises Fault."""

    def __init__(self) -> None:
        self._slots: dict[tuple[str, str], Slot] = {}

    def check(self, entry: Entry, placed: Placed, now: int, latest: int) -> None:
        """Check what an entry was answered, before it is taken down. latest: wall time has been as late as that."""
        rule = resolve_dedupe(entry, DEFAULT_SETTINGS)
        if rule is None:
            return
        slot = self._slots.get((entry.queue, rule.key))
        surely, maybe = self._blocks(slot, rule, now, latest)
        if placed.outcome is Outcome.ENQUEUED:
            if surely and slot is not None:
                problem = f"it was let in beside {slot.life.id}, {slot.life.words()}, which has its key {rule.key}"
                raise Fault(problem, placed.id, slot.life.id)
        elif slot is None or placed.id != slot.life.id or not maybe:
            raise Fault(f"an entry with key {rule.key} was {placed.outcome.value}, and nobody has its key", placed.id)

    def taken(self, entry: Entry, life: Life, now: int) -> None:
        """A new task took its key."""
        rule = resolve_dedupe(entry, DEFAULT_SETTINGS)
        life.payload = entry.payload
        if rule is not None:
            self._slots[entry.queue, rule.key] = Slot(life, now, rule.ttl_ns if rule.until is Until.TTL else 0)
            if rule.fold is Fold.APPEND:
                life.payload = _encode([json.loads(entry.payload)])

    def overwritten(self, entry: Entry, life: Life) -> None:
        """A task that waits was given what a newcomer brought."""
        rule = resolve_dedupe(entry, DEFAULT_SETTINGS)
        if rule is None or life.payload is None:
            raise Fault("it was overwritten by an entry without a key", life.id)
        if rule.fold is not None:
            old, new = json.loads(life.payload), json.loads(entry.payload)
            life.payload = _encode([*old, new] if rule.fold is Fold.APPEND else old + new)
        elif "payload" in rule.overwrite:
            life.payload = entry.payload

    def retried(self, life: Life, now: int) -> None:
        """A task that is tried again by hand has its key again."""
        if life.options.dedupe is not None:
            known = self._slots.get((life.queue, life.options.dedupe.key))
            if known is None or known.life is not life:
                ttl_ns = life.options.dedupe.ttl_ns if life.options.dedupe.until is Until.TTL else 0
                self._slots[life.queue, life.options.dedupe.key] = Slot(life, now, ttl_ns)

    def purged(self, queue: str) -> None:
        """All keys of a queue are free."""
        self._slots = {name: slot for name, slot in self._slots.items() if name[0] != queue}

    @staticmethod
    def _blocks(slot: Slot | None, rule: ResolvedDedupe, now: int, latest: int) -> tuple[bool, bool]:
        if slot is None:
            return False, False
        if slot.ttl_ns:
            until = slot.taken_at + slot.ttl_ns
            return latest < until, now < until  # what was over once may have been removed
        possible = slot.life.possible
        if rule.until is Until.TTL:
            blocks = now < slot.taken_at + rule.ttl_ns
            return blocks and None not in possible, blocks
        blocking = _BLOCKING[rule.until]
        return possible <= blocking, not possible.isdisjoint(blocking)


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()
