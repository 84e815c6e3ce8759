"""The work on one item: what did the people of a zone see on their clocks when these were set?

It is done with ``datetime`` on the payload alone. ``count.py`` does the same sums with plain integers, and compares.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final, NamedTuple

from lmdbq.demo.sample import Change

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)  # datetime.fromtimestamp refuses early instants on some systems


class Answer(NamedTuple):
    """What a worker finds out, all as text.

    kind: "gap" (readings that never were), "overlap" (readings that came twice) or "renamed". length: of the gap or
    overlap, in seconds. left, reached: the wall clock's last reading as it was set, and the first after it. weekday:
    of the reading that was left. nth: its how-maniest in the month, from the front and from the back ("4/1" = last).
    """

    kind: str
    length: str
    left: str
    reached: str
    weekday: str
    nth: str


def wall_clock(at: int, offset: int) -> datetime:
    """Return what a clock ``offset`` seconds east of UTC shows at a Unix instant."""
    return (EPOCH + timedelta(seconds=at)).astimezone(timezone(timedelta(seconds=offset)))


def answer(change: Change) -> Answer:
    """Return what happened to the wall clock in a change."""
    left, reached = wall_clock(change.at, change.before), wall_clock(change.at, change.after)
    moved = round((reached.replace(tzinfo=None) - left.replace(tzinfo=None)).total_seconds())
    kind = "gap" if moved > 0 else "overlap" if moved < 0 else "renamed"
    from_front = (left.day + 6) // 7
    from_back = 1
    while (left + timedelta(days=7 * from_back)).month == left.month:
        from_back += 1
    return Answer(
        kind,
        str(abs(moved)),
        left.strftime("%Y-%m-%d %H:%M:%S"),
        reached.strftime("%Y-%m-%d %H:%M:%S"),
        left.strftime("%A"),
        f"{from_front}/{from_back}",
    )
