"""What a commit promises: what was answered is on disk, what was refused left no trace, and a failed one is the last.

Failures are made, not awaited: strace has the disk fail, or kills the writer, at each system call of its commits.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb
import pytest

from lmdbq.clock import ManualClock, SystemClock
from lmdbq.errors import CommitUnknown, CorruptFile, NotCommitted
from lmdbq.model import Call, Cancel, Claim, Done, Enqueue, Entry, Outcome, Refused, State
from lmdbq.store import lmdb as lmdb_store
from lmdbq.store import lmdb_apply, lmdb_calls
from lmdbq.store.check import check_file
from lmdbq.store.environment import VERIFIED_NAME, VERIFY_FIRST_NAME
from lmdbq.store.lmdb import LmdbStore, open_store
from lmdbq.store.space import Space
from tests.crashes import MARK, Moment, await_line, fail_at, go, kill_at, moments, no_child_is_left, run, start  # noqa: F401
from tests.store_driver import EVERYTHING, Driver, entry

KILLS = 1_000 if os.environ.get("LMDBQ_STORM") == "1" else 20
COMMIT_CALLS = "fdatasync,fsync,pwrite64,writev,pwritev,msync"


@pytest.fixture
def q(tmp_path: Path) -> Iterator[Driver]:
    driver = Driver(open_store(tmp_path / "q"), ManualClock())
    yield driver
    assert driver.store.check() == []
    driver.store.close()


# --- the disk fails ---

FAILING = f"""
import sys
from pathlib import Path
from lmdbq.clock import ManualClock
from lmdbq.errors import LmdbqError
from lmdbq.model import Call, Claim, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store, clock = open_store(sys.argv[1]), ManualClock()
store.apply([Call((Enqueue((Entry(b'"before"'),)),))], clock)
{MARK}
def tell(what):
    try:
        print(type(what()).__name__)
    except LmdbqError as error:
        print(type(error).__name__)
enqueue, claim = Call((Enqueue((Entry(b'"during"'),)),)), Call((Claim(("default",)),))
tell(lambda: store.apply([enqueue], clock))
tell(lambda: store.apply([enqueue], clock))
tell(lambda: store.apply([claim], clock))
other = open_store(sys.argv[1])
tell(lambda: other.apply([claim], clock))
store.close()
other.close()
again = open_store(sys.argv[1])
tell(lambda: again.apply([claim], clock))
print(sorted(path.name for path in Path(sys.argv[1]).glob("verif*")))
"""


def commit_moments(program: str, directory: Path) -> list[Moment]:
    found = moments(program, directory, calls=COMMIT_CALLS)
    data = [moment for moment in found if moment.call != "writev" or "leases" not in moment.shown]
    assert {"fdatasync", "pwrite64"} <= {moment.call for moment in data}
    return data


def test_an_error_at_commit_is_the_last_thing_this_process_writes(tmp_path: Path):
    first_commit = commit_moments(FAILING, tmp_path / "undisturbed")[:3]
    assert {moment.call for moment in first_commit} <= {"writev", "pwrite64", "fdatasync"}
    for number, moment in enumerate(first_commit):
        directory = tmp_path / str(number)
        ended = fail_at(moment, "EIO", FAILING, directory)
        assert ended.status == 0, ended.errors
        assert ended.said.splitlines() == ["CommitUnknown"] * 5 + [f"['{VERIFY_FIRST_NAME}']"], moment
        verified_by_the_next_opener(directory)


def verified_by_the_next_opener(directory: Path) -> None:
    q = Driver(open_store(directory), SystemClock())
    payloads = [task.payload for task in q.all_tasks()]
    assert b'"before"' in payloads
    assert set(payloads) <= {b'"before"', b'"during"'}
    assert (directory / VERIFIED_NAME).exists()
    assert not (directory / VERIFY_FIRST_NAME).exists()
    assert q.claim_ids()
    assert q.store.check() == []
    q.store.close()


def test_a_disk_that_cannot_be_asked_for_room_changes_nothing(q: Driver, monkeypatch: pytest.MonkeyPatch):
    def fails(*_: object) -> None:
        raise OSError(5, "Input/output error")

    before = q.add()
    q.store._environment().space._allocated = None
    monkeypatch.setattr(os, "lseek", fails)
    with pytest.raises(NotCommitted, match="nothing was changed"):
        q.add()
    monkeypatch.undo()
    assert q.claim_ids() == [before]


def test_a_disk_that_fails_once_the_write_lock_is_held_leaves_it_to_others(q: Driver, monkeypatch: pytest.MonkeyPatch):
    def fails(_: Space) -> bool:
        raise OSError(5, "Input/output error")

    before = q.add()
    monkeypatch.setattr(Space, "still_holds", fails)
    with pytest.raises(NotCommitted, match="nothing was changed") as kept:
        q.add()
    monkeypatch.undo()
    claim = f"""
from lmdbq.clock import ManualClock
from lmdbq.store.lmdb import open_store
from tests.store_driver import Driver
print(Driver(open_store({str(q.store._directory)!r}), ManualClock()).claim_ids())
"""
    other = subprocess.run([sys.executable, "-c", claim], capture_output=True, text=True, timeout=60, check=True)
    assert other.stdout == f"[{before}]\n", kept


def test_two_who_verify_a_file_at_once_both_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with closing(open_store(tmp_path)) as store:
        Driver(store, ManualClock()).add()
    (tmp_path / VERIFIED_NAME).rename(tmp_path / VERIFY_FIRST_NAME)
    both_have_looked = threading.Barrier(2, timeout=60)

    def check(*arguments: Any) -> list[str]:
        problems = check_file(*arguments)
        both_have_looked.wait()
        return problems

    monkeypatch.setattr(lmdb_store, "check_file", check)
    with ThreadPoolExecutor(2) as threads:
        stores = [open_store(tmp_path) for _ in range(2)]
        assert [info.last_id for info in threads.map(LmdbStore.info, stores)] == [stores[0].info().last_id] * 2
    monkeypatch.undo()
    assert (tmp_path / VERIFIED_NAME).exists()
    assert stores[1].check() == []
    for store in stores:
        store.close()


def test_a_file_left_damaged_by_a_failed_commit_is_refused(tmp_path: Path):
    store = open_store(tmp_path)
    Driver(store, ManualClock()).add(payload=b'"only once in the file"')
    store.close()
    raw = (tmp_path / "data.mdb").read_bytes()
    (tmp_path / "data.mdb").write_bytes(raw.replace(b"only once in the file", b"ONLY once in the file"))
    (tmp_path / VERIFIED_NAME).rename(tmp_path / VERIFY_FIRST_NAME)
    for _ in range(2):
        with pytest.raises(CorruptFile, match="restore a backup"):
            open_store(tmp_path).info()
    assert (tmp_path / VERIFY_FIRST_NAME).exists()
    (tmp_path / "data.mdb").write_bytes(raw)
    store = open_store(tmp_path)
    assert store.check() == []
    store.close()


def test_a_file_without_the_mark_gets_one_when_a_commit_fails(tmp_path: Path):
    (tmp_path / "theirs").mkdir()
    with lmdb.open(str(tmp_path / "theirs"), max_dbs=2, lib_version=0) as env:
        env.open_db(b"theirs")
    moment = commit_moments(FAILING, tmp_path / "undisturbed")[2]
    ended = fail_at(moment, "EIO", FAILING, tmp_path / "theirs")
    assert ended.said.splitlines()[-1] == f"['{VERIFY_FIRST_NAME}']"
    verified_by_the_next_opener(tmp_path / "theirs")


# --- one call fails ---


def test_a_full_map_inside_one_call_refuses_that_call_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Space, "prepare", lambda *_: None)  # so that LMDB itself runs into the end of the map
    monkeypatch.setattr(Space, "still_holds", lambda *_: True)
    store = open_store(tmp_path, max_bytes=2 * 1024 * 1024)
    q = Driver(store, ManualClock())
    small, large = Call((Enqueue([entry()]),)), Call((Enqueue([entry(payload=bytes(900_000))] * 4),))
    outcomes = q.apply(small, large, small).outcomes
    assert [isinstance(outcome, Done) for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1], Refused)
    assert outcomes[1].code == "full"
    assert q.number(State.READY) == 2
    assert q.totals().enqueued == 2
    assert store.check() == []
    store.close()


def test_a_bug_in_one_call_refuses_that_call_alone(q: Driver, monkeypatch: pytest.MonkeyPatch):
    task_id = q.add()

    def bug(work: Any, _: Any) -> None:
        work.put("task", bytes(8), b"half of what was meant")
        work.count(1, 1, enters=State.DEAD)
        raise ZeroDivisionError("of the test")

    monkeypatch.setitem(lmdb_calls._RUNNERS, Cancel, bug)
    before = q.store.info().last_id
    outcomes = q.apply(
        Call((Enqueue([entry(queue="a")]), Cancel((task_id,)))),
        Call((Enqueue([entry(queue="b")]),)),
        Call((Cancel((7,)),)),
    ).outcomes
    for refused in (outcomes[0], outcomes[2]):
        assert isinstance(refused, Refused)
        assert refused.code == "internal"
        assert "ZeroDivisionError" in refused.problems[0].detail
    assert isinstance(outcomes[1], Done)
    assert q.store.queue("a") is None
    assert q.number(State.READY, "b") == 1
    assert q.store.info().last_id == before + 1
    assert q.number(State.DEAD) == 0


def test_a_full_map_at_the_commit_itself_refuses_all_of_it(q: Driver, monkeypatch: pytest.MonkeyPatch):
    class Full:
        """A transaction whose commit finds no room."""

        def __init__(self, txn: lmdb.Transaction) -> None:
            self._txn = txn

        def commit(self) -> None:
            self._txn.abort()
            raise lmdb.MapFullError("of the test")

    commit = lmdb_apply._commit
    monkeypatch.setattr(lmdb_apply, "_commit", lambda shared, txn: commit(shared, Full(txn)))  # type: ignore[arg-type]
    outcomes = q.apply(Call((Enqueue([entry()]),)), Call((Enqueue([entry()]),))).outcomes
    assert [isinstance(outcome, Refused) and outcome.code for outcome in outcomes] == ["full", "full"]
    monkeypatch.undo()
    assert q.store.count(EVERYTHING) == 0
    assert q.add()


# --- other processes in the same file ---

GROW = """
import sys
from lmdbq.clock import ManualClock
from lmdbq.model import Call, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
print("open", flush=True)
sys.stdin.readline()
for _ in range(12):
    store.apply([Call((Enqueue([Entry(bytes(1_000_000))]),))], ManualClock())
print("grown", flush=True)
"""


def test_a_file_that_another_process_lets_grow_beyond_our_map(tmp_path: Path):
    store = open_store(tmp_path, max_bytes=8 * 1024 * 1024)
    q = Driver(store, ManualClock())
    mine = q.add(queue="mine")
    with start(GROW, tmp_path) as other:
        await_line(other, "open")
        go(other)
        await_line(other, "grown")
        assert q.task(mine).state is State.READY  # a read, first
        assert q.take("mine").id == mine
        assert q.number(State.READY) == 12
        outcome = q.call(Enqueue([entry()]))
        assert isinstance(outcome, Refused), "beyond its largest size there is no room"
        assert outcome.code == "full"
        for _ in range(12):
            q.succeed(q.take())
        assert q.store.check() == []
    store.close()


def test_a_write_is_the_first_to_see_that_the_file_has_grown(tmp_path: Path):
    store = open_store(tmp_path, max_bytes=8 * 1024 * 1024)
    q = Driver(store, ManualClock())
    with start(GROW, tmp_path) as other:
        await_line(other, "open")
        q.add(queue="mine")
        go(other)
        await_line(other, "grown")
        assert len(q.claim(limit=3).tasks) == 3
    assert store.check() == []
    store.close()


HOLD = """
import lmdb, sys
env = lmdb.open(sys.argv[1], max_dbs=20, lib_version=0)
with env.begin(write=True) as txn:
    txn.put(b"theirs", b"1")
    print("holding", flush=True)
    sys.stdin.readline()
"""

WRITE = """
import sys
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Enqueue, Entry
from lmdbq.store.lmdb import open_store
store = open_store(sys.argv[1])
store.info()
print("waiting", flush=True)
store.apply([Call((Enqueue([Entry(b'"theirs"')]),))], SystemClock())
print("written", flush=True)
"""


def test_the_holder_of_the_write_lock_is_killed(q: Driver):
    q.add()
    holder = start(HOLD, Path(q.store.info().path).parent)
    await_line(holder, "holding")
    holder.kill()
    assert len(q.claim().tasks) == 1
    holder.communicate()
    assert q.store._environment().env.begin().get(b"theirs") is None


def test_a_writer_is_killed_while_it_waits_for_the_lock(q: Driver):
    directory = Path(q.store.info().path).parent
    q.add()
    holder = None
    waiting = start(WRITE, directory)
    await_line(waiting, "waiting")
    await_line(waiting, "written")
    waiting.communicate()
    holder = start(HOLD, directory)
    await_line(holder, "holding")
    waiting = start(WRITE.replace("store.info()", ""), directory)  # it waits in its opening already
    await_line(waiting, "waiting")
    waiting.kill()
    waiting.communicate()
    holder.communicate("go\n")
    assert [task.payload for task in q.claim(limit=9).tasks] == [b"null", b'"theirs"']


# --- kills ---

WRITER = f"""
import json, random, sys
from lmdbq.clock import SystemClock
from lmdbq.model import Call, Claim, Completion, Enqueue, Entry, Extend, Extension, Report, Status
from lmdbq.store.lmdb import open_store
store, clock = open_store(sys.argv[1]), SystemClock()
chosen, rounds = random.Random(int(sys.argv[2])), int(sys.argv[3])
store.info()
{MARK}
def tell(what, ids):
    print(json.dumps([what, ids]), flush=True)
for _ in range(rounds):
    done = store.apply([Call((Enqueue([Entry(b'"x"')] * chosen.randrange(1, 6)),))], clock).outcomes[0]
    tell("enqueued", done.outcomes[0].ids)
    claim = Claim(("default",), limit=chosen.randrange(1, 8))
    tasks = store.apply([Call((claim,))], clock).outcomes[0].outcomes[0].tasks
    tell("claimed", [task.id for task in tasks])
    store.apply([Call((Extend(tuple(Extension(task.id, task.deliveries) for task in tasks)),))], clock)
    some = tasks[: chosen.randrange(len(tasks) + 1)]
    store.apply([Call((Report([Completion(task.id, task.deliveries, Status.SUCCEEDED) for task in some]),))], clock)
    tell("succeeded", [task.id for task in some])
"""


class Ledger:
    """What killed writers were answered, over all of their lives."""

    def __init__(self) -> None:
        self.told: dict[str, set[int]] = {"enqueued": set(), "claimed": set(), "succeeded": set()}

    def note(self, said: str) -> None:
        for line in said.splitlines():
            if line.endswith("]"):  # else it was cut in the middle
                what, ids = json.loads(line)
                self.told[what] |= set(ids)

    def compare(self, q: Driver) -> None:
        """Everything that was answered must show in the file."""
        assert q.store.check() == []
        stored = {task.id: task for task in q.all_tasks()}
        assert not self.told["succeeded"] & stored.keys(), "a finished task came back"
        for task_id in self.told["claimed"] & stored.keys():
            assert stored[task_id].deliveries >= 1, "a claim was forgotten"
        for task_id in self.told["enqueued"] - self.told["claimed"]:
            assert task_id in stored or q.state(task_id) is Outcome.GONE
        unclaimed = self.told["enqueued"] - stored.keys() - self.told["succeeded"]
        assert len(unclaimed) <= 8, f"more tasks are gone than one unanswered report could have ended: {unclaimed}"


def test_a_writer_killed_at_each_system_call_has_written_all_it_answered(tmp_path: Path):
    found = moments(WRITER, tmp_path / "undisturbed", 3, 2)
    assert {"fdatasync", "pwrite64", "writev", "write"} <= {moment.call for moment in found}
    for number, moment in enumerate(found):
        directory = tmp_path / str(number)
        ended = kill_at(moment, WRITER, directory, 3, 2)
        ledger = Ledger()
        ledger.note(ended.said)
        q = Driver(open_store(directory), SystemClock())
        ledger.compare(q)
        assert q.add(queue="afterwards")
        assert q.claim_ids("afterwards")
        assert q.store.check() == []
        q.store.close()


def test_a_storm_of_kills_loses_nothing_that_was_answered(tmp_path: Path):
    directory = tmp_path / "q"
    store: LmdbStore = open_store(directory)  # stays open all the while, as a daemon's neighbour would be
    q = Driver(store, SystemClock())
    chosen, ledger = random.Random(5), Ledger()
    gone_before: set[int] = set()
    for number in range(KILLS):
        with start(WRITER, directory, number, 10_000) as writer:
            await_line(writer, "ready")
            go(writer)
            said = "".join(writer.stdout.readline() for _ in range(chosen.randrange(1, 40)))
            writer.kill()
            said += writer.stdout.read()  # communicate() would lose the lines that were read ahead
        ledger.note(said)
        stored = {task.id for task in q.all_tasks()}
        gone = ledger.told["enqueued"] - stored - ledger.told["succeeded"]
        assert len(gone - gone_before) <= 8, "more than its one unanswered report is gone"
        gone_before = gone
        assert not ledger.told["succeeded"] & stored, "a finished task came back"
    assert store.check() == []
    assert len(ledger.told["enqueued"]) > KILLS
    store.close()


def test_a_child_that_ends_well_answers_for_all_it_did(tmp_path: Path):
    ended = run(WRITER, tmp_path, 1, 20)
    assert ended.status == 0, ended.errors
    ledger = Ledger()
    ledger.note(ended.said)
    q = Driver(open_store(tmp_path), SystemClock())
    ledger.compare(q)
    stored = {task.id for task in q.all_tasks()}
    assert stored == ledger.told["enqueued"] - ledger.told["succeeded"]
    assert q.number(State.RUNNING) == len(ledger.told["claimed"] - ledger.told["succeeded"])
    assert isinstance(q.call(Claim(("default",))), Done)
    assert q.store.check() == []
    q.store.close()


def test_the_entry_of_a_refused_apply_is_not_in_the_file(tmp_path: Path):
    """CommitUnknown is raised before anything is written, once the file has failed in this process."""
    store = open_store(tmp_path)
    q = Driver(store, ManualClock())
    q.add()
    store._environment().mark_failed("of the test")
    with pytest.raises(CommitUnknown, match="of the test"):
        q.call(Enqueue([Entry()]))
    assert q.number(State.READY) == 1
    assert store.check() == []
    store.close()
