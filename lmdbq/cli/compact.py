"""``lmdbq compact``: the disk gets back what a file no longer needs."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import click

from lmdbq.cli import render
from lmdbq.cli.check import data_directory
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.progress import bytes_bar


class _Lock:
    """The daemon's lock on a directory, for the length of a ``closing``. Raises AlreadyServed."""

    def __init__(self, directory: Path) -> None:
        from lmdbq.daemon.ownership import Ownership

        self._ownership = Ownership(directory)
        self._ownership.announce("nowhere: `lmdbq compact`")

    def close(self) -> None:
        self._ownership.give_up()


@click.command("compact", short_help="Give back a file's free pages.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False)
@with_session
def command(session: Session, directory: Path | None) -> int:
    """Write the file in DIRECTORY (the default: where `lmdbq serve` keeps its data) anew, without its free pages.

    Nobody may use it meanwhile: with a daemon or a worker there, nothing is done, and the exit status is 5. A crash
    leaves the old file or the new one, each whole. Free pages are used again anyway: this is for who needs the room.
    """
    from lmdbq.store.copies import compact
    from lmdbq.store.creation import DATA_NAME

    place = data_directory(directory)
    with closing(_Lock(place)), bytes_bar("copying", (place / DATA_NAME).stat().st_size, quiet=session.as_json) as tell:
        before, after = compact(place, tell)
    said = {"directory": str(place), "bytes_before": before, "bytes": after}
    session.answer(said, lambda: f"{place}: {render.size(before)} before, {render.size(after)} now")
    return Exit.OK
