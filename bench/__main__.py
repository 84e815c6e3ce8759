"""``python -m bench``: run, table, compare, readme, startup, profile, list."""

from __future__ import annotations

import datetime as dt
import json
import platform
import signal
import sys
from pathlib import Path

import click

from bench import batches, readme, rows, singles, startup, workers
from lmdbq.bench import results, tables
from lmdbq.bench.compare import differences
from lmdbq.bench.runner import Groups, Plan, run, seconds_of, turns_of
from lmdbq.bench.targets import TARGETS
from lmdbq.bench.watching import watching

RESULTS = Path(__file__).parent / "results"
FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
SMALL = Plan(rounds=1, warm_seconds=0.05, seconds=0.2, patience_seconds=0, small=True)


@click.group()
def main() -> None:
    """Measure lmdbq, its limits and its peers."""


@main.command("run")
@click.option("--all", "everything", is_flag=True, help="All groups.")
@click.option("--group", "chosen", multiple=True, type=click.Choice(rows.groups()), help="Only these groups.")
@click.option("--resume", is_flag=True, help="Leave out the groups that the result file has.")
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns of every cell.")
@click.option("--seconds", default=2.0, show_default=True, help="How long a turn is timed.")
@click.option("--warm", default=0.5, show_default=True, help="Seconds before that.")
@click.option("--syncs/--no-syncs", default=True, help="Count syncs in an extra run.")
@click.option("--patience", default=10.0, show_default=True, help="Seconds a turn waits for a quiet machine.")
@click.option(
    "--scale", type=click.Choice(["full", "small"]), default="full", help="small: all of it in a few minutes."
)
@click.option("--directory", type=click.Path(file_okay=False, path_type=Path), help="On which disk.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Result file; else by date.")
def run_command(
    everything: bool,
    chosen: tuple[str, ...],
    resume: bool,
    rounds: int,
    seconds: float,
    warm: float,
    syncs: bool,
    patience: float,
    scale: str,
    directory: Path | None,
    out: Path | None,
) -> None:
    """Measure, and put what was found into a result file, group by group; other groups in the file stay."""
    if everything == bool(chosen):
        raise click.UsageError("say which groups: --all, or --group NAME (see: python -m bench list)")
    plan = SMALL if scale == "small" else Plan(rounds, warm, seconds, syncs, patience_seconds=patience)
    path = out or RESULTS / f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H%M%SZ}.json"
    old = results.load(path) if path.exists() else None
    done = old.parts if old is not None and resume else {}
    wanted = [group for group in chosen or rows.groups() if group not in done]
    groups: Groups = {group: (rows.plan_of(group, plan), rows.cells_of(group)) for group in wanted}
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers and files are removed
    click.echo(f"about {seconds_of(groups) / 60:.0f} minutes on a quiet machine", err=True)

    def keep(so_far: results.Result) -> None:
        results.save(so_far if old is None else results.merged(old, so_far), path)

    try:
        with watching(turns_of(groups), verbose=True) as watcher:
            run(groups, directory, watcher, keep)
    except KeyboardInterrupt:
        raise click.ClickException(
            f"stopped; the groups that were finished are in {path}, go on with --resume"
        ) from None
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(tables.table_of_rows(rows.ROWS, results.load(path)))
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
    for one in differences(results.load(before), results.load(after), confidence):
        interval = f"{one.found.ratio:.2f} ({one.found.low:.2f}-{one.found.high:.2f})"
        click.echo(f"{one.workload}  ·  {one.target}: {tables.words(one.metric)} {interval}  {one.verdict}")


@main.command("readme")
@click.argument("result", type=FILE, required=False)
def readme_command(result: Path | None) -> None:
    """Write the README's figures anew, from RESULT, or from the file they are from."""
    try:
        path = readme.write(result)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{readme.README} has the figures of {path}", err=True)


@main.command("startup")
@click.option("--rounds", default=20, show_default=True, type=click.IntRange(1), help="Turns of both.")
@click.option("--record", is_flag=True, help="Put a line into bench/results/startup.jsonl.")
def startup_command(rounds: int, record: bool) -> None:
    """Measure the processor time of `lmdbq enqueue`, beside `python -c "import lmdb, click"`."""
    found = startup.measure(rounds)
    now = f"{dt.datetime.now(dt.UTC):%Y-%m-%dT%H:%M:%SZ}"
    line = json.dumps({"at": now, "python": platform.python_version(), **found})
    click.echo(line)
    if record:
        with (RESULTS / "startup.jsonl").open("a", encoding="ascii") as file:
            file.write(line + "\n")


_PROFILES = {"batches": batches, "singles": singles, "workers": workers}


@main.command("profile")
@click.argument("what", type=click.Choice(list(_PROFILES)))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1), help="Turns of everything.")
@click.option("--seconds", default=1.5, show_default=True, help="How long a turn is.")
@click.option("--record", is_flag=True, help="Write bench/results/WHAT.jsonl and .md.")
def profile_command(what: str, rounds: int, seconds: float, record: bool) -> None:
    """Say where the time goes, and what limits the rate: of 1,000 tasks per request, stage by stage (batches), of one
    task per request, layer by layer (singles), or of whole lives with two worker processes, beside Redis (workers)."""
    profile = _PROFILES[what]
    click.echo(f"{what}: about {profile.turns() * rounds * (seconds + 1):.0f} s", err=True)
    facts = profile.measure(rounds, seconds)
    page = profile.page(facts)
    if record:
        profile.FACTS.write_text(json.dumps(facts) + "\n", encoding="utf-8")
        profile.PAGE.write_text(page, encoding="utf-8")
    click.echo(page, nl=False)


@main.command("list")
def list_command() -> None:
    """Print the groups and how long each takes, and the targets and why some are absent."""
    for group in rows.groups():
        pairs = rows.cells_of(group)
        seconds = seconds_of({group: (rows.plan_of(group, Plan()), pairs)})
        click.echo(f"group {group}: about {seconds / 60:.1f} minutes")
        for workload, target in pairs:
            click.echo(f"  {workload}  ·  {target}")
    for name, adapter in TARGETS.items():
        click.echo(f"target {name}: {adapter.absent() or adapter.durability}")


if __name__ == "__main__":
    main(prog_name="python -m bench")
