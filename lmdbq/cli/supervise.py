"""Other commands as child processes: started, watched, started again when files change, ended together.

Shared by ``dev`` and ``worker --reload``. Each child has a process group of its own, so that a terminal's Ctrl-C
reaches only the supervisor, which passes it on: the first lets a child finish, the second ends it, a third kills it.
Threads only put events into one queue; the main thread alone waits there and acts, so nothing is half done when a
signal comes.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, NamedTuple

import click

from lmdbq.cli.exits import Exit

WATCH_MS: Final = 200  # how soon a watch is known to have begun, and how often it looks whether it is to end
KILL_AT: Final = 3  # the interrupt that kills
# What no change of a file would mend, so that nobody should wait for one.
FINAL: Final = frozenset({Exit.OK, Exit.UNREACHABLE, Exit.INTERRUPTED})

Say = Callable[[str], None]


class Ended(NamedTuple):
    """A child has ended."""

    child: Child


class Changed(NamedTuple):
    """Files have changed."""

    paths: tuple[str, ...]


class Ready(NamedTuple):
    """A daemon answers."""

    where: str


Events = SimpleQueue[Ended | Changed | Ready]


class Child:
    """``lmdbq WORDS`` as a process. say: gets each line it prints; None: it prints where we do."""

    def __init__(self, words: Sequence[str], events: Events, say: Say | None = None) -> None:
        command = [sys.executable, "-P", "-m", "lmdbq.cli.child", str(os.getpid()), *words]
        self._events = events
        self._say = say
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=None if say is None else subprocess.PIPE,
            stderr=None if say is None else subprocess.STDOUT,
            text=True,
            errors="replace",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
            process_group=0,
        )
        self._over = threading.Event()  # an interrupted join would take a thread that goes on for ended (Python 3.11)
        threading.Thread(target=self._watch, name="lmdbq-child", daemon=True).start()

    def _watch(self) -> None:
        if self._say is not None and self.process.stdout is not None:
            for line in self.process.stdout:
                self._say(line.rstrip("\n"))
        self.process.wait()
        self._over.set()
        self._events.put(Ended(self))

    def stop(self) -> None:
        """Ask it to end."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def end(self) -> bool:
        """Ask it to end and wait until it has. Each interrupt meanwhile is passed on; the third one kills.

        Returns whether it had to be asked once only.
        """
        asked = 0
        while True:
            try:
                if self._over.is_set():
                    return asked < 2
                if self.process.poll() is None:
                    asked += 1
                    self.process.send_signal(signal.SIGTERM if asked < KILL_AT else signal.SIGKILL)
                self._over.wait()
            except KeyboardInterrupt:
                continue

    def kill(self) -> None:
        """End it now."""
        if self.process.poll() is None:
            self.process.kill()


class Reloading:
    """A child that is started again when files change, and waited for a change when it fails.

    start: starts it. Its events, and those of other children, go through ``events``.
    """

    def __init__(self, start: Callable[[], Child], events: Events, say: Say) -> None:
        self._start = start
        self._events = events
        self._say = say
        self.child: Child | None = None

    def run(self) -> int:
        """Return the exit status once it, or any other child, has ended for good. Raises KeyboardInterrupt."""
        self.child = self._start()
        if hasattr(signal, "SIGUSR2"):
            signal.signal(signal.SIGUSR2, lambda number, _: self._pass_on(number))
        is_stopping = False
        while True:
            match self._events.get():
                case Changed(paths):
                    self._say(f"{_named(paths)} changed: starting again")
                    if self.child is None:
                        self.child = self._start()
                    elif not is_stopping:
                        is_stopping = True
                        self.child.stop()
                case Ended(child):
                    status = child.process.returncode
                    if child is not self.child or (status in FINAL and not is_stopping):
                        return status
                    self.child = self._start() if is_stopping else None
                    if self.child is None:
                        self._say(f"it ended with status {status}; waiting for a change")
                    is_stopping = False
                case Ready():
                    continue  # heard by whoever started the daemon

    def _pass_on(self, number: int) -> None:
        if self.child is not None and self.child.process.poll() is None:
            self.child.process.send_signal(number)


def reload_on_change(words: Sequence[str], say: Say) -> int:
    """Run ``lmdbq WORDS``, again after each change of a Python file here, until Ctrl-C; return the exit status."""
    events: Events = SimpleQueue()
    with interruptible(), watching([Path.cwd()], events):
        reloading = Reloading(lambda: Child(words, events), events, say)
        try:
            return reloading.run()
        except KeyboardInterrupt:
            gently = reloading.child is None or reloading.child.end()
            return Exit.OK if gently else Exit.INTERRUPTED
        finally:
            if reloading.child is not None:
                reloading.child.kill()


@contextmanager
def watching(directories: Sequence[Path], events: Events) -> Iterator[None]:
    """Put an event for each change of a Python file below ``directories``; begun before the block is.

    Raises ClickException if they cannot be watched (there is none, or the system has no watches left).
    """
    from watchfiles import PythonFilter, watch

    begun, ended = threading.Event(), threading.Event()
    failures: list[Exception] = []

    def look() -> None:
        try:
            for changes in watch(
                *directories,
                watch_filter=PythonFilter(),
                stop_event=ended,
                rust_timeout=WATCH_MS,
                yield_on_timeout=True,
                raise_interrupt=False,
            ):
                begun.set()
                if changes:
                    events.put(Changed(tuple(sorted({path for _, path in changes}))))
        except Exception as error:  # noqa: BLE001  (the caller raises it)
            failures.append(error)
            begun.set()

    watcher = threading.Thread(target=look, name="lmdbq-watcher", daemon=True)
    watcher.start()
    begun.wait()
    if failures:
        raise click.ClickException(f"files cannot be watched for changes: {failures[0]}")
    try:
        yield
    finally:
        ended.set()
        watcher.join()


@contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt as SIGINT does, for the length of a block."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _named(paths: Sequence[str]) -> str:
    here = Path.cwd()
    names = [str(path.relative_to(here)) if path.is_relative_to(here) else str(path) for path in map(Path, paths)]
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def to_stderr(text: str) -> None:
    """Say something beside what the children say."""
    click.echo(text, err=True)
