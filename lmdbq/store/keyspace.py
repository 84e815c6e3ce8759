"""The keys of an lmdbq file. This module is the specification: a reader in another language can be written from it
and from ``records`` (the values). Only this module joins or slices key bytes; it knows nothing of transactions.

1. THE MAP. An LMDB environment (``data.mdb``) with these named databases; none uses DUPSORT. Other names are not ours.

    database          key                                          value                   one entry for each
    lmdbq/catalog     'M'                                          Meta                    file
                      'Q' name · 'q' queue_no                      QueueRecord · name      queue
                      'G' queue_no                                 Grave                   purged queue, until drained
                      'B' queue_no                                 Pace                    queue with a rate or weight
                      'T' name · 't' type_no                       type_no · name          type
                      'D' type_no                                  TypeRecord              type that decides something
                      'L' scope owner_no name                      LaneRecord             thread or group in use
                      'l' lane_no                                  scope owner_no name    the same
                      'R' pattern                                  GroupRule              rule for groups
                      'N' · 'A'                                    lane_no · name         last lane · cursor
                      'S' name · 's' schedule_no                   ScheduleRecord · name  schedule
    lmdbq/count       queue_no type_no                             Tally                   (queue, type) with tasks
                      queue_no 0 · 0 0                             Totals · Sequence       queue · file
    lmdbq/task        id                                           TaskRecord              task
    lmdbq/history     id                                           History                 task with something to tell
    lmdbq/ready       queue_no type_no priority rank last_id       ReadyRun                run of ready tasks
    lmdbq/scheduled   queue_no due_at id                           Standing                scheduled task
    lmdbq/lease       last_id                                      LeaseRun                run of running tasks
    lmdbq/deadline    queue_no boot_no deadline last_id            empty                   lease run
    lmdbq/ended       queue_no state remove_at id                  Standing                kept ended task
    lmdbq/expiry      queue_no expires_at id                       empty                   waiting task that expires
    lmdbq/dedupe      scope owner_no key                           Slot                    dedupe key in use
    lmdbq/memo        kind key                                     Memo                    idempotency key, claim id
    lmdbq/forget      remove_at kind key                           empty                   memo, slot with a ttl, set
    lmdbq/quarantine  id                                           reason, then the bytes  damaged task
    lmdbq/lane        lane_no queue_no type_no priority rank id    LaneStanding           ready task of a lane
                      0 queue_no type_no priority rank id          lane_no                such a task that may start
    lmdbq/wake        boot_no steady lane_no                       empty                  group to be looked at
    lmdbq/schedule    due_at schedule_no                           empty                   schedule that will fire
    lmdbq/external    namespace_no external_id                     TaskId                  task with an external id
    lmdbq/set         id                                           SetRecord               set of tasks

   A second environment, ``leases-<boot_no>``, holds one unnamed database: id -> Extension (deadlines moved by
   heartbeats, written without syncing: it may be lost whole in a power cut, as leases of an earlier boot are re-armed).

2. THE GRAMMAR. Every number is unsigned, of fixed width and big-endian, so that byte order is the order of values.
    queue_no, type_no, lane_no, boot_no, namespace_no                u32, given once, from 1; 0 is nobody
    schedule_no                                                      u32, the highest there is + 1, from 1
    id, last_id                                                      u64
    rank, due_at, expires_at, remove_at                              u64, Unix nanoseconds
    deadline, steady                                                 u64, steady nanoseconds of its boot
    priority                                                         u16 = priority + 32768: lower sorts first
    state, scope, kind                                               u8, see model.State, model.Scope, MemoKind
    name, pattern                                                    1..128 bytes of UTF-8, no control characters
    external_id                                                      1..128 bytes of UTF-8, as given
    key (dedupe)                                                     1..400 bytes as given, or 368 and a digest of 32
   A *run* is an interval of ids, and stands for those of them that are stored: they share all that its key and value
   say, and length counts the ids. So a task that is removed leaves its run with its record, and changes neither; the
   run goes with its last task. It is keyed by its last id, so that taking from its head changes only the value, and
   ``set_range(id)`` finds the run that may hold an id.
   A *lane* is a thread (scope queue, owner_no its queue_no) or a group (scope global, owner_no 0). Its ready tasks
   stand in lmdbq/lane and nowhere else. In a thread's keys type_no and priority are 0, and rank is 0 for the task that
   holds the thread; the value has the real ones. A task that may start now has a second key there, with lane_no 0: its
   *exposure*, which is where claims look. Exposures follow from the rest, and each LaneRecord lists its own. In a queue
   in which a group has a turn (LaneRecord.turns: the queue's order is fair) the rank of its exposures is 2^63 + turn.
   The longest key: forget = 8 + 1 + (1 + 4 + 400) = 414 <= 511, LMDB's limit.

   READING A TASK. It exists if lmdbq/task has its id and 'q' the queue_no of its record. (With a queue_no that has only
   a 'G' it went with its queue, and what is left of it will be removed.) Its state is where it stands: the run of
   lmdbq/lease that holds its id (the first key at or after the id, if key - length < id) is running; a key of
   lmdbq/scheduled, a run of lmdbq/ready (same queue_no, type_no, priority, rank; a key of lmdbq/lane if its options
   name a thread or a group), a key of lmdbq/ended are the others.
   That place has its deliveries and failures; a scheduled task's due_at is in its key. The rest is in its History, if
   there is one. A running task whose id is in ``leases-<boot_no>`` (boot_no as in its LeaseRun) under the same delivery
   has the deadline, keepalive and progress that stand there. Meta names the current boot of the machine, which boot_no
   counts, and the LMDB that wrote the file (0.9); open it with room for 32 named databases.

3. THE INVARIANTS, true in every committed transaction; ``check.py`` has one function per number.
    K1  Every task record has exactly one standing: it is in one ready run, one lease run, scheduled, or ended.
    K2  Runs of one database are disjoint, and each has a task that is stored; an id in another standing has a record.
        Records agree with the keys.
    K3  Every lease run has its one deadline key, and every deadline key its run.
    K4  An expiry key exists exactly for each scheduled or ready task that expires.
    K5  A slot names a stored task that has this slot; or it has a blocks_until, and its forget key exists.
    K6  Tallies equal a recount of the standings; a tally of zeros does not exist.
    K7  The sequence is at least every id and every number given.
    K8  Catalog names and numbers point at each other; every queue_no in a key is a live queue or a grave; every
        type_no of a 'D' key has a name.
    K9  Every memo has its forget key.
    K10 A history belongs to a stored task; every ended task has one.
    K11 Every checksum is right.
    K12 A grave holds no queue's name, and its tasks are counted nowhere but in their lanes.
    K13 Names and numbers of schedules point at each other; one with a next_at has its one key in lmdbq/schedule.
    K14 Lane names and numbers point at each other. A LaneRecord counts the tasks of its lane that are ready and that
        run, by queue_no, those of graves too; a thread is held by one of its tasks, or by none.
    K15 An exposure stands for the first ready task of a lane in its queue, type and priority (of a thread: at all, and
        only the holder if there is one), and in the LaneRecord's list. A group has one for each of these, or none. A
        group has turns in queues in which tasks of it are ready, and in no others.
    K16 A wake key belongs to the LaneRecord that names it.
    K17 An external id names a stored task that has it, and every stored task of a live queue that has one is named.
    K18 The members of a set are its pending ones and those that are over. Of one that is open or closed, pending are
        the records that name it and have not ended, those of graves too; of one that is met or unmet, its forget key
        exists.

4. HOW TO CHANGE IT. Raise ``FORMAT`` in ``records`` first; add a reader of the old shape and a fixture written by the
   last release; never use a name, a kind or a number again (retired ones are listed here: none). Formats are refused
   when unknown. A file of an older format is raised to this one when it is opened, and its missing databases are made.
   Format 2 adds lanes, schedules, external ids, sets and what else says so in the map; a file of format 1 has none.

5. THE CARDS follow: one function for each kind of key.
"""

from __future__ import annotations

import functools
import hashlib
import struct
from enum import IntEnum
from typing import Final, NamedTuple

from lmdbq import limits
from lmdbq.model import Scope, State

DATABASES: Final = (
    "catalog",
    "count",
    "task",
    "history",
    "ready",
    "scheduled",
    "lease",
    "deadline",
    "ended",
    "expiry",
    "dedupe",
    "memo",
    "forget",
    "quarantine",
    "lane",
    "schedule",
    "external",
    "wake",
    "set",
)
PREFIX: Final = b"lmdbq/"
KEY_BYTES_MAX: Final = 511
PRIORITY_BIAS: Final = 32_768
PRIORITY_HIGHEST: Final = 65_535  # of the biased ones
U32: Final = struct.Struct(">I")
U64: Final = struct.Struct(">Q")
RANK_MAX: Final = 2**64 - 1
TURN_FIRST: Final = 2**63  # an exposure's rank from here on is a group's turn

_READY: Final = struct.Struct(">IIHQQ")
_SCHEDULED: Final = struct.Struct(">IQQ")
_DEADLINE: Final = struct.Struct(">IIQQ")
_ENDED: Final = struct.Struct(">IBQQ")
_COUNT: Final = struct.Struct(">II")
_PLACE: Final = struct.Struct(">IIH")
_SLOT_HEAD: Final = struct.Struct(">BI")
_FORGET_HEAD: Final = struct.Struct(">QB")
_LANE: Final = struct.Struct(">IIIHQQ")
_WAKE: Final = struct.Struct(">IQI")
_LANE_PLACE: Final = struct.Struct(">IIIH")
_LANE_LIST: Final = struct.Struct(">III")
_SCHEDULE: Final = struct.Struct(">QI")
_DIGEST_BYTES: Final = 32

TYPE_RECORDS: Final = b"D"
READY_LIST_BYTES: Final = 8  # queue_no type_no: the ready list of one type in one queue


SCOPES: Final = {int(scope): scope for scope in Scope}


class MemoKind(IntEnum):
    """What a memo or a forget key is about."""

    IDEMPOTENCY = 1
    CLAIM = 2
    SLOT = 3
    SET = 4


class BadKey(ValueError):
    """A key that must not be written: a name or number outside its grammar. Always a bug of the caller."""


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError:
        raise BadKey("a name or key must be text that UTF-8 can write: it holds half of a surrogate pair") from None


@functools.lru_cache(maxsize=1_024)  # every call names the same few queues and types
def name_bytes(name: str) -> bytes:
    """Return a name as key bytes. Raises BadKey unless it is 1..128 bytes of UTF-8 without control characters."""
    data = _utf8(name)
    if not 1 <= len(data) <= limits.NAME_BYTES_MAX or any(ord(char) < 32 or ord(char) == 127 for char in name):
        raise BadKey(f"a name is 1 to {limits.NAME_BYTES_MAX} bytes without control characters, not {name!r}")
    return data


# --- catalog ---


def meta() -> bytes:
    """The file's own facts.

    Key: 'M'
    Value: Meta
    Order: -
    Written by: creation, a new boot, DaemonStart
    Removed by: nothing
    Invariant: exists; its format is one we read

    >>> meta()
    b'M'
    """
    return b"M"


def queue_by_name(name: str) -> bytes:
    """A queue, by name.

    Key: 'Q' name
    Value: QueueRecord
    Order: by name, as bytes
    Written by: Enqueue, QueuePut, QueuePatch, Purge
    Removed by: QueueDelete
    Invariant: K8

    >>> queue_by_name("mail")
    b'Qmail'
    """
    return b"Q" + name_bytes(name)


def queue_by_no(queue_no: int) -> bytes:
    """A queue's name, by number.

    Key: 'q' queue_no
    Value: name
    Order: by number
    Written by: with queue_by_name
    Removed by: QueueDelete, Purge (the number, not the queue)
    Invariant: K8

    >>> queue_by_no(7)
    b'q\\x00\\x00\\x00\\x07'
    """
    return b"q" + U32.pack(queue_no)


def grave(queue_no: int) -> bytes:
    """The number of a purged or deleted queue whose keys are still being removed.

    Key: 'G' queue_no
    Value: Grave
    Order: by number: the oldest first
    Written by: Purge, QueueDelete
    Removed by: Prune, when no key has the number any more
    Invariant: K12

    >>> grave(7)
    b'G\\x00\\x00\\x00\\x07'
    """
    return b"G" + U32.pack(queue_no)


def pace(queue_no: int) -> bytes:
    """How fast a queue is served: its tokens, its turn among others, those of its groups. queue_no 0: the time of all
    turns of queues.

    Key: 'B' queue_no
    Value: Pace
    Order: by number
    Written by: Claim of a queue with a rate, a weight or a fair order; Purge, for the new number
    Removed by: QueueDelete, Purge
    Invariant: K8

    >>> pace(7)
    b'B\\x00\\x00\\x00\\x07'
    """
    return b"B" + U32.pack(queue_no)


def type_by_name(name: str) -> bytes:
    """A task type's number, by name.

    Key: 'T' name
    Value: type_no
    Order: by name, as bytes
    Written by: Enqueue, Edit
    Removed by: nothing
    Invariant: K8

    >>> type_by_name("send")
    b'Tsend'
    """
    return b"T" + name_bytes(name)


def type_by_no(type_no: int) -> bytes:
    """A task type's name, by number.

    Key: 't' type_no
    Value: name
    Order: by number
    Written by: with type_by_name
    Removed by: nothing
    Invariant: K8

    >>> type_by_no(1)
    b't\\x00\\x00\\x00\\x01'
    """
    return b"t" + U32.pack(type_no)


def type_record(type_no: int) -> bytes:
    """What a type decides for its tasks, and how their payloads look.

    Key: 'D' type_no
    Value: TypeRecord
    Order: by number
    Written by: TypePut
    Removed by: TypePut that says nothing
    Invariant: K8

    >>> type_record(1)
    b'D\\x00\\x00\\x00\\x01'
    """
    return TYPE_RECORDS + U32.pack(type_no)


def lane_by_name(scope: Scope, owner_no: int, name: str) -> bytes:
    """A thread or group that has ready or running tasks, or settings of its own. owner_no: a thread's queue_no, else 0.

    Key: 'L' scope owner_no name
    Value: LaneRecord
    Order: by scope, then queue, then name
    Written by: every transaction that changes one, once
    Removed by: the change that leaves nothing of it
    Invariant: K14

    >>> lane_by_name(Scope.GLOBAL, 0, "acme")
    b'L\\x02\\x00\\x00\\x00\\x00acme'
    """
    return b"L" + _SLOT_HEAD.pack(scope, owner_no) + name_bytes(name)


def lane_by_no(lane_no: int) -> bytes:
    """What a lane's number stands for.

    Key: 'l' lane_no
    Value: scope owner_no name, as in the key of lane_by_name
    Order: by number
    Written by: with lane_by_name
    Removed by: with lane_by_name
    Invariant: K14

    >>> lane_by_no(3)
    b'l\\x00\\x00\\x00\\x03'
    """
    return b"l" + U32.pack(lane_no)


def group_rule(pattern: str) -> bytes:
    """A rule for groups.

    Key: 'R' pattern
    Value: GroupRule
    Order: by pattern, as bytes
    Written by: RulePut
    Removed by: RuleDelete
    Invariant: K11

    >>> group_rule("shop:*")
    b'Rshop:*'
    """
    return b"R" + name_bytes(pattern)


def last_lane() -> bytes:
    """The lane number that was given last. After the highest they begin again at 1, and leave out those in use.

    Key: 'N'
    Value: lane_no
    Order: -
    Written by: whatever needs a new lane
    Removed by: nothing
    Invariant: K14

    >>> last_lane()
    b'N'
    """
    return b"N"


def rules_cursor() -> bytes:
    """How far a changed rule, or a queue's order, has reached: groups behind this name have yet to follow it.

    Key: 'A'
    Value: name
    Order: -
    Written by: RulePut, RuleDelete, QueuePut and QueuePatch that make an order fair or end that, Refill
    Removed by: Refill, with the last group
    Invariant: K11

    >>> rules_cursor()
    b'A'
    """
    return b"A"


def schedule_by_name(name: str) -> bytes:
    """A schedule, by name.

    Key: 'S' name
    Value: ScheduleRecord
    Order: by name, as bytes
    Written by: SchedulePut, SchedulePatch, Fire
    Removed by: ScheduleDelete
    Invariant: K13

    >>> schedule_by_name("nightly")
    b'Snightly'
    """
    return b"S" + name_bytes(name)


def schedule_by_no(schedule_no: int) -> bytes:
    """A schedule's name, by number.

    Key: 's' schedule_no
    Value: name
    Order: by number: as they were created
    Written by: SchedulePut
    Removed by: ScheduleDelete
    Invariant: K13

    >>> schedule_by_no(1)
    b's\\x00\\x00\\x00\\x01'
    """
    return b"s" + U32.pack(schedule_no)


# --- counts ---


def count(queue_no: int, type_no: int) -> bytes:
    """The tally of one type in one queue; (queue_no, 0) a queue's totals; (0, 0) the sequence.

    Key: queue_no type_no
    Value: Tally, Totals or Sequence
    Order: all types of a queue stand together, its totals first
    Written by: every transaction that changes one, once
    Removed by: the change that makes it zero; QueueDelete, Purge
    Invariant: K6, K7

    >>> count(7, 1).hex()
    '0000000700000001'
    """
    return _COUNT.pack(queue_no, type_no)


SEQUENCE: Final = count(0, 0)

# --- tasks and their standings ---


def task(task_id: int) -> bytes:
    """A task's record; also the key of its history, of its quarantined bytes and of its lease extension.

    Key: id
    Value: TaskRecord
    Order: as they were accepted
    Written by: Enqueue (appended); Edit and overwrite rewrite it
    Removed by: whatever removes the task
    Invariant: K1

    >>> task(258).hex()
    '0000000000000102'
    """
    return U64.pack(task_id)


def history(task_id: int) -> bytes:
    """What happened to a task since it was accepted; most tasks have none.

    Key: id
    Value: History
    Order: as they were accepted
    Written by: Report (failed, released, kept), Lapse, Cancel, Retry
    Removed by: whatever removes the task
    Invariant: K10

    >>> history(258) == task(258)
    True
    """
    return U64.pack(task_id)


def quarantine(task_id: int) -> bytes:
    """A task whose record was damaged: its reason and bytes, kept for a person, never served.

    Key: id
    Value: UTF-8 reason, a zero byte, the record as found
    Order: as they were accepted
    Written by: Claim, Lapse, Report and edits that meet the damage
    Removed by: Delete
    Invariant: K2 (it has no other key)

    >>> quarantine(258) == task(258)
    True
    """
    return U64.pack(task_id)


def ready(queue_no: int, type_no: int, priority: int, rank: int, last_id: int) -> bytes:
    """A run of ready tasks. ``priority`` is the biased one, 0..65535.

    Key: queue_no type_no priority rank last_id
    Value: ReadyRun
    Order: within a (queue, type) the order of claims
    Written by: Enqueue, Promote, Report (released, no delay), Edit, Retry; Claim shortens it
    Removed by: Claim, Cancel, Edit, Delete, Expire
    Invariant: K2

    >>> ready(7, 1, 32768, 5, 258).hex()
    '0000000700000001800000000000000000050000000000000102'
    """
    return _READY.pack(queue_no, type_no, priority, rank, last_id)


def scheduled(queue_no: int, due_at: int, task_id: int) -> bytes:
    """A task that waits for its time.

    Key: queue_no due_at id
    Value: Standing
    Order: within a queue by due_at
    Written by: Enqueue, Edit, Report (backoff, delay), Lapse
    Removed by: Promote, Cancel, Edit, Delete, Expire
    Invariant: K2

    >>> scheduled(7, 5, 258).hex()
    '0000000700000000000000050000000000000102'
    """
    return _SCHEDULED.pack(queue_no, due_at, task_id)


def lease(last_id: int) -> bytes:
    """A run of running tasks that were claimed together.

    Key: last_id
    Value: LeaseRun
    Order: by id: ``set_range(id)`` finds the run that may hold it
    Written by: Claim, Lapse (re-armed); Report and others split it
    Removed by: Report, Lapse, Delete
    Invariant: K2, K3

    >>> lease(258).hex()
    '0000000000000102'
    """
    return U64.pack(last_id)


def deadline(queue_no: int, boot_no: int, deadline_steady: int, last_id: int) -> bytes:
    """When a lease run comes up.

    Key: queue_no boot_no deadline last_id
    Value: empty
    Order: within a queue, leases of earlier boots first, then by deadline
    Written by: with the lease run
    Removed by: with the lease run
    Invariant: K3

    >>> deadline(7, 1, 5, 258).hex()
    '000000070000000100000000000000050000000000000102'
    """
    return _DEADLINE.pack(queue_no, boot_no, deadline_steady, last_id)


def ended(queue_no: int, state: State, remove_at: int, task_id: int) -> bytes:
    """A task that has ended and is kept until ``remove_at``.

    Key: queue_no state remove_at id
    Value: Standing
    Order: within a queue and state by the time of removal
    Written by: Report, Lapse, Cancel, Claim (max_deliveries)
    Removed by: Prune, Retry, Delete
    Invariant: K2, K10

    >>> ended(7, State.DEAD, 5, 258).hex()
    '000000070400000000000000050000000000000102'
    """
    return _ENDED.pack(queue_no, state, remove_at, task_id)


def expiry(queue_no: int, expires_at: int, task_id: int) -> bytes:
    """When a waiting task is to be removed.

    Key: queue_no expires_at id
    Value: empty
    Order: within a queue by expires_at
    Written by: whatever makes a task that expires scheduled or ready
    Removed by: Claim, and whatever ends or removes the task
    Invariant: K4

    >>> expiry(7, 5, 258) == scheduled(7, 5, 258)
    True
    """
    return _SCHEDULED.pack(queue_no, expires_at, task_id)


# --- dedupe, memos ---


def slot(scope: Scope, owner_no: int, key: str) -> bytes:
    """The last task that took a dedupe key. owner_no: queue_no for QUEUE, type_no for TYPE, 0 for GLOBAL.

    A key of more than 400 bytes stands as its first 368 bytes and the BLAKE2b-256 of the whole; the value then holds
    the whole, to be compared. Raw keys keep the locality of keys that begin with a time; hashing all would destroy it.

    Key: scope owner_no key
    Value: Slot
    Order: by owner, then key
    Written by: Enqueue, Retry
    Removed by: with its task, or by Prune once blocks_until has passed
    Invariant: K5

    >>> slot(Scope.QUEUE, 7, "k1").hex()
    '00000000076b31'
    """
    data = _utf8(key)
    if not data:
        raise BadKey("a dedupe key is not empty")
    if len(data) > limits.DEDUPE_RAW_BYTES_MAX:
        digest = hashlib.blake2b(data, digest_size=_DIGEST_BYTES).digest()
        data = data[: limits.DEDUPE_RAW_BYTES_MAX - _DIGEST_BYTES] + digest
    return _SLOT_HEAD.pack(scope, owner_no) + data


def memo(kind: MemoKind, key: bytes) -> bytes:
    """What a request with an Idempotency-Key (or a claim id) was answered.

    Key: kind key
    Value: Memo
    Order: by kind, then key: keys that begin with the time keep inserts local
    Written by: the call it belongs to
    Removed by: Prune
    Invariant: K9

    >>> memo(MemoKind.CLAIM, b"c1")
    b'\\x02c1'
    """
    if not 1 <= len(key) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        raise BadKey(f"an idempotency key or claim id has 1 to {limits.IDEMPOTENCY_KEY_BYTES_MAX} bytes")
    return bytes([kind]) + key


def forget(remove_at: int, kind: MemoKind, key: bytes) -> bytes:
    """When a memo, a slot taken with a ttl or a set that was decided may go. ``key``: the key bytes in its own
    database, without the kind.

    Key: remove_at kind key
    Value: empty
    Order: by time
    Written by: with the memo or slot; whatever decides the set
    Removed by: Prune; SetDelete
    Invariant: K5, K9, K18

    >>> forget(5, MemoKind.CLAIM, b"c1").hex()
    '0000000000000005026331'
    """
    return _FORGET_HEAD.pack(remove_at, kind) + key


# --- lanes, schedules, external ids, sets (format 2) ---


def lane(lane_no: int, queue_no: int, type_no: int, priority: int, rank: int, task_id: int) -> bytes:
    """A ready task of a thread or group; with lane_no 0 its exposure.

    Key: lane_no queue_no type_no priority rank id
    Value: LaneStanding; of an exposure lane_no
    Order: within a lane, queue and type the order in which its tasks may start; of exposures the order of claims
    Written by: whatever makes a task of a lane ready
    Removed by: whatever removes or starts the task
    Invariant: K2, K15

    >>> lane(1, 7, 1, 32768, 5, 258).hex()
    '000000010000000700000001800000000000000000050000000000000102'
    """
    return _LANE.pack(lane_no, queue_no, type_no, priority, rank, task_id)


def wake(boot_no: int, steady: int, lane_no: int) -> bytes:
    """When a group is to be looked at again: a token has come in, or its bucket is full and nothing else keeps it.

    Key: boot_no steady lane_no
    Value: empty
    Order: by time, earlier boots first
    Written by: whatever changes a group
    Removed by: Claim, Refill
    Invariant: K16

    >>> wake(1, 5, 3).hex()
    '00000001000000000000000500000003'
    """
    return _WAKE.pack(boot_no, steady, lane_no)


def schedule(due_at: int, schedule_no: int) -> bytes:
    """When a schedule fires next.

    Key: due_at schedule_no
    Value: empty
    Order: by time
    Written by: SchedulePut, SchedulePatch, Fire
    Removed by: SchedulePut, SchedulePatch, Fire, ScheduleDelete
    Invariant: K13

    >>> schedule(5, 1).hex()
    '000000000000000500000001'
    """
    return _SCHEDULE.pack(due_at, schedule_no)


def external(namespace_no: int, external_id: str) -> bytes:
    """A task by another system's id; no two stored tasks of a namespace have the same. 1 is the namespace of lmdbq.

    Key: namespace_no external_id
    Value: TaskId
    Order: by namespace, then id
    Written by: Enqueue with an external id
    Removed by: whatever removes the task
    Invariant: K17

    >>> external(1, "job-7").hex()
    '000000016a6f622d37'
    """
    data = _utf8(external_id)
    if not 1 <= len(data) <= limits.NAME_BYTES_MAX:
        raise BadKey(f"an external id has 1 to {limits.NAME_BYTES_MAX} bytes")
    return U32.pack(namespace_no) + data


def task_set(set_id: int) -> bytes:
    """A set of tasks: what it waits for, and how its members stand. Its id is of the same sequence as those of tasks.

    Key: id
    Value: SetRecord
    Order: as they were made
    Written by: SetMake, SetClose; whatever makes or ends a member, until the set is decided
    Removed by: SetDelete; Prune, when its time is over
    Invariant: K18

    >>> task_set(258).hex()
    '0000000000000102'
    """
    return U64.pack(set_id)


# --- reading keys back, and ranges ---


class ReadyKey(NamedTuple):
    """The parts of a ready key."""

    queue_no: int
    type_no: int
    priority: int
    rank: int
    last_id: int


class TimedKey(NamedTuple):
    """The parts of a scheduled or expiry key."""

    queue_no: int
    at: int
    id: int


class DeadlineKey(NamedTuple):
    """The parts of a deadline key."""

    queue_no: int
    boot_no: int
    deadline: int
    last_id: int


class EndedKey(NamedTuple):
    """The parts of an ended key."""

    queue_no: int
    state: int
    remove_at: int
    id: int


class LaneKey(NamedTuple):
    """The parts of a lane key, or of an exposure (lane_no 0)."""

    lane_no: int
    queue_no: int
    type_no: int
    priority: int
    rank: int
    id: int


class WakeKey(NamedTuple):
    """The parts of a wake key."""

    boot_no: int
    steady: int
    lane_no: int


class ForgetKey(NamedTuple):
    """The parts of a forget key."""

    remove_at: int
    kind: int
    key: bytes


def read_id(key: bytes) -> int:
    """Return the id of a task, history, quarantine, lease or set key."""
    number: int = U64.unpack(key)[0]
    return number


def read_number(key: bytes) -> int:
    """Return the number of a 'q', 'G', 't', 'D' or 's' catalog key."""
    """Return the number of a 'q', 'G', 't' or 'l' catalog key."""
    number: int = U32.unpack(key[1:])[0]
    return number


def read_name(key: bytes) -> str:
    """Return the name of a 'Q', 'T' or 'S' catalog key."""
    return key[1:].decode("utf-8")


def read_ready(key: bytes) -> ReadyKey:
    """Return the parts of a ready key."""
    return ReadyKey._make(_READY.unpack(key))


def read_timed(key: bytes) -> TimedKey:
    """Return the parts of a scheduled or expiry key."""
    return TimedKey._make(_SCHEDULED.unpack(key))


def read_deadline(key: bytes) -> DeadlineKey:
    """Return the parts of a deadline key."""
    return DeadlineKey._make(_DEADLINE.unpack(key))


def read_ended(key: bytes) -> EndedKey:
    """Return the parts of an ended key."""
    return EndedKey._make(_ENDED.unpack(key))


def read_lane(key: bytes) -> LaneKey:
    """Return the parts of a lane key or an exposure."""
    return LaneKey._make(_LANE.unpack(key))


def read_wake(key: bytes) -> WakeKey:
    """Return the parts of a wake key."""
    return WakeKey._make(_WAKE.unpack(key))


def lane_owner(key: bytes) -> tuple[Scope, int, str]:
    """Return (scope, owner_no, name) of a lane_by_name key, or of the value of lane_by_no behind one byte."""
    scope, owner_no = _SLOT_HEAD.unpack_from(key, 1)
    return SCOPES[scope], owner_no, key[1 + _SLOT_HEAD.size :].decode("utf-8")


def read_count(key: bytes) -> tuple[int, int]:
    """Return (queue_no, type_no) of a count key."""
    queue_no, type_no = _COUNT.unpack(key)
    return queue_no, type_no


def read_forget(key: bytes) -> ForgetKey:
    """Return the parts of a forget key."""
    remove_at, kind = _FORGET_HEAD.unpack_from(key)
    return ForgetKey(remove_at, kind, key[_FORGET_HEAD.size :])


def read_schedule(key: bytes) -> tuple[int, int]:
    """Return (due_at, schedule_no) of a schedule key."""
    due_at, schedule_no = _SCHEDULE.unpack(key)
    return due_at, schedule_no


def read_slot(key: bytes) -> tuple[int, int, bytes]:
    """Return (scope, owner_no, key bytes) of a dedupe key."""
    scope, owner_no = _SLOT_HEAD.unpack_from(key)
    return scope, owner_no, key[_SLOT_HEAD.size :]


def read_external(key: bytes) -> tuple[int, str]:
    """Return (namespace_no, external id) of an external key."""
    number: int = U32.unpack_from(key)[0]
    return number, key[U32.size :].decode("utf-8")


def read_queue_no(key: bytes) -> int:
    """Return the queue_no of a ready, scheduled, deadline, ended, expiry or count key."""
    number: int = U32.unpack_from(key)[0]
    return number


def of_task(key: bytes, task_id: int) -> bool:
    """Whether a scheduled, ended or expiry key is that of a task; whether a ready or deadline run ends with it."""
    return key.endswith(U64.pack(task_id))


def of_queue(queue_no: int) -> bytes:
    """Return the prefix of every key of a queue in ready, scheduled, deadline, ended, expiry and count."""
    return U32.pack(queue_no)


def of_lane(lane_no: int) -> bytes:
    """Return the prefix of every lane key of a lane; of 0 that of all exposures."""
    return U32.pack(lane_no)


def of_lane_list(lane_no: int, queue_no: int, type_no: int) -> bytes:
    """Return the prefix of every lane key of a lane in one queue and type; of lane 0 that of the exposures there."""
    return _LANE_LIST.pack(lane_no, queue_no, type_no)


def of_lane_place(lane_no: int, queue_no: int, type_no: int, priority: int) -> bytes:
    """Return the prefix of every lane key of a lane in one queue, type and (biased) priority."""
    return _LANE_PLACE.pack(lane_no, queue_no, type_no, priority)


def of_lanes(scope: Scope, owner_no: int) -> bytes:
    """Return the prefix of the lane_by_name keys of all groups, or of all threads of a queue."""
    return b"L" + _SLOT_HEAD.pack(scope, owner_no)


def of_ready_list(queue_no: int, type_no: int) -> bytes:
    """Return the prefix of every ready key of a (queue, type)."""
    return _COUNT.pack(queue_no, type_no)


def place(queue_no: int, type_no: int, priority: int) -> bytes:
    """Return queue_no, type_no and the biased priority as they begin a ready key, and stand in a TaskRecord's head."""
    return _PLACE.pack(queue_no, type_no, priority)


def of_ended_state(queue_no: int, state: State) -> bytes:
    """Return the prefix of every ended key of a queue and state."""
    return U32.pack(queue_no) + bytes([state])
