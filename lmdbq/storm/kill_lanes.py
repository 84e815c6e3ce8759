"""The lanes of the storm of kills: processes that play one round after another, as they are handed out.

A lane is a process of its own, so that none takes time from another but by the machine's load. It is handed a ``Part``
over a pipe, answers with how many it has killed after each strike, and with the round's report in the end.

The trap: a lane has processes of its own, which must not outlive it. So signals are for the storm alone. It closes its
end of the pipes, and waits: a lane whose pipe was closed, also by the storm's death, ends its processes, and then
itself.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import multiprocessing.connection
import signal
from collections.abc import Iterator
from multiprocessing.context import SpawnProcess
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple

from lmdbq.demo.children import Interrupts
from lmdbq.storm.kill_round import Round
from lmdbq.storm.report import Report

LOOK_SECONDS: Final = 0.2  # how soon the storm sees a Ctrl-C
_SPAWN: Final = multiprocessing.get_context("spawn")


class Part(NamedTuple):
    """A round: its seed, the name of its directory, its durability, how many kills it has at most, and until when it
    may kill, in monotonic seconds.
    """

    seed: str
    name: str
    durability: str
    kills: int
    until: float | None


class Lanes:
    """So many lanes. A context: when it is left, none is alive, nor any process of theirs."""

    def __init__(self, number: int, scratch: Path, plant: str) -> None:
        self._lanes: list[_Lane] = []
        self._number = number
        self._arguments = (scratch, plant)

    def __enter__(self) -> Lanes:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # so do they, until they have a say in it
        try:
            self._lanes += [_Lane(*self._arguments) for _ in range(self._number)]
        finally:
            signal.signal(signal.SIGINT, before)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not leave anybody behind
        try:
            for lane in self._lanes:
                lane.connection.close()
            for lane in self._lanes:
                lane.process.join()
        finally:
            signal.signal(signal.SIGINT, before)

    @property
    def killed(self) -> int:
        """How many were killed in the rounds that are being played."""
        return sum(lane.killed for lane in self._lanes)

    def play(self, parts: Iterator[Part], interrupts: Interrupts) -> Iterator[Report | str]:
        """Play all rounds; yield what each is when it begins, "" when somebody was killed, and the report of each.

        Raises KeyboardInterrupt if a signal has come.
        """
        for lane in self._lanes:
            yield from lane.begin(parts)
        while busy := {lane.connection: lane for lane in self._lanes if lane.is_busy}:
            interrupts.check()
            for ready in multiprocessing.connection.wait(list(busy), LOOK_SECONDS):
                lane = busy[ready]  # type: ignore[index]
                said = lane.receive()
                yield said
                if isinstance(said, Report):
                    yield from lane.begin(parts)


class _Lane:
    """One lane, seen from the storm."""

    def __init__(self, scratch: Path, plant: str) -> None:
        self.connection, theirs = _SPAWN.Pipe()
        self.process: SpawnProcess = _SPAWN.Process(target=_live, args=(theirs, scratch, plant), daemon=True)
        self.process.start()
        theirs.close()
        self.killed = 0
        self.is_busy = False

    def begin(self, parts: Iterator[Part]) -> Iterator[str]:
        """Hand out the next round, if there is one, and yield what it is."""
        part = next(parts, None)
        self.is_busy = part is not None
        if part is not None:
            self.connection.send(part)
            yield f"round {part.seed}, durability {part.durability}"

    def receive(self) -> Report | str:
        """Return a round's report, or "" if there was another kill."""
        try:
            said: Report | int = self.connection.recv()
        except EOFError:
            self.process.join()
            raise RuntimeError(f"a lane of the storm ended by itself with {self.process.exitcode}") from None
        if isinstance(said, Report):
            self.killed = 0
            return said
        self.killed = said
        return ""


def _live(storm: multiprocessing.connection.Connection, scratch: Path, plant: str) -> None:
    """Play rounds until the storm closes the pipe."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _unheard)

    def check() -> None:
        if storm.poll():  # nothing is handed out in the middle of a round: the storm has closed its end
            raise KeyboardInterrupt

    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError, KeyboardInterrupt):
        while True:
            part: Part = storm.recv()
            report = Report("kill", part.seed, "kills")
            Round(report, part.seed, part.durability, plant, scratch / part.name, check).run(
                part.kills, part.until, storm.send
            )
            storm.send(report)


def _unheard(*_: Any) -> None:
    """Take no notice of a signal; unlike one that is ignored, it is heard again by the processes of a round."""
