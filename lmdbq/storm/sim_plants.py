"""Faults put into a simulation on purpose: each must be found, or the simulation proves nothing."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

from msgspec.structs import replace

from lmdbq.engine.committer import Commit
from lmdbq.engine.waiters import Waiters
from lmdbq.model import Call, Report
from lmdbq.store.memory import MemoryStore
from lmdbq.storm.sim_parts import SimCommitter, SimStore


@contextmanager
def _replaced(owner: type, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, function)
    try:
        yield
    finally:
        setattr(owner, name, before)


def nothing() -> AbstractContextManager[None]:
    """Put in nothing."""
    return _replaced(SimStore, "apply", SimStore.apply)


def forget_a_wakeup() -> AbstractContextManager[None]:
    """Every fifth time, what a commit has stirred is told to nobody."""
    settled = Waiters.settled
    told = 0

    def forgetful(self: Waiters, stirred: Iterable[str]) -> None:
        nonlocal told
        names = list(stirred)
        told += bool(names)
        settled(self, () if names and told % 5 == 0 else names)

    return _replaced(Waiters, "settled", forgetful)


def ignore_the_fence() -> AbstractContextManager[None]:
    """A report is taken for one of the task's last delivery, whatever delivery it names."""

    def unfenced(self: SimStore, calls: Iterable[Call], clock: Any) -> Any:
        def of_today(call: Call) -> Call:
            if not isinstance(call.ops[0], Report):
                return call
            completions = []
            for one in call.ops[0].completions:
                task = self.inner.task(one.id, clock)
                completions.append(replace(one, delivery=getattr(task, "deliveries", one.delivery)))
            return Call((Report(completions),))

        asked = list(calls)
        applied = self.inner.apply([of_today(call) for call in asked], clock)
        self._heard(asked, applied, clock.wall_ns(), clock.steady_ns())
        return applied

    return _replaced(SimStore, "_commit", unfenced)


def answer_before_commit() -> AbstractContextManager[None]:
    """Answers are given when the transaction has been worked out, and it is committed afterwards."""

    def hasty(self: SimCommitter, commit: Commit) -> None:
        store = self._store
        assert isinstance(store, SimStore)
        assert isinstance(store.inner, MemoryStore)
        rehearsal = copy.deepcopy(store.inner, {id(store.inner._lock): threading.Lock()})
        calls = [call for unit in commit.units for call in unit.calls]
        commit.result = rehearsal.apply(calls, self._clock)
        self._deliver(commit)
        store.apply(calls, self._clock)

    return _replaced(SimCommitter, "_write", hasty)


def lose_a_claim() -> AbstractContextManager[None]:
    """What was claimed for a caller who has gone is not given back."""
    return _replaced(Waiters, "_finish", _finish_and_forget)


def _finish_and_forget(self: Any, waiter: Any, claimed: Any) -> None:
    self._remove(waiter)
    if not waiter.future.done():
        waiter.future.set_result((claimed, waiter.reported))


PLANTS: Final[Mapping[str, Callable[[], AbstractContextManager[None]]]] = {
    "": nothing,
    "forget-a-wakeup": forget_a_wakeup,
    "ignore-the-fence": ignore_the_fence,
    "answer-before-commit": answer_before_commit,
    "lose-a-claim": lose_a_claim,
}
