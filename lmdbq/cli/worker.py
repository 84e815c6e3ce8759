"""``lmdbq worker --exec``: work off a queue with any program."""

from __future__ import annotations

import logging
import sys

import click

from lmdbq.cli.common import DURATION, Session, queue_option, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import CLAIM_TASKS_MAX, GRACE_WORKER_SECONDS


@click.command("worker", short_help="Work off a queue with a program.")
@click.option("--exec", "program", required=True, metavar="COMMAND", help="The program and its arguments, in one word.")
@click.option("--shell", is_flag=True, help="Hand COMMAND to /bin/sh instead of splitting it into words.")
@queue_option(multiple=True, help="Work on this queue; may be repeated.  [default: default]")
@click.option("--type", "types", multiple=True, metavar="TYPE", help="Only this type; may be repeated.")
@click.option(
    "-c", "--concurrency", type=click.IntRange(1, 1_000), default=1, show_default=True, help="Run so many at once."
)
@click.option(
    "--limit", type=click.IntRange(1, CLAIM_TASKS_MAX), default=1, show_default=True, help="Claim so many at once."
)
@click.option("--lease", type=DURATION, metavar="DURATION", help="How long the daemon waits for a silent worker.")
@click.option(
    "--grace", type=DURATION, default=GRACE_WORKER_SECONDS, metavar="DURATION", help="For the running, after a stop."
)
@with_session
def command(
    session: Session,
    program: str,
    shell: bool,
    queue_name: tuple[str, ...],
    types: tuple[str, ...],
    concurrency: int,
    limit: int,
    lease: float | None,
    grace: float,
) -> int:
    """Run COMMAND for each task: payload on its standard input; exit status 0 is success and its output the result.

    Any other ending is a failure, with the end of its standard error as the message, and is retried as the task says.
    COMMAND finds LMDBQ_TASK_ID, LMDBQ_TYPE, LMDBQ_QUEUE, LMDBQ_ATTEMPT and LMDBQ_LEASE in its environment. Ctrl-C lets
    what runs finish and hands back the rest; a second one ends now. A daemon that restarts is waited for.
    """
    from lmdbq.client.exec import ExecHandler
    from lmdbq.client.http import HttpClient
    from lmdbq.client.worker import Worker

    try:
        handler = ExecHandler(program, shell=shell)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--exec") from None
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(message)s")
    with HttpClient(session.at) as client:
        session.client.info()  # a wrong address or token is said at once, not waited for
        session.note(f"working for {client.where} on {', '.join(queue_name) or 'default'}; Ctrl-C stops")
        Worker(
            client,
            handler,
            queue_name or ("default",),
            types=types,
            limit=limit,
            concurrency=concurrency,
            lease=lease,
            grace=grace,
        ).run()
    return Exit.OK
