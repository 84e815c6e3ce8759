"""``lmdbq worker``: work off queues with the tasks of a Python module, or with any program."""

from __future__ import annotations

import importlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from lmdbq.cli.common import DURATION, Session, queue_option, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import CLAIM_TASKS_MAX, GRACE_WORKER_SECONDS

if TYPE_CHECKING:
    from lmdbq.client.sync import Client
    from lmdbq.client.tasks import Tasks
    from lmdbq.client.work_loop import WorkLoop

CONCURRENCY: Final = 10  # of functions; a program runs one at a time unless told otherwise


@click.command("worker", short_help="Work off queues with Python functions, or with a program.")
@click.argument("targets", nargs=-1, metavar="[MODULE:TASKS]...")
@click.option("--exec", "program", metavar="COMMAND", help="The program and its arguments, in one word.")
@click.option("--shell", is_flag=True, help="Hand COMMAND to /bin/sh instead of splitting it into words.")
@queue_option(multiple=True, help="Work on this queue; may be repeated.  [default: default]")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this type (--exec); may be repeated.")
@click.option(
    "-c",
    "--concurrency",
    type=click.IntRange(1, 1_000),
    help=f"Run so many at once.  [default: {CONCURRENCY} functions, or 1 program]",
)
@click.option(
    "--processes",
    type=click.IntRange(0, 1_000),
    default=0,
    help="Run functions in so many processes.  [default: threads]",
)
@click.option(
    "--limit",
    type=click.IntRange(1, CLAIM_TASKS_MAX),
    default=1,
    show_default=True,
    help="Claim so many for each slot.",
)
@click.option(
    "--lease",
    type=DURATION,
    metavar="DURATION",
    help="How long a silent worker keeps its tasks.  [default: each task's]",
)
@click.option(
    "--grace",
    type=DURATION,
    default=GRACE_WORKER_SECONDS,
    metavar="DURATION",
    help=f"For the running, after a stop.  [default: {GRACE_WORKER_SECONDS:g}s]",
)
@click.option("--reload", "reloads", is_flag=True, help="Start again when a Python file here changes.")
@with_session
def command(
    session: Session,
    targets: tuple[str, ...],
    program: str | None,
    queue_name: tuple[str, ...],
    reloads: bool,
    **options: Any,
) -> int:
    """Run the tasks of MODULE (`app:tasks`: a Tasks object in app.py here), or COMMAND for each task.

    COMMAND gets the payload on its standard input; exit status 0 is success and its output the result. Any other ending
    is a failure, with the end of its standard error as the message, and is retried as the task says. COMMAND finds
    LMDBQ_TASK_ID, LMDBQ_TYPE, LMDBQ_QUEUE, LMDBQ_ATTEMPT, LMDBQ_LEASE and LMDBQ_SET in its environment.

    Ctrl-C lets what runs finish and hands back the rest; a second one ends now. SIGUSR2 prints what runs. A daemon that
    restarts is waited for. --at may also be a directory. With --json the one line on standard output says what it works
    on (where, queues, types, pid), when it begins.
    """
    from lmdbq.client.sync import Client

    if bool(targets) == bool(program):
        raise click.UsageError("name either MODULE:TASKS, as in `lmdbq worker app:tasks`, or a program with --exec")
    if reloads:
        return _reloading(bool(program))
    queues = queue_name or ("default",)
    with Client(session.at) as client:
        worker = (
            _of_program(client, program, queues, options) if program else _of_tasks(client, targets, queues, options)
        )
        logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
        if "://" in client.where:
            session.client.info()  # a wrong address or token is said at once, not waited for
        worker.run(ready=lambda: _say_ready(session, client.where, queues, worker.types))
    return Exit.OK


def _say_ready(session: Session, where: str, queues: tuple[str, ...], types: tuple[str, ...]) -> None:
    session.note(f"working for {where} on {', '.join(queues)}; Ctrl-C stops")
    session.answer({"where": where, "queues": queues, "types": types, "pid": os.getpid()}, lambda: None)


def _reloading(of_program: bool) -> int:
    """Run this very command line, but for --reload, as a child that is started again when files change."""
    from lmdbq.cli.supervise import reload_on_change, to_stderr

    if of_program:
        raise click.UsageError("--reload goes with MODULE:TASKS; a program is started anew for each task anyway")
    return reload_on_change([word for word in sys.argv[1:] if word != "--reload"], to_stderr)


def _of_program(client: Client, program: str, queues: tuple[str, ...], options: dict[str, Any]) -> WorkLoop:
    from lmdbq.client.exec import ExecHandler
    from lmdbq.client.job_worker import JobWorker

    try:
        handler = ExecHandler(program, shell=options["shell"])
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--exec") from None
    return JobWorker(
        client.place.worker_transport(),
        handler,
        queues,
        types=options["types"],
        limit=options["limit"],
        concurrency=options["concurrency"] or 1,
        lease=options["lease"],
        grace=options["grace"],
    )


def _of_tasks(client: Client, targets: tuple[str, ...], queues: tuple[str, ...], options: dict[str, Any]) -> WorkLoop:
    from lmdbq.client.worker import Worker

    if options["types"] or options["shell"]:
        raise click.UsageError("--type and --shell go with --exec")
    concurrency = options["concurrency"] or CONCURRENCY
    groups = [load_tasks(target) for target in targets]
    try:
        return Worker(
            client,
            *groups,
            queues=queues,
            concurrency=concurrency,
            processes=options["processes"],
            buffer=concurrency * (options["limit"] - 1),
            lease=options["lease"],
            grace=options["grace"],
        )
    except (TypeError, ValueError) as error:
        raise click.BadParameter(str(error), param_hint="MODULE:TASKS") from None


def load_tasks(target: str) -> Tasks:
    """Return the Tasks object that ``module:name`` names; the current directory is looked in first.

    Raises click.BadParameter if there is none. What the module itself raises is raised.
    """
    from lmdbq.client.tasks import Tasks

    module_name, _, name = target.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise  # the module is there, and misses another
        raise click.BadParameter(f"there is no module {error.name!r} here", param_hint=target) from None
    found = getattr(module, name or "tasks", None)
    if not isinstance(found, Tasks):
        raise click.BadParameter(f"{name or 'tasks'!r} there is no Tasks object", param_hint=target)
    return found
