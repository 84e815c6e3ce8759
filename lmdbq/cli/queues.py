"""``lmdbq queues``: what waits, what runs, and what is stuck and why."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.wire.answers import QueueAnswer

HEADERS = ("queue", "ready", "scheduled", "running", "dead", "oldest", "consumers", "blocked by")


@click.command("queues", short_help="Show what waits, what runs, and what is stuck and why.")
@with_session
def command(session: Session) -> int:
    """Show every queue: its tasks by state, how long the oldest has been ready, and who is asking for them."""
    queues = session.client.queues()
    session.answer({"queues": queues}, lambda: described(queues))
    if not queues:
        session.note("there is no queue yet; `lmdbq enqueue TYPE` makes the first")
    return Exit.OK


def described(queues: Sequence[QueueAnswer]) -> str:
    """Return queues as a table, and below it a line for each type that nobody takes."""
    return "\n".join([render.table(HEADERS, [_row(queue) for queue in queues]), *unconsumed(queues)])


def unconsumed(queues: Sequence[QueueAnswer]) -> list[str]:
    """Return a line for each ready type that nobody is asking for: a typing error looks like this."""
    return [
        f"no consumer for type {name} in queue {queue.name}: `lmdbq worker MODULE:TASKS -q {queue.name}` would be one"
        for queue in queues
        for name in queue.unconsumed_types
    ]


def _row(queue: QueueAnswer) -> tuple[object, ...]:
    counts = queue.counts
    return (
        queue.name,
        *(counts.get(state, 0) for state in ("ready", "scheduled", "running", "dead")),
        render.span(queue.oldest_ready_seconds) if counts.get("ready") else "",
        queue.consumers,
        queue.blocked_by,
    )
