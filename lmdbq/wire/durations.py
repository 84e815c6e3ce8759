"""Spans of time as people type them: a number with its unit, or several.

Only what is typed goes through here (the command line, the daemon's settings). The API has plain numbers of seconds.
"""

from __future__ import annotations

import re
from typing import Final

_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART: Final = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")


def read_duration(text: str) -> float:
    """Return a span in seconds; 0 needs no unit. Raises ValueError for other text without units.

    >>> read_duration("1h30m"), read_duration("250ms")
    (5400.0, 0.25)
    """
    if text == "0":
        return 0.0
    parts = _PART.findall(text)
    if not parts or "".join(number + unit for number, unit in parts) != text:
        raise ValueError(f"{text!r} is no duration; say the unit: 30s, 5m, 2h, 1d")
    return sum(float(number) * _UNIT_SECONDS[unit] for number, unit in parts)
