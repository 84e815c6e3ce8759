"""What stands in a newcomer's way: whether a dedupe slot blocks it, and the problems of an entry that is refused."""

from __future__ import annotations

from typing import Final

from lmdbq import limits
from lmdbq.lifecycle import ResolvedDedupe
from lmdbq.model import Problem, State, Until
from lmdbq.wire.folding import Unfoldable

_BLOCKING: Final[dict[Until, frozenset[State]]] = {
    Until.STARTED: frozenset({State.SCHEDULED, State.READY}),
    Until.FINISHED: frozenset({State.SCHEDULED, State.READY, State.RUNNING}),
    Until.DELETED: frozenset(State),
}


def blocks(rule: ResolvedDedupe, now_wall: int, taken_at: int, blocks_until: int, state: State | None) -> bool:
    """Whether a slot stands in the way of a newcomer with ``rule``. state: of its holder, None = no longer stored."""
    if blocks_until:
        return now_wall < blocks_until
    young = now_wall < taken_at + rule.ttl_ns
    if rule.until is Until.TTL:
        return young
    return state in _BLOCKING[rule.until] and (young or not rule.ttl_ns)


def fold_failed(index: int, bad: Unfoldable) -> Problem:
    """Return the problem of an entry whose payload cannot be folded."""
    return Problem("fold_failed", f"/entries/{index}/payload", str(bad))


def too_many_types(pointer: str, queue_name: str) -> Problem:
    """Return the problem of a type that would be one too many in a queue."""
    return Problem(
        "too_many_types",
        pointer,
        f"queue {queue_name!r} already holds tasks of {limits.TYPES_PER_QUEUE_MAX} types; "
        "put what varies in the payload or a tag, not in the type",
    )
