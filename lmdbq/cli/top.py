"""``lmdbq top``: the queues as they live, again and again until Ctrl-C.

What is shown is made of two looks by pure functions, so that a frame can be tested: counts are the newer look's, rates
what the totals have risen by in between. Only the loop reads clocks, and only it draws.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import click

from lmdbq.cli import render
from lmdbq.cli.common import DURATION, Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.queues import unconsumed
from lmdbq.errors import Unreachable

if TYPE_CHECKING:
    from lmdbq.wire.answers import InfoAnswer, QueueAnswer

RATES: Final = {"in/s": "enqueued", "done/s": "succeeded", "fail/s": "failed"}
HEADERS: Final = ("queue", "ready", "scheduled", "running", "dead", *RATES, "oldest", "consumers")  # 80 characters wide
_STATES: Final = ("ready", "scheduled", "running", "dead")


class Look(NamedTuple):
    """What a daemon said at one moment. at: seconds, of a clock that only rises."""

    at: float
    info: InfoAnswer
    queues: Sequence[QueueAnswer]


@click.command("top", short_help="Watch the queues, live.")
@click.option("--interval", type=DURATION, default=1.0, metavar="DURATION", help="Look so often.  [default: 1s]")
@click.option("--frames", type=click.IntRange(1), metavar="N", help="End after so many looks.")
@with_session
def command(session: Session, interval: float, frames: int | None) -> int:
    """Show every queue: its tasks by state, how many a second come, are done and fail, and what holds it up.

    At a terminal the screen is drawn anew at each look, until Ctrl-C; in a pipe frame follows frame, and with --json
    each is a line.
    """
    if interval < 0.1:
        raise click.UsageError("--interval is 100ms or more")
    before: Look | None = None
    left = frames
    with _screen(session) as show:
        try:
            while True:
                now = _look(session, before)
                show(now, before)
                before = now or before
                left = None if left is None else left - 1
                if left == 0:
                    break
                time.sleep(interval)
        except KeyboardInterrupt:
            pass  # how one leaves it
    return Exit.OK


def _look(session: Session, before: Look | None) -> Look | None:
    """Return what the daemon says; None while none answers, once one has."""
    try:
        return Look(time.monotonic(), session.client.info(), session.client.queues())
    except Unreachable:
        if before is None:
            raise
        return None


def rates(now: Look, before: Look | None) -> dict[str, dict[str, float]]:
    """Return per queue how many a second were enqueued, succeeded and failed between two looks; nothing after one."""
    if before is None or now.at <= before.at:
        return {}
    old = {queue.name: queue.totals for queue in before.queues}
    seconds = now.at - before.at
    return {
        queue.name: {
            column: max(0, queue.totals.get(total, 0) - old[queue.name].get(total, 0)) / seconds
            for column, total in RATES.items()
        }
        for queue in now.queues
        if queue.name in old
    }


def frame(now: Look, before: Look | None) -> str:
    """Return one screen as text: the daemon in a line, its queues as a table, and what nobody takes."""
    risen = rates(now, before)
    rows = [_row(queue, risen.get(queue.name)) for queue in now.queues]
    queues = render.table(HEADERS, rows) or "no queue yet; `lmdbq enqueue TYPE` makes the first"
    return "\n".join([head(now), "", queues, *blocked(now.queues), *unconsumed(now.queues)])


def head(now: Look) -> str:
    """Return a line about the daemon and its file."""
    store, info = now.info.store, now.info
    facts = [
        f"lmdbq {info.version}",
        f"up {render.span((info.now - info.started_at) / 1e9)}" if info.started_at else "no daemon",
        f"durability {info.durability}",
        f"{render.size(store.get('used_bytes', 0))} in use of {render.size(store.get('file_bytes', 0))}",
    ]
    if store.get("low_space"):
        facts.append("SPACE IS LOW")
    if store.get("quarantined"):
        facts.append(f"{store['quarantined']} quarantined: `lmdbq check` names them")
    return "  ·  ".join(facts)


def _row(queue: QueueAnswer, risen: dict[str, float] | None) -> tuple[object, ...]:
    return (
        queue.name,
        *(queue.counts.get(state, 0) for state in _STATES),
        *("" if risen is None else f"{risen[column]:,.1f}" for column in RATES),
        render.span(queue.oldest_ready_seconds) if queue.counts.get("ready") else "",
        queue.consumers,
    )


def blocked(queues: Sequence[QueueAnswer]) -> list[str]:
    """Return a line for each queue whose tasks are held up, and what lets them go."""
    remedies = {"paused": "`lmdbq queue resume {}`", "max_running": "`lmdbq queue set {} '{{\"max_running\": N}}'`"}
    return [
        f"queue {queue.name} hands nothing out ({queue.blocked_by}): "
        + remedies.get(queue.blocked_by, "`lmdbq queue show {}`").format(queue.name)
        for queue in queues
        if queue.blocked_by
    ]


def as_json(now: Look, before: Look | None) -> dict[str, Any]:
    """Return one screen for programs: queues as the API has them, each with its rates (null after the first look)."""
    risen = rates(now, before)
    return {
        "now": now.info.now,
        "store": now.info.store,
        "queues": [{"queue": queue, "per_second": _named(risen.get(queue.name))} for queue in now.queues],
    }


def _named(risen: dict[str, float] | None) -> dict[str, float] | None:
    return None if risen is None else {RATES[column]: rate for column, rate in risen.items()}


@contextmanager
def _screen(session: Session) -> Iterator[Callable[[Look | None, Look | None], None]]:
    """Yield what shows a look beside the one before it: on a screen of its own at a terminal, else line after line."""
    if session.as_json or not sys.stdout.isatty():
        yield lambda now, before: _print(session, now, before)
        return
    from rich.live import Live
    from rich.text import Text

    with Live(screen=True, auto_refresh=False) as live:

        def draw(now: Look | None, before: Look | None) -> None:
            shown = Text.from_ansi(frame(now, before)) if now else Text("no answer; it is waited for", "red")
            live.update(shown, refresh=True)

        yield draw


def _print(session: Session, now: Look | None, before: Look | None) -> None:
    if now is None:
        session.note("no answer; it is waited for")
        return
    text = f"{frame(now, before)}\n"
    session.answer(as_json(now, before), lambda: text)
