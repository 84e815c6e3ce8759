"""A round of the storm of kills: a file, its users, their deaths; then a judge who knows only what they wrote down.

Whom it strikes, and after which pause, is drawn from the seed, as is what each process asks; the moments are the
machine's. After the last kill the producers stop, the workers work off what there is, and then two tasks for later, for
which they have to be woken; the notes are judged (``kill_judge``), and the file checked.

The trap: a daemon takes longer to start than the pause between two kills, on a busy machine any process does. If every
kill were free to hit them, they would never do anything; so most wait until they do.
"""

from __future__ import annotations

import http.client
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from lmdbq.storm.kill_caller import LEASE_SECONDS, QUEUE, HttpPost
from lmdbq.storm.kill_cast import DAEMON, GUEST, LIBRARY, PRODUCERS, ROLES, WORKERS, Cast, EndedByItself
from lmdbq.storm.kill_judge import Judge, Stored
from lmdbq.storm.report import Report

PAUSE_SECONDS: Final = (0.02, 0.3)
START_SECONDS_MAX: Final = 60.0
WORK_OFF_SECONDS_MAX: Final = 12.0  # for the next one, while the machine goes on
LOST_SECONDS_MAX: Final = 24.0  # while it does not; both together are less than the workers wait
LAST_DELAYS_SECONDS: Final = (0.2, 2.0)  # when the last come up, everybody waits, and only a wake-up helps
TICK_SECONDS: Final = 0.01
PROBLEMS_SHOWN: Final = 20
_WEIGHTS: Final = {DAEMON: 12, LIBRARY: 22, "producer-1": 11, "producer-2": 11, "worker-1": 22, "worker-2": 22}


class Strike(NamedTuple):
    """Who is killed together, and after which pause. early: also who has just been started."""

    pause_seconds: float
    roles: tuple[str, ...]
    early: bool


def strikes(seed: str, kills: int) -> Iterator[Strike]:
    """Yield the strikes of a round that ``seed`` decides, ``kills`` kills in all."""
    chosen = random.Random(f"{seed}/strikes")
    left = kills
    while left:
        number = min(left, chosen.choices([1, 2, 6], [87, 10, 3])[0])
        roles = ROLES if number == len(ROLES) else tuple(dict.fromkeys(chosen.choices(ROLES, _weights(), k=number)))
        yield Strike(chosen.uniform(*PAUSE_SECONDS), roles, chosen.random() < 0.1)
        left -= len(roles)


def _weights() -> list[int]:
    return [_WEIGHTS[role] for role in ROLES]


class Round:
    """One file, its users, and their deaths. report: takes what is counted and found. check: see ``Cast``."""

    def __init__(
        self, report: Report, seed: str, durability: str, plant: str, root: Path, check: Callable[[], None]
    ) -> None:
        self._report = report
        self._seed = seed
        self._durability = durability
        self._plant = plant
        self._root = root
        self._check = check

    def run(self, kills: int, until: float | None, tell: Callable[[int], None]) -> None:
        """Play a round of up to ``kills`` kills, judge it, and remove it.

        until: when it has to stop killing, in monotonic seconds. tell: is told after each strike how many were killed.
        """
        where = f"round {self._seed}, durability {self._durability}"
        self._root.mkdir()
        problems: list[str] = []
        with Cast(self._root, self._durability, self._seed, self._plant, self._check) as cast:
            try:
                self._strike(cast, kills, until, tell)
                problems += self._work_off(cast)
                problems += self._judge(cast)
                cast.stop(DAEMON)
                problems += _checked(cast.data)
            except EndedByItself as ended:
                problems.append(str(ended))
        if problems:
            self._report.blame(where, problems[:PROBLEMS_SHOWN])
        shutil.rmtree(self._root)

    def _strike(self, cast: Cast, kills: int, until: float | None, tell: Callable[[int], None]) -> None:
        for role in ROLES:
            cast.start(role)
        for strike in strikes(self._seed, kills):
            if not strike.early:
                _await_begun(cast, strike.roles)
            _pause(cast, strike.pause_seconds)
            for role in strike.roles:
                cast.kill(role)
            for role in strike.roles:
                cast.start(role)
                self._report.tried += 1
                self._report.count(f"{role.partition('-')[0]} killed")
            tell(self._report.tried)
            if until is not None and time.monotonic() > until:
                return

    def _work_off(self, cast: Cast) -> list[str]:
        """Let everything be worked off, and say what is not."""
        _await_served(cast)
        for role in (*PRODUCERS, LIBRARY):
            cast.stop(role)
        left = _wait_for_all(cast)
        if not left:
            last = [[f"last of all in {delay} s", "", delay] for delay in LAST_DELAYS_SECONDS]
            cast.guest().enqueue(f"{GUEST}.1/1", last)
            left = _wait_for_all(cast)
        for role in WORKERS:
            cast.kill(role)
        return [f"{left} tasks were left, and none worked off in {WORK_OFF_SECONDS_MAX:.0f} s"] if left else []

    @staticmethod
    def _stored(cast: Cast) -> dict[str, Stored]:
        """Return what the daemon says of every task."""
        post = HttpPost(str(cast.socket))
        stored: dict[str, Stored] = {}
        following = f"/v1/tasks?queue_name={QUEUE}&limit=1000"
        while following:
            page = _get(cast, post, following)
            for task in page["tasks"]:
                stored[task["id"]] = Stored(task["payload"]["number"], task["state"], task["deliveries"])
            following = f"/v1/tasks?queue_name={QUEUE}&limit=1000&cursor={page['next']}" if "next" in page else ""
        return stored

    def _judge(self, cast: Cast) -> list[str]:
        stored = self._stored(cast)
        totals = _get(cast, HttpPost(str(cast.socket)), f"/v1/queues/{QUEUE}")["totals"]
        judge = Judge(cast.lives(), cast.served, LEASE_SECONDS, cast.stalls, cast.waits)
        judge.judge(stored, totals)
        for kind, problems in judge.problems.items():
            self._report.count(kind, len(problems))
        self._report.figures |= {name: round(figure, 2) for name, figure in judge.figures.items()}
        return judge.all_problems()


def _get(cast: Cast, post: HttpPost, path: str) -> Any:
    try:
        status, value = post.send("GET", path, None, {})
    except (OSError, http.client.HTTPException) as error:
        cast.check(DAEMON)
        raise EndedByItself(f"the daemon does not answer: {error!r}") from error
    if status != 200:
        raise EndedByItself(f"the daemon answers {path} with {status}: {value}")
    return value


def _wait_for_all(cast: Cast) -> int:
    """Wait until all is worked off, but for the next one not too long; return how much is left."""
    post = HttpPost(str(cast.socket))
    least, since = sys.maxsize, 0.0
    while True:
        counts = _get(cast, post, f"/v1/queues/{QUEUE}")["counts"]
        left = int(counts["scheduled"] + counts["ready"] + counts["running"])
        if left < least:
            least, since = left, time.monotonic()
        seconds = WORK_OFF_SECONDS_MAX + min(cast.lost_seconds(since), LOST_SECONDS_MAX)
        if not left or time.monotonic() > since + seconds:
            return left
        cast.sleep(0.05)
        cast.look()


def _await_served(cast: Cast) -> None:
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while not cast.look():
        if time.monotonic() > give_up_at:
            raise EndedByItself(f"the daemon does not serve after {START_SECONDS_MAX:.0f} s")
        cast.sleep(TICK_SECONDS)


def _await_begun(cast: Cast, roles: tuple[str, ...]) -> None:
    """Wait until those who are to be killed do something. One that ends instead is found when it is killed."""
    if DAEMON in roles:
        _await_served(cast)
    give_up_at = time.monotonic() + START_SECONDS_MAX
    while not all(role == DAEMON or cast.has_begun(role) for role in roles) and time.monotonic() < give_up_at:
        cast.sleep(TICK_SECONDS)


def _pause(cast: Cast, seconds: float) -> None:
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        cast.sleep(min(left, TICK_SECONDS))
        cast.look()


def _checked(directory: Path) -> list[str]:
    """Return what ``lmdbq check`` finds."""
    command = [sys.executable, "-m", "lmdbq.cli", "check", str(directory)]
    checked = subprocess.run(command, capture_output=True, text=True, check=False)
    return [f"check: {checked.stdout}{checked.stderr}"] if checked.returncode else []
