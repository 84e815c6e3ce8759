"""Cron expressions and time zones: which instants an expression names. Pure functions; the only I/O is reading zones.

An expression has five fields (minute hour day month weekday) or six (second first), or is one of NICKNAMES; fields are
read by cronsim, whose documentation has the grammar (lists, ranges, steps, names, ``L`` and ``#``; days are joined by
*or* when both day fields are restricted, as in Debian's cron). A zone is an IANA name, read by zoneinfo from the
system's data or, without it, from the tzdata package.

When clocks are put forward or back, an expression is one of two kinds, as in Debian's cron:

- *At fixed times* (neither minute nor hour begins with ``*``): each named time happens once. One that a day does not
  have happens at the first instant after the gap; of one that a day has twice, the first counts.
- *All along* (minute or hour begins with ``*``): whatever the clock on the wall shows. A time that a day does not have
  does not happen; of one that a day has twice, both count.

cronsim knows only five fields and steps of an hour in this respect, so it is asked about time without a zone, and the
mapping to instants is made here. Between two changes of its offset a zone is a straight line: ``_all_along`` asks once
for each such stretch. The trap: zoneinfo does not say when the offset changes next; it is looked for day by day, as no
zone changes twice within a day.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from lmdbq import limits

NICKNAMES: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_NO_ZONES: Final = ("localtime", "posixrules", "posix/", "right/")  # files beside the zones: not what they seem
_SECOND: Final = timedelta(seconds=1)
_DAY_SECONDS: Final = 86_400
_NAIVE_EPOCH: Final = datetime(1970, 1, 1)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_WINDOW_SECONDS: Final = 64


class BadCron(ValueError):
    """An expression that names no instant. ``str`` says what is wrong with it."""


class UnknownZone(ValueError):
    """A name that is none of a time zone."""


class Upcoming(NamedTuple):
    """An instant that is to come: Unix ns, what a clock in the zone shows, and a note if clocks change about it."""

    at: int
    local: str
    note: str


class _Cron(NamedTuple):
    """An expression that was read. fixed: at fixed times, see above."""

    sim: CronSim
    fixed: bool


@functools.lru_cache(maxsize=1_024)
def _read(cron: str) -> _Cron:
    text = NICKNAMES.get(cron.strip().lower(), cron)
    fields = ["*" if field == "?" else field for field in text.split()]
    if len(fields) not in (5, 6):
        names = ", ".join(sorted(NICKNAMES))
        raise BadCron(f"a cron expression has 5 fields, or 6 with seconds first, or is one of {names}")
    try:
        sim = CronSim(" ".join(fields), _NAIVE_EPOCH)
    except (CronSimError, ValueError, IndexError) as error:
        raise BadCron(f"{error} in the cron expression {cron[:100]!r}") from error
    minute, hour = fields[-5:-3]
    return _Cron(sim, not minute.startswith("*") and not hour.startswith("*"))


@functools.lru_cache(maxsize=1_024)
def zone(name: str) -> tzinfo:
    """Return the zone of an IANA name. Raises UnknownZone."""
    try:
        if name.startswith(_NO_ZONES):
            raise ValueError
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        raise UnknownZone(
            f"{name[:100]!r} is no time zone of the IANA database, as Europe/Berlin and UTC are"
        ) from error


def check(cron: str, timezone: str) -> None:
    """Raise BadCron or UnknownZone if there is no instant to come."""
    _tick(cron, _NAIVE_EPOCH)
    zone(timezone)


def next_after(cron: str, timezone: str, after: int) -> int:
    """Return the first instant (Unix ns) later than ``after``; 0 = there is none within 50 years.

    Raises BadCron, UnknownZone.

    >>> next_after("30 9 * * MON-FRI", "UTC", 1_763_728_496_000_000_000) // 10**9  # a Friday, 12:34:56
    1763976600
    """
    at = _next(cron, zone(timezone), after // limits.SECOND_NS)
    return _ns(at) if at is not None else 0


def latest(cron: str, timezone: str, after: int, upto: int, count: int) -> list[int]:
    """Return the last ``count`` instants later than ``after`` and not later than ``upto`` (Unix ns), in their order.

    They are looked for in windows that reach further and further back, so that a long time costs no more than a short.
    """
    where = zone(timezone)
    first, last = after // limits.SECOND_NS, upto // limits.SECOND_NS
    width = _FIRST_WINDOW_SECONDS
    while True:
        start = max(first, last - width)
        found = list(_between(cron, where, start, last))
        if len(found) >= count or start == first:
            return [_ns(at) for at in found[-count:]]
        width *= 4


def upcoming(cron: str, timezone: str, after: int, count: int) -> list[Upcoming]:
    """Return the next ``count`` instants later than ``after`` (Unix ns), with what is odd about them."""
    where = zone(timezone)
    found: list[Upcoming] = []
    at = _next(cron, where, after // limits.SECOND_NS)
    while at is not None and len(found) < count and _ns(at) <= limits.INSTANT_NS_MAX:
        shown = datetime.fromtimestamp(at, where)
        found.append(Upcoming(_ns(at), shown.isoformat(), _note(cron, where, at)))
        at = _next(cron, where, at)
    return found


def _ns(at: int) -> int:
    at_ns = at * limits.SECOND_NS
    return at_ns if at_ns <= limits.INSTANT_NS_MAX else 0


# --- what a clock on the wall shows ---


def _tick(cron: str, wall: datetime) -> datetime | None:
    """Return the first time later than ``wall`` that an expression names; None = none within 50 years."""
    sim = copy.copy(_read(cron).sim)
    sim.dt = wall
    try:
        return next(sim)
    except StopIteration:
        if wall == _NAIVE_EPOCH:
            raise BadCron(f"there is no such day as the cron expression {cron[:100]!r} names") from None
        return None
    except (OverflowError, ValueError):  # the end of the calendar
        return None


def _wall(at: int, offset: int) -> datetime:
    return _NAIVE_EPOCH + timedelta(seconds=at + offset)


def _seconds(wall: datetime) -> int:
    return (wall - _NAIVE_EPOCH) // _SECOND


def _offset(where: tzinfo, at: int) -> int:
    """Return by how many seconds the clocks of a zone are ahead of UTC at an instant."""
    ahead = datetime.fromtimestamp(at, where).utcoffset()
    return 0 if ahead is None else ahead // _SECOND


# --- instants: whole seconds since 1970 ---


def _next(cron: str, where: tzinfo, after: int) -> int | None:
    try:
        return _at_fixed_times(cron, where, after) if _read(cron).fixed else _all_along(cron, where, after)
    except (OverflowError, OSError):  # an instant that no clock can show
        return None


def _between(cron: str, where: tzinfo, after: int, upto: int) -> Iterator[int]:
    at = _next(cron, where, after)
    while at is not None and at <= upto:
        yield at
        at = _next(cron, where, at)


def _at_fixed_times(cron: str, where: tzinfo, after: int) -> int | None:
    wall: datetime | None = _wall(after, _offset(where, after))
    while wall is not None and (wall := _tick(cron, wall)) is not None:
        at = _instant(where, wall)
        if at > after:
            return at
    return None


def _instant(where: tzinfo, wall: datetime) -> int:
    """Return when clocks first show ``wall``; if they never do, the first instant after the gap."""
    at = (wall.replace(tzinfo=where, fold=0) - _EPOCH) // _SECOND
    if _wall(at, _offset(where, at)) == wall:
        return at
    before = (wall.replace(tzinfo=where, fold=1) - _EPOCH) // _SECOND
    return _change(where, before, at) or at


def _all_along(cron: str, where: tzinfo, after: int) -> int | None:
    while True:
        offset = _offset(where, after + 1)
        wall = _tick(cron, _wall(after, offset))
        if wall is None:
            return None
        at = _seconds(wall) - offset
        change = _change(where, after + 1, at)
        if change is None:
            return at
        after = change - 1


def _change(where: tzinfo, start: int, upto: int) -> int | None:
    """Return the first instant after ``start``, up to ``upto``, whose offset is another than at ``start``."""
    offset = _offset(where, start)
    low = start
    while low < upto:
        high = min(low + _DAY_SECONDS, upto)
        if _offset(where, high) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(where, middle) == offset:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None


# --- notes ---


def _note(cron: str, where: tzinfo, at: int) -> str:
    """Return what is odd about an instant because clocks change about it, "" if nothing is."""
    offset, before = _offset(where, at), _offset(where, at - 1)
    if offset > before and _read(cron).fixed:
        skipped = _tick(cron, _wall(at - 1, before))
        if skipped is not None and skipped < _wall(at, offset):
            return f"clocks go forward, and {skipped:%H:%M:%S} does not exist: it happens when they have"
    wall = _wall(at, offset)
    first, second = (wall.replace(tzinfo=where, fold=fold).utcoffset() for fold in (0, 1))
    if first is None or second is None or first <= second:
        return ""
    if _read(cron).fixed:
        return f"clocks go back, and {wall:%H:%M:%S} happens twice: the first counts"
    number = "first" if offset == first // _SECOND else "second"
    return f"clocks go back, and {wall:%H:%M:%S} happens twice: this is the {number}"
