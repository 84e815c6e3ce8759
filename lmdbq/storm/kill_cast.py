"""The cast of the storm of kills: who plays, as processes that are started, killed by their pids, and replaced.

Each role has one process at a time; the one that replaces it is the next *life*, with notes of its own. The daemon
serves a socket in the round's directory. The traps: an end that nobody asked for (a process that ends by itself in the
middle of a round is a fault, and what it said last is shown); and an interrupt between starting a process and noting
it, so whether the storm is to end is only looked at while it sleeps.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, NamedTuple

from lmdbq.bench.procfs import NoCore
from lmdbq.storm import kill_caller
from lmdbq.storm.kill_caller import Caller, HttpPost, Notes, read_notes
from lmdbq.storm.kill_judge import Life

DAEMON: Final = "daemon"
LIBRARY: Final = "library"
PRODUCERS: Final = ("producer-1", "producer-2")
WORKERS: Final = ("worker-1", "worker-2")
GUEST: Final = "producer-last"  # the storm itself, once all others have stopped
ROLES: Final = (DAEMON, LIBRARY, *PRODUCERS, *WORKERS)
WAITING: Final = (DAEMON, LIBRARY, *WORKERS)  # each has its part in giving a task again; the library may hold the lock
STOP_SECONDS: Final = 30.0
STALL_SECONDS: Final = 0.02
SECOND_NS: Final = 1_000_000_000
LOG_SHOWN: Final = 1_500


class EndedByItself(Exception):
    """A process ended that nobody had ended."""


class _Player(NamedTuple):
    process: subprocess.Popen[bytes]
    notes: Path
    log: Path


class Cast:
    """The processes of a round. A context: when it is left, none is alive.

    check: raises KeyboardInterrupt if the storm is to end; called only where nothing is half done.
    """

    def __init__(self, root: Path, durability: str, seed: str, plant: str, check: Callable[[], None]) -> None:
        self.data = root / "data"
        self.socket = root / "socket"
        self.served: list[tuple[int, int]] = []  # from when to when a daemon served, in monotonic ns; 0: it still does
        self.stalls: list[tuple[int, float]] = []  # until when, and for how many seconds, this process got no time
        self.waits: list[tuple[int, float]] = []  # likewise, one of WAITING had no core
        self._root = root
        self._durability = durability
        self._seed = seed
        self._plant = [plant] if plant else []
        self._check_storm = check
        self._players: dict[str, _Player] = {}
        self._lives: dict[str, list[Path]] = {role: [] for role in (*ROLES, GUEST)}
        self._died_at: dict[Path, int] = {}
        self._is_served = False
        self._no_core = NoCore()

    def __enter__(self) -> Cast:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # impatience must not leave anybody behind
        try:
            for player in self._players.values():
                player.process.kill()
            for player in self._players.values():
                player.process.wait()
        finally:
            signal.signal(signal.SIGINT, before)

    def start(self, role: str) -> None:
        """Start the next life of a role."""
        assert role not in self._players
        lives = self._lives[role]
        notes = self._root / f"{role}.{len(lives) + 1}"
        log = notes.with_name(f"{notes.name}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, *self._words(role, notes)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={name: value for name, value in os.environ.items() if not name.startswith("LMDBQ_")},
                start_new_session=True,
            )
        self._players[role] = _Player(process, notes, log)
        lives.append(notes)
        if role == DAEMON:
            self._is_served = False

    def _words(self, role: str, notes: Path) -> list[str]:
        seed = f"{self._seed}/{notes.name}"
        if role == DAEMON:
            serve = ["-m", "lmdbq.cli", "serve", "--data", str(self.data), "--listen", f"unix:{self.socket}"]
            planted = ["-m", "lmdbq.storm.kill_plants", *self._plant, str(self.data), f"unix:{self.socket}"]
            return [*planted, self._durability] if self._plant else [*serve, "--durability", self._durability]
        if role == LIBRARY:
            library = ["-m", "lmdbq.storm.kill_library", str(self.data), str(notes), self._durability, seed]
            return [*library, *self._plant]
        kind = "producer" if role in PRODUCERS else "worker"
        return ["-I", "-S", kill_caller.__file__, kind, str(self.socket), str(notes), seed]

    def guest(self) -> Caller:
        """Return a producer in this process, whose notes are read with those of the others."""
        notes = self._root / f"{GUEST}.1"
        self._lives[GUEST].append(notes)
        return Caller(HttpPost(str(self.socket)), Notes(str(notes)), notes.name, random.Random(self._seed), [])

    def kill(self, role: str) -> None:
        """End a role's process at once; the instant at which it was surely dead is kept."""
        player = self._players[role]
        self.check(role)
        player.process.kill()
        player.process.wait()
        self._died_at[player.notes] = time.monotonic_ns()
        if role == DAEMON and self._is_served:
            self.served[-1] = (self.served[-1][0], self._died_at[player.notes])
        del self._players[role]

    def stop(self, role: str) -> None:
        """Ask a role's process to end, and wait for it. Raises EndedByItself if it ends badly, or not."""
        player = self._players[role]
        give_up_at = time.monotonic() + STOP_SECONDS
        while role != DAEMON and not player.notes.exists() and time.monotonic() < give_up_at:
            self.check(role)  # it has just been started, and cannot yet be asked
            time.sleep(0.01)
        player.process.send_signal(signal.SIGTERM)
        try:
            status = player.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise EndedByItself(f"{role} does not end when it is asked to: {self._said(player)}") from None
        if status:
            raise EndedByItself(f"{role} ended with {status} when it was asked to: {self._said(player)}")
        del self._players[role]

    def check(self, role: str) -> None:
        """Raise EndedByItself if a role's process has ended."""
        player = self._players[role]
        if player.process.poll() is not None:
            raise EndedByItself(f"{role} ended by itself with {player.process.returncode}: {self._said(player)}")

    def has_begun(self, role: str) -> bool:
        """Whether a caller has come to write down anything, or has ended."""
        player = self._players[role]
        return player.process.poll() is not None or (player.notes.exists() and player.notes.stat().st_size > 0)

    def sleep(self, seconds: float) -> None:
        """Sleep, and keep by how much that took too long. Raises KeyboardInterrupt if the storm is to end."""
        self._check_storm()
        began = time.monotonic()
        time.sleep(seconds)
        lost = time.monotonic() - began - seconds
        if lost > STALL_SECONDS:
            self.stalls.append((time.monotonic_ns(), lost))

    def lost_seconds(self, since: float) -> float:
        """Return for how long somebody could not go on since a moment (monotonic seconds)."""
        return max(sum(lost for at, lost in times if at > since * SECOND_NS) for times in (self.stalls, self.waits))

    def _look_at_waits(self) -> None:
        """Keep for how long processes have waited for a core since they were last looked at."""
        for role in WAITING:
            if role in self._players and (lost := self._no_core.seconds(self._players[role].process.pid)):
                self.waits.append((time.monotonic_ns(), lost))

    def look(self) -> bool:
        """Return whether the daemon serves; the first time it is seen to is kept."""
        self.check(DAEMON)
        self._look_at_waits()
        if not self._is_served and b"serves" in self._players[DAEMON].log.read_bytes():
            self._is_served = True
            self.served.append((time.monotonic_ns(), 0))
        return self._is_served

    @staticmethod
    def _said(player: _Player) -> str:
        return player.log.read_text(errors="replace")[-LOG_SHOWN:].strip()

    def lives(self) -> list[Life]:
        """Return what everybody has written down."""
        return [
            Life(notes.name, self._died_at.get(notes, 0), list(read_notes(str(notes))))
            for role, paths in self._lives.items()
            if role != DAEMON
            for notes in paths
        ]
