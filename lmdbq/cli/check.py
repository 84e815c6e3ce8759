"""``lmdbq check``: verify a data directory against every invariant of its format."""

from __future__ import annotations

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
    from lmdbq.store.lmdb import open_store

    place = data_directory(directory)
    store = open_store(place)
    try:
        found = store.check()
    finally:
        store.close()
    said = {"directory": str(place), "ok": not found, "violations": found}
    session.answer(said, lambda: "\n".join(found) if found else f"{place}: all is well")
    return Exit.FAILED if found else Exit.OK


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
