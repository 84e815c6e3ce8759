"""``lmdbq set …``: one set of tasks: make, show, wait, close, delete."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import DURATION, Session, complete_queue, complete_set, complete_type, json_text, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import WAIT_SECONDS_MAX
from lmdbq.wire.set_shapes import SetAnswer

id_argument = click.argument("set_id", metavar="ID", shell_complete=complete_set)


@click.group("set", short_help="Make, show or close one set of tasks.")
def command() -> None:
    """One set of tasks, and the task that is enqueued once when all of them have succeeded.

    `lmdbq set make` prints its id, `lmdbq enqueue TYPE --set ID` adds a member, `lmdbq set close ID` says that no more
    come.
    """


@command.command("make")
@click.option("--condition", type=click.Choice(["all", "any", "finished"]), help="When it is met.  [default: all]")
@click.option("--callback", metavar="TYPE", shell_complete=complete_type, help="What is enqueued when it is met.")
@click.option("--on-unmet", metavar="TYPE", shell_complete=complete_type, help="What is enqueued when it is not.")
@click.option("--after", metavar="QUEUE", shell_complete=complete_queue, help="The queue of those.  [default: default]")
@click.option("--keep", type=DURATION, metavar="DURATION", help="How long it can be read after that.  [default: 7d]")
@with_session
def make(session: Session, **options: Any) -> int:
    """Make a set and print its id.

    It is met when all its members have succeeded, or any has, or all are finished, however they ended. What is
    enqueued then is told the set's id, its state and its counts.
    """
    session.may_create = True
    fields: dict[str, Any] = {"condition": options["condition"], "keep_in_seconds": options["keep"]}
    for name in ("callback", "on_unmet"):
        if options[name] is not None:
            fields[name] = {"type": options[name], "queue_name": options["after"]}
    made = session.client.make_set(**{name: value for name, value in fields.items() if value is not None})
    session.answer(made, lambda: made.id)
    return Exit.OK


@command.command("show")
@id_argument
@click.option("--wait", is_flag=True, help="Wait until it is met or unmet; exit status 1 if it is unmet.")
@with_session
def show(session: Session, set_id: str, wait: bool) -> int:
    """Show a set: how its members stand, and what follows it."""
    one = session.client.task_set(set_id)
    while wait and one.state in ("open", "closed"):
        one = session.client.task_set(set_id, wait=WAIT_SECONDS_MAX)
    session.answer(one, lambda: _described(one))
    return Exit.FAILED if wait and one.state == "unmet" else Exit.OK


@command.command("close")
@id_argument
@with_session
def close(session: Session, set_id: str) -> int:
    """Say that no more members come: from then on it can be met."""
    one = session.client.close_set(set_id)
    session.answer(one, lambda: f"{one.id}: {one.state}, {one.pending} of {one.members} pending")
    return Exit.OK


@command.command("delete")
@id_argument
@with_session
def delete(session: Session, set_id: str) -> int:
    """Forget a set; its members stay, and nothing follows."""
    session.client.delete_set(set_id)
    session.answer({"id": set_id, "deleted": True}, lambda: f"{set_id}: deleted")
    return Exit.OK


def _described(one: SetAnswer) -> str:
    counts = ("members", "pending", "succeeded", "dead", "cancelled", "expired", "deleted")
    return render.fields(
        [
            ("set", one.id),
            ("state", one.state),
            ("reason", one.reason or ""),
            ("condition", one.condition),
            *((name, getattr(one, name)) for name in counts),
            ("callback", json_text(one.callback) if one.callback else ""),
            ("on unmet", json_text(one.on_unmet) if one.on_unmet else ""),
            ("made", render.instant(one.created_at)),
            ("decided", render.instant(one.ended_at)),
            ("forgotten", render.instant(one.remove_at)),
        ]
    )
