"""``lmdbq demo``: real tasks, processes killed in the middle, and then everything is counted.

The run itself is ``lmdbq.demo.run``; here are the options, the progress display and the report. However it ends, the
directory goes too, unless it is to be kept.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lmdbq.cli.common import fail
from lmdbq.cli.exits import Exit

if TYPE_CHECKING:
    from lmdbq.demo.run import Progress

TASKS_DEFAULT: Final = 20_000
LINE_SECONDS: Final = 2.0  # between two lines of progress where no bar can be drawn

FIGURES: Final = (
    ("enqueued", "accepted, each on disk before the daemon said so"),
    ("deduplicated", "sent again with a key that was taken, and told so"),
    ("completed", "done, by the workers' own output, every answer checked"),
    ("retried", "failed on purpose, and then succeeded"),
    ("lost", "accepted and never done"),
    ("accepted_twice", "one key, two tasks"),
    ("started_twice", "in work when a worker or the daemon was killed, so they ran again: at least once"),
)


@click.command("demo", short_help="Real tasks, kill -9 in the middle, then everything is counted.")
@click.option("--tasks", default=TASKS_DEFAULT, show_default=True, help="How many items of the data set to work off.")
@click.option("--json", "as_json", is_flag=True, help="Print the report as one JSON object.")
@click.option("--keep", is_flag=True, help="Keep the directory with the queue and the workers' output, and say where.")
@click.option("--plant-loss", is_flag=True, hidden=True, help="Take one line out of a worker's output before counting.")
def command(tasks: int, as_json: bool, keep: bool, plant_loss: bool) -> int:
    """Show on this machine that nothing is lost.

    Starts a daemon in a temporary directory, enqueues every change of the world's clocks from the time-zone database
    (some twice, some for later, some that fail twice), works them off with two processes, kills the daemon twice and a
    worker once, and then counts with a program that knows nothing of lmdbq. Exit status 1 if anything was lost,
    accepted twice or answered wrongly.
    """
    from lmdbq.demo.children import DemoFailed
    from lmdbq.demo.run import run

    directory = Path(tempfile.mkdtemp(prefix="lmdbq-demo-"))
    try:
        with _progress(quiet=as_json) as tell:
            report = run(directory, tasks, tell, with_loss=plant_loss)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--tasks") from error
    except DemoFailed as error:
        fail(str(error))
    finally:
        if keep:
            click.echo(f"kept: {directory}", err=True)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    click.echo(json.dumps(report, indent=2) if as_json else _in_words(report))
    return Exit.OK if report["passed"] else Exit.FAILED


def _in_words(report: dict[str, Any]) -> str:
    lines = [
        "",
        f"{report['tasks']:,} tasks in {report['seconds']} s; "
        f"kill -9: {report['daemon_restarts']} x the daemon, {report['worker_restarts']} x a worker",
        "",
        *(f"  {name.replace('_', ' '):<16}{report[name]:>8,}   {meaning}" for name, meaning in FIGURES),
        "",
        f"  {report['enqueue_per_second']:,} enqueued and {report['complete_per_second']:,} completed per second, "
        "outages included",
        "",
        "counted from the workers' output by a program that imports nothing of lmdbq: "
        + ("all is there" if report["passed"] else "THE COUNT DOES NOT ADD UP"),
    ]
    return "\n".join(lines)


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[Progress], None]]:
    """Yield a function that shows how far the run is: bars on a terminal, else a line now and then on stderr."""
    if sys.stderr.isatty() and not quiet:
        with _bars() as tell:
            yield tell
    else:
        yield _lines(quiet)


@contextmanager
def _bars() -> Iterator[Callable[[Progress], None]]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        rows: dict[str, TaskID] = {name: bars.add_task(name, total=None) for name in ("accepted", "completed")}

        def tell(progress: Progress) -> None:
            bars.update(rows["accepted"], total=progress.total, completed=progress.accepted)
            bars.update(rows["completed"], total=progress.total, completed=progress.completed)
            if progress.event:
                bars.console.print(f"  {progress.event}", highlight=False)

        yield tell


def _lines(quiet: bool) -> Callable[[Progress], None]:
    told_at = time.monotonic()

    def tell(progress: Progress) -> None:
        nonlocal told_at
        is_time = time.monotonic() - told_at >= LINE_SECONDS
        if quiet or not (progress.event or is_time):
            return
        told_at = time.monotonic()
        with suppress(BrokenPipeError):  # nobody listens; the run matters, not the telling
            click.echo(f"{progress.accepted:>6,} accepted {progress.completed:>7,} done  {progress.event}", err=True)

    return tell
