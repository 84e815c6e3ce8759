"""The demo's child processes: started in sessions of their own, watched, killed on purpose, and never left behind.

A terminal's Ctrl-C reaches only the demo itself, which then ends its children by their pids. The trap is an interrupt
between starting a process and noting it: so a signal only sets a flag, which is looked at where nothing is half done.
What a child says is kept in a file beside its output: the daemon's address is read there, and its end is shown when it
ends unasked.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Final

STOP_SECONDS: Final = 12.0
START_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.01
URL: Final = re.compile(r"https?://[^\s/]+(?=\s)")  # a whole word, lest half a line be read


class DemoFailed(Exception):
    """The demo could not be carried out; the message says why."""


class Interrupts:
    """A context in which the first SIGINT or SIGTERM is kept for ``check``; a second one interrupts at once."""

    def __init__(self) -> None:
        self._asked = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interrupts:
        self._before = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, _number: int, _frame: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raise KeyboardInterrupt if a signal has come."""
        if self._asked:
            raise KeyboardInterrupt


class Child:
    """One ``python -m <module>`` process, which is spared the LMDBQ_ settings of whoever runs the demo."""

    def __init__(self, name: str, directory: Path, arguments: list[str]) -> None:
        self.name = name
        self._log = directory / f"{name}.log"
        with self._log.open("ab") as log:
            self._said_before_bytes = log.tell()
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")},
                start_new_session=True,
            )

    def read_url(self, interrupts: Interrupts) -> str:
        """Wait until the child has named a URL, and return that. Raises DemoFailed if it ends, or takes too long."""
        give_up_at = time.monotonic() + START_SECONDS
        while time.monotonic() < give_up_at:
            if found := URL.search(self._said()):
                return found.group()
            self.check()
            interrupts.check()
            time.sleep(LOOK_SECONDS)
        raise DemoFailed(f"the {self.name} was not ready after {START_SECONDS:.0f} s\n{self._said()}")

    def _said(self) -> str:
        return self._log.read_bytes()[self._said_before_bytes :].decode("utf-8", "replace")

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._process.pid

    @property
    def runs(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def finish(self) -> None:
        """Wait until it has ended by itself. Raises DemoFailed if it did not end well."""
        if self._process.wait() != 0:
            raise self._unexpected_end()

    def kill(self) -> None:
        """End the process at once, as ``kill -9`` does."""
        self._process.kill()
        self._process.wait()

    def stop(self) -> None:
        """Ask the process to end, and kill it if it has not after ``STOP_SECONDS``. A second time changes nothing."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def check(self) -> None:
        """Raise DemoFailed if the process has ended."""
        if self._process.poll() is not None:
            raise self._unexpected_end()

    def _unexpected_end(self) -> DemoFailed:
        ended = f"the {self.name} ended by itself with status {self._process.returncode}"
        return DemoFailed("\n".join([ended, *self._said().strip().splitlines()[-20:]]))


class Children:
    """A context that kills every child still alive when it is left; a run that went well has ended them before."""

    def __init__(self, directory: Path, interrupts: Interrupts) -> None:
        self._directory = directory
        self._interrupts = interrupts
        self._alive: dict[str, Child] = {}

    def __enter__(self) -> Children:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for name in list(self._alive):
            self.kill(name)

    def start(self, name: str, *arguments: str) -> None:
        """Start ``python -m`` with ``arguments``; the name must be free."""
        assert name not in self._alive
        self._alive[name] = Child(name, self._directory, list(arguments))

    def read_url(self, name: str) -> str:
        """Wait until a child has named a URL, and return that."""
        return self._alive[name].read_url(self._interrupts)

    def names(self) -> list[str]:
        """Return who has been started and not ended here."""
        return list(self._alive)

    def pid(self, name: str) -> int:
        """Return the number of a child's process."""
        return self._alive[name].pid

    def runs(self, name: str) -> bool:
        """Whether a child has not ended."""
        return self._alive[name].runs

    def finish(self, name: str) -> None:
        """Wait until a child has ended by itself. Raises DemoFailed if it did not end well."""
        self._alive[name].finish()
        del self._alive[name]

    def kill(self, name: str) -> None:
        """``kill -9`` one child."""
        self._alive[name].kill()  # first killed, then forgotten: an interrupt in between must not leave it alive
        del self._alive[name]

    def stop(self, name: str) -> None:
        """End one child in good order."""
        self._alive[name].stop()
        del self._alive[name]

    def check(self, *, may_end: str = "") -> None:
        """Raise DemoFailed if a child has ended that nobody ended, KeyboardInterrupt if a signal has come.

        may_end: the name of a child that ends by itself.
        """
        self._interrupts.check()
        for name, child in self._alive.items():
            if name != may_end:
                child.check()
