"""``lmdbq dequeue``: claim tasks by hand, or from a shell script that reports with ``lmdbq report``."""

from __future__ import annotations

import click

from lmdbq.cli.common import DURATION, Session, complete_type, queue_option, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import CLAIM_TASKS_MAX, WAIT_SECONDS_MAX
from lmdbq.wire.answers import TaskAnswer


@click.command("dequeue", short_help="Claim tasks and print their leases.")
@queue_option(multiple=True, help="From this queue; may be repeated.  [default: default]")
@click.option(
    "--type",
    "types",
    multiple=True,
    metavar="TYPE",
    shell_complete=complete_type,
    help="Only this type; may be repeated.",
)
@click.option("--limit", type=click.IntRange(1, CLAIM_TASKS_MAX), default=1, show_default=True, help="At most so many.")
@click.option(
    "--wait", type=DURATION, default=0.0, metavar="DURATION", help="Wait for the first, at most so long.  [default: 0s]"
)
@click.option("--lease", type=DURATION, metavar="DURATION", help="How long the claim lasts without an extension.")
@with_session
def command(
    session: Session, queue_name: tuple[str, ...], types: tuple[str, ...], limit: int, wait: float, lease: float | None
) -> int:
    """Claim tasks. Prints a line each: lease, type, payload. Say how they went with `lmdbq report LEASE`."""
    from lmdbq.client.verbs import subscription
    from lmdbq.wire.why import in_words

    if wait > WAIT_SECONDS_MAX:
        raise click.UsageError(f"--wait is at most {WAIT_SECONDS_MAX:.0f}s")
    wanted = subscription(*queue_name, types=types, limit=limit, wait=wait, lease=lease)
    answer = session.client.dequeue(wanted)
    if not answer.tasks:
        because = in_words(answer.reason or "empty", ", ".join(queue_name) or "default")
        session.note(f"nothing to take: {because}; `lmdbq queues` shows what waits where")
    session.answer(answer, lambda: "\n".join(_line(task) for task in answer.tasks))
    return Exit.OK


def _line(task: TaskAnswer) -> str:
    payload = bytes(task.payload).decode("utf-8") if task.payload else task.payload_base64 or "null"
    return f"{task.lease}\t{task.type}\t{payload}"
