"""The library user in the storm of kills.

    python -m lmdbq.storm.kill_library DIRECTORY NOTES DURABILITY SEED [PLANT]

A process that opens the served file itself, and enqueues and works there without a daemon: the same requests as those
of the callers over HTTP (``kill_caller``), carried out in this process. It may be killed in the middle of a commit,
holding the file's write lock. What it was not told it does not ask again: such a task may be there, once, or not.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.client.core import Request
from lmdbq.client.places import Transport, place_of
from lmdbq.errors import Busy, NotCommitted, Refusal
from lmdbq.storm.kill_caller import begun
from lmdbq.wire import answers

_ANSWERS: Final[dict[str, Any]] = {
    "enqueue": answers.EnqueueAnswer,
    "dequeue": answers.DequeueAnswer,
    "report": answers.ReportAnswer,
    "extend": answers.ExtendAnswer,
    "cancel": answers.ChangeAnswer,
}


class LibraryPost:
    """Posts to the file in a directory, in this process."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def __call__(self, path: str, body: Any, key: str = "") -> tuple[int, Any]:
        request: Request[Any] = Request("POST", path, _ANSWERS[path.rpartition("/")[2]], msgspec.json.encode(body))
        try:
            return 200, json.loads(msgspec.json.encode(self._transport.call(request)))
        except Refusal as refusal:
            return refusal.status, {"code": refusal.reason}
        except (Busy, NotCommitted) as error:
            return 503, {"code": error.code}


def main(arguments: list[str]) -> int:
    """Produce and work by turns until a signal."""
    directory, notes_path, durability, seed, *planted = arguments
    if planted:
        from lmdbq.storm.kill_plants import (
            plant,
        )  # the daemon's modules, which would make each start four times as long

        plant(*planted)
    place = place_of(Path(directory), token=None, timeout=30.0, durability=durability)
    caller = begun(LibraryPost(place.transport()), notes_path, seed)
    while not caller.stopping:
        caller.produce(3)
        if caller.chance.random() < 0.5:
            caller.work_off(caller.take(0))
        caller.report_held()
        time.sleep(caller.chance.uniform(0.01, 0.1))
    caller.notes.write("end")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
