"""What every storm's command shares: its options, progress, the report in words, and the line that ``--record`` keeps.

``with_report`` gives a command ``--seed``, ``--json`` and ``--record``, and an ``Asked`` as its first argument;
``carry_out`` runs the storm by it, and returns the exit status.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click
from click.core import ParameterSource

from lmdbq.cli.common import fail
from lmdbq.cli.exits import Exit

if TYPE_CHECKING:
    from lmdbq.storm.report import Report, Tell

_FILE: Final = click.Path(dir_okay=False, writable=True, path_type=Path)
_UNSAID: Final = ("seed", "as_json", "record")  # in the command that a line names: they change nothing of the run

MINUTES: Final = click.option("--minutes", type=click.FloatRange(min=0.01), help="Go on for so long instead.")


class Asked(NamedTuple):
    """What every storm is asked. seed: None for a fresh one; record: the file to which its line goes."""

    seed: str | None
    as_json: bool
    record: Path | None


def with_report(function: Callable[..., int]) -> Callable[..., int]:
    """Give a command the options of every storm, and an ``Asked`` as its first argument."""

    @click.option("--seed", metavar="TEXT", help="Repeat the run that printed this seed. Default: a fresh one.")
    @click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
    @click.option("--record", type=_FILE, metavar="FILE", help="Append a line to FILE, for `lmdbq storm report`.")
    @functools.wraps(function)
    def command(seed: str | None, as_json: bool, record: Path | None, **arguments: Any) -> int:
        return function(Asked(seed, as_json, record), **arguments)

    return command


def carry_out(asked: Asked, run: Callable[[Tell, str], Report]) -> int:
    """Run a storm, print its report, keep its line. run: is given how to tell progress, and the seed.

    Raises BadParameter for a plant that there is not; ends the command if the storm cannot be run here.
    """
    from lmdbq.storm import results
    from lmdbq.storm.report import fresh_seed
    from lmdbq.storm.trace import Unclear

    if asked.record is not None:
        _try_to_append(asked.record)
    try:
        with _progress(click.get_current_context().command.name or "", quiet=asked.as_json) as tell:
            report = run(tell, asked.seed or fresh_seed())
    except KeyError as error:
        raise click.BadParameter(f"there is no {error}", param_hint="--plant") from error
    except Unclear as error:
        fail(str(error))
    click.echo(json.dumps(report.as_dict(), indent=2) if asked.as_json else _in_words(report))
    if asked.record is not None:
        context = click.get_current_context()
        results.append(results.line_of(report, context.command.get_short_help_str(200), _command()), asked.record)
    return Exit.OK if report.passed else Exit.FAILED


def _try_to_append(path: Path) -> None:
    """Find out before a long run whether its line can be kept."""
    try:
        path.open("ab").close()
    except OSError as error:
        raise click.BadParameter(f"{path}: {error.strerror}", param_hint="--record") from error


def _command() -> str:
    """Return the command as it was typed, but for its seed and where its results go."""
    context = click.get_current_context()
    words = ["lmdbq storm", context.command.name or ""]
    for param in context.command.params:
        name = param.name or ""
        if name not in _UNSAID and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            value = context.params[name]
            words += [param.opts[0]] if value is True else [param.opts[0], str(value).removesuffix(".0")]
    return " ".join(words)


def _in_words(report: Report) -> str:
    from lmdbq.storm.report import figure

    figures = "  ".join(f"{name} {figure(value)}" for name, value in report.figures.items())
    lines = [
        f"{report.storm}: {report.tried:,} {report.unit} in {report.seconds:.0f} s, seed {report.seed}",
        f"  {figures}",
        *(f"  {fault.where}\n" + "\n".join(f"    {problem}" for problem in fault.problems) for fault in report.faults),
        f"  {report.faulty:,} ARE NOT AS THEY MUST BE" if report.faulty else "  all is there",
    ]
    return "\n".join(lines)


@contextmanager
def _progress(name: str, *, quiet: bool) -> Iterator[Tell]:
    """Yield a function that shows how far a storm is: a bar on a terminal, else a line for each session, on stderr."""
    if quiet or not sys.stderr.isatty():
        yield _silence if quiet else _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(name), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        row = bars.add_task(name, total=None)

        def tell(done: int, of: int, event: str) -> None:
            bars.update(row, completed=done, total=of or None)
            if event:
                bars.console.print(f"  {event}", highlight=False)

        yield tell


def _line(done: int, of: int, event: str) -> None:
    if event:
        click.echo(f"{done:>9,}  {event}", err=True)


def _silence(*_: Any) -> None:
    return
