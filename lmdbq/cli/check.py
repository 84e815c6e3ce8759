"""``lmdbq check``: verify a data directory against every invariant of its format.

A process of its own reads the file. LMDB believes its own pages: some that are damaged end whoever reads them, and this
command is what people ask when something is damaged.
"""

from __future__ import annotations

import signal
from pathlib import Path

import click

from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit


@click.command("check", short_help="Verify a data directory.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False)
@with_session
def command(session: Session, directory: Path | None) -> int:
    """Verify every invariant of the file in DIRECTORY (the default: where `lmdbq serve` keeps its data).

    Nothing is changed, and a daemon may run meanwhile. Exit status 1 if anything is wrong.
    """
    place = data_directory(directory)
    found = _violations_apart(place)
    said = {"directory": str(place), "ok": not found, "violations": found}
    session.answer(said, lambda: "\n".join(found) if found else f"{place}: all is well")
    return Exit.FAILED if found else Exit.OK


def _violations_apart(place: Path) -> list[str]:
    """Return what is wrong, as another process finds it. Raises StoreError; CorruptFile if that dies of the file."""
    from concurrent.futures import ProcessPoolExecutor
    from concurrent.futures.process import BrokenProcessPool

    from lmdbq.errors import CorruptFile
    from lmdbq.store.pages import REMEDY

    with ProcessPoolExecutor(1, initializer=_end_at_interrupt) as apart:
        try:
            return apart.submit(violations, place).result()
        except BrokenProcessPool:
            detail = f"LMDB's own pages in {place} are so damaged that reading them ends the process: {REMEDY}"
            raise CorruptFile(detail) from None


def _end_at_interrupt() -> None:
    """Let Ctrl-C, which the terminal sends to every process of the command, end this one without a word."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def violations(place: Path) -> list[str]:
    """Return what is wrong with the file of a directory. Raises StoreError."""
    from lmdbq.store.lmdb import open_store

    store = open_store(place)
    try:
        return store.check()
    finally:
        store.close()


def data_directory(given: Path | None) -> Path:
    """Return the directory to look at: ``given``, else the daemon's. Raises click.UsageError if no data is there.

    Asked before a store is opened, for opening one that is missing makes it.
    """
    from lmdbq.daemon.settings import load
    from lmdbq.store.environment import DATA_NAME

    place = given or load({}).data_directory()
    if not (place / DATA_NAME).is_file():
        raise click.UsageError(f"there is no {DATA_NAME} in {place}; name the directory, as in `lmdbq serve --data`")
    return place
