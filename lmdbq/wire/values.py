"""Single values on their way in: instants, durations, names, ids. Each says what is wrong and what to send.

The trap is the unit. An instant is nanoseconds or RFC 3339 text; a smaller number is surely something else, and is
refused by the name of what it looks like. Whatever comes in is rounded up to whole microseconds.
"""

from __future__ import annotations

import math
import re
from datetime import datetime, timedelta, timezone
from typing import Final

from lmdbq import limits
from lmdbq.ids import format_id, parse_id, parse_lease, parse_set_id
from lmdbq.wire.problems import Problems

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017  (one spelling for pyright and 3.11)
_QUEUE_NAME: Final = re.compile(r"[-_.0-9A-Za-z]{1,128}")
_TYPE_NAME: Final = re.compile(r"[-_.:/0-9A-Za-z]{1,128}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_DIGITS_OF_UNIT: Final = ((11, "seconds"), (14, "milliseconds"), (17, "microseconds"))
_RFC_3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")


def whole_us(instant_ns: int) -> int:
    """Return ``instant_ns`` rounded up to whole microseconds.

    >>> whole_us(1_000_001), whole_us(2_000_000)
    (1001000, 2000000)
    """
    return -(-instant_ns // limits.US_NS) * limits.US_NS


def instant_ns(value: int | str | None, pointer: str, problems: Problems) -> int:
    """Return an instant in Unix ns, 0 for none."""
    if not value:
        if value == "":
            problems.add("bad_value", pointer, "an instant is Unix nanoseconds or RFC 3339 text; leave it out for none")
        return 0
    if isinstance(value, str):
        return _text_ns(value, pointer, problems)
    if value < limits.INSTANT_NS_MIN:
        unit = next((name for digits, name in _DIGITS_OF_UNIT if len(str(value)) <= digits), "another unit")
        problems.add(
            "instant_unit",
            pointer,
            f"{value} looks like {unit}; send Unix nanoseconds (19 digits), RFC 3339 text, or a delay in seconds",
        )
        return 0
    return whole_us(value)


def _text_ns(text: str, pointer: str, problems: Problems) -> int:
    matched = _RFC_3339.fullmatch(text)
    try:
        if matched is None:
            raise ValueError
        fraction = (matched.group(1) or ".0")[1:]
        plain = text[: matched.start(1)] + text[matched.end(1) :] if matched.group(1) else text
        moment = datetime.fromisoformat(plain.upper())
        whole = (moment - _EPOCH) // timedelta(seconds=1)
        result = whole_us(whole * limits.SECOND_NS + int(fraction.ljust(9, "0")))
    except (ValueError, OverflowError):
        problems.add("bad_value", pointer, "this is no RFC 3339 instant; it looks like 2030-01-31T08:00:00Z")
        return 0
    if not limits.INSTANT_NS_MIN <= result <= limits.INSTANT_NS_MAX:
        problems.add("out_of_range", pointer, "instants lie between 1973-03-03 and 2262-04-11")
        return 0
    return result


def duration_ns(
    value: float | None, pointer: str, problems: Problems, *, low_ns: int = 0, high_ns: int = limits.DELAY_NS_MAX
) -> int:
    """Return a duration in ns, whole microseconds, 0 for None; ``low_ns`` .. ``high_ns`` or a problem."""
    if value is None:
        return 0
    if 0 <= value <= limits.DELAY_NS_MAX:  # neither NaN nor too large for an integer
        result = whole_us(math.ceil(value * limits.SECOND_NS - 0.5))
        if low_ns <= result <= high_ns:
            return result
    problems.add(
        "out_of_range",
        pointer,
        f"it must be between {low_ns / limits.SECOND_NS:g} and {high_ns / limits.SECOND_NS:.0f} seconds",
    )
    return 0


def keepalive_ns(value: float | None, pointer: str, problems: Problems) -> int:
    """Return the length of a lease in ns; 0 or None: not said."""
    if not value:
        return 0
    return duration_ns(value, pointer, problems, low_ns=limits.KEEPALIVE_NS_MIN, high_ns=limits.KEEPALIVE_NS_MAX)


def seconds(nanoseconds: int) -> float:
    """Return a duration as it travels: whole seconds as an int.

    >>> seconds(2_000_000_000), seconds(1_500_000_000)
    (2, 1.5)
    """
    whole, rest = divmod(nanoseconds, limits.SECOND_NS)
    return nanoseconds / limits.SECOND_NS if rest else whole


def check_queue_name(name: str, pointer: str, problems: Problems) -> None:
    if not _QUEUE_NAME.fullmatch(name):
        problems.add("bad_name", pointer, "a queue name is 1 to 128 of the characters -_.0-9A-Za-z")


def check_type_name(name: str, pointer: str, problems: Problems) -> None:
    if not _TYPE_NAME.fullmatch(name):
        problems.add("bad_name", pointer, "a type is 1 to 128 of the characters -_.:/0-9A-Za-z")


def check_text(text: str, pointer: str, problems: Problems, bytes_max: int) -> None:
    """Refuse control characters and over-long texts (counted in UTF-8 bytes)."""
    if len(text.encode("utf-8")) > bytes_max:
        problems.add("out_of_range", pointer, f"it may have at most {bytes_max} bytes of UTF-8")
    elif _CONTROL.search(text):
        problems.add("bad_value", pointer, "control characters are not allowed here")


def check_lane_name(text: str, pointer: str, problems: Problems) -> None:
    """Refuse what is no name of a thread or group, and no pattern: 1 to 128 bytes without control characters."""
    if not text:
        problems.add("out_of_range", pointer, "it may not be empty")
    check_text(text, pointer, problems, limits.NAME_BYTES_MAX)


def task_id(text: str, pointer: str, problems: Problems) -> int:
    """Return the number of a task id, 0 with a problem."""
    try:
        return parse_id(text)
    except ValueError as bad:
        problems.add("bad_id", pointer, str(bad))
        return 0


def lease(text: str, pointer: str, problems: Problems) -> tuple[int, int]:
    """Return (task id, delivery) of a lease, zeros with a problem."""
    try:
        return parse_lease(text)
    except ValueError as bad:
        problems.add("bad_lease", pointer, str(bad))
        return 0, 0


def format_cursor(after: int) -> str:
    """Return an id as an opaque cursor.

    >>> read_cursor(format_cursor(77), "/cursor", Problems())
    77
    """
    return "c" + format_id(after)[4:]


def lease_of(text: str | None, pointer: str, problems: Problems) -> tuple[int, int]:
    """Return (id, delivery) of a lease, (0, 0) for none; a problem (and (0, 0)) for what is none."""
    try:
        return parse_lease(text) if text else (0, 0)
    except ValueError as bad:
        problems.add("bad_value", pointer, str(bad))
        return 0, 0


def set_id_of(text: str | None, pointer: str, problems: Problems) -> int:
    """Return the number of a set's id, 0 for none; a problem (and 0) for what is none."""
    try:
        return parse_set_id(text) if text else 0
    except ValueError as bad:
        problems.add("bad_value", pointer, str(bad))
        return 0


def read_cursor(text: str | None, pointer: str, problems: Problems) -> int:
    """Return the id a cursor stands for, 0 for none."""
    if text is None:
        return 0
    if text[:1] == "c":
        try:
            return parse_id("tsk_" + text[1:])
        except ValueError:
            pass  # said below, in the words of a cursor
    problems.add("bad_cursor", pointer, "pass the `next` of the page before, unchanged, or leave it out")
    return 0
