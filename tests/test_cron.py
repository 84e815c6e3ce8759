"""Cron expressions against a calendar that is walked second by second, or minute by minute: in every zone there is."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from lmdbq import cron
from lmdbq.limits import DAY_NS, SECOND_NS

ZONES = sorted(name for name in zoneinfo.available_timezones() if not name.startswith("Factory"))
START = 1_795_264_496  # Saturday, 2026-11-21 12:34:56 UTC
YEARS = 3


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp()) * SECOND_NS


def following(expression: str, count: int, timezone: str = "UTC", start: int = START) -> list[str]:
    return [one.local for one in cron.upcoming(expression, timezone, start * SECOND_NS, count)]


# The vectors of the Moab specification, which its own library gave; ours differ where noted in the next test.
GOLDEN = [
    ("* * * * *", "2026-11-21T12:35:00"),
    ("*/5 * * * *", "2026-11-21T12:35:00"),
    ("0 9 * * *", "2026-11-22T09:00:00"),
    ("30 9 * * 1-5", "2026-11-23T09:30:00"),
    ("0 0 1 * *", "2026-12-01T00:00:00"),
    ("0 0 L * *", "2026-11-30T00:00:00"),
    ("0 0 * * 5L", "2026-11-27T00:00:00"),
    ("0 0 * * 1#2", "2026-12-14T00:00:00"),
    ("* * * * * *", "2026-11-21T12:34:57"),
    ("*/10 * * * * *", "2026-11-21T12:35:00"),
    ("0 0 13 * 5", "2026-11-27T00:00:00"),
    ("0 0 */2 * 5", "2026-11-27T00:00:00"),
    ("0 0 1 * MON", "2026-11-23T00:00:00"),
    ("0 0 1 * ?", "2026-12-01T00:00:00"),
    ("0 0 ? * MON", "2026-11-23T00:00:00"),
    ("0 0 10,20 * *", "2026-12-10T00:00:00"),
    ("1-5/2 * * * *", "2026-11-21T13:01:00"),
    ("5/15 * * * *", "2026-11-21T12:35:00"),
    ("7/20 * * * *", "2026-11-21T12:47:00"),
    ("10-50/15 * * * *", "2026-11-21T12:40:00"),
    ("0 0 * * 6#5", "2027-01-30T00:00:00"),
    ("0 0 * * 7L", "2026-11-29T00:00:00"),
    ("0 0 29 2 *", "2028-02-29T00:00:00"),
    ("*/60 * * * *", "2026-11-21T13:00:00"),
    ("*/100 * * * *", "2026-11-21T13:00:00"),
    ("@weekly", "2026-11-22T00:00:00"),
    ("0 0 * FEB-APR *", "2027-02-01T00:00:00"),
    ("0 0 * * 5-7", "2026-11-22T00:00:00"),  # Sunday is in it, as 7
]


@pytest.mark.parametrize(("expression", "expected"), GOLDEN)
def test_moab_6_78_golden_next_instants(expression: str, expected: str):
    assert following(expression, 1) == [expected + "+00:00"]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "* * * *",
        "60 * * * *",
        "* * * 13 *",
        "5,foo * * * *",
        "* * * * 1#6",
        "* * * * 8#1",
        "0 0 30 2 *",
        "0 0 31 2,4,6 *",
        "1, 2 * * * *",
        "*/0 * * * *",
        "10-5 * * * *",
        "24 24 * * *",
        "* * 0 * *",
        "* * L-3 * *",
        "0 0 15W * *",  # the nearest weekday and years are not read here
        "0 0 1 1 * 2030",
        "0 0 0 1 1 * 2030",
        "@every 5m",
        "@reboot",
        "not a cron",
    ],
)
def test_moab_6_79_what_is_no_expression_is_refused(expression: str):
    with pytest.raises(cron.BadCron):
        cron.check(expression, "UTC")


@pytest.mark.parametrize(
    "name",
    ["", "Mars/Phobos", "Local", "localtime", "posixrules", "right/UTC", "Europe", "../UTC", "/etc/passwd", "\0"],
)
def test_moab_6_79_what_is_no_zone_is_refused(name: str):
    with pytest.raises(cron.UnknownZone):
        cron.check("* * * * *", name)


def test_instants_rise_and_end():
    assert cron.next_after("0 0 29 2 *", "UTC", at("2256-03-01T00:00:00+00:00")) == at("2260-02-29T00:00:00+00:00")
    assert cron.next_after("0 0 29 2 *", "UTC", at("2260-03-01T00:00:00+00:00")) == 0, "beyond what an instant can be"


def test_the_latest_instants_of_a_long_time():
    upto = START * SECOND_NS
    last = cron.latest("*/15 * * * *", "UTC", upto - 400 * DAY_NS, upto, 3)
    assert last == [at(f"2026-11-21T12:{minute}:00+00:00") for minute in ("00", "15", "30")]
    assert cron.latest("0 * * * *", "UTC", last[0], upto, 5) == []
    assert cron.latest("30 12 * * *", "UTC", last[2] - 1, last[2], 5) == [last[2]]


# --- when clocks change ---

NEW_YORK_SPRING = int(at("2027-03-13T12:00:00-05:00") // SECOND_NS)  # 2027-03-14: 02:00 becomes 03:00
NEW_YORK_AUTUMN = int(at("2027-11-06T12:00:00-04:00") // SECOND_NS)  # 2027-11-07: 02:00 becomes 01:00


def test_a_fixed_time_that_a_day_does_not_have_happens_after_the_gap():
    shown = cron.upcoming("30 2 * * *", "America/New_York", NEW_YORK_SPRING * SECOND_NS, 2)

    assert [one.local for one in shown] == ["2027-03-14T03:00:00-04:00", "2027-03-15T02:30:00-04:00"]
    assert "02:30:00 does not exist" in shown[0].note
    assert shown[1].note == ""
    assert following("15,45 2 * * *", 3, "America/New_York", NEW_YORK_SPRING)[:2] == [
        "2027-03-14T03:00:00-04:00",
        "2027-03-15T02:15:00-04:00",
    ], "two that fall into the gap are one"


def test_a_fixed_time_that_a_day_has_twice_happens_at_the_first():
    for expression in ("30 1 * * *", "0 30 1 * * *"):
        shown = cron.upcoming(expression, "America/New_York", NEW_YORK_AUTUMN * SECOND_NS, 2)
        assert [one.local for one in shown] == ["2027-11-07T01:30:00-04:00", "2027-11-08T01:30:00-05:00"]
        assert "the first counts" in shown[0].note


def test_what_happens_all_along_goes_by_the_clock_on_the_wall():
    assert following("0 * * * *", 4, "America/New_York", NEW_YORK_SPRING + 12 * 3600) == [
        f"2027-03-14T{hour}:00:00{offset}"
        for hour, offset in (("01", "-05:00"), ("03", "-04:00"), ("04", "-04:00"), ("05", "-04:00"))
    ]
    shown = cron.upcoming("0 * * * *", "America/New_York", (NEW_YORK_AUTUMN + 12 * 3600) * SECOND_NS, 3)
    assert [one.local for one in shown] == [
        "2027-11-07T01:00:00-04:00",
        "2027-11-07T01:00:00-05:00",
        "2027-11-07T02:00:00-05:00",
    ]
    assert ["this is the first" in shown[0].note, "this is the second" in shown[1].note] == [True, True]


def test_weekdays_about_a_change_are_the_right_ones():
    """What the Moab specification saw its library get wrong."""
    chicago = int(at("2026-10-31T02:00:00-05:00") // SECOND_NS)
    assert following("0 2 * * 6", 1, "America/Chicago", chicago) == ["2026-11-07T02:00:00-06:00"]
    assert following("0 2 * * 0", 2, "America/New_York", NEW_YORK_SPRING) == [
        "2027-03-14T03:00:00-04:00",
        "2027-03-21T02:00:00-04:00",
    ]


def changes_of(name: str) -> Iterator[int]:
    """Yield the seconds at which the offset of a zone changes in the next years, found hour by hour."""
    zone = zoneinfo.ZoneInfo(name)
    step = timedelta(hours=12)
    moment = datetime.fromtimestamp(START - START % 3600, UTC)
    end = moment + timedelta(days=366 * YEARS)
    offset = moment.astimezone(zone).utcoffset()
    while moment < end:
        later = moment + step
        if later.astimezone(zone).utcoffset() != offset:
            minute = moment
            while minute.astimezone(zone).utcoffset() == offset:
                minute += timedelta(minutes=1)
            yield int(minute.timestamp())
            offset = later.astimezone(zone).utcoffset()
        moment = later


def walls(name: str, start: int, stop: int, step: int) -> list[tuple[int, datetime]]:
    """Return (second, what a clock shows without its zone) of ``start`` .. ``stop``."""
    zone = zoneinfo.ZoneInfo(name)
    return [
        (second, datetime.fromtimestamp(second, zone).replace(tzinfo=None, fold=0))
        for second in range(start, stop, step)
    ]


def instants(expression: str, name: str, start: int, stop: int) -> list[int]:
    found: list[int] = []
    after = (start - 1) * SECOND_NS
    while (after := cron.next_after(expression, name, after)) and after < stop * SECOND_NS:
        found.append(after // SECOND_NS)
    return found


def test_every_gap_and_overlap_of_every_zone():
    """Around each change: */20 is each wall minute of 0, 20, 40; each fixed time happens once a day, rightly placed."""
    seen = 0
    for name in ZONES:
        for change in changes_of(name):
            seen += 1
            start, stop = change - 4 * 3600, change + 4 * 3600
            shown = walls(name, start, stop, 60)
            along = [second for second, wall in shown if wall.minute % 20 == 0 and wall.second == 0]
            assert instants("*/20 * * * *", name, start, stop) == along, (name, change)
            wall = datetime.fromtimestamp(change, zoneinfo.ZoneInfo(name)).replace(tzinfo=None, fold=0)
            for minutes in (-90, -45, -30, -15, 0, 15, 30, 60):
                _fixed_time_happens_once(name, change, wall + timedelta(minutes=minutes), shown)
    assert seen > 400, "the zones of America and Europe change their clocks"


def _fixed_time_happens_once(name: str, change: int, wall: datetime, shown: list[tuple[int, datetime]]) -> None:
    expression = f"{wall.minute} {wall.hour} {wall.day} {wall.month} *"
    showing = [second for second, clock in shown if clock == wall]
    expected = showing[0] if showing else change
    found = instants(expression, name, shown[0][0], shown[-1][0] + 60)
    assert found == [expected], (name, expression)
