"""``lmdbq threads``: the threads of a queue, what holds each, and what is next."""

from __future__ import annotations

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, queue_option, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.wire.group_shapes import ThreadAnswer

HEADERS = ("thread", "ready", "holder", "state", "next")


@click.command("threads", short_help="Show a queue's threads, and what holds each.")
@queue_option(help="The queue.  [default: default]")
@with_session
def command(session: Session, queue_name: str | None) -> int:
    """Show the threads of a queue that have ready tasks, or a task that runs or is to be tried again."""
    found: list[ThreadAnswer] = []
    cursor: str | None = None
    while cursor != "":
        page = session.client.threads(queue_name or "default", cursor, PAGE_TASKS_MAX)
        found += page.threads
        cursor = page.next
    rows = [(one.thread_id, one.ready, one.holder or "", one.state or "", one.head or "") for one in found]
    session.answer({"threads": found}, lambda: render.table(HEADERS, rows))
    if not found:
        session.note("no thread is at work; `lmdbq enqueue TYPE --thread ID` puts a task into one")
    return Exit.OK
