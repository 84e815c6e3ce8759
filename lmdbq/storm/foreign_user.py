"""A user of the library beside the daemon: ``python -m lmdbq.storm.foreign_user WHAT DIRECTORY``.

WHAT is ``write`` or ``read``: begin a transaction, say ``ready``, and keep it until a line comes (or a signal); the
write one has put a record of its own, and takes it back. ``enqueue``: put ten tasks into the file; ``fill``: many.
``fork``: see that a child does not use what its parent has open, and may open it anew, while the parent goes on.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from lmdbq.clock import SystemClock
from lmdbq.errors import StoreClosed
from lmdbq.model import Call, Claim, Done, Enqueue, Entry
from lmdbq.store.lmdb import LmdbStore, open_store

TASKS: Final = 10
FILL_TIMES: Final = 60
EXIT_USED: Final = 10  # the child could use what its parent has open
EXIT_LOST: Final = 11  # what was accepted is not there


def hold(store: LmdbStore, *, write: bool) -> int:
    """Keep a transaction until a line comes."""
    with store.environment().begin(write=write) as txn:
        if write:
            txn.put(b"somebody's own record", b"x" * 5_000)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
        if write:
            txn.abort()
    return 0


def enqueue(store: LmdbStore) -> int:
    """Put tasks into the file. Raises what the store raises."""
    call = Call((Enqueue([Entry(queue="library") for _ in range(TASKS)]),))
    outcome = store.apply([call], SystemClock()).outcomes[0]
    assert isinstance(outcome, Done), outcome
    return 0


def fill(store: LmdbStore) -> int:
    """Put tasks of several sizes into the file, in many small commits."""
    for number in range(FILL_TIMES):
        payload = b'"' + b"x" * (number * 300) + b'"'
        call = Call((Enqueue([Entry(queue=f"q{number % 3}", payload=payload)]), Claim((f"q{number % 3}",))))
        store.apply([call], SystemClock())
    return 0


def fork(store: LmdbStore, directory: Path) -> int:
    """Fork with the store open; use it in the child, then open it there, then go on here."""
    enqueue(store)
    child = os.fork()
    if not child:
        os._exit(_in_child(store, directory))
    _, status = os.waitpid(child, 0)
    enqueue(store)
    return os.waitstatus_to_exitcode(status)


def _in_child(store: LmdbStore, directory: Path) -> int:
    try:
        store.info()
    except StoreClosed:
        own = open_store(directory)
        enqueue(own)
        own.close()
        return 0
    return EXIT_USED


def main(what: str, directory: Path) -> int:
    """Do what the command line says."""
    store = open_store(directory)
    store.info()
    try:
        if what in ("enqueue", "fill"):
            return enqueue(store) if what == "enqueue" else fill(store)
        return fork(store, directory) if what == "fork" else hold(store, write=what == "write")
    finally:
        store.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
