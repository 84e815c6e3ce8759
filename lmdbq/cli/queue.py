"""``lmdbq queue …``: one queue and its settings: show, put, set, pause, resume, purge, delete."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import JSON_VALUE, Session, complete_queue, json_text, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.queues import unconsumed
from lmdbq.wire.answers import QueueAnswer

name_argument = click.argument("name", metavar="QUEUE", shell_complete=complete_queue)
settings_argument = click.argument("settings", metavar="JSON", type=JSON_VALUE)


@click.group("queue", short_help="Show or change one queue.")
def command() -> None:
    """Show or change one queue.

    Settings are those of the API: {"max_running": 5, "keepalive_timeout_in_seconds": 30, "retry_strategy": {…}}.
    """


@command.command("show")
@name_argument
@with_session
def show(session: Session, name: str) -> int:
    """Show a queue: settings, tasks by type and state, totals."""
    queue = session.client.queue(name)
    session.answer(queue, lambda: _described(queue))
    return Exit.OK


@command.command("put")
@name_argument
@click.argument("settings", metavar="[JSON]", type=JSON_VALUE, default="{}")
@with_session
def put(session: Session, name: str, settings: Any) -> int:
    """Create a queue, or replace all its settings."""
    return _changed(session, session.client.put_queue(name, **_object(settings)))


@command.command("set")
@name_argument
@settings_argument
@with_session
def patch(session: Session, name: str, settings: Any) -> int:
    """Change the named settings of a queue; null is back to the default."""
    return _changed(session, session.client.patch_queue(name, **_object(settings)))


@command.command("pause")
@name_argument
@with_session
def pause(session: Session, name: str) -> int:
    """Hand out no task of a queue until it is resumed."""
    return _changed(session, session.client.pause(name))


@command.command("resume")
@name_argument
@with_session
def resume(session: Session, name: str) -> int:
    """Hand out tasks of a paused queue again."""
    return _changed(session, session.client.resume(name))


@command.command("purge")
@name_argument
@with_session
def purge(session: Session, name: str) -> int:
    """Remove every task of a queue, running ones too; its settings stay."""
    removed = session.client.purge(name)
    session.answer(removed, lambda: f"{name}: {removed.tasks} tasks removed")
    return Exit.OK


@command.command("delete")
@name_argument
@with_session
def delete(session: Session, name: str) -> int:
    """Remove a queue and every task of it."""
    session.client.delete_queue(name)
    session.answer({"queue_name": name, "deleted": True}, lambda: f"{name}: deleted")
    return Exit.OK


def _object(settings: Any) -> dict[str, Any]:
    if not isinstance(settings, dict):
        raise click.UsageError('settings are a JSON object, for example {"max_running": 5}')
    return settings


def _changed(session: Session, queue: QueueAnswer) -> int:
    session.answer(queue, lambda: f"{queue.name}: {json_text(queue.settings)}")
    return Exit.OK


def _described(queue: QueueAnswer) -> str:
    facts = [
        ("queue", queue.name),
        ("settings", json_text(queue.settings)),
        ("consumers", queue.consumers),
        ("why not", queue.waiting_for.detail if queue.waiting_for else ""),
        ("oldest ready", render.span(queue.oldest_ready_seconds)),
        ("next due", render.instant(queue.next_due_at)),
    ]
    types = [(name, state, count) for name, states in sorted(queue.types.items()) for state, count in states.items()]
    totals = [(name, count) for name, count in queue.totals.items() if count]
    parts = (
        render.fields(facts),
        render.table(("type", "state", "tasks"), types),
        render.table(("total", "tasks"), totals),
        "\n".join(unconsumed([queue])),
    )
    return "\n\n".join(part for part in parts if part)
