"""``lmdbq schedule …``: one schedule: show, put, pause, resume, run, next, delete."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import (
    DURATION,
    Session,
    complete_schedule,
    complete_type,
    json_text,
    queue_option,
    with_session,
)
from lmdbq.cli.exits import Exit
from lmdbq.limits import PRIORITY_MAX, PRIORITY_MIN, UPCOMING_DEFAULT, UPCOMING_MAX
from lmdbq.wire.schedule_shapes import ScheduleAnswer, UpcomingAnswer

name_argument = click.argument("name", metavar="NAME", shell_complete=complete_schedule)


@click.group("schedule", short_help="Show or change one schedule.")
def command() -> None:
    """Show or change one schedule: a task that is enqueued again and again.

    CRON has five fields (minute hour day month weekday), or six with seconds first, or is @hourly, @daily, @weekly,
    @monthly or @yearly.
    """


@command.command("show")
@name_argument
@with_session
def show(session: Session, name: str) -> int:
    """Show a schedule: what it enqueues, where it stands, and its next instants."""
    schedule = session.client.schedule(name)
    session.answer(schedule, lambda: _described(schedule))
    return Exit.OK


@command.command("put")
@name_argument
@click.argument("cron", metavar="CRON")
@click.argument("type_name", metavar="TYPE", shell_complete=complete_type)
@click.argument("payload", nargs=-1, metavar="[JSON | key=value… | -]")
@queue_option(help="The queue of its tasks.  [default: default]")
@click.option("--timezone", metavar="ZONE", help="An IANA name, as Europe/Berlin.  [default: UTC]")
@click.option(
    "--catch-up",
    type=click.Choice(["none", "one", "all"]),
    help="What is made up for of instants that were missed: nothing, one task, or all of them.  [default: one]",
)
@click.option("--paused", is_flag=True, default=None, help="Enqueue nothing until it is resumed.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Start each task so long after its instant.")
@click.option("--expires-in", type=DURATION, metavar="DURATION", help="Drop a task that has not started by then.")
@click.option("--key", metavar="KEY", help="Dedupe key of its tasks; {instant} in it is the instant.")
@click.option("--priority", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), metavar="N", help="Lower runs sooner.")
@with_session
def put(session: Session, name: str, cron: str, type_name: str, payload: tuple[str, ...], **options: Any) -> int:
    """Create a schedule that enqueues a task of TYPE, or replace it: `lmdbq schedule put nightly '0 3 * * *' report`.

    With the same CRON and zone it stays where it stood; it stays paused if it was.
    """
    from lmdbq.cli.enqueue import parse_payload

    session.may_create = True
    task = {
        "type": type_name,
        "queue_name": options["queue_name"],
        "delay_in_seconds": options["delay"],
        "expires_in_seconds": options["expires_in"],
        "dedupe_key": options["key"],
        "priority": options["priority"],
    }
    task = {field: value for field, value in task.items() if value is not None}
    if payload:
        task["payload"] = parse_payload(payload)
    said = {field: options[field] for field in ("timezone", "catch_up", "paused") if options[field] is not None}
    return _changed(session, session.client.put_schedule(name, cron=cron, task=task, **said))


@command.command("pause")
@name_argument
@with_session
def pause(session: Session, name: str) -> int:
    """Let a schedule enqueue nothing until it is resumed."""
    return _changed(session, session.client.pause_schedule(name))


@command.command("resume")
@name_argument
@with_session
def resume(session: Session, name: str) -> int:
    """Let a paused schedule go on with its next instant from now."""
    return _changed(session, session.client.resume_schedule(name))


@command.command("run")
@name_argument
@with_session
def run(session: Session, name: str) -> int:
    """Enqueue a schedule's task now and print its id; its instants stay what they are."""
    ran = session.client.run_schedule(name)
    if ran.outcome.deduped:
        session.note(f"{ran.outcome.outcome}: {ran.outcome.id} has its dedupe key")
    session.answer(ran, lambda: ran.outcome.id)
    return Exit.OK


@command.command("next")
@name_argument
@click.option("-n", "--count", type=click.IntRange(1, UPCOMING_MAX), default=UPCOMING_DEFAULT, show_default=True)
@with_session
def next_instants(session: Session, name: str, count: int) -> int:
    """Show a schedule's next instants in its zone, and where clocks change about one."""
    coming = session.client.next_instants(name, count)
    session.answer(coming, lambda: _instants(coming.upcoming))
    return Exit.OK


@command.command("delete")
@name_argument
@with_session
def delete(session: Session, name: str) -> int:
    """Remove a schedule; the tasks that it has enqueued stay."""
    session.client.delete_schedule(name)
    session.answer({"name": name, "deleted": True}, lambda: f"{name}: deleted")
    return Exit.OK


def _changed(session: Session, schedule: ScheduleAnswer) -> int:
    coming = "paused" if schedule.paused else f"next at {render.instant(schedule.next_at)}"
    session.answer(schedule, lambda: f"{schedule.name}: {schedule.cron} {schedule.timezone}, {coming}")
    return Exit.OK


def _described(schedule: ScheduleAnswer) -> str:
    facts = [
        ("schedule", schedule.name),
        ("cron", schedule.cron),
        ("timezone", schedule.timezone),
        ("catch up", schedule.catch_up),
        ("paused", schedule.paused_because or ("yes" if schedule.paused else "")),
        ("task", json_text(schedule.task)),
        ("next", render.instant(schedule.next_at)),
        ("last", render.instant(schedule.last_at)),
        ("fired", schedule.fired),
    ]
    return "\n\n".join(filter(None, (render.fields(facts), _instants(schedule.upcoming or []))))


def _instants(coming: list[UpcomingAnswer]) -> str:
    return render.table(("next", "there", "note"), [(render.instant(one.at), one.local, one.note) for one in coming])
