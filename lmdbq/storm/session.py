"""The scripted session that a storm disturbs: a user of the library who does a little of everything, chosen by a seed.

Time is the session's own and moves only when the script says so; so the same seed asks the same and is answered the
same, whatever disturbs it. Each answer is written down (see ``ledger``) by ``Diary``, with what a reader sees
differently since the last one: reading asks the disk for nothing, so the storms do not notice it.

The trap: a session must stay small, for it is opened thousands of times. When STORED_MAX tasks are stored, the next
step works off a large part of them.
"""

from __future__ import annotations

import json
import os
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lmdbq.clock import ManualClock
from lmdbq.errors import CommitUnknown, NotCommitted
from lmdbq.model import (
    Call,
    CallOutcome,
    ChangeDone,
    Completion,
    DaemonStart,
    Delete,
    Done,
    Enqueued,
    Op,
    OpOutcome,
    Outcome,
    Purge,
    QueueDelete,
    Report,
    ReportDone,
    Status,
)
from lmdbq.store.copies import backup, compact, restore
from lmdbq.store.lmdb import open_store
from lmdbq.storm import script
from lmdbq.storm.ledger import DONE, RESTORED, UNKNOWN, World
from lmdbq.storm.look import world_of

STORED_MAX: Final = 150
UP_SECONDS: Final = 600.0  # how long a machine was up when it first writes: its steady clock is ahead of a later boot's
COMPACTING_SHARE: Final = 0.01  # of the steps
COPYING_SHARE: Final = 0.01
COPY_NAME: Final = "copy.mdb"
RESTORED_NAME: Final = "restored"  # beside the data directory
_REMOVE_AT: Final = 12  # in a row of a world
_EXPIRES_AT: Final = 6


class Diary:
    """Writes the session's own append-only file: a line for each answer, by one ``write``."""

    def __init__(self, path: Path) -> None:
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._last = World({}, {})

    def write(self, said: str, accepted: Sequence[int], ended: Sequence[int], world: World) -> None:
        """Write down what was said, and in what the world differs from that of the last line."""
        before, now = self._last.tasks, world.tasks
        changed = {task_id: row for task_id, row in now.items() if before.get(task_id) != row}
        line = {
            "said": said,
            "accepted": accepted,
            "ended": ended,
            "changed": changed | dict.fromkeys(before.keys() - now.keys()),
            "queues": None if world.queues == self._last.queues else world.queues,
        }
        self._last = world
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    def tell(self, said: str, accepted: Sequence[int], ended: Sequence[int]) -> None:
        """Write down an answer in the middle of a burst: what a reader sees is not known. From any thread."""
        line = {"said": said, "accepted": accepted, "ended": ended, "changed": None, "queues": None}
        os.write(self._fd, json.dumps(line).encode() + b"\n")

    @property
    def world(self) -> World:
        """The world of the last line."""
        return self._last


class Session:
    """One user of a data directory. Raises CommitUnknown from the call that met it.

    maintaining: whether the file is compacted now and then, for which it is closed, and one backup of it restored.
    """

    def __init__(self, directory: Path, diary: Diary, durability: str, seed: str, *, maintaining: bool = False) -> None:
        self._directory = directory
        self._durability = durability
        self._diary = diary
        self._clock = ManualClock()
        self._chosen = random.Random(seed)
        self._script = script.Script(self._chosen)
        self._store = open_store(directory, durability=durability)
        self._copying = random.Random(f"{seed}/copying")
        self._compacting = random.Random(f"{seed}/compacting") if maintaining else None
        self._restoring = random.Random(f"{seed}/restoring") if maintaining else None

    def run(self, steps: int) -> None:
        """Open the store, take ``steps`` steps, and close it."""
        self._store.info()
        self._note(DONE)
        restoring_at = None if self._restoring is None else self._restoring.randrange(steps)
        for number in range(steps):
            self._step()
            if number == restoring_at:
                self._restore()
        self._store.close()

    def confirm_unknown(self) -> None:
        """After a failed commit: the next call must be refused in the same way."""
        try:
            self._store.apply([Call((DaemonStart(),))], self._clock)
        except CommitUnknown:
            return
        raise AssertionError("after a commit that failed, another one was accepted")

    def _step(self) -> None:
        if self._compacting is not None and self._compacting.random() < COMPACTING_SHARE:
            self._store.close()
            compact(self._directory, lambda _: None)
            self._store = open_store(self._directory, durability=self._durability)
        if self._copying.random() < COPYING_SHARE:
            self._copy()
        if len(self._diary.world.tasks) > STORED_MAX:
            self._work_off()
            return
        kind = self._script.kind()
        if kind == "reopen":
            self._reopen(reboot=False)
        elif kind == "reboot":
            self._reopen(reboot=True)
        elif kind == "pass_time":
            self._clock.advance(self._script.pause_seconds())
            self._apply([Call(script.TIMED)])
        else:
            self._apply(self._script.calls(kind))

    def _copy(self) -> None:
        """Make a backup beside the file, in the place of the last one."""
        copy = self._directory / COPY_NAME
        try:
            copy.unlink(missing_ok=True)
        except OSError:  # on a disk that fails: the last one stays, and is judged
            return
        backup(self._directory, copy, lambda _: None)
        self._note(DONE)

    def _restore(self) -> None:
        """Make a backup, and put it back beside the data directory. Nothing that a reader sees is changed by that."""
        self._copy()
        restore(self._directory / COPY_NAME, self._directory.parent / RESTORED_NAME, lambda _: None)
        self._note(RESTORED)

    def _reopen(self, *, reboot: bool) -> None:
        self._store.close()
        if reboot:
            self._clock.reboot()
            self._clock.advance(UP_SECONDS)
        self._store = open_store(self._directory, durability=self._durability)
        if reboot:  # the first to write in a new boot is a daemon that starts, or a worker who has slept through it
            first = [Call((DaemonStart(),)), Call(script.TIMED)]
            self._apply(first if self._chosen.random() < 0.5 else self._script.calls("extend"))

    def _work_off(self) -> None:
        self._apply([Call((script.claim_all(),))])
        running = self._script.take_leases(STORED_MAX)
        self._apply([Call((Report(tuple(Completion(*lease, Status.SUCCEEDED) for lease in running)),))])
        ended = [task_id for task_id, row in self._diary.world.tasks.items() if row[0] in ("dead", "cancelled")]
        if ended:
            self._apply([Call((Delete(tuple(ended)),))])
        if len(self._diary.world.tasks) > STORED_MAX // 2:
            self._apply([Call((Purge(name),)) for name in script.QUEUES[:2]])

    def _apply(self, calls: list[Call]) -> None:
        try:
            outcomes = self._store.apply(calls, self._clock).outcomes
        except NotCommitted as error:
            self._note(error.code)
            return
        except CommitUnknown:
            self._note(UNKNOWN, look=False)
            raise
        accepted, ended = [], []
        for call, outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, Done):
                for op, answer in zip(call.ops, outcome.outcomes, strict=True):
                    accepted += _accepted(answer)
                    ended += self._ended(op, answer)
                    self._script.learn(op, answer)
        self._note(_word(outcomes), accepted, ended)

    def _note(self, said: str, accepted: Sequence[int] = (), ended: Sequence[int] = (), *, look: bool = True) -> None:
        world = world_of(self._store, self._clock) if look else self._diary.world
        gone = self._diary.world.tasks.keys() - world.tasks.keys()
        self._diary.write(said, list(accepted), [*ended, *filter(self._is_over, gone)], world)

    def _is_over(self, task_id: int) -> bool:
        """Whether a task's time was over by the session's own reckoning."""
        row = self._diary.world.tasks[task_id]
        return any(0 < at <= self._clock.wall_ns() for at in (row[_EXPIRES_AT], row[_REMOVE_AT]))

    def _ended(self, op: Op, answer: OpOutcome) -> list[int]:
        """Return the tasks that an answer says have ended for good."""
        if isinstance(op, Report) and isinstance(answer, ReportDone):
            pairs = zip(op.completions, answer.outcomes, strict=True)
            return [one.id for one, said in pairs if one.status is Status.SUCCEEDED and said.outcome is Outcome.OK]
        if isinstance(op, Delete) and isinstance(answer, ChangeDone):
            return [said.id for said in answer.outcomes if said.outcome is Outcome.OK]
        if isinstance(op, Purge | QueueDelete):
            return [task_id for task_id, row in self._diary.world.tasks.items() if row[1] == op.queue]
        return []


def _accepted(answer: OpOutcome) -> list[int]:
    if isinstance(answer, Enqueued):
        placed = (answer.placed(index) for index in range(len(answer.ids)))
        return [one.id for one in placed if one.outcome is Outcome.ENQUEUED]
    return []


def _word(outcomes: Sequence[CallOutcome]) -> str:
    refused = [outcome.code for outcome in outcomes if not isinstance(outcome, Done)]
    return ",".join(refused) or DONE
