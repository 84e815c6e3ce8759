"""``lmdbq tasks``: what is stored, filtered, page by page."""

from __future__ import annotations

import time
from typing import Any

import click
from msgspec import UNSET

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.filters import filter_options, said
from lmdbq.limits import PAGE_TASKS_MAX, SECOND_NS
from lmdbq.wire.answers import TaskAnswer, TasksAnswer

HEADERS = ("id", "queue", "type", "state", "started", "age", "due", "payload")


@click.command("tasks", short_help="List tasks.")
@filter_options
@click.option("--limit", type=click.IntRange(1, PAGE_TASKS_MAX), default=50, show_default=True, help="At most so many.")
@click.option("--cursor", metavar="CURSOR", help="Go on where an earlier page ended.")
@click.option("--count", is_flag=True, help="Only how many there are.")
@with_session
def command(session: Session, limit: int, cursor: str | None, count: bool, **filters: Any) -> int:
    """List tasks, oldest first."""
    wanted = said(filters)
    if count:
        number = session.client.count(**wanted)
        session.answer({"count": number}, lambda: str(number))
        return Exit.OK
    page = _page(session, wanted, limit, cursor)
    session.answer(page, lambda: render.table(HEADERS, [_row(task) for task in page.tasks]))
    if not page.tasks:
        session.note("no task matches" if wanted else "no task is stored; `lmdbq enqueue TYPE` makes one")
    elif page.next:
        session.note(f"there are more: repeat with --cursor {page.next}")
    return Exit.OK


def _page(session: Session, wanted: dict[str, Any], limit: int, cursor: str | None) -> TasksAnswer:
    """Return ``limit`` tasks if there are so many: the daemon's pages of a rare match may be short, even empty."""
    tasks: list[TaskAnswer] = []
    payload = "full" if session.as_json else "head"
    while True:
        page = session.client.tasks(**wanted, limit=limit - len(tasks), cursor=cursor, payload=payload)
        tasks += page.tasks
        cursor = page.next or None
        if cursor is None or len(tasks) >= limit:
            return TasksAnswer(tasks, cursor or UNSET)


def _row(task: TaskAnswer) -> tuple[object, ...]:
    now = time.time()
    due = task.due_at / SECOND_NS - now if task.due_at else None
    return (
        task.id,
        task.queue_name,
        task.type,
        task.state,
        task.deliveries,
        render.span(max(0.0, now - task.created_at / SECOND_NS)),
        "" if due is None else f"in {render.span(max(0.0, due))}",
        (task.payload_head or "")[:60],
    )
