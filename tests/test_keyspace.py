"""The format's two modules held true: keys sort as their cards promise, keys and values come back as they were written,
and no flipped bit goes unseen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.model import (
    PLAIN,
    Changed,
    ChangeDone,
    Dedupe,
    Encoding,
    Enqueued,
    Exponential,
    Failure,
    Intervals,
    Keep,
    OnDuplicate,
    Options,
    Outcome,
    Placed,
    Polynomial,
    QueueSettings,
    RetryStrategy,
    Scope,
    State,
    Until,
)
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec

u8 = st.integers(0, 2**8 - 1)
u16 = st.integers(0, 2**16 - 1)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)
states = st.sampled_from(State)
scopes = st.sampled_from(Scope)
text = st.text(max_size=300)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda name: len(name.encode()) <= limits.NAME_BYTES_MAX
)
dedupe_keys = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=limits.DEDUPE_KEY_CHARS_MAX),
    st.text("aä€𐍈", min_size=120, max_size=limits.DEDUPE_KEY_CHARS_MAX),
)
memo_keys = st.binary(min_size=1, max_size=limits.IDEMPOTENCY_KEY_BYTES_MAX)

# --- order and round trips: a kind of key, its parts in the order of its card, and how they are read back ---

ORDERED: dict[str, tuple[Callable[..., bytes], tuple[Any, ...], Callable[[bytes], Any]]] = {
    "task": (ks.task, (u64,), lambda key: (ks.read_id(key),)),
    "history": (ks.history, (u64,), lambda key: (ks.read_id(key),)),
    "quarantine": (ks.quarantine, (u64,), lambda key: (ks.read_id(key),)),
    "lease": (ks.lease, (u64,), lambda key: (ks.read_id(key),)),
    "ready": (ks.ready, (u32, u32, u16, u64, u64), ks.read_ready),
    "scheduled": (ks.scheduled, (u32, u64, u64), ks.read_timed),
    "expiry": (ks.expiry, (u32, u64, u64), ks.read_timed),
    "deadline": (ks.deadline, (u32, u32, u64, u64), ks.read_deadline),
    "ended": (ks.ended, (u32, states, u64, u64), ks.read_ended),
    "count": (ks.count, (u32, u32), ks.read_count),
    "queue_by_no": (ks.queue_by_no, (u32,), lambda key: (ks.read_number(key),)),
    "type_by_no": (ks.type_by_no, (u32,), lambda key: (ks.read_number(key),)),
    "grave": (ks.grave, (u32,), lambda key: (ks.read_number(key),)),
    "forget": (ks.forget, (u64, st.sampled_from(ks.MemoKind), memo_keys), ks.read_forget),
    "lane": (ks.lane, (u32, u32, u32, u16, u64, u64), ks.read_lane),
    "lane_by_name": (ks.lane_by_name, (scopes, u32, names), ks.lane_owner),
    "lane_by_no": (ks.lane_by_no, (u32,), lambda key: (ks.read_number(key),)),
    "wake": (ks.wake, (u32, u64, u32), ks.read_wake),
    "schedule": (ks.schedule, (u64, u32), lambda key: ks._SCHEDULE.unpack(key)),
    "external": (ks.external, (u32, names), ks.read_external),
}


@pytest.mark.parametrize("kind", ORDERED)
@given(data=st.data())
def test_bytes_sort_as_their_parts_do_and_come_back(kind: str, data: st.DataObject):
    build, parts, read = ORDERED[kind]
    left = data.draw(st.tuples(*parts))
    # Mostly the same parts again, so that every part comes to decide the order, and not the first one alone.
    right = tuple(part if data.draw(st.booleans()) else data.draw(parts[at]) for at, part in enumerate(left))
    left_key, right_key = build(*left), build(*right)
    assert (left_key < right_key) == (left < right)
    assert (left_key == right_key) == (left == right)
    assert tuple(read(left_key)) == left
    assert len(left_key) <= ks.KEY_BYTES_MAX


@given(left=names, right=names)
def test_catalog_names_sort_as_bytes_and_come_back(left: str, right: str):
    for build in (ks.queue_by_name, ks.type_by_name):
        assert (build(left) < build(right)) == (left.encode() < right.encode())
        assert ks.read_name(build(left)) == left
        assert len(build(left)) <= ks.KEY_BYTES_MAX


def test_lower_priorities_sort_first():
    keys = [
        ks.ready(1, 1, priority + ks.PRIORITY_BIAS, 0, 1)
        for priority in (limits.PRIORITY_MIN, -1, 0, 1, limits.PRIORITY_MAX)
    ]
    assert keys == sorted(keys)


# --- ranges ---


@given(mine=u32, other=u32, parts=st.tuples(u32, u16, u64, u64), state=states)
def test_a_range_holds_exactly_its_queue(mine: int, other: int, parts: tuple[int, int, int, int], state: State):
    type_no, priority, at, task_id = parts

    def keys(queue_no: int) -> list[bytes]:
        return [
            ks.ready(queue_no, type_no, priority, at, task_id),
            ks.scheduled(queue_no, at, task_id),
            ks.expiry(queue_no, at, task_id),
            ks.deadline(queue_no, type_no, at, task_id),
            ks.ended(queue_no, state, at, task_id),
            ks.count(queue_no, type_no),
        ]

    prefix = ks.of_queue(mine)
    assert all(key.startswith(prefix) for key in keys(mine))
    assert all(key.startswith(prefix) == (other == mine) for key in keys(other))
    assert all((key < prefix) == (other < mine) for key in keys(other))


@given(mine=st.tuples(u32, u32), other=st.tuples(u32, u32), rest=st.tuples(u16, u64, u64))
def test_a_ready_list_is_a_range_of_its_own(mine: tuple[int, int], other: tuple[int, int], rest: tuple[int, int, int]):
    prefix = ks.of_ready_list(*mine)
    assert len(prefix) == ks.READY_LIST_BYTES
    assert ks.ready(*other, *rest).startswith(prefix) == (other == mine)


@given(mine=st.tuples(u32, states), other=st.tuples(u32, states), rest=st.tuples(u64, u64))
def test_the_ended_of_one_state_are_a_range_of_their_own(
    mine: tuple[int, State], other: tuple[int, State], rest: tuple[int, int]
):
    assert ks.ended(*other, *rest).startswith(ks.of_ended_state(*mine)) == (other == mine)


# --- dedupe slots, memos ---


@given(scope=scopes, owner_no=u32, key=dedupe_keys)
def test_a_slot_key_holds_its_key_or_a_digest_of_it(scope: Scope, owner_no: int, key: str):
    built = ks.slot(scope, owner_no, key)
    found_scope, found_owner, found = ks.read_slot(built)
    assert (found_scope, found_owner) == (scope, owner_no)
    raw = key.encode()
    if len(raw) <= limits.DEDUPE_RAW_BYTES_MAX:
        assert found == raw
    else:
        assert len(found) == limits.DEDUPE_RAW_BYTES_MAX
        assert found[:368] == raw[:368]
    # The longest key there is: a slot in forget.
    assert len(ks.forget(2**64 - 1, ks.MemoKind.SLOT, built)) <= 414 <= ks.KEY_BYTES_MAX


@given(key=dedupe_keys, other=dedupe_keys)
def test_keys_that_differ_stand_in_slots_that_differ(key: str, other: str):
    assume(key != other)
    assert ks.slot(Scope.GLOBAL, 0, key) != ks.slot(Scope.GLOBAL, 0, other)


def test_long_keys_that_begin_alike_have_slots_of_their_own():
    left, right = "ä" * 250 + "l", "ä" * 250 + "r"
    assert ks.slot(Scope.GLOBAL, 0, left)[:373] == ks.slot(Scope.GLOBAL, 0, right)[:373]
    assert ks.slot(Scope.GLOBAL, 0, left) != ks.slot(Scope.GLOBAL, 0, right)


@given(kind=st.sampled_from(ks.MemoKind), key=memo_keys)
def test_a_memo_key_is_its_kind_and_key(kind: ks.MemoKind, key: bytes):
    built = ks.memo(kind, key)
    assert (built[0], built[1:]) == (kind, key)
    assert len(built) <= ks.KEY_BYTES_MAX


# --- refusals ---


@pytest.mark.parametrize("name", ["", "x" * 129, "ä" * 65, "a\nb", "a\x00", "\x7f", "\ud800"])
def test_a_name_outside_its_grammar_is_never_written(name: str):
    for build in (ks.queue_by_name, ks.type_by_name, ks.schedule_by_name):
        with pytest.raises(ks.BadKey):
            build(name)
    with pytest.raises(ks.BadKey):
        ks.lane_by_name(Scope.GLOBAL, 0, name)


@pytest.mark.parametrize("name", ["x", "x" * 128, "ä" * 64, "a b", "Zürich/€"])
def test_a_name_inside_its_grammar_is(name: str):
    assert ks.read_name(ks.queue_by_name(name)) == name


@pytest.mark.parametrize(
    "build",
    [
        lambda: ks.slot(Scope.QUEUE, 1, ""),
        lambda: ks.slot(Scope.QUEUE, 1, "\udfff"),
        lambda: ks.memo(ks.MemoKind.CLAIM, b""),
        lambda: ks.memo(ks.MemoKind.IDEMPOTENCY, b"k" * 256),
        lambda: ks.external(1, ""),
        lambda: ks.external(1, "e" * 129),
    ],
    ids=["empty slot", "half a surrogate pair", "empty memo", "long memo", "empty external id", "long external id"],
)
def test_a_key_outside_its_grammar_is_never_written(build: Callable[[], bytes]):
    with pytest.raises(ks.BadKey):
        build()


# --- values ---

retries = st.builds(
    RetryStrategy,
    max_attempts=u8,
    backoff=st.one_of(
        st.none(),
        st.builds(Intervals, intervals_ns=st.lists(u32, min_size=1, max_size=4).map(tuple)),
        st.builds(Exponential, base_ns=u32, factor=st.floats(1, 9), cap_ns=u32, jitter=st.floats(0, 1)),
        st.builds(Polynomial, exponent=st.floats(0, 5), base_ns=u32, jitter=st.floats(0, 1)),
    ),
    max_deliveries=u8,
)
keeps = st.builds(Keep, *[st.one_of(st.none(), u32)] * 3)
dedupes = st.builds(
    Dedupe,
    key=dedupe_keys,
    scope=st.one_of(st.none(), scopes),
    until=st.one_of(st.none(), st.sampled_from(Until)),
    ttl_ns=u32,
    on_duplicate=st.one_of(st.none(), st.sampled_from(OnDuplicate)),
    overwrite=st.lists(st.sampled_from(["payload", "priority"]), unique=True).map(tuple),
)
all_options = st.one_of(
    st.just(PLAIN),
    st.builds(
        Options,
        keepalive_ns=u32,
        retry=st.one_of(st.none(), retries),
        keep=st.one_of(st.none(), keeps),
        dedupe=st.one_of(st.none(), dedupes),
        tags=st.lists(names, max_size=3).map(tuple),
        metadata=st.binary(max_size=20),
    ),
)
tasks = st.builds(
    rec.TaskRecord,
    u32,
    u32,
    st.sampled_from(Encoding),
    u16,
    u64,
    u64,
    u64,
    u8,
    u32,
    all_options,
    st.binary(max_size=99),
)
failures = st.builds(Failure, at=u64, delivery=u32, message=text, type=text, backtrace=text)
histories = st.builds(
    rec.History,
    rank=u64,
    cancel_requested=st.booleans(),
    last_delivery=u32,
    last_status=st.integers(-1, 4),
    base_deliveries=u32,
    errors=st.lists(failures, max_size=3).map(tuple),
    result=st.one_of(st.none(), st.binary(max_size=99)),
    result_encoding=st.sampled_from(Encoding),
    ended_state=st.integers(-1, 5),
    ended_at=u64,
    remove_at=u64,
    reason=text,
)
settings = st.builds(
    QueueSettings,
    paused=st.booleans(),
    max_running=u32,
    keepalive_ns=u32,
    expires_in_ns=u32,
    retry=st.one_of(st.none(), retries),
    keep=st.one_of(st.none(), keeps),
)
keys = st.binary(min_size=1, max_size=40)
sequences = st.builds(rec.LastNumbers, u64, u32, u32)
slots = st.builds(rec.Slot, u64, u32, u64, u64, st.one_of(st.just(b""), st.binary(min_size=401, max_size=500)))
metas = st.builds(rec.Meta, format=u8, engine=text, created_at=u64, boot_id=text, boot_no=u32, daemon_steady=u64)
memos = st.builds(rec.Memo, at=u64, remove_at=u64, body_hash=st.binary(), leases=st.lists(u64).map(tuple))
extensions = st.builds(rec.Extension, u32, u32, u64, u64, st.one_of(st.none(), st.floats(0, 1)))


class Value:
    """A kind of value: what it may hold, how it is written and read. keyed: its checksum covers its key."""

    def __init__(self, some: Any, write: Callable[..., bytes], read: Callable[..., Any], keyed: bool = False) -> None:
        self.some = some
        self.keyed = keyed
        self._write = write
        self._read = read

    def write(self, key: bytes, value: Any) -> bytes:
        return self._write(key, value) if self.keyed else self._write(value)

    def read(self, key: bytes, data: bytes) -> Any:
        return self._read(key, data) if self.keyed else self._read(data)


VALUES = {
    "TaskRecord": Value(tasks, rec.write_task_record, rec.read_task),
    "History": Value(histories, rec.write_history, rec.read_history),
    "ReadyRun": Value(
        st.builds(rec.ReadyRun, u32, u32, u16),
        lambda key, run: rec.write_ready_run(key, *run),
        rec.read_ready_run,
        True,
    ),
    "LeaseRun": Value(
        st.builds(rec.LeaseRun, u32, u32, u32, u32, u64, u64, u32, u16), rec.write_lease_run, rec.read_lease_run, True
    ),
    "Standing": Value(
        st.builds(rec.Standing, u32, u32, u16),
        lambda key, standing: rec.write_standing(key, *standing),
        rec.read_standing,
        True,
    ),
    "Slot": Value(slots, rec.write_slot, rec.read_slot),
    "Tally": Value(st.lists(u64, min_size=6, max_size=6), rec.write_tally, rec.read_tally),
    "Totals": Value(st.lists(u64, min_size=11, max_size=11), rec.write_totals, rec.read_totals),
    "Sequence": Value(sequences, rec.write_sequence, rec.read_sequence),
    "Meta": Value(metas, rec.write_map, rec.read_meta),
    "QueueRecord": Value(st.builds(rec.QueueRecord, u32, u64, settings), rec.write_map, rec.read_queue),
    "Grave": Value(st.builds(rec.Grave, names, u64), rec.write_map, rec.read_grave),
    "Memo": Value(memos, rec.write_map, rec.read_memo),
    "number": Value(u32, rec.write_number, rec.read_number),
    "name": Value(names, rec.write_name, rec.read_name),
    "Extension": Value(extensions, rec.write_extension, rec.read_extension),
}


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data(), key=keys)
def test_a_value_comes_back_as_it_was_written(kind: str, data: st.DataObject, key: bytes):
    value = VALUES[kind]
    written = data.draw(value.some)
    assert value.read(key, value.write(key, written)) == written


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data(), key=keys)
def test_no_flipped_bit_goes_unseen(kind: str, data: st.DataObject, key: bytes):
    value = VALUES[kind]
    good = value.write(key, data.draw(value.some))
    at, bit = data.draw(st.integers(0, len(good) - 1)), data.draw(st.integers(0, 7))
    bad = bytearray(good)
    bad[at] ^= 1 << bit
    with pytest.raises(rec.Damaged):
        value.read(key, bytes(bad))


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data(), key=keys)
def test_no_bytes_at_all_can_do_worse_than_damaged(kind: str, data: st.DataObject, key: bytes):
    """Cut, torn or foreign bytes, even under a right checksum, are never an error of another kind."""
    value = VALUES[kind]
    good = value.write(key, data.draw(value.some))
    cut = good[: data.draw(st.integers(0, len(good) - 1))]
    foreign = data.draw(st.binary(max_size=80))
    for bad in (cut, rec.seal(cut), rec.seal(foreign), rec._keyed(key, foreign + b"\0" * 4)):
        try:
            read = value.read(key, bad)
        except rec.Damaged as error:
            assert str(error)
        else:  # it happens to be another value of this kind
            assert value.write(key, read)


@pytest.mark.parametrize("kind", [kind for kind, value in VALUES.items() if value.keyed])
@given(data=st.data(), key=keys, other=keys)
def test_a_standing_under_another_key_is_damaged(kind: str, data: st.DataObject, key: bytes, other: bytes):
    assume(key != other)
    value = VALUES[kind]
    with pytest.raises(rec.Damaged):
        value.read(other, value.write(key, data.draw(value.some)))


@given(ids=st.lists(u64, max_size=30), outcome=st.sampled_from(Outcome))
def test_outcomes_come_back_from_a_memo(ids: list[int], outcome: Outcome):
    placed = Placed(7, outcome, State.READY, 1, 2, True, "running")
    outcomes = (Enqueued(5, sorted(ids), {3: placed}), ChangeDone([Changed(9, outcome, State.DEAD)]))
    assert rec.read_outcomes(rec.write_outcomes(outcomes)) == outcomes
