"""The judge of the storm of kills: from what the callers wrote down, and a list of what is stored in the end.

Nothing of lmdbq is imported. The notes (see ``kill_caller``) say what was asked and what was told; of an answer that
never came either end is possible, and only what is certain is blamed. In that:

- a task holds its dedupe slot for certain from when its producer was told to when somebody first asks for its end;
- a lease is certainly somebody else's from when a later delivery of its task was given;
- what a killed process held is back when it is given again. That must be within its lease and one second of the death,
  or of the daemon's last start before it was given again, if that came later. What the machine stood still in that time
  is added: as the storm saw it, or as the kernel counts for who was ready and had no core. Who asked only
  after that, and was given it, is no proof of anything; who asked then and was not given it, though there was room, is.

The trap is an answer that was on its way when its caller was killed: a task may have been given, or an end accepted,
and nobody wrote it down. So gaps are no faults; contradictions are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

SECOND_NS = 1_000_000_000
BACK_SECONDS = 1.0
ENDED = ("succeeded", "cancelled")


class Life(NamedTuple):
    """One process. died_at: when it was killed, in monotonic ns, 0: it was not. lines: its notes."""

    name: str
    died_at: int
    lines: list[list[Any]]


class Stored(NamedTuple):
    """What the daemon said of a task in the end."""

    number: str
    state: str
    deliveries: int


class Given(NamedTuple):
    """A delivery: when it was given, in answer to which claim, to whom."""

    at: int
    claim_id: str
    life: Life


class Claim:
    """What was asked and given under a claim id. Times are monotonic ns; 0: never."""

    def __init__(self, asked_at: int, limit: int) -> None:
        self.asked_at = asked_at
        self.limit = limit
        self.given_at = 0
        self.given: list[str] = []


class Task:
    """All that the notes say of one task. Times are monotonic ns; 0: never."""

    def __init__(self) -> None:
        self.number = ""
        self.told_at = 0
        self.key = ""
        self.given: dict[int, Given] = {}
        self.end_asked_at = 0  # first time that somebody asked for its end
        self.reports: dict[tuple[int, str], int] = {}  # (delivery, status): first asked at
        self.accepted: dict[tuple[int, str], int] = {}  # (delivery, status): first told at
        self.cancelled_at = 0  # when a producer was told so


class Judge:
    """Folds the notes of a round. ``problems`` are all faults by kind, ``figures`` what was counted.

    served: from when to when a daemon served, in monotonic ns, 0: to the end. stalls, waits: until when, and for how
    many seconds, the machine gave the storm no time, and the daemon, which was ready to go on.
    """

    KINDS = (
        "lost",
        "resurrected",
        "not worked off",
        "two holders of a slot",
        "slots that stay taken",
        "finished twice",
        "stale reports accepted",
        "given twice",
        "accepted twice",
        "back too late",
        "other faults",
    )

    def __init__(
        self,
        lives: Iterable[Life],
        served: Iterable[tuple[int, int]],
        lease_seconds: float,
        stalls: Iterable[tuple[int, float]] = (),
        waits: Iterable[tuple[int, float]] = (),
    ) -> None:
        self.problems: dict[str, list[str]] = {kind: [] for kind in self.KINDS}
        self.figures: dict[str, int | float] = {}
        self._served = list(served)
        self._stalls, self._waits = list(stalls), list(waits)
        self._lease_seconds = lease_seconds
        self._tasks: dict[str, Task] = defaultdict(Task)
        self._asked: dict[str, tuple[int, list[list[Any]]]] = {}
        self._told: dict[str, list[list[str]]] = {}
        self._ids: dict[str, set[str]] = defaultdict(set)  # of each number
        self._skipped: list[tuple[str, int]] = []  # (the holder, first asked at)
        self._claims: dict[str, Claim] = {}
        for life in lives:
            for line in life.lines:
                self._take(life, line)

    # --- reading ---

    def _take(self, life: Life, line: list[Any]) -> None:
        at, event, *said = line
        if event == "ask":
            self._asked.setdefault(said[0], (at, said[1]))
        elif event == "told":
            self._take_told(at, *said)
        elif event == "given":
            self._take_given(life, at, *said)
        elif event == "dequeue":
            self._claims[said[0]] = Claim(at, said[1])
        elif event == "report":
            task_id, delivery, status = said
            task = self._tasks[task_id]
            task.reports.setdefault((delivery, status), at)
            if status == "succeeded":
                task.end_asked_at = _earlier(task.end_asked_at, at)
        elif event == "reported":
            task_id, delivery, status, outcome = said
            if outcome == "ok":
                self._tasks[task_id].accepted.setdefault((delivery, status), at)
            elif outcome not in ("stale_lease", "not_running", "not_found"):
                self._blame("other faults", f"{task_id}: its report was answered {outcome}")
        elif event == "cancel":
            self._tasks[said[0]].end_asked_at = _earlier(self._tasks[said[0]].end_asked_at, at)
        elif event == "cancelled" and said[1] == "ok":
            self._tasks[said[0]].cancelled_at = at
        elif event == "odd":
            self._blame("other faults", f"{life.name}: {said}")

    def _take_told(self, at: int, request: str, told: list[list[str]]) -> None:
        if self._told.setdefault(request, told) is not told:  # the next producer asked again what was told already
            if self._told[request] != told:
                self._blame("accepted twice", f"{request}: {self._told[request]}, and then {told}")
            return
        asked_at, entries = self._asked[request]
        for (outcome, task_id), (number, _, _) in zip(told, entries, strict=True):
            if outcome == "enqueued":
                task = self._tasks[task_id]
                task.number, task.told_at = number, at
                self._ids[number].add(task_id)
            else:
                self._skipped.append((task_id, asked_at))

    def _take_given(self, life: Life, at: int, claim_id: str, tasks: list[list[Any]]) -> None:
        claim = self._claims[claim_id]
        claim.given_at, claim.given = at, [task_id for task_id, _, _ in tasks]
        for task_id, delivery, number in tasks:
            task = self._tasks[task_id]
            task.number = number
            known = task.given.setdefault(delivery, Given(at, claim_id, life))
            if known.claim_id != claim_id:
                self._blame("given twice", f"{task_id}: its delivery {delivery}, to {known.claim_id} and {claim_id}")
            self._ids[number].add(task_id)

    # --- judging ---

    def _blame(self, kind: str, what: str) -> None:
        self.problems[kind].append(what)

    def judge(self, stored: dict[str, Stored], totals: dict[str, int]) -> None:
        """Compare the notes with themselves and with what is stored now that all is worked off.

        totals: how many tasks the daemon says were ever "enqueued", "succeeded" and "cancelled".
        """
        keys = {number: key for _, entries in self._asked.values() for number, key, _ in entries}
        for task_id, task in self._tasks.items():
            task.key = keys.get(task.number, "")
            self._judge_end(task_id, task, stored.get(task_id))
            self._judge_fences(task_id, task)
        self._judge_numbers(stored)
        self._judge_totals(stored, totals)
        self._judge_slots()
        self._judge_returns()
        tasks = self._tasks.values()
        again = sum(max(0, len(task.given) - 1) for task in tasks)
        wanted = sum(status != "succeeded" for task in tasks for _, status in task.accepted)
        self.figures |= {
            "enqueues told": sum(bool(task.told_at) for task in tasks),
            "completions accepted": sum(status == "succeeded" for task in tasks for _, status in task.accepted),
            "started twice": max(0, again - wanted),
            "asked and not told": len(self._asked.keys() - self._told.keys()),
        }

    def _judge_end(self, task_id: str, task: Task, now: Stored | None) -> None:
        done = [delivery for delivery, status in task.accepted if status == "succeeded"]
        if now is None:
            reported = any(status == "succeeded" for _, status in task.reports)
            if (task.told_at or done) and not (task.key and reported):  # one with a key goes when it has succeeded
                self._blame("lost", f"{task_id} ({task.number}) was accepted, and is not there")
            return
        if task.key and done:
            self._blame("resurrected", f"{task_id} ({task.number}) was finished and not to be kept, and is {now}")
            return
        if now.state not in ENDED:
            kind = "resurrected" if done or task.cancelled_at else "not worked off"
            self._blame(kind, f"{task_id} ({task.number}) is {now.state}")
        elif done and (now.state, now.deliveries) != ("succeeded", done[0]):
            self._blame("resurrected", f"{task_id} was finished by delivery {done[0]}, and is {now}")
        elif task.cancelled_at and now.state != "cancelled":
            self._blame("resurrected", f"{task_id} was cancelled, and is {now}")
        elif now.state == "succeeded" and (now.deliveries, "succeeded") not in task.reports:
            self._blame("other faults", f"{task_id} is finished by delivery {now.deliveries}, which nobody reported")
        elif now.state == "cancelled" and not task.end_asked_at:
            self._blame("other faults", f"{task_id} is cancelled, and nobody asked for it")

    def _judge_fences(self, task_id: str, task: Task) -> None:
        done = [delivery for delivery, status in task.accepted if status == "succeeded"]
        by_delivery: dict[int, list[str]] = defaultdict(list)
        for delivery, status in task.accepted:
            by_delivery[delivery].append(status)
        for delivery, statuses in by_delivery.items():
            if len(statuses) > 1:
                self._blame("finished twice", f"{task_id}: delivery {delivery} was accepted as {statuses}")
        if len(done) > 1:
            self._blame("finished twice", f"{task_id}: by its deliveries {done}")
        for delivery, status in task.accepted:
            asked_at = task.reports[delivery, status]
            later = [given for number, given in task.given.items() if number > delivery]
            if any(given.at < asked_at for given in later):
                self._blame("stale reports accepted", f"{task_id}: {status} by delivery {delivery}, after a later one")
        if done and max(task.given, default=0) > min(done):
            self._blame("resurrected", f"{task_id}: given as {max(task.given)}, finished as {min(done)}")
        if task.cancelled_at and any(
            self._claims[one.claim_id].asked_at > task.cancelled_at for one in task.given.values()
        ):
            self._blame("resurrected", f"{task_id}: given after it was cancelled")

    def _judge_numbers(self, stored: dict[str, Stored]) -> None:
        """Each number that was asked for is one task, and no other number is there."""
        numbers = {entry[0] for _, entries in self._asked.values() for entry in entries}
        for task_id, now in stored.items():
            self._ids[now.number].add(task_id)
        for request in self._asked.keys() - self._told.keys():
            if request.startswith("producer"):
                self._blame("lost", f"{request} was asked again and again, and never answered")
        for number, ids in self._ids.items():
            if number not in numbers:
                self._blame("accepted twice", f"{number} is there, and nobody asked for it")
            elif len(ids) > 1:
                self._blame("accepted twice", f"{number} is {sorted(ids)}")

    def _judge_totals(self, stored: dict[str, Stored], totals: dict[str, int]) -> None:
        """All that was ever enqueued is known to somebody: who ended it was given it, and noted that before."""
        known = len(self._tasks.keys() | stored.keys())
        ended = totals["succeeded"] + totals["cancelled"]
        if not totals["enqueued"] == ended == known:
            self._blame("other faults", f"{known} tasks are known of, and the totals are {totals}")

    def _judge_slots(self) -> None:
        by_key: dict[str, list[Task]] = defaultdict(list)
        for task in self._tasks.values():
            if task.key:
                by_key[task.key].append(task)
        for key, tasks in by_key.items():
            held_until, holder = 0, ""
            for task in sorted(tasks, key=lambda task: task.told_at):
                if not 0 < task.told_at < task.end_asked_at:  # it may have ended before its producer was told
                    continue
                if task.told_at < held_until:
                    self._blame("two holders of a slot", f"{key}: {task.number} was enqueued while {holder} held it")
                if task.end_asked_at > held_until:
                    held_until, holder = task.end_asked_at, task.number
        for task_id, asked_at in self._skipped:
            task = self._tasks[task_id]
            ends = [at for (_, status), at in task.accepted.items() if status == "succeeded"]
            if (ends and min(ends) < asked_at) or 0 < task.cancelled_at < asked_at:
                self._blame("slots that stay taken", f"{task.number} had ended, and was still in the way")

    def _judge_returns(self) -> None:
        """What killed processes held is given again in time."""
        waits: list[float] = []
        for task_id, task in self._tasks.items():
            for delivery, given in task.given.items():
                ended = any(number == delivery for number, _ in task.reports)
                again = task.given.get(delivery + 1)
                if not given.life.died_at or ended or again is None:
                    continue
                since = self._since(given.life.died_at, again.at)
                if not 0 < since < again.at:  # nobody served then, or it had lapsed before
                    continue
                lost = [[s for at, s in times if since < at < again.at] for times in (self._stalls, self._waits)]
                until = since + int((self._lease_seconds + BACK_SECONDS + max(map(sum, lost))) * SECOND_NS)
                seconds = (again.at - since) / SECOND_NS
                was_waited_for = self._claims[again.claim_id].asked_at < until
                if was_waited_for:
                    waits.append(seconds)
                if again.at > until if was_waited_for else self._was_missed(until, again.at):
                    self._blame("back too late", f"{task_id}: {seconds:.2f} s after delivery {delivery} was given up")
        self.figures |= {"came back": len(waits), "slowest return in s": max(waits, default=0.0)}
        for name, times in (("s the machine stood still", self._stalls), ("s they had no core", self._waits)):
            self.figures[name] = round(sum(lost for _, lost in times), 1)

    def _since(self, died_at: int, given_at: int) -> int:
        """Return the later of a death and the start of the daemon that served when it was given again; 0: none did."""
        starts = [start for start, end in self._served if start <= given_at and (not end or given_at < end)]
        return max(died_at, starts[0]) if starts else 0

    def _was_missed(self, after: int, before: int) -> bool:
        """Whether somebody asked and was answered in between, and would have had room for more."""
        claims = self._claims.values()
        return any(after < one.asked_at and 0 < one.given_at < before and len(one.given) < one.limit for one in claims)

    def all_problems(self) -> list[str]:
        """Return all faults, each with its kind."""
        return [f"{kind}: {problem}" for kind, problems in self.problems.items() for problem in problems]


def _earlier(known: int, at: int) -> int:
    return min(known, at) if known else at
