"""``lmdbq storm report``: what storms have found, out of the file that ``--record`` has written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import msgspec

from lmdbq.cli.common import fail, json_text
from lmdbq.cli.exits import Exit


@click.command("report", short_help="Print what recorded storms have found.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the last run of each storm, and all, as JSON.")
def command(file: Path, as_json: bool) -> int:
    """Print, as Markdown, the last run of each storm that was run with `--record FILE`, and the sum of all its runs.

    So a long run can be done in several sittings, with a seed for each.
    """
    from lmdbq.cli.storm import CONTROLS, STORMS
    from lmdbq.storm import results

    try:
        rows = results.summed(results.read(file), [*STORMS, CONTROLS])
    except msgspec.DecodeError as error:
        fail(f"{file} was not written by `lmdbq storm ... --record`: {error}")
    shown: Any = json_text(rows) if as_json else results.markdown(rows)
    click.echo(shown, nl=as_json)
    return Exit.OK
