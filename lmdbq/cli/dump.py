"""``lmdbq dump``: print every key of a data directory in the words of the format."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from lmdbq.cli.check import data_directory
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit


@click.command("dump", short_help="Print every key of a data directory.")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False, exists=True), required=False)
@with_session
def command(session: Session, directory: Path | None) -> int:
    """Print every key and value of the file in DIRECTORY, a line each. Nothing is changed; a daemon may run."""
    from lmdbq.store.dump import dump_lines

    for line in dump_lines(data_directory(directory)):
        click.echo(msgspec.json.encode(line) if session.as_json else line)
    return Exit.OK
