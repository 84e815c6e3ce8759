"""Faults put into the daemon and the library user on purpose: the storm of kills must find each of them.

Each is one function made wrong in a way that a person might.
``python -m lmdbq.storm.kill_plants NAME DIRECTORY LISTEN DURABILITY`` is ``lmdbq serve`` with that fault in it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from msgspec.structs import replace

from lmdbq.daemon.serve import run
from lmdbq.daemon.settings import Settings
from lmdbq.engine.committer import Committer
from lmdbq.engine.waiters import Waiters
from lmdbq.model import Report
from lmdbq.store import lmdb_apply, lmdb_calls, lmdb_ops_report, lmdb_standing, lmdb_tasks

EARLY_SECONDS: Final = 0.03


def answer_early() -> None:
    """The daemon answers, and commits a moment later."""
    held: list[Any] = []

    def hold(shared: Any, txn: Any) -> bool:
        held.append(txn)
        return True

    lmdb_apply._commit = hold

    def write(self: Any) -> None:
        while True:
            self._go.acquire()
            commit = self._given
            if commit is None:
                return
            self._apply(commit)
            if not self._baton.end():
                self._loop.call_soon_threadsafe(self._told, commit)
            time.sleep(EARLY_SECONDS)
            while held:
                held.pop().commit()

    Committer._run = write  # type: ignore[method-assign]


def skip_an_index_delete() -> None:
    """A task that goes leaves its dedupe slot behind."""
    lmdb_tasks.release_slot = lambda work, task_id, record: None


def ignore_the_fence() -> None:
    """A report is accepted whatever its delivery."""

    def report(work: Any, op: Report) -> Any:
        found = [(one, lmdb_standing.find_lease(work, one.id)) for one in op.completions]
        return lmdb_ops_report.report(
            work, Report([replace(one, delivery=lease[1].deliveries) if lease else one for one, lease in found])
        )

    lmdb_calls._RUNNERS[Report] = report


def forget_a_wake_up() -> None:
    """Parked dequeues are not told of what an apply has made ready."""
    settled = Waiters.settled
    Waiters.settled = lambda self, stirred: settled(self, ())  # type: ignore[method-assign]


PLANTS: Final[dict[str, Callable[[], None]]] = {
    "answer-early": answer_early,
    "skip-an-index-delete": skip_an_index_delete,
    "ignore-the-fence": ignore_the_fence,
    "forget-a-wake-up": forget_a_wake_up,
}


def plant(name: str = "") -> None:
    """Put a fault into this process; "" for none. Raises KeyError for one that there is not."""
    if name:
        PLANTS[name]()


def main(arguments: list[str]) -> int:
    """Serve, as ``lmdbq serve`` does, with a fault."""
    name, directory, listen, durability = arguments
    plant(name)
    return run(Settings(data=Path(directory), listen=listen, durability=durability))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
