"""``lmdbq restore``: a backup becomes a data directory."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.progress import bytes_bar


@click.command("restore", short_help="Make a data directory of a backup.")
@click.argument("source", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False, exists=True))
@click.argument("directory", type=click.Path(path_type=Path), required=False)
@click.option("--no-check", is_flag=True, help="Do not verify every invariant of it first.")
@with_session
def command(session: Session, source: Path, directory: Path | None, no_check: bool) -> int:
    """Make DIRECTORY (the default: where `lmdbq serve` keeps its data) of the backup FILE.

    DIRECTORY must be missing or empty. It gets its name when the copy is verified and on disk. Tasks that ran when the
    backup was made come back when their leases lapse, and run again.
    """
    from lmdbq.daemon.settings import load
    from lmdbq.store.copies import restore

    place = directory or load({}).data_directory()
    with bytes_bar("copying", source.stat().st_size, quiet=session.as_json) as tell:
        size = restore(source, place, tell, check=not no_check)
    said = {"file": str(source), "directory": str(place), "bytes": size, "checked": not no_check}
    session.answer(said, lambda: f"{place}: {render.size(size)}; `lmdbq serve --data {place}` serves it")
    return Exit.OK
