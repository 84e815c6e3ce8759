"""``lmdbq stats``: totals over all queues, and the state of the file."""

from __future__ import annotations

from collections import Counter
from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit


@click.command("stats", short_help="Show totals, and the state of the file.")
@with_session
def command(session: Session) -> int:
    """Show how many tasks are in which state, how often each thing has happened, and facts about the file."""
    queues = session.client.queues()
    info = session.client.info()
    states: Counter[str] = Counter()
    totals: Counter[str] = Counter()
    for queue in queues:
        states.update(queue.counts)
        totals.update(queue.totals)
    said = {"queues": len(queues), "states": dict(states), "totals": dict(totals), "store": info.store}
    parts = (
        render.table(("state", "tasks"), list(states.items())),
        render.table(("total", "tasks"), list(totals.items())),
        render.fields([("queues", len(queues)), ("durability", info.durability), *map(_fact, info.store.items())]),
    )
    session.answer(said, lambda: "\n\n".join(part for part in parts if part))
    return Exit.OK


def _fact(fact: tuple[str, Any]) -> tuple[str, object]:
    """Return a fact about the file as a person reads it."""
    name, value = fact
    if name.endswith("_at"):
        return name, render.instant(value)
    if name == "limit_bytes" and not value:
        return name, "the disk"
    if name.endswith("_bytes"):
        return name, render.size(value)
    return name, value
