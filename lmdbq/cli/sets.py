"""``lmdbq sets``: sets of tasks, how their members stand, and which are met."""

from __future__ import annotations

import click
from msgspec import UNSET

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.wire.set_shapes import SetAnswer

HEADERS = ("set", "state", "condition", "members", "pending", "succeeded", "dead", "other", "made", "decided")
STATES = ("open", "closed", "met", "unmet")


@click.command("sets", short_help="Show sets of tasks, and which are met.")
@click.option("--state", multiple=True, type=click.Choice(STATES), help="Only those in this state; may be repeated.")
@with_session
def command(session: Session, state: tuple[str, ...]) -> int:
    """Show every set that is kept, the oldest first; "other" counts its members that were cancelled, expired or
    deleted."""
    found: list[SetAnswer] = []
    query: dict[str, object] = {"state": list(state), "limit": PAGE_TASKS_MAX}
    while True:
        page = session.client.sets(**query)
        found += page.sets
        if page.next is UNSET:
            break
        query["cursor"] = page.next
    session.answer({"sets": found}, lambda: render.table(HEADERS, [_row(one) for one in found]))
    if not found:
        session.note("there is no such set; `lmdbq set make --callback TYPE` makes one")
    return Exit.OK


def _row(one: SetAnswer) -> tuple[object, ...]:
    other = one.cancelled + one.expired + one.deleted
    counts = (one.members, one.pending, one.succeeded, one.dead, other)
    instants = (render.instant(one.created_at), render.instant(one.ended_at))
    return (one.id, one.state, one.condition, *counts, *instants)
