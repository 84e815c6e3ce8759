"""``lmdbq backup``: the file as it is at one moment, while others write; or a daemon's, wherever that is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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
    this ends, and nothing of an interrupted one stays. `lmdbq restore FILE` is the way back. With --at, or LMDBQ_URL,
    and no DIRECTORY the daemon there sends its file.
    """
    where = "" if directory else session.at or os.environ.get("LMDBQ_URL") or ""
    if "://" in where:
        said = _from_daemon(where, target, session.as_json)
    else:
        said = _from_directory(data_directory(directory or (Path(where) if where else None)), target, session.as_json)
    size = said["bytes"]
    session.answer(said, lambda: f"{target}: {render.size(size)}; `lmdbq restore {target} DIRECTORY` puts it back")
    return Exit.OK


def _from_directory(place: Path, target: Path, quiet: bool) -> dict[str, Any]:
    from lmdbq.store.copies import backup
    from lmdbq.store.creation import DATA_NAME

    with bytes_bar("copying", (place / DATA_NAME).stat().st_size, quiet=quiet) as tell:
        return {"directory": str(place), "file": str(target), "bytes": backup(place, target, tell)}


def _from_daemon(where: str, target: Path, quiet: bool) -> dict[str, Any]:
    from lmdbq.client.download import BACKUP, download
    from lmdbq.store.copies import new_backup

    with new_backup(target) as write, bytes_bar("copying", 0, quiet=quiet) as tell:
        size = 0
        for block in download(where, BACKUP):
            size = write(block)
            tell(size)
    return {"daemon": where, "file": str(target), "bytes": size}
