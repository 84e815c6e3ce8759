"""How far a run is, for whoever waits for it: a bar at a terminal, else a line for each turn, else nothing."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress


class Watcher(Protocol):
    """What a run tells. A turn is begun by ``doing`` and ended by ``done``."""

    def doing(self, what: str) -> None: ...

    def done(self, what: str) -> None: ...

    def note(self, what: str) -> None:
        """Something beside the turns."""
        ...


class Silent:
    """Tells nobody."""

    def doing(self, what: str) -> None: ...

    def done(self, what: str) -> None: ...

    def note(self, what: str) -> None: ...


class Lines:
    """A line on standard error for each turn."""

    def __init__(self) -> None:
        self._what = ""

    def doing(self, what: str) -> None:
        self._what = what

    def done(self, what: str) -> None:
        self.note(f"{self._what}  ·  {what}")

    def note(self, what: str) -> None:
        sys.stderr.write(f"{what}\n")
        sys.stderr.flush()


class _Bar:
    def __init__(self, progress: Progress, turns: int, *, verbose: bool) -> None:
        self._progress = progress
        self._task = progress.add_task("", total=turns)
        self._verbose = verbose
        self._what = ""

    def doing(self, what: str) -> None:
        self._what = what
        self._progress.update(self._task, description=what)

    def done(self, what: str) -> None:
        self._progress.advance(self._task)
        if self._verbose:
            self.note(f"{self._what}  ·  {what}")

    def note(self, what: str) -> None:
        self._progress.console.print(what, highlight=False, markup=False)


@contextmanager
def watching(turns: int, *, silent: bool = False, verbose: bool = False) -> Iterator[Watcher]:
    """Yield what a run of so many turns tells. verbose: every turn is said, at a terminal, too."""
    if not sys.stderr.isatty():
        yield Silent() if silent else Lines()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield _Bar(progress, turns, verbose=verbose)
