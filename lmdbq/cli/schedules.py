"""``lmdbq schedules``: what is enqueued again and again, and when next."""

from __future__ import annotations

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.wire.schedule_shapes import ScheduleAnswer

HEADERS = ("schedule", "cron", "timezone", "queue", "type", "next", "last", "fired", "paused")


@click.command("schedules", short_help="Show what is enqueued again and again, and when next.")
@with_session
def command(session: Session) -> int:
    """Show every schedule: what it enqueues, its next instant, the last that gave a task, and whether it is paused."""
    schedules = session.client.schedules()
    session.answer({"schedules": schedules}, lambda: render.table(HEADERS, [_row(one) for one in schedules]))
    for one in schedules:
        if one.paused_because:
            session.note(f"{one.name} is paused: {one.paused_because}")
    if not schedules:
        session.note("there is no schedule yet; `lmdbq schedule put NAME '0 3 * * *' TYPE` makes one")
    return Exit.OK


def _row(one: ScheduleAnswer) -> tuple[object, ...]:
    paused = "by the queue" if one.paused_because else "yes" if one.paused else ""
    instants = (render.instant(one.next_at), render.instant(one.last_at))
    return (one.name, one.cron, one.timezone, one.task.queue_name, one.task.type, *instants, one.fired, paused)
