"""A session as a process: ``python -m lmdbq.storm.child DIRECTORY DIARY DURABILITY SEED STEPS [wait [PLANT]]``.

It ends with 0 when all went through, 74 when a commit failed in the middle (as the daemon does), 73 when the store
could not be opened or read and said so; anything else is a fault. With ``wait`` it says ``ready`` once everything is
imported and waits for a line, so that whoever disturbs its system calls counts only those of the session; else the file
is compacted now and then. ``PLANT`` names a fault for the test of the tests: with GO_ON a commit that fails is answered
as if it had not.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Final

import lmdb

from lmdbq.errors import CommitUnknown, StoreError
from lmdbq.store import lmdb_apply
from lmdbq.store.environment import Environment
from lmdbq.storm.session import Diary, Session

EXIT_REFUSED: Final = 73
EXIT_UNKNOWN: Final = 74
WAIT: Final = "wait"
GO_ON: Final = "go-on"


def run(directory: Path, diary_path: Path, durability: str, seed: str, steps: int, *, compacting: bool) -> int:
    """Run one session and return its exit status."""
    diary = Diary(diary_path)
    session = Session(directory, diary, durability, seed, compacting=compacting)
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


def main(arguments: list[str]) -> int:
    """Run what the command line says."""
    directory, diary, durability, seed, steps, *more = arguments
    if GO_ON in more:
        _go_on()
    if more:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        sys.stdin.readline()
    return run(Path(directory), Path(diary), durability, seed, int(steps), compacting=not more)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
