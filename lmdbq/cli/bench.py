"""``lmdbq bench``: how fast the queue is on this machine, beside what else is installed here.

Each suite of ``lmdbq.bench.suites`` is a subcommand; without one it is ``quick``. What is measured is the engine's
matter; here are options, tables, and what is said when something is missing. However a run ends, the servers it has
started and the files it has made go.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lmdbq.cli.common import fail, json_text
from lmdbq.cli.exits import Exit
from lmdbq.cli.render import table

if TYPE_CHECKING:
    from lmdbq.bench.results import Cell, Result

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(exists=True, file_okay=False, writable=True, path_type=Path)
_NEW_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


class _Suites(click.Group):
    """The suites as commands, and ``compare``; without one, ``quick``, or for a README what it needs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        from lmdbq.bench.suites import SUITES

        return [*SUITES, "compare"]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name == "compare":
            return _compare
        from lmdbq.bench.suites import SUITES

        return _command_of(cmd_name) if cmd_name in SUITES else None

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        asks_for_help = {"-h", "--help"} & set(args[:1])
        if not asks_for_help and (not args or args[0].startswith("-")):
            args = ["peers" if "--readme" in args else "quick", *args]
        return super().parse_args(ctx, args)


@click.group("bench", cls=_Suites, short_help="How fast it is on this machine.")
def command() -> None:
    """Measure on this machine: suites of workloads, on lmdbq, its limits and whatever peers are installed.

    `lmdbq bench` alone is `lmdbq bench quick`. Peers need a server (Redis, ...) and a client: pip install
    'lmdbq[bench]'. Figures mean something on a machine that does nothing else meanwhile.
    """


def _command_of(name: str) -> click.Command:
    from lmdbq.bench.suites import SUITES

    suite = SUITES[name]
    options = [
        click.Option(
            ["--target", "targets"], multiple=True, metavar="NAME", help="Only targets with this in their name."
        ),
        click.Option(
            ["--at-dir"], type=_DIRECTORY, help="Directory for the files; its disk is measured. Default: here."
        ),
        click.Option(["--rounds"], type=click.IntRange(1), default=suite.plan.rounds, show_default=True),
        click.Option(["--seconds"], type=click.FloatRange(0.01), default=suite.plan.seconds, show_default=True),
        click.Option(["--syncs/--no-syncs"], default=suite.plan.count_syncs, help="Count syncs with strace, apart."),
        click.Option(["--small"], is_flag=True, help="Short backlogs: a first look at the slow suites."),
        click.Option(["--json", "as_json"], is_flag=True, help="Print the whole result as JSON."),
        click.Option(["--readme"], is_flag=True, help="Print figures for a README, as Markdown."),
        click.Option(["--plot"], type=_NEW_FILE, help="Draw the figures into FILE.svg or FILE.png."),
        click.Option(["--out"], type=_NEW_FILE, help="Keep the result, for `lmdbq bench compare`."),
    ]

    def callback(**said: Any) -> int:
        return _run(name, **said)

    return click.Command(name, params=[*options], callback=callback, help=suite.title, short_help=suite.title)


def _run(
    name: str,
    targets: tuple[str, ...],
    at_dir: Path | None,
    as_json: bool,
    readme: bool,
    plot: Path | None,
    out: Path | None,
    **plan: Any,
) -> int:
    from lmdbq.bench import plot as plotting
    from lmdbq.bench import results

    if plot is not None and plot.suffix not in plotting.FORMATS:
        raise click.BadParameter(f"{plot} is neither .svg nor .png", param_hint="--plot")
    if plot is not None and (missing := plotting.absent()):
        fail(missing)
    result = _measured(name, targets, at_dir, quiet=as_json, **plan)
    if out is not None:
        results.save(result, out)
    if plot is not None and any(cell.rounds for cell in result.cells):
        plotting.draw(result, plot)
    click.echo(_shown(result, as_json=as_json, readme=readme))
    return Exit.OK


def _measured(name: str, targets: tuple[str, ...], at_dir: Path | None, *, quiet: bool, **said: Any) -> Result:
    from msgspec import structs

    from lmdbq.bench.backlogs import bytes_wanted
    from lmdbq.bench.processes import Failed
    from lmdbq.bench.runner import WrongCount, run, seconds_of, turns_of
    from lmdbq.bench.suites import SUITES, chosen
    from lmdbq.bench.watching import watching
    from lmdbq.bench.workloads import WORKLOADS

    suite = SUITES[name]
    plan = structs.replace(suite.plan, **_plan(said))
    try:
        groups = {name: (plan, chosen(suite, targets))}
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--target") from error
    directory = at_dir or Path.cwd()
    workloads = [WORKLOADS[workload] for workload, _ in groups[name][1]]
    wanted = bytes_wanted(one.small() if plan.small else one for one in workloads)
    free = shutil.disk_usage(directory).free
    if wanted > free:
        fail(f"{directory} has {free / 1e9:.1f} GB free, and this needs {wanted / 1e9:.1f} GB: choose another --at-dir")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that servers and files are removed
    if not quiet:
        click.echo(f"about {max(1, round(seconds_of(groups) / 60, 1)):g} min; Ctrl-C ends it", err=True)
    try:
        with watching(turns_of(groups), silent=quiet) as watcher:
            return run(groups, directory, watcher, lambda _: None)
    except (Failed, WrongCount, OSError, ValueError) as error:
        fail("\n".join([str(error), *getattr(error, "__notes__", ())]))


def _plan(said: dict[str, Any]) -> dict[str, Any]:
    return {"rounds": said["rounds"], "seconds": said["seconds"], "count_syncs": said["syncs"], "small": said["small"]}


def _shown(result: Result, *, as_json: bool, readme: bool) -> str:
    if as_json:
        return json_text(result)
    from lmdbq.bench import figures

    if readme:
        return figures.markdown(result)
    shown = table(("workload", "target", "median", "", "rounds", "beside it"), _rows(result))
    return f"{shown}\n\n{figures.machine(result)}"


def _rows(result: Result) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    last = ""
    for cell in result.cells:
        named = "" if cell.workload.name == last else cell.workload.name
        last = cell.workload.name
        rows.append((named, cell.target, *_figures(cell)))
    return rows


def _figures(cell: Cell) -> tuple[str, str, str, str]:
    from lmdbq.bench.tables import short, words

    if not cell.rounds:
        return ("absent", "", "", cell.absent)
    first, *others = cell.rounds[0]
    values = cell.values(first)
    beside = [f"{words(metric)} {short(cell.median(metric))}" for metric in others]
    if cell.syncs_per_1000 is not None:
        beside.append(f"syncs per 1,000 tasks {cell.syncs_per_1000:,.3g}")
    return short(cell.median(first)), words(first), f"{short(min(values))} - {short(max(values))}", ", ".join(beside)


@click.command("compare", short_help="Whether two results differ.")
@click.argument("before", type=_FILE)
@click.argument("after", type=_FILE)
@click.option("--confidence", default=0.95, show_default=True, type=click.FloatRange(0.5, 0.999))
@click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
def _compare(before: Path, after: Path, confidence: float, as_json: bool) -> int:
    """Say of each cell that two results (--out) have whether it differs: AFTER ÷ BEFORE, with its interval."""
    import msgspec

    from lmdbq.bench import results
    from lmdbq.bench.compare import differences
    from lmdbq.bench.tables import words

    try:
        found = list(differences(results.load(before), results.load(after), confidence))
    except msgspec.MsgspecError as error:
        fail(f"this is no result of lmdbq bench: {error}", Exit.USAGE)
    if not found:
        fail("the two results have nothing in common")
    if as_json:
        click.echo(json.dumps([{**one._asdict(), "found": one.found._asdict()} for one in found]))
        return Exit.OK
    rows = [
        (one.workload, one.target, words(one.metric), f"{one.found.ratio:.2f}", _interval(one.found), one.verdict)
        for one in found
    ]
    click.echo(table(("workload", "target", "of", "ratio", f"{100 * confidence:g} % interval", ""), rows))
    return Exit.OK


def _interval(found: Any) -> str:
    return f"{found.low:.2f} - {found.high:.2f}"
