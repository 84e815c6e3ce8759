"""``lmdbq dead …``: what has died and why; to try it again, here or in another queue, or to remove it."""

from __future__ import annotations

import time
from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.filters import action_command, filter_options, said
from lmdbq.limits import PAGE_TASKS_MAX, SECOND_NS
from lmdbq.wire.answers import TaskAnswer

HEADERS = ("id", "queue", "type", "attempts", "died", "reason", "last error")


@click.group("dead", short_help="Show dead tasks, try them again, remove them.")
def command() -> None:
    """Show dead tasks and why they died; try them again, here or in another queue; remove them."""


@command.command("list")
@filter_options
@click.option("--limit", type=click.IntRange(1, PAGE_TASKS_MAX), default=50, show_default=True, help="At most so many.")
@with_session
def list_dead(session: Session, limit: int, **filters: Any) -> int:
    """List dead tasks, each with its last error; `lmdbq task ID` shows all of them."""
    wanted = {**said(filters), "state": ["dead"]}
    tasks = list(session.client.each_task(at_most=limit, payload="head", **wanted))
    session.answer({"tasks": tasks}, lambda: render.table(HEADERS, [_row(task) for task in tasks]))
    if not tasks:
        session.note("no dead task matches" if len(wanted) > 1 else "no task is dead")
    return Exit.OK


def _row(task: TaskAnswer) -> tuple[object, ...]:
    last = task.errors[-1] if task.errors else None
    ago = time.time() - (task.ended_at or 0) / SECOND_NS
    error = f"{last.type}: {last.message}".strip(": ") if last else ""
    place = (task.id, task.queue_name, task.type, task.attempts)
    return (*place, f"{render.span(max(0.0, ago))} ago", task.reason or "", error[:60])


for _action, _short, _doc in (
    ("retry", "Try dead tasks again.", "Make dead tasks ready again, by id or by a filter, here or in another queue."),
    ("delete", "Remove dead tasks.", "Remove dead tasks, by id or by a filter."),
):
    command.add_command(action_command(_action, _short, _doc, states=("dead",), moves=_action == "retry"))
