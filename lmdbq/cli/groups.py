"""``lmdbq groups``: what each group runs and waits for, and what holds it up."""

from __future__ import annotations

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.limits import PAGE_TASKS_MAX
from lmdbq.wire.group_shapes import GroupAnswer, GroupBody

HEADERS = ("group", "ready", "running", "cap", "rate", "tokens", "rule", "blocked by")


@click.command("groups", short_help="Show what groups run, wait for, and may.")
@with_session
def command(session: Session) -> int:
    """Show every group with settings of its own, or with ready or running tasks: its cap, its rate, what holds it."""
    found: list[GroupAnswer] = []
    cursor: str | None = None
    while cursor != "":
        page = session.client.groups(cursor, PAGE_TASKS_MAX)
        found += page.groups
        cursor = page.next
    session.answer({"groups": found}, lambda: render.table(HEADERS, [_row(one) for one in found]))
    if not found:
        session.note(
            "there is no group yet; `lmdbq enqueue TYPE --group KEY` makes one, `lmdbq group set` gives it a cap"
        )
    return Exit.OK


def _row(one: GroupAnswer) -> tuple[object, ...]:
    cap = "" if one.limits.max_running is None else one.limits.max_running
    tokens = "" if one.tokens is None else one.tokens
    return (one.group_key, one.ready, one.running, cap, rate_text(one.limits), tokens, one.rule, one.blocked_by)


def rate_text(settings: GroupBody) -> str:
    """Return a rate in words, "" for none."""
    rate = settings.rate
    if rate is None:
        return ""
    burst = f", burst {rate.burst}" if rate.burst else ""
    return f"{rate.tokens} per {rate.period_in_seconds:g}s{burst}"
