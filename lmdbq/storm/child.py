"""A session as a process: ``python -m lmdbq.storm.child DIRECTORY DIARY DURABILITY SEED STEPS``.

It ends with 0 when all went through, 74 when a commit failed in the middle (as the daemon does), 73 when the store
could not be opened or read and said so; anything else is a fault. As a command it compacts the file now and then, and
restores one backup of it.

As the target of a process that was forked with all imported (``run_when_told``) it says READY and waits to be told, so
that whoever disturbs its system calls counts only those of the session, and thousands of sessions need not import all
anew. A plant is a fault for the test of the tests: with GO_ON a commit that fails is answered as if it had not.
"""

from __future__ import annotations

import contextlib
import os
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

import lmdb

from lmdbq.errors import CommitUnknown, StoreError
from lmdbq.store import lmdb_apply
from lmdbq.store.environment import Environment
from lmdbq.storm.session import Diary, Session

EXIT_REFUSED: Final = 73
EXIT_UNKNOWN: Final = 74
READY: Final = "ready"
GO_ON: Final = "go-on"


def run(directory: Path, diary_path: Path, durability: str, seed: str, steps: int, *, maintaining: bool) -> int:
    """Run one session and return its exit status."""
    diary = Diary(diary_path)
    session = Session(directory, diary, durability, seed, maintaining=maintaining)
    try:
        session.run(steps)
    except CommitUnknown:
        session.confirm_unknown()
        return EXIT_UNKNOWN
    except StoreError as error:
        diary.write(error.code, (), (), diary.world)
        return EXIT_REFUSED
    return 0


def _go_on() -> None:
    """Have commits that fail pass for good ones, as LMDB itself would."""

    def commit(shared: Environment, txn: lmdb.Transaction) -> bool:
        with contextlib.suppress(lmdb.Error):
            txn.commit()
        return True

    lmdb_apply._commit = commit


class Told(NamedTuple):
    """A session: where its data and its diary are, and what is asked. errors: a file that gets what it complains of."""

    directory: Path
    diary: Path
    errors: Path
    durability: str
    seed: str
    steps: int
    plant: str = ""


def run_when_told(told: Told, connection: Connection) -> None:
    """Say READY, wait for any word, run one session, and end the process with its exit status."""
    errors = os.open(told.errors, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(errors, 2)
    os.close(errors)
    if told.plant == GO_ON:
        _go_on()
    connection.send(READY)
    connection.recv()
    sys.exit(run(told.directory, told.diary, told.durability, told.seed, told.steps, maintaining=False))


def main(arguments: list[str]) -> int:
    """Run what the command line says."""
    directory, diary, durability, seed, steps = arguments
    return run(Path(directory), Path(diary), durability, seed, int(steps), maintaining=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
