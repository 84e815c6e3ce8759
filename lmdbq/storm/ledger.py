"""The ledger of a storm: what a session was answered, from its own append-only lines. Nothing of lmdbq is imported.

A session writes one line after each answer: what was said, what was accepted, what has ended, and what a reader then
saw differently (``changed``: one row per task, null for a task that is gone; ``queues``: all of them, if one differs).
Folded, the lines give the *world* after each answer; whatever is found in a file later must be one of the worlds that
its answers allow.

Several callers may be answered in a *burst*; what a reader would see in its middle is not known (``changed`` is null).
What is found from its beginning to its end is judged by what was accepted and has ended alone (``judge_loosely``).

Two books are kept, so that one checks the other. The worlds are exact but are what the program under test showed; the
ids it *accepted* and those it said have *ended* come from the answers alone. The trap: a line counts from when it is
whole; one that was cut in the middle was never told to anybody.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

DONE: Final = "done"
UNKNOWN: Final = "unknown"
NOT_COMMITTED: Final = "not_committed"
RESTORED: Final = "restored"
WAITS_OR_RUNS: Final = ("scheduled", "ready", "running")
LINES_MAX: Final = 5  # of one kind of difference


class World(NamedTuple):
    """What a reader sees. tasks: id -> its row; queues: name -> its settings, counts and totals."""

    tasks: dict[int, list[Any]]
    queues: dict[str, Any]


class Ledger:
    """The worlds after each answer, beginning with the empty one, and what the answers alone promise."""

    def __init__(self) -> None:
        self.worlds = [World({}, {})]
        self.said: list[str] = []
        self._in_burst = [False]
        self._accepted: list[set[int]] = [set()]
        self._ended: list[set[int]] = [set()]

    @property
    def answers(self) -> int:
        """How many answers there were."""
        return len(self.said)

    def note(self, line: bytes) -> None:
        """Take one line, without its end."""
        told = json.loads(line)
        last = self.worlds[-1]
        tasks = last.tasks
        self._in_burst.append(told["changed"] is None)
        if told["changed"]:
            tasks = dict(tasks)
            for name, row in told["changed"].items():
                if row is None:
                    del tasks[int(name)]
                else:
                    tasks[int(name)] = row
        queues = last.queues if told["queues"] is None else told["queues"]
        self.said.append(told["said"])
        self.worlds.append(World(tasks, queues))
        self._accepted.append(self._accepted[-1] | set(told["accepted"]) if told["accepted"] else self._accepted[-1])
        self._ended.append(self._ended[-1] | set(told["ended"]) if told["ended"] else self._ended[-1])

    def note_all(self, lines: bytes) -> None:
        """Take the whole lines of a file."""
        for line in lines.splitlines(keepends=True):
            if line.endswith(b"\n"):
                self.note(line)

    def contradictions(self) -> list[str]:
        """Compare the two books: after each answer, what it accepted must be there, and what has ended must not be."""
        changed_nothing = [
            f"answer {number + 1}: it said {said}, and something had changed"
            for number, said in enumerate(self.said)
            if said in (NOT_COMMITTED, UNKNOWN) and self.worlds[number] != self.worlds[number + 1]
        ]
        return changed_nothing + [
            f"answer {number}: {problem}"
            for number, world in enumerate(self.worlds)
            if not self._in_burst[number]
            for problem in self._broken_promises(number, world)
        ]

    def _broken_promises(self, number: int, found: World) -> list[str]:
        lost = self._accepted[number] - self._ended[number] - found.tasks.keys()
        stored = self._ended[number] & found.tasks.keys()
        back = [task_id for task_id in stored if found.tasks[task_id][0] in WAITS_OR_RUNS]
        return _lines("was accepted and is lost", lost) + _lines("was said to have ended and is back", back)

    def is_known(self, answers: int) -> bool:
        """Whether what may be found after so many answers is known exactly."""
        return not any(self._in_burst[answers : answers + 2])

    def judge_loosely(self, found: World, answers: int, certain: int) -> list[str]:
        """Return what of ``found`` breaks a promise, when ``answers`` were given and ``certain`` of them must hold."""
        end = next((n for n in range(answers + 1, len(self._in_burst)) if not self._in_burst[n]), self.answers)
        lost = self._accepted[certain] - self._ended[end] - found.tasks.keys()
        back = [one for one in self._ended[certain] & found.tasks.keys() if found.tasks[one][0] in WAITS_OR_RUNS]
        return [
            *_lines("was accepted and is lost", lost),
            *_lines("was said to have ended and is back", back),
            *_lines("is there, and nobody had asked for it", found.tasks.keys() - self._accepted[end]),
        ]

    def compare_restored(self, found: World | None, answers: int) -> list[str]:
        """Return what is wrong with what was restored, None if that has no name: from its answer on it must have one.

        It is what was copied, in the world of the answer before. Nothing, if nothing was ever restored.
        """
        if RESTORED not in self.said:
            return []
        before = self.said.index(RESTORED)
        if found is None:
            return ["what was restored is missing"] if answers > before else []
        return self.compare(found, [self.worlds[before]])

    def compare(self, found: World, allowed: Sequence[World]) -> list[str]:
        """Return how ``found`` differs from the first of ``allowed``; nothing if it equals one of them."""
        if any(found == world for world in allowed):
            return []
        expected = allowed[0]
        differing = [
            f"{task_id}: {found.tasks[task_id]}, not {expected.tasks[task_id]}"
            for task_id in found.tasks.keys() & expected.tasks.keys()
            if found.tasks[task_id] != expected.tasks[task_id]
        ]
        return [
            *_lines("is missing", expected.tasks.keys() - found.tasks.keys()),
            *_lines("is there, and should not be", found.tasks.keys() - expected.tasks.keys()),
            *_lines("is another", differing),
            *([] if found.queues == expected.queues else [f"queues: {found.queues}, not {expected.queues}"]),
        ]


def _lines(what: str, which: Any) -> list[str]:
    listed = sorted(which)
    more = [f"... and {len(listed) - LINES_MAX} more"] if len(listed) > LINES_MAX else []
    return [*(f"{one} {what}" for one in listed[:LINES_MAX]), *more]
