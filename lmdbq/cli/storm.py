"""``lmdbq storm``: have the disk fail in every way, on this machine, and see whether anything is lost.

Each storm is a subcommand. What a storm does is the matter of ``lmdbq.storm``; here are options, progress and the
report. However a storm ends, the directories it has made go, and the processes it has started.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from lmdbq.cli.common import fail
from lmdbq.cli.exits import Exit

if TYPE_CHECKING:
    from lmdbq.storm.report import Report, Tell

_MINUTES = click.option("--minutes", type=click.FloatRange(min=0.01), help="Go on for so long instead.")
_SEED = click.option("--seed", metavar="TEXT", help="Repeat the run that printed this seed. Default: a fresh one.")
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")


@click.group("storm", short_help="Have the disk fail in every way, and see what is lost.")
def command() -> None:
    """Prove on this machine that nothing is lost: power cuts, and system calls that fail.

    Needs Linux and strace. Exit status 1 if anything was lost, came back, or was answered wrongly. The seed is printed,
    and repeats the run.
    """


@command.command("power-cut", short_help="Cut the power at random moments.")
@click.option("--images", type=click.IntRange(1), default=20_000, show_default=True, help="How many disks to look at.")
@_MINUTES
@_SEED
@_JSON
@click.option("--plant", hidden=True, default="", help="Put a fault into what the disk was asked to do.")
def _power_cut(images: int, minutes: float | None, seed: str | None, as_json: bool, plant: str) -> int:
    """Record all that sessions write and sync, then cut the power at random moments of them.

    An image is a disk as it may be after one cut: what was synced is there, of the rest any part, torn at 512 bytes and
    in any order. Each must open, be whole, and hold all that was answered.
    """
    from lmdbq.storm import power_cut

    return _storm(
        "images", lambda tell, seed: power_cut.run(seed, tell, images, minutes or 0.0, plant=plant), seed, as_json
    )


@command.command("fail-call", short_help="Let single system calls fail.")
@click.option("--runs", type=click.IntRange(1), default=100, show_default=True, help="How many failures to try.")
@click.option("--all", "all_of_them", is_flag=True, help="Try every call of the session, and each way it can fail.")
@_MINUTES
@_SEED
@_JSON
@click.option("--plant", hidden=True, default="", help="Have the session take a failed commit for a good one.")
def _fail_call(runs: int, all_of_them: bool, minutes: float | None, seed: str | None, as_json: bool, plant: str) -> int:
    """Run a session again and again, one of its system calls failing each time.

    Every write, sync, allocation and open answers EIO or ENOSPC, or has written less than it was asked to. The session
    must end well, refuse, or stop; and the next opener must find all that was answered.
    """
    from lmdbq.storm import fail_runs

    most = 0 if all_of_them or minutes else runs
    return _storm(
        "runs", lambda tell, seed: fail_runs.run(seed, tell, most, minutes or 0.0, plant=plant), seed, as_json
    )


def _storm(unit: str, run: Callable[[Tell, str], Report], seed: str | None, as_json: bool) -> int:
    from lmdbq.storm.report import fresh_seed
    from lmdbq.storm.trace import Unclear

    chosen = seed or fresh_seed()
    try:
        with _progress(unit, quiet=as_json) as tell:
            report = run(tell, chosen)
    except KeyError as error:
        raise click.BadParameter(f"there is no {error}", param_hint="--plant") from error
    except Unclear as error:
        fail(str(error))
    click.echo(json.dumps(report.as_dict(), indent=2) if as_json else _in_words(report))
    return Exit.OK if report.passed else Exit.FAILED


def _in_words(report: Report) -> str:
    figures = "  ".join(f"{name} {value:,}" for name, value in report.figures.items())
    lines = [
        f"{report.storm}: {report.tried:,} {report.unit} in {report.seconds:.0f} s, seed {report.seed}",
        f"  {figures}",
        *(f"  {fault.where}\n" + "\n".join(f"    {problem}" for problem in fault.problems) for fault in report.faults),
        f"  {report.faulty:,} ARE NOT AS THEY MUST BE" if report.faulty else "  all is there",
    ]
    return "\n".join(lines)


@contextmanager
def _progress(unit: str, *, quiet: bool) -> Iterator[Tell]:
    """Yield a function that shows how far a storm is: a bar on a terminal, else a line for each session, on stderr."""
    if quiet or not sys.stderr.isatty():
        yield _silence if quiet else _line
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn(unit), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bars:
        row = bars.add_task(unit, total=None)

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
