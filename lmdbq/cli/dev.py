"""``lmdbq dev``: a daemon and a worker that reloads, in one terminal and one process tree.

The daemon's file is ``.lmdbq`` in the project (or a temporary directory), never the user's own queue. Lines of both are
shown with a prefix. Ctrl-C ends the worker first, which may still report, and then the daemon.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Final

import click
import msgspec

from lmdbq.cli.common import DURATION
from lmdbq.cli.exits import Exit
from lmdbq.cli.supervise import Changed, Child, Ended, Events, Ready, Reloading, Say, interruptible, watching
from lmdbq.cli.worker import CONCURRENCY
from lmdbq.client.address import WHERE_DEFAULT

DIRECTORY: Final = ".lmdbq"
COLOURS: Final = {"serve": "cyan", "worker": "green", "dev": "yellow"}
GRACE_SECONDS: Final = 5.0  # a reload should not be waited for
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_READY: Final = re.compile(r"lmdbq serves (?P<url>\S+)  ·  data in (?P<data>.+)  ·  durability (?P<durability>\w+)$")


@click.command("dev", short_help="A daemon and a worker that reloads, for development.")
@click.argument("targets", nargs=-1, required=True, metavar="MODULE:TASKS...")
@click.option("-q", "--queue", "queues", multiple=True, metavar="QUEUE", help="Work on this queue; may be repeated.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1_000),
    default=CONCURRENCY,
    show_default=True,
    help="Run so many at once.",
)
@click.option(
    "--grace",
    type=DURATION,
    default=GRACE_SECONDS,
    metavar="DURATION",
    help=f"For the running, at a reload.  [default: {GRACE_SECONDS:g}s]",
)
@click.option("--data", type=_DIRECTORY, metavar="DIRECTORY", help=f"Where its file is.  [default: {DIRECTORY}]")
@click.option("--temporary", is_flag=True, help="A directory that goes when this ends.")
@click.option("--listen", metavar="VALUE", help="As for serve.  [default: 127.0.0.1:7325]")
@click.option("--json", "as_json", is_flag=True, help="Say where it serves in JSON, as serve does; all else on stderr.")
def command(
    targets: tuple[str, ...],
    queues: tuple[str, ...],
    concurrency: int,
    grace: float,
    data: Path | None,
    temporary: bool,
    listen: str | None,
    as_json: bool,
) -> int:
    """Run a daemon, and a worker for the tasks of MODULE that starts again when a Python file here changes.

    The queue is kept in .lmdbq here, apart from the one that `lmdbq serve` has. Ctrl-C ends all; a second one at once.
    With --json the one line on standard output says where it serves (url, data, durability, pid), once it answers.
    """
    if data is not None and temporary:
        raise click.UsageError("--data and --temporary are two places; name one")
    serve = ["serve", *(["--listen", listen] if listen else [])]
    work = ["--concurrency", str(concurrency), "--grace", f"{grace}s", *(word for q in queues for word in ("-q", q))]
    with interruptible(), _directory(data, temporary) as directory:
        events: Events = SimpleQueue()
        with watching([Path.cwd()], events):
            return _run([*serve, "--data", str(directory)], ["worker", *targets, *work], events, as_json)


def _run(serve: Sequence[str], work: Sequence[str], events: Events, as_json: bool) -> int:
    """Run the daemon, then the worker, until Ctrl-C or until one of them ends; return the exit status."""
    say, show = _prefixed("dev", as_json), _prefixed("serve", as_json)

    def show_and_look(line: str) -> None:
        found = _READY.match(line)
        if found is None:
            show(line)
            return
        if as_json:  # as serve says it; who wants it to end signals us
            click.echo(msgspec.json.encode({**found.groupdict(), "pid": os.getpid()}).decode("utf-8"))
        else:
            show(line)
        events.put(Ready(found["url"]))

    daemon = Child(serve, events, show_and_look)
    reloading: Reloading | None = None
    gently = True
    try:
        where = _ready(events)
        if where is None:
            return daemon.process.returncode
        at = [] if where == WHERE_DEFAULT else ["--at", where]
        say(f"in another terminal: {' '.join(['lmdbq enqueue TYPE name=value --wait', *at])}")
        words = [*work, "--at", where]
        reloading = Reloading(lambda: Child(words, events, _prefixed("worker", as_json)), events, say)
        status = reloading.run()
    except KeyboardInterrupt:
        status = Exit.OK
    finally:
        if reloading is not None and reloading.child is not None:
            gently = reloading.child.end()
        gently = daemon.end() and gently
    if not gently:
        return Exit.INTERRUPTED
    return status if status >= 0 else Exit.FAILED  # ended by a signal that nobody here has sent


def _ready(events: Events) -> str | None:
    """Wait until the daemon answers and return where; None if it has ended instead."""
    while True:
        match events.get():
            case Ready(where):
                return where
            case Ended():
                return None
            case Changed():
                continue  # nothing runs yet that it would concern


@contextmanager
def _directory(data: Path | None, temporary: bool) -> Iterator[Path]:
    """Yield the directory of the file: one that goes afterwards, the one that was named, or the project's own."""
    if temporary:
        made = Path(tempfile.mkdtemp(prefix="lmdbq-dev-"))
        try:
            yield made
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    directory = data or Path(DIRECTORY)
    directory.mkdir(parents=True, exist_ok=True)
    if data is None:
        (directory / ".gitignore").write_text("*\n", encoding="ascii")  # a queue is nothing to commit
    yield directory


def _prefixed(name: str, to_stderr: bool) -> Say:
    """Return what prints lines with a name before them, in the name's colour at a terminal."""
    width = max(map(len, COLOURS))
    prefix = click.style(f"{name:<{width}} │ ", fg=COLOURS[name])

    def say(line: str) -> None:
        click.echo(prefix + line, err=to_stderr)  # it flushes

    return say
