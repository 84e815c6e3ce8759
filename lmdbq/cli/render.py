"""Text for people: tables, times and spans. Plain aligned text in a pipe; rich is imported, and draws, at a terminal.

Nothing here is for programs to read: they have ``--json``.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from lmdbq.limits import SECOND_NS

_SPANS: Final = ((86_400, "d"), (3_600, "h"), (60, "m"))


def table(headers: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return rows under headers, columns aligned; "" without rows. Numbers stand to the right."""
    if not rows:
        return ""
    texts = [[line(value) for value in row] for row in rows]
    if sys.stdout.isatty():
        return _drawn(headers, rows, texts)
    columns = list(zip(headers, *texts, strict=True))
    widths = [max(map(len, column)) for column in columns]
    right = [all(isinstance(values[index], (int, float)) for values in rows) for index in range(len(headers))]
    lines = [
        "  ".join(
            text.rjust(width) if to_right else text.ljust(width)
            for text, width, to_right in zip(row, widths, right, strict=True)
        ).rstrip()
        for row in [list(headers), *texts]
    ]
    return "\n".join(lines)


def line(value: object) -> str:
    """Return a value as one line without control characters: a queue's data must not drive a terminal."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in str(value))


def _drawn(headers: Sequence[str], rows: Sequence[Sequence[object]], texts: Sequence[Sequence[str]]) -> str:
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    widths = [max(map(len, column)) for column in zip(headers, *texts, strict=True)]
    is_narrow = sum(widths) + 2 * len(widths) > console.width
    drawn = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, collapse_padding=is_narrow)
    for index, header in enumerate(headers):
        number = all(isinstance(row[index], (int, float)) for row in rows)
        drawn.add_column(header, justify="right" if number else "left", overflow="fold", min_width=len(header))
    for row in texts:
        drawn.add_row(*map(Text, row))
    with console.capture() as captured:
        console.print(drawn)
    return captured.get().rstrip("\n")


def fields(pairs: Sequence[tuple[str, object]]) -> str:
    """Return names and values, one pair a line; a value that is "" or None is left out."""
    said = [(name, line(value)) for name, value in pairs if value not in ("", None)]
    width = max((len(name) for name, _ in said), default=0)
    return "\n".join(f"{name.ljust(width)}  {value}" for name, value in said)


def instant(at: int) -> str:
    """Return an instant (Unix ns) as RFC 3339 in UTC, "" for none.

    >>> instant(1_700_000_000_000_000_000)
    '2023-11-14T22:13:20Z'
    """
    return datetime.fromtimestamp(at // SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def size(count: int) -> str:
    """Return a number of bytes in the unit that suits it.

    >>> size(512), size(28_672), size(5_368_709_120)
    ('512 B', '28.0 KiB', '5.0 GiB')
    """
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024:
            return f"{value:.1f} {unit}" if unit != "B" else f"{count} B"
        value /= 1024
    return f"{value:.1f} TiB"


def span(seconds: float) -> str:
    """Return a length of time in its two largest units.

    >>> span(0.25), span(90), span(7200), span(90_061)
    ('0.2s', '1m30s', '2h', '1d1h')
    """
    if seconds < 60:
        return f"{seconds:.0f}s" if seconds >= 10 or seconds == 0 else f"{seconds:.1f}s"
    left = round(seconds)
    for index, (size, unit) in enumerate(_SPANS):
        if left >= size:
            count, rest = divmod(left, size)
            smaller, smaller_unit = _SPANS[index + 1] if index + 1 < len(_SPANS) else (1, "s")
            more = rest // smaller
            return f"{count}{unit}{more}{smaller_unit}" if more else f"{count}{unit}"
    return f"{left}s"
