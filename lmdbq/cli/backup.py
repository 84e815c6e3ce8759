"""``lmdbq backup``: the file as it is at one moment, while others write."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbq.cli import render
from lmdbq.cli.check import data_directory
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.progress import bytes_bar


@click.command("backup", short_help="Copy the file while it is in use.")
@click.argument("target", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False))
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False)
@with_session
def command(session: Session, target: Path, directory: Path | None) -> int:
    """Copy the file in DIRECTORY (the default: where `lmdbq serve` keeps its data) to the new file FILE.

    The copy is of one moment, and without free pages; a daemon and workers may go on meanwhile. It lies on disk when
    this ends, and nothing of an interrupted one stays. `lmdbq restore FILE` is the way back.
    """
    from lmdbq.store.copies import backup
    from lmdbq.store.creation import DATA_NAME

    place = data_directory(directory)
    with bytes_bar("copying", (place / DATA_NAME).stat().st_size, quiet=session.as_json) as tell:
        size = backup(place, target, tell)
    said = {"directory": str(place), "file": str(target), "bytes": size}
    session.answer(said, lambda: f"{target}: {render.size(size)}; `lmdbq restore {target} DIRECTORY` puts it back")
    return Exit.OK
