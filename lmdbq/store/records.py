"""The values of an lmdbq file, the other half of its specification (the keys are in ``keyspace``).

Every value ends with the CRC-32 (zlib's, u32 little-endian, so that the sum over a whole sound value is the constant
CRC_RESIDUE, and a check is one pass without a slice) of all bytes before it; for the small values that stand for
tasks (ReadyRun, LeaseRun, Standing) the key's bytes come first in the sum, so that a value under a wrong key shows.
All other numbers are unsigned and big-endian. Values with fields that may be absent are a MessagePack map by name of
field; an absent field has the default stated below, and an unknown one means a newer format.

    value        layout                                                                              since  absent
    TaskRecord   u8 shape (1) · u8 encoding · u32 queue_no · u32 type_no · u16 priority + 32768 ·
                 u64 created_at · u64 scheduled_at · u64 expires_at (0 never) ·
                 u8 scope and u32 owner_no of its dedupe slot (255, 0: none) · u32 length of options ·
                 options (MessagePack map of model.Options in its shortest form, empty if it says nothing) ·
                 payload                                                                             1      -
    ReadyRun     u32 length · u32 deliveries · u16 failures                                           1      -
    LeaseRun     u32 length · u32 queue_no · u32 type_no · u32 boot_no · u64 deadline · u64 keepalive ·
                 u32 deliveries · u16 failures                                                       1      -
    Standing     u32 type_no · u32 deliveries · u16 failures                                                 1      -
    LaneStanding u32 type_no · u16 priority + 32768 · u64 rank · u32 deliveries · u16 failures               2      -
    TaskId       u64 id                                                                               2      -
    Slot         u64 id · u32 queue_no · u64 taken_at · u64 blocks_until (0 = taken without a ttl) ·
                 the whole key, if it is longer than 400 bytes                                       1      -
    Tally        6 x u64: tasks by model.State                                                       1      -
    Totals       11 x u64: the fields of model.Totals in their order                                 1      -
    Sequence     u64 last id · u32 last queue_no · u32 last type_no                                  1      -
    History      map: rank, cancel_requested, last_delivery, last_status, base_deliveries, snoozes, errors, result,
                 result_encoding, ended_state, ended_at, remove_at, reason                           1      see History
    Meta         map: format, engine, created_at, boot_id, boot_no, daemon_boot_no, daemon_steady    1      0, ""
                 boot_steady                                                                         2      0
    QueueRecord  map: no, created_at, settings (map of model.QueueSettings)                          1      defaults
    LaneRecord   map: no, settings, counts (a map of queue_no: [ready, running]), held_by (id), bucket,
                 exposed (list of keys), wake ([boot_no, steady]), turns (a map of queue_no: turn)   2      0, nil
    GroupRule    map: pattern, settings (of a group), priority                                       2      0
    Grave        map: name, at                                                                       1      -
                 lane_no: up to which its lanes were drained                                         2      0
    TypeRecord   map: settings (map of model.TypeSettings), schema (bin: JSON Schema)                2      none, ""
    Pace         map: start, bucket (map: tokens, rest, boot_no, at, rate), time, others             2      0, nil
    ScheduleRecord  map: no, created_at, next_at, last_at, fired, reason, schedule (map)            2      0, ""
    SetRecord    map: id, set (map), state, members, pending, succeeded, dead, cancelled, expired, deleted, created_at,
                 ended_at, remove_at, reason                                                         2      0, ""
    Memo         map: at, remove_at, body_hash, outcomes (MessagePack of model outcomes, ids as
                 first, count, first, count ...), leases (first id, count, delivery, ...)            1      empty
    Extension    u32 delivery · u32 boot_no · u64 deadline · u64 keepalive · f64 progress (NaN none) 1      -

The shape byte of TaskRecord leaves room for records that hold several tasks; 1 is the only one.

What numbers mean: state 0 scheduled, 1 ready, 2 running, 3 succeeded, 4 dead, 5 cancelled (also the order of Tally);
encoding 0 JSON, 1 MessagePack, 2 bytes; status 0 succeeded, 1 failed, 2 released, 3 lapsed, 4 cancelled; scope 0 queue,
1 type, 2 global; until 0 started, 1 finished, 2 deleted, 3 ttl; on_duplicate 0 skip, 1 overwrite, 2 reject. Totals, in
order: enqueued, deduplicated, claimed, succeeded, failed, released, lapsed, dead, cancelled, expired, deleted.

The maps within maps. An absent number is 0, an absent list or text empty, anything else absent is nil, and all of it
means "not said here"; *_ns are durations in nanoseconds:
    options      keepalive_ns, retry, keep, dedupe, tags (list of text), metadata (bin: a JSON object), thread, group,
                 rejoin, on_dead, external_id, namespace_no (absent: 1), set_id, callback_of (ids of sets) (from thread
                 on since format 2)
    settings     paused, max_running, keepalive_ns, expires_in_ns, retry, keep, dedupe
                 (those of a type: without the first two); of a queue since format 2 also rate, weight, order
                 (0 strict, 1 fair, 2 ageing), ageing_ns, max_dead, priority, on_dead
    on_dead      an entry, as in a schedule
    set          condition (0 all, 1 any, 2 finished), callback, on_unmet (entries), keep_ns (absent: 7 days); the state
                 of a set is 0 open, 1 closed, 2 met, 3 unmet
    rate         tokens, period_ns, burst; a bucket's rest counts ns x tokens, period_ns of them are a token
    retry        max_attempts, max_deliveries, backoff: a map of kind "intervals" (intervals_ns: a list), "exponential"
                 (base_ns, factor, cap_ns, jitter) or "polynomial" (base_ns, exponent, jitter); defaults as in model
    settings     of a group: paused, max_running (nil and 0 differ), rate (tokens, period_ns, burst), weight
    bucket       tokens, rest, boot_no, at, rate: as buckets.Bucket counts them
    keep         succeeded_ns, dead_ns, cancelled_ns (nil and 0 differ: 0 is said)
    dedupe       key, scope, until, ttl_ns, on_duplicate (nil: not said), overwrite (list of field names), fold (nil;
                 0 append, 1 concat, 2 merge, 3 sum, 4 max, 5 replace), fold_max, max_wait_ns
    schedule     cron, timezone ("UTC"), catch_up (1), paused, entry; catch_up 0 none, 1 one, 2 all
    entry        payload (absent: null), queue, type (absent: "default"), encoding, priority, delay_ns, expires_in_ns,
                 options (map)
    errors       a list of maps: at, delivery, message, type, backtrace (the first two are never absent)
"""

from __future__ import annotations

import functools
import math
import struct
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import Struct

try:  # the same sums as zlib's: a third of the time for 60 bytes, a fifth for 1 kB, a ninth for 8 kB
    from zlib_ng.zlib_ng import crc32 as crc32
except ImportError:  # where it has no wheel
    from zlib import crc32 as crc32

from lmdbq.buckets import Bucket
from lmdbq.model import (
    DEFAULT_SETTINGS,
    NO_TYPE_SETTINGS,
    PLAIN,
    Dedupe,
    Encoding,
    Enqueued,
    Failure,
    GroupRule,
    GroupSettings,
    OpOutcome,
    Options,
    QueueSettings,
    Schedule,
    SetView,
    Totals,
    TypeSettings,
)
from lmdbq.sharing import Pace

FORMAT: Final = 2
FORMATS_READ: Final = frozenset({1, FORMAT})  # 1 is a file that uses nothing of what 2 adds
SHAPE_SINGLE: Final = 1
NO_SLOT: Final = 255
CRC_BYTES: Final = 4

CRC_RESIDUE: Final = 0x2144DF1C  # of any bytes followed by their own CRC-32, least byte first

_CRC: Final = struct.Struct("<I")
_NUMBER: Final = struct.Struct(">I")
_TASK_HEAD: Final = struct.Struct(">BBIIHQQQBII")
_TASK_PEEK: Final = struct.Struct(">2xIIHQQ")
_PLAIN_PEEK: Final = struct.Struct(">BB8xH16xQ")
_READY_RUN: Final = struct.Struct(">IIHI")
_LEASE_RUN: Final = struct.Struct(">IIIIQQIHI")
_STANDING: Final = struct.Struct(">IIHI")
_LANE_STANDING: Final = struct.Struct(">IHQIHI")
_TASK_ID: Final = struct.Struct(">Q")
_SLOT: Final = struct.Struct(">QIQQ")
_TALLY: Final = struct.Struct(">6Q")
_TOTALS: Final = struct.Struct(">11Q")
_SEQUENCE: Final = struct.Struct(">QII")
_EXTENSION: Final = struct.Struct(">IIQQd")

TASK_HEAD_BYTES: Final = _TASK_HEAD.size
_PRIORITY_AT: Final = struct.calcsize(">BBII")
_SLOT_SCOPE_AT: Final = TASK_HEAD_BYTES - 1 - 4 - 4  # scope, owner_no and length of options end the head
_PLAIN_TAIL: Final = bytes([NO_SLOT]) + bytes(4) + bytes(4)
pack_crc = _CRC.pack
_T = TypeVar("_T")


class Damaged(Exception):
    """A value whose bytes are not what was written. ``str`` says what is wrong with it."""


def _decode(decoder: msgspec.msgpack.Decoder[_T], data: bytes) -> _T:
    try:
        return decoder.decode(data)
    except ValueError as error:
        raise Damaged(f"its fields cannot be read: {error}") from error


def _unpack(layout: struct.Struct, data: bytes) -> tuple[Any, ...]:
    if len(data) != layout.size:
        raise Damaged(f"it is {len(data)} bytes long, not {layout.size}")
    return layout.unpack(data)


def seal(data: bytes) -> bytes:
    """Return ``data`` with its checksum behind it.

    >>> unseal(seal(b"abc"))
    b'abc'
    """
    return data + _CRC.pack(crc32(data))


def unseal(value: bytes) -> bytes:
    """Return what was sealed. Raises Damaged if the checksum is wrong."""
    if crc32(value) != CRC_RESIDUE:
        raise Damaged("its checksum is wrong")
    return value[:-CRC_BYTES]


# --- tasks ---


class TaskRecord(Struct, gc=False):
    """A task as it was accepted. priority is the biased one (0..65535).

    slot_scope, slot_owner: where its dedupe slot is (they may differ from what its type and queue would say today);
    NO_SLOT, 0 without a dedupe key.
    """

    queue_no: int
    type_no: int
    encoding: Encoding
    priority: int
    created_at: int
    scheduled_at: int
    expires_at: int
    slot_scope: int
    slot_owner: int
    options: Options
    payload: bytes


ENCODINGS: Final = {int(encoding): encoding for encoding in Encoding}
_options_encoder = msgspec.msgpack.Encoder()
_options_decoder = msgspec.msgpack.Decoder(Options)
_KEY_OPTION: Final = _options_encoder.encode(Options(dedupe=Dedupe("x")))[:-2]  # all but the key


def write_task_head(
    queue_no: int,
    type_no: int,
    encoding: int,
    priority: int,
    created_at: int,
    scheduled_at: int,
    expires_at: int,
    slot_scope: int,
    slot_owner: int,
    options: Options,
) -> bytes:
    """Return everything of a TaskRecord that stands before the payload; equal tasks of a batch share it."""
    said = b"" if options is PLAIN or options == PLAIN else _options_encoder.encode(options)
    return (
        _TASK_HEAD.pack(
            SHAPE_SINGLE,
            encoding,
            queue_no,
            type_no,
            priority,
            created_at,
            scheduled_at,
            expires_at,
            slot_scope,
            slot_owner,
            len(said),
        )
        + said
    )


def write_keyed_head(
    queue_no: int,
    type_no: int,
    encoding: int,
    priority: int,
    now: int,
    slot: tuple[int, int],
    key_bytes: int,
) -> bytes:
    """Return what stands before the dedupe key of a task that is ready now and whose only option is that key.

    slot: its scope and owner_no. key_bytes: how long the key is; its UTF-8 and the payload follow.
    """
    option = _KEY_OPTION + msgspec.msgpack.encode("x" * key_bytes).removesuffix(b"x" * key_bytes)
    return (
        _TASK_HEAD.pack(
            SHAPE_SINGLE, encoding, queue_no, type_no, priority, now, now, 0, *slot, len(option) + key_bytes
        )
        + option
    )


def write_task(head: bytes, payload: bytes) -> bytes:
    """Return a whole TaskRecord of a head and a payload."""
    return b"".join((head, payload, _CRC.pack(crc32(payload, crc32(head)))))


def write_task_record(record: TaskRecord) -> bytes:
    """Return the bytes of a record, head and payload."""
    head = write_task_head(
        record.queue_no,
        record.type_no,
        record.encoding,
        record.priority,
        record.created_at,
        record.scheduled_at,
        record.expires_at,
        record.slot_scope,
        record.slot_owner,
        record.options,
    )
    return write_task(head, record.payload)


def says_nothing(value: bytes) -> bool:
    """Whether a record says nothing but a place, times and a payload: no options, no dedupe slot. Not whether it is
    sound."""
    return value[_SLOT_SCOPE_AT:TASK_HEAD_BYTES] == _PLAIN_TAIL


def peek_plain(value: bytes) -> tuple[int, int] | None:
    """Return (priority, expires_at) of a sound record that says nothing but a place, times and a payload; None of any
    other. A third of the time of ``read_task``."""
    if value[_SLOT_SCOPE_AT:TASK_HEAD_BYTES] != _PLAIN_TAIL or crc32(value) != CRC_RESIDUE:
        return None
    shape, encoding, priority, expires_at = _PLAIN_PEEK.unpack_from(value)
    return (priority, expires_at) if shape == SHAPE_SINGLE and encoding in ENCODINGS else None


class Peek(NamedTuple):
    """What the first bytes of a TaskRecord say, whether it is sound or not."""

    queue_no: int
    type_no: int
    priority: int
    created_at: int
    scheduled_at: int


def peek_task(value: bytes) -> Peek | None:
    """Return what the first bytes of a record say, unchecked; a sixth of the time of ``read_task``. None: too short."""
    return Peek._make(_TASK_PEEK.unpack_from(value)) if len(value) >= _TASK_PEEK.size else None


def may_have_priority(low: int, high: int) -> Callable[[bytes], bool]:
    """Return whether a record, sound or not, may have a biased priority from ``low`` to ``high``, told by its bytes."""
    first, last, start, end = low.to_bytes(2), high.to_bytes(2), _PRIORITY_AT, _PRIORITY_AT + 2
    return lambda value: first <= value[start:end] <= last


def may_say(text: str | int) -> Callable[[bytes], bool]:
    """Return whether a text, or a number, may stand in the options of a record, sound or not, told by its bytes."""
    sought, start, length_at = msgspec.msgpack.encode(text), TASK_HEAD_BYTES, TASK_HEAD_BYTES - 4
    return lambda value: value.find(sought, start, start + int.from_bytes(value[length_at:start])) >= 0


def read_task(value: bytes) -> TaskRecord:
    """Return a task's record. Raises Damaged."""
    size = len(value)
    if size < TASK_HEAD_BYTES + CRC_BYTES:
        raise Damaged(f"it is {size} bytes long, too short for a task")
    if crc32(value) != CRC_RESIDUE:
        raise Damaged("its checksum is wrong")
    head = _TASK_HEAD.unpack_from(value)
    shape, encoding, queue_no, type_no, priority, created_at, scheduled_at, expires_at, scope, owner, length = head
    if shape != SHAPE_SINGLE:
        raise Damaged(f"its shape is {shape}, which this version does not read")
    options = PLAIN
    start = TASK_HEAD_BYTES + length
    if length:
        options = _decode(_options_decoder, value[TASK_HEAD_BYTES:start])
    if encoding not in ENCODINGS:
        raise Damaged(f"its encoding is {encoding}, which this version does not read")
    return TaskRecord(
        queue_no,
        type_no,
        ENCODINGS[encoding],
        priority,
        created_at,
        scheduled_at,
        expires_at,
        scope,
        owner,
        options,
        value[start:-CRC_BYTES],
    )


class History(Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What happened to a task since it was accepted.

    rank: where it stands in ready, or its due_at while scheduled; 0 = the record's scheduled_at. last_delivery and
    last_status: the report that ended its last delivery (model.Status; -1 none). base_deliveries: its deliveries at
    its last Retry by hand. snoozes: releases with a delay since then. ended_state: model.State, -1 = not ended.
    """

    rank: int = 0
    cancel_requested: bool = False
    last_delivery: int = 0
    last_status: int = -1
    base_deliveries: int = 0
    snoozes: int = 0
    errors: tuple[Failure, ...] = ()
    result: bytes | None = None
    result_encoding: Encoding = Encoding.JSON
    ended_state: int = -1
    ended_at: int = 0
    remove_at: int = 0
    reason: str = ""


_history_encoder = msgspec.msgpack.Encoder()
_history_decoder = msgspec.msgpack.Decoder(History)


def write_history(history: History) -> bytes:
    """Return a history's bytes."""
    return seal(_history_encoder.encode(history))


def read_history(value: bytes) -> History:
    """Return a history. Raises Damaged."""
    return _decode(_history_decoder, unseal(value))


# --- standings ---


class ReadyRun(NamedTuple):
    """The value of a ready key."""

    length: int
    deliveries: int
    failures: int


class LeaseRun(NamedTuple):
    """The value of a lease key."""

    length: int
    queue_no: int
    type_no: int
    boot_no: int
    deadline: int
    keepalive: int
    deliveries: int
    failures: int


class Standing(NamedTuple):
    """The value of a scheduled or ended key."""

    type_no: int
    deliveries: int
    failures: int


class LaneStanding(NamedTuple):
    """The value of a lane key. priority: the biased one."""

    type_no: int
    priority: int
    rank: int
    deliveries: int
    failures: int


def _keyed(key: bytes, value: bytes) -> bytes:
    body = value[:-CRC_BYTES]
    return body + _CRC.pack(crc32(body, crc32(key)))


def _check_keyed(key: bytes, value: bytes, size: int) -> None:
    if len(value) != size or crc32(value, crc32(key)) != CRC_RESIDUE:
        raise Damaged("its checksum does not fit its key")


def write_ready_run(key: bytes, length: int, deliveries: int, failures: int) -> bytes:
    """Return the value of a ready key."""
    return _keyed(key, _READY_RUN.pack(length, deliveries, failures, 0))


def read_ready_run(key: bytes, value: bytes) -> ReadyRun:
    """Return the run behind a ready key. Raises Damaged."""
    _check_keyed(key, value, _READY_RUN.size)
    return ReadyRun._make(_READY_RUN.unpack(value)[:-1])


def write_lease_run(key: bytes, run: LeaseRun) -> bytes:
    """Return the value of a lease key."""
    return _keyed(key, _LEASE_RUN.pack(*run, 0))


def read_lease_run(key: bytes, value: bytes) -> LeaseRun:
    """Return the run behind a lease key. Raises Damaged."""
    _check_keyed(key, value, _LEASE_RUN.size)
    return LeaseRun._make(_LEASE_RUN.unpack(value)[:-1])


def write_standing(key: bytes, type_no: int, deliveries: int, failures: int) -> bytes:
    """Return the value of a scheduled or ended key."""
    return _keyed(key, _STANDING.pack(type_no, deliveries, failures, 0))


def read_standing(key: bytes, value: bytes) -> Standing:
    """Return the value behind a scheduled or ended key. Raises Damaged."""
    _check_keyed(key, value, _STANDING.size)
    return Standing._make(_STANDING.unpack(value)[:-1])


def write_lane_standing(key: bytes, standing: LaneStanding) -> bytes:
    """Return the value of a lane key."""
    return _keyed(key, _LANE_STANDING.pack(*standing, 0))


def read_lane_standing(key: bytes, value: bytes) -> LaneStanding:
    """Return the value behind a lane key. Raises Damaged."""
    _check_keyed(key, value, _LANE_STANDING.size)
    return LaneStanding._make(_LANE_STANDING.unpack(value)[:-1])


class Slot(NamedTuple):
    """Who took a dedupe key last. blocks_until: 0 = taken without a ttl. long_key: the whole key, if shortened."""

    id: int
    queue_no: int
    taken_at: int
    blocks_until: int
    long_key: bytes = b""


def write_task_id(task_id: int) -> bytes:
    """Return the value of an external id."""
    return seal(_TASK_ID.pack(task_id))


def read_task_id(value: bytes) -> int:
    """Return the task that an external id names. Raises Damaged."""
    number: int = _unpack(_TASK_ID, unseal(value))[0]
    return number


def write_slot(slot: Slot) -> bytes:
    """Return a slot's bytes."""
    return seal(_SLOT.pack(slot.id, slot.queue_no, slot.taken_at, slot.blocks_until) + slot.long_key)


def write_fresh_slots(ids: Sequence[bytes], queue_no: int, now: int) -> list[bytes]:
    """Return the slots that tasks have just taken, without a ttl. ids: as they stand in keys."""
    rest = _SLOT.pack(0, queue_no, now, 0)[8:]
    return [data + pack_crc(crc32(data)) for data in [task_id + rest for task_id in ids]]


def read_slot(value: bytes) -> Slot:
    """Return a slot. Raises Damaged."""
    data = unseal(value)
    task_id, queue_no, taken_at, blocks_until = _unpack(_SLOT, data[: _SLOT.size])
    return Slot(task_id, queue_no, taken_at, blocks_until, data[_SLOT.size :])


# --- counts ---


def write_tally(tally: Sequence[int]) -> bytes:
    """Return the bytes of six counts by state."""
    return seal(_TALLY.pack(*tally))


def read_tally(value: bytes) -> list[int]:
    """Return six counts by state. Raises Damaged."""
    return list(_unpack(_TALLY, unseal(value)))


def write_totals(totals: Sequence[int]) -> bytes:
    """Return the bytes of a queue's totals, in the order of model.Totals."""
    return seal(_TOTALS.pack(*totals))


def read_totals(value: bytes) -> list[int]:
    """Return a queue's totals, in the order of model.Totals. Raises Damaged."""
    return list(_unpack(_TOTALS, unseal(value)))


TOTALS_ORDER: Final = Totals.__struct_fields__
assert len(TOTALS_ORDER) == 11  # the layout of Totals above


class LastNumbers(NamedTuple):
    """The last numbers given."""

    last_id: int = 0
    last_queue_no: int = 0
    last_type_no: int = 0


def write_sequence(sequence: LastNumbers) -> bytes:
    """Return the bytes of the sequence."""
    return seal(_SEQUENCE.pack(*sequence))


def read_sequence(value: bytes) -> LastNumbers:
    """Return the sequence. Raises Damaged."""
    return LastNumbers._make(_unpack(_SEQUENCE, unseal(value)))


# --- catalog, memos, extensions ---


class Meta(Struct, omit_defaults=True):
    """The file's own facts. daemon_boot_no, daemon_steady: when a daemon last began to serve (0 = never).

    boot_steady: steady ns of the first write of this boot.
    """

    format: int
    engine: str
    created_at: int
    boot_id: str = ""
    boot_no: int = 0
    daemon_boot_no: int = 0
    daemon_steady: int = 0
    boot_steady: int = 0


class QueueRecord(Struct, frozen=True, omit_defaults=True):
    """A queue."""

    no: int
    created_at: int = 0
    settings: QueueSettings = DEFAULT_SETTINGS


class TypeRecord(Struct, frozen=True, omit_defaults=True):
    """What a type decides for its tasks, and the schema of their payloads."""

    settings: TypeSettings = NO_TYPE_SETTINGS
    schema: bytes = b""


class Grave(Struct, omit_defaults=True):
    """A purged queue's number: which name it had (for people), and when it was purged (wall ns).

    lane_no: up to which lane its ready tasks were removed.
    """

    name: str
    at: int
    lane_no: int = 0


class LaneRecord(Struct, omit_defaults=True):
    """A thread or group. settings: a group's own. counts: queue_no -> (ready, running) tasks of it.

    held_by: the task that holds a thread, 0 = none. bucket: a group's tokens, None = full, or no rate. exposed: the
    keys of its exposures. wake: (boot_no, steady) of its wake key. turns: queue_no -> a group's next turn among others
    in a queue whose order is fair, if it has ready tasks there.
    """

    no: int
    settings: GroupSettings | None = None
    counts: dict[int, tuple[int, int]] = {}
    held_by: int = 0
    bucket: Bucket | None = None
    exposed: tuple[bytes, ...] = ()
    wake: tuple[int, int] | None = None
    turns: dict[int, int] = {}


class Memo(Struct, omit_defaults=True):
    """What a call was answered. leases: first id, count, delivery, first id, ... in the order of the answer."""

    at: int
    remove_at: int
    body_hash: bytes = b""
    outcomes: bytes = b""
    leases: tuple[int, ...] = ()


class ScheduleRecord(Struct, frozen=True, omit_defaults=True):
    """A schedule and where it stands; see model.ScheduleView."""

    no: int
    schedule: Schedule
    created_at: int = 0
    next_at: int = 0
    last_at: int = 0
    fired: int = 0
    reason: str = ""


_NAMES_CACHED: Final = 1_024  # the few bytes of the catalog that every transaction reads are taken apart once
_map_encoder = msgspec.msgpack.Encoder()
_meta_decoder = msgspec.msgpack.Decoder(Meta)
_queue_decoder = msgspec.msgpack.Decoder(QueueRecord)
_type_decoder = msgspec.msgpack.Decoder(TypeRecord)
_lane_decoder = msgspec.msgpack.Decoder(LaneRecord)
_rule_decoder = msgspec.msgpack.Decoder(GroupRule)
_grave_decoder = msgspec.msgpack.Decoder(Grave)
_memo_decoder = msgspec.msgpack.Decoder(Memo)
_pace_decoder = msgspec.msgpack.Decoder(Pace)
_schedule_decoder = msgspec.msgpack.Decoder(ScheduleRecord)
_set_decoder = msgspec.msgpack.Decoder(SetView)
_outcomes_decoder = msgspec.msgpack.Decoder(tuple[OpOutcome, ...])


def write_map(
    value: Meta | QueueRecord | TypeRecord | LaneRecord | GroupRule | Grave | Memo | ScheduleRecord | SetView | Pace,
) -> bytes:
    """Return the bytes of any value that is a map by name of field."""
    return seal(_map_encoder.encode(value))


def read_meta(value: bytes) -> Meta:
    """Return the file's facts. Raises Damaged."""
    return _decode(_meta_decoder, unseal(value))


@functools.lru_cache(maxsize=_NAMES_CACHED)
def read_queue(value: bytes) -> QueueRecord:
    """Return a queue. Raises Damaged."""
    return _decode(_queue_decoder, unseal(value))


@functools.lru_cache(maxsize=_NAMES_CACHED)
def read_type(value: bytes) -> TypeRecord:
    """Return what is known of a type. Raises Damaged."""
    return _decode(_type_decoder, unseal(value))


def read_lane(value: bytes) -> LaneRecord:
    """Return a thread or group. Raises Damaged."""
    return _decode(_lane_decoder, unseal(value))


@functools.lru_cache(maxsize=_NAMES_CACHED)
def read_rule(value: bytes) -> GroupRule:
    """Return a rule for groups. Raises Damaged."""
    return _decode(_rule_decoder, unseal(value))


def read_grave(value: bytes) -> Grave:
    """Return a grave. Raises Damaged."""
    return _decode(_grave_decoder, unseal(value))


def read_memo(value: bytes) -> Memo:
    """Return a memo. Raises Damaged."""
    return _decode(_memo_decoder, unseal(value))


def read_pace(value: bytes) -> Pace:
    """Return how fast a queue is served. Raises Damaged."""
    return _decode(_pace_decoder, unseal(value))


def read_schedule(value: bytes) -> ScheduleRecord:
    """Return a schedule. Raises Damaged."""
    return _decode(_schedule_decoder, unseal(value))


def read_set(value: bytes) -> SetView:
    """Return a set. Raises Damaged."""
    return _decode(_set_decoder, unseal(value))


def write_number(number: int) -> bytes:
    """Return the bytes of a catalog number (type_no)."""
    return seal(_NUMBER.pack(number))


@functools.lru_cache(maxsize=_NAMES_CACHED)
def read_number(value: bytes) -> int:
    """Return a catalog number. Raises Damaged."""
    number: int = _unpack(_NUMBER, unseal(value))[0]
    return number


def write_name(name: str) -> bytes:
    """Return the bytes of a catalog name."""
    return seal(name.encode("utf-8"))


@functools.lru_cache(maxsize=_NAMES_CACHED)
def read_name(value: bytes) -> str:
    """Return a catalog name. Raises Damaged."""
    try:
        return unseal(value).decode("utf-8")
    except UnicodeDecodeError as error:
        raise Damaged("it is no UTF-8") from error


def spans(ids: Iterable[int]) -> list[int]:
    """Return ids as first, count, first, count ...: a batch's ids are a handful of intervals.

    >>> spans([5, 6, 7, 9])
    [5, 3, 9, 1]
    """
    out: list[int] = []
    after_last = -1
    for number in ids:
        if number == after_last:
            out[-1] += 1
        else:
            out += (number, 1)
        after_last = number + 1
    return out


def unspan(intervals: Sequence[int]) -> list[int]:
    """Return the ids of ``spans``.

    >>> unspan([5, 3, 9, 1])
    [5, 6, 7, 9]
    """
    out: list[int] = []
    for first, count in zip(intervals[::2], intervals[1::2], strict=True):
        out.extend(range(first, first + count))
    return out


def write_outcomes(outcomes: Sequence[OpOutcome]) -> bytes:
    """Return a call's outcomes for a Memo."""
    packed = [
        msgspec.structs.replace(outcome, ids=spans(outcome.ids)) if isinstance(outcome, Enqueued) else outcome
        for outcome in outcomes
    ]
    return _map_encoder.encode(packed)


def read_outcomes(data: bytes) -> tuple[OpOutcome, ...]:
    """Return the outcomes of ``write_outcomes``."""
    return tuple(
        msgspec.structs.replace(outcome, ids=unspan(outcome.ids)) if isinstance(outcome, Enqueued) else outcome
        for outcome in _outcomes_decoder.decode(data)
    )


class Extension(NamedTuple):
    """A lease that a heartbeat moved. progress: 0..1, None = not said."""

    delivery: int
    boot_no: int
    deadline: int
    keepalive: int
    progress: float | None


def write_extension(extension: Extension) -> bytes:
    """Return the value of a lease extension in the side environment."""
    progress = math.nan if extension.progress is None else extension.progress
    return seal(_EXTENSION.pack(*extension[:4], progress))


def read_extension(value: bytes) -> Extension:
    """Return a lease extension. Raises Damaged."""
    delivery, boot_no, deadline, keepalive, progress = _unpack(_EXTENSION, unseal(value))
    return Extension(delivery, boot_no, deadline, keepalive, None if math.isnan(progress) else progress)
