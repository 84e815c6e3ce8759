"""``python -m bench``: run, table, compare, list."""

from __future__ import annotations

import datetime as dt
import signal
import sys
from pathlib import Path

import click

from bench import rows
from lmdbq.bench import results, tables
from lmdbq.bench.runner import Plan, run
from lmdbq.bench.stats import ratio_interval
from lmdbq.bench.targets import TARGETS
from lmdbq.bench.targets.base import RATE

RESULTS = Path(__file__).parent / "results"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group()
def main() -> None:
    """Measure lmdbq, its limits and its peers."""


@main.command("run")
@click.option("--group", "chosen", multiple=True, type=click.Choice(rows.groups()), help="Only these groups.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns of every cell.")
@click.option("--seconds", default=2.0, show_default=True, help="How long a turn is timed.")
@click.option("--warm", default=0.5, show_default=True, help="Seconds before that.")
@click.option("--syncs/--no-syncs", default=True, help="Count syncs in an extra run.")
@click.option("--patience", default=10.0, show_default=True, help="Seconds a turn waits for a quiet machine.")
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="On which disk.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Result file; else by date.")
def run_command(
    chosen: tuple[str, ...],
    rounds: int,
    seconds: float,
    warm: float,
    syncs: bool,
    patience: float,
    directory: Path | None,
    out: Path | None,
) -> None:
    """Measure, and write a result file."""
    plan = Plan(rounds, warm, seconds, syncs, directory, patience)
    signal.signal(
        signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM)
    )  # so that servers are stopped, files removed
    now = dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H%M%SZ")
    path = out or RESULTS / f"{now}.json"
    result = run(
        {group: rows.cells_of(group) for group in chosen or rows.groups()},
        plan,
        say=lambda line: click.echo(line, err=True),
        keep=lambda so_far: results.save(so_far, path),
    )
    click.echo(tables.table_of_rows(rows.ROWS, result))
    click.echo(tables.table_of_cells(result))
    click.echo(f"written to {path}", err=True)


@main.command("table")
@click.argument("result", type=FILE)
@click.option("--all", "everything", is_flag=True, help="Every cell, too.")
def table_command(result: Path, everything: bool) -> None:
    """Print the table of a result file as Markdown."""
    loaded = results.load(result)
    click.echo(tables.table_of_rows(rows.ROWS, loaded), nl=False)
    if everything:
        click.echo("\n" + tables.table_of_cells(loaded), nl=False)


@main.command("compare")
@click.argument("before", type=FILE)
@click.argument("after", type=FILE)
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0.5, 0.999))
def compare_command(before: Path, after: Path, confidence: float) -> None:
    """Say which cells of two results differ, with the interval of each ratio."""
    for line in compared(results.load(before), results.load(after), confidence):
        click.echo(line)


def compared(before: results.Result, after: results.Result, confidence: float) -> list[str]:
    """Return a line for each throughput that both results have: AFTER ÷ BEFORE, its interval, and the verdict."""
    lines = []
    for cell in after.cells:
        old = before.cell(cell.group, cell.workload.name, cell.target)
        if old is None or not old.rounds or not cell.rounds or RATE not in cell.rounds[0]:
            continue
        found = ratio_interval(cell.values(), old.values(), confidence=confidence)
        word = "no difference shown" if not found.differs else "faster" if found.ratio > 1 else "slower"
        lines.append(
            f"{cell.workload.name}  ·  {cell.target}: {found.ratio:.2f} ({found.low:.2f}-{found.high:.2f})  {word}"
        )
    return lines


@main.command("list")
def list_command() -> None:
    """Print the groups, and the targets and why some are absent."""
    for group in rows.groups():
        click.echo(f"group {group}")
        for workload, target in rows.cells_of(group):
            click.echo(f"  {workload}  ·  {target}")
    for name, adapter in TARGETS.items():
        click.echo(f"target {name}: {adapter.absent() or adapter.durability}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
