"""A bar for work whose end is known: on standard error, at a terminal only, and never beside JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def bytes_bar(what: str, total: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    """Yield what is told how many bytes are done. total: an estimate will do."""
    if quiet or not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        row = bar.add_task(what, total=total)
        yield lambda done: bar.update(row, completed=done, total=max(total, done) or None)
