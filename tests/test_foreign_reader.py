"""The format is an API: a reader that was written from its texts alone sees all that the store itself sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lmdbq.model import ENDED, Dedupe, Outcome, Purge, Scope, State, Task
from tests import foreign_reader
from tests.full_store import LONG_KEY, Full, fill


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Full]:
    made = fill(tmp_path)
    yield made
    assert made.store.check() == []
    made.store.close()


@pytest.fixture
def foreign(full: Full) -> foreign_reader.Reader:
    """What the foreign reader finds, from a copy as a backup would take it: the store stays open in this process."""
    copy = Path(full.store.info().path).parent / "copy"
    copy.mkdir()
    for path in copy.parent.glob("leases-*"):
        (copy / path.name).mkdir()
        (copy / path.name / "data.mdb").write_bytes((path / "data.mdb").read_bytes())
    (copy / "data.mdb").write_bytes((copy.parent / "data.mdb").read_bytes())
    return foreign_reader.Reader(copy)


def maps(value: Any) -> Any:
    """Return what a model value is as MessagePack: what the foreign reader must have found."""
    return msgspec.msgpack.decode(msgspec.msgpack.encode(value))


def as_foreign(full: Full, task: Task) -> dict[str, Any]:
    """Return a task as the store shows it, in the foreign reader's words."""
    told: dict[str, Any] = {
        "queue": task.queue,
        "type": task.type,
        "payload": task.payload,
        "encoding": task.encoding.value,
        "priority": task.priority,
        "created_at": task.created_at,
        "scheduled_at": task.scheduled_at,
        "expires_at": task.expires_at,
        "options": maps(task.options),
        "state": task.state.word,
        "deliveries": task.deliveries,
        "failures": task.failures,
        "due_at": task.due_at,
        "remove_at": task.remove_at,
        "history": {
            "errors": maps(task.errors),
            "cancel_requested": task.cancel_requested,
            "result": task.result,
            "result_encoding": task.result_encoding.value,
            "ended_at": task.ended_at,
            "reason": task.reason,
            "ended_state": task.state.value if task.state in ENDED else -1,
        },
    }
    if task.state is State.RUNNING:
        told["lease"] = {"ends_at": task.lease_expires_at, "progress": task.progress}
    return told


HISTORY_DEFAULTS = {
    "errors": [],
    "cancel_requested": False,
    "result": None,
    "result_encoding": 0,
    "ended_at": 0,
    "reason": "",
    "ended_state": -1,
}


def as_told(full: Full, found: dict[str, Any]) -> dict[str, Any]:
    """Return a task as the foreign reader found it, without what only a file says."""
    history = {name: found["history"].get(name, default) for name, default in HISTORY_DEFAULTS.items()}
    told = {**found, "history": history}
    if "lease" in found:
        ends_at = full.q.now + found["lease"]["deadline"] - full.q.clock.steady_ns()
        told["lease"] = {"ends_at": ends_at, "progress": found["lease"]["progress"]}
    return told


def test_the_fixture_holds_something_in_every_state(full: Full):
    assert {task.state for task in full.q.all_tasks()} == set(State)


def test_it_finds_every_task_with_all_that_is_known_of_it(full: Full, foreign: foreign_reader.Reader):
    found = {task_id: as_told(full, task) for task_id, task in foreign.tasks().items()}
    assert found == {task.id: as_foreign(full, task) for task in full.q.all_tasks()}


def test_it_finds_the_lease_that_a_heartbeat_prolonged(full: Full, foreign: foreign_reader.Reader):
    lease = foreign.tasks()[full.ids["extended"]]["lease"]
    assert (lease["progress"], lease["keepalive"]) == (0.25, 500 * 10**9)


def test_it_finds_queues_with_settings_counts_and_totals(full: Full, foreign: foreign_reader.Reader):
    found = foreign.queues()
    assert list(found) == [view.name for view in full.store.queues()]
    for view in full.store.queues():
        queue = found[view.name]
        assert queue["settings"] == maps(view.settings)
        assert queue["counts"] == view.counts
        assert queue["totals"] == msgspec.structs.asdict(view.totals)


def test_counts_equal_its_own_recount(foreign: foreign_reader.Reader):
    recount: dict[str, dict[str, dict[str, int]]] = {name: {} for name in foreign.queues()}
    for task in foreign.tasks().values():
        states = recount[task["queue"]].setdefault(task["type"], {})
        states[task["state"]] = states.get(task["state"], 0) + 1
    assert {name: queue["counts"] for name, queue in foreign.queues().items()} == recount


def test_it_finds_dedupe_slots_of_every_scope(full: Full, foreign: foreign_reader.Reader):
    ids, slots = full.ids, foreign.slots()
    assert {
        ("queue", "dedupe", "k"): ids["slot_queue"],
        ("type", "d", "k"): ids["slot_type"],
        ("global", "", "k"): ids["slot_global"],
        ("queue", "dedupe", LONG_KEY): ids["slot_long"],
        ("queue", "dedupe", "t"): ids["slot_ttl"],
        ("queue", "dedupe", "u"): ids["slot_ttl_gone"],
        ("queue", "purged", "gone"): ids["after_purge"],
    } == {name: slot["id"] for name, slot in slots.items()}
    tasks = foreign.tasks()
    for (scope, owner, key), slot in slots.items():
        if slot["id"] == ids["slot_ttl_gone"]:
            assert slot["id"] not in tasks
        else:
            task = tasks[slot["id"]]
            assert task["options"]["dedupe"]["key"] == key
            assert owner in {"queue": [task["queue"]], "type": [task["type"]], "global": [""]}[scope]
            assert slot["taken_at"] == task["created_at"]
    assert slots[("queue", "dedupe", "t")]["blocks_until"] - slots[("queue", "dedupe", "t")]["taken_at"] == 900 * 10**9


def test_it_finds_what_waits_in_lanes_and_who_may_start(full: Full, foreign: foreign_reader.Reader):
    clock, ids = full.q.clock, full.ids
    groups = {("", view.name): (view.ready, view.running) for view in full.store.groups(clock)}
    threads = {
        (queue, view.name): (view.ready, 1) for queue in ("laned", "turns") for view in full.store.threads(queue)
    }

    lanes = foreign.lanes()

    assert {name: (lane["ready"], lane["running"]) for name, lane in lanes.items()} == groups | threads
    assert lanes["laned", "steps"]["held_by"] == ids["laned_holder"]
    assert lanes["laned", "steps"]["next"] == [], "its second task stands behind the one that runs"
    assert lanes["", "team"]["next"] == [], "two of it run, and no more may"
    assert lanes["", "others"]["next"] == [ids["turns_others"]]
    assert lanes["", "team"]["settings"] == {"max_running": 2, "weight": 3}


def test_it_finds_external_ids(full: Full, foreign: foreign_reader.Reader):
    having = {
        (task.options.namespace_no, task.options.external_id): task.id
        for task in full.q.all_tasks()
        if task.options.external_id
    }

    assert len(having) == 7
    assert foreign.externals() == having


def test_it_finds_what_types_decide(full: Full, foreign: foreign_reader.Reader):
    known = {view.name: {"settings": maps(view.settings), "schema": view.schema} for view in full.store.types()}

    assert foreign.types() == known
    assert known["send"] == {"settings": {"keepalive_ns": 80_000_000_000}, "schema": b'{"type": "object"}'}


def test_it_finds_memos_expiries_graves_and_what_is_in_quarantine(full: Full, foreign: foreign_reader.Reader):
    memos, ids = foreign.memos(), full.ids
    assert set(memos) == {(1, b"key-1"), (2, b"claim-1")}
    assert memos[(1, b"key-1")]["body_hash"] == b"hash"
    first, count, delivery = memos[(2, b"claim-1")]["leases"]
    assert (first, first + count - 1, delivery) == (ids["run_first"], ids["run_last"], 1)
    waiting = [task for task in full.q.all_tasks() if task.state in (State.SCHEDULED, State.READY) and task.expires_at]
    assert foreign.expiries() == {task.id: task.expires_at for task in waiting}
    assert sorted(foreign.graves().values()) == ["deleted", "purged"]
    assert foreign.quarantine() == {ids["quarantined"]: "its checksum is wrong"}
    assert full.store.task(ids["quarantined"], full.q.clock) is Outcome.QUARANTINED
    assert ids["purged"] not in foreign.tasks()
    assert foreign.last_numbers()[0] == full.store.info().last_id


def test_a_task_of_a_purged_queue_is_told_from_the_living(full: Full, tmp_path: Path):
    """Before Prune has removed anything of them, and with a task of the same name beside them."""
    full.q.do(Purge("mail"))
    task_id = full.q.add(queue="mail", dedupe=Dedupe("new", Scope.GLOBAL))
    copy = tmp_path / "second"
    copy.mkdir()
    (copy / "data.mdb").write_bytes((tmp_path / "data.mdb").read_bytes())
    found = foreign_reader.Reader(copy).tasks()
    assert [number for number, task in found.items() if task["queue"] == "mail"] == [task_id]
    assert full.ids["run_first"] not in found


def test_it_refuses_what_it_cannot_trust(full: Full, tmp_path: Path):
    copy = tmp_path / "third"
    copy.mkdir()
    raw = (tmp_path / "data.mdb").read_bytes()
    payload = b'{"who": "me"}'
    (copy / "data.mdb").write_bytes(raw.replace(payload, b'{"who": "ma"}'))
    assert payload in raw
    with pytest.raises(ValueError, match="wrong checksum"):
        foreign_reader.Reader(copy).tasks()
