"""``lmdbq task ID``: everything about one task, and why it is not running."""

from __future__ import annotations

import click
import msgspec

from lmdbq.cli import render
from lmdbq.cli.common import DURATION, Session, complete_task, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import WAIT_SECONDS_MAX
from lmdbq.wire.answers import FailureAnswer, TaskAnswer


@click.command("task", short_help="Show a task: its history, and why it is not running.")
@click.argument("task_id", metavar="ID", shell_complete=complete_task)
@click.option(
    "--wait", type=DURATION, default=0.0, metavar="DURATION", help="Wait for its end, at most so long.  [default: 0s]"
)
@with_session
def command(session: Session, task_id: str, wait: float) -> int:
    """Show everything about a task."""
    if wait > WAIT_SECONDS_MAX:
        raise click.UsageError(f"--wait is at most {WAIT_SECONDS_MAX:.0f}s")
    task = session.client.task(task_id, wait=wait)
    session.answer(task, lambda: described(task))
    return Exit.OK


def described(task: TaskAnswer) -> str:
    """Return a task in words."""
    facts = [
        ("task", task.id),
        ("queue", task.queue_name),
        ("type", task.type),
        ("state", f"{task.state} ({task.reason})" if task.reason else task.state),
        ("waits for", _waiting(task)),
        ("attempts", f"{task.attempts} of {task.max_attempts}" if task.max_attempts else task.attempts),
        ("deliveries", task.deliveries),
        ("priority", task.priority),
        ("created", render.instant(task.created_at)),
        ("scheduled", render.instant(task.scheduled_at)),
        ("due", render.instant(task.due_at or 0)),
        ("lease until", render.instant(task.lease_expires_at or 0)),
        ("cancel", "asked for; its worker hears of it with the next heartbeat" if task.cancel_requested else ""),
        ("progress", "" if task.progress is msgspec.UNSET else f"{task.progress:.0%}"),
        ("expires", render.instant(task.expires_at)),
        ("ended", render.instant(task.ended_at or 0)),
        ("kept until", render.instant(task.remove_at or 0)),
        ("key", task.dedupe_key),
        ("tags", ", ".join(task.tags or ())),
        ("payload", _value(task.payload, task.payload_base64)),
        ("result", _value(task.result, task.result_base64)),
    ]
    return "\n".join([render.fields(facts), *(_failure(error) for error in task.errors or ())])


def _waiting(task: TaskAnswer) -> str:
    waiting = task.waiting_for
    if not waiting:
        return ""
    return f"{waiting.reason}: {waiting.detail}" + (f" ({render.instant(waiting.until)})" if waiting.until else "")


def _value(json: object, base64: object) -> str:
    if base64:
        return f"base64 {base64}"
    return bytes(json).decode("utf-8") if isinstance(json, msgspec.Raw) else ""


def _failure(error: FailureAnswer) -> str:
    said = ": ".join(part for part in (error.type, error.message) if part)
    lines = [f"\nfailed  {render.instant(error.at)}  delivery {error.delivery}  {render.line(said)}"]
    return "\n".join([*lines, *(f"    {render.line(line)}" for line in error.backtrace.splitlines())])
