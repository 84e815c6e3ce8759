"""The checker's part that concerns lanes: K14, K15, K16, and where a ready task of a lane stands (K2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from lmdbq.ids import format_id
from lmdbq.model import Scope, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.check_facts import File
from lmdbq.store.check_tasks import LANED, Place
from lmdbq.store.dump import key_words
from lmdbq.store.lmdb_known_lanes import Member, is_laned


def _lane_of(file: File, task_id: int) -> bytes | None:
    record = file.tasks.record(task_id)
    if record is None or not is_laned(record.options):
        return None
    member = Member(record.options, record.queue_no, record.type_no, record.priority, 0, task_id)
    return member.lane_key


def lane_place_faults(file: File, task_id: int, record: rec.TaskRecord, rank: int, place: Place) -> Iterator[str]:
    """Yield what is wrong with the lane key of a ready task, whose record is sound."""
    lane_no, *at = place.key[:5]
    found = file.lanes.get(lane_no)
    task = f"task {format_id(task_id)}"
    if found is None or found[0] != _lane_of(file, task_id):
        yield f"K2: {task} stands in lane {lane_no}, which is not its own"
        return
    if place.key[5:] != (record.type_no, record.priority, rank):
        yield f"K2: {task} stands in its lane as (type_no, priority, rank) {place.key[5:]}, which it is not"
    key, lane = found
    expected = [record.queue_no, record.type_no, record.priority, rank]
    if ks.lane_owner(key)[0] is Scope.QUEUE:
        expected[1:] = [0, 0, 0 if lane.held_by == task_id else rank]
    if at != expected:
        yield f"K2: {task} stands in its lane at {at}, not {expected}"


def k14(file: File) -> Iterator[str]:
    """Lanes by name and by number agree, count their tasks, and are held by tasks of their own."""
    numbered = {}
    for key, value in file.items("catalog"):
        if key[:1] == b"l":
            tail = file.sound("catalog", key, lambda value=value: rec.unseal(value))  # type: ignore[misc]
            numbered[ks.read_number(key)] = b"L" + (tail or b"")
    named = {lane_no: key for lane_no, (key, _) in file.lanes.items()}
    if named != numbered:
        yield f"K14: lanes by name and by number differ: {set(named.items()) ^ set(numbered.items())}"
    counted: Counter[tuple[bytes, int, State]] = Counter()
    for task_id in file.tasks.with_flags(LANED):
        lane_key = _lane_of(file, task_id)
        if lane_key is None:
            continue
        for place in file.tasks.places(task_id):
            counted[lane_key, place.queue_no, place.state] += 1
            if place.state is State.READY and place.database != "lane":
                yield f"K14: task {format_id(task_id)} has a lane, and stands in lmdbq/{place.database}"
    for key, lane in file.lanes.values():
        yield from _k14_lane(file, key, lane, counted)
    for (key, queue_no, state), number in counted.items():
        if number and state in (State.READY, State.RUNNING):
            yield f"K14: {key_words('catalog', key)} counts {number} {state.word} of queue {queue_no} too few"


def _k14_lane(
    file: File, key: bytes, lane: rec.LaneRecord, counted: Counter[tuple[bytes, int, State]]
) -> Iterator[str]:
    name = key_words("catalog", key)
    for queue_no, (ready, running) in lane.counts.items():
        found = tuple(counted.pop((key, queue_no, state), 0) for state in (State.READY, State.RUNNING))
        if found != (ready, running):
            yield f"K14: {name} says {ready} ready and {running} running of queue {queue_no}, it has {found}"
    if not lane.held_by:
        return
    held = file.tasks.places(lane.held_by)
    live = (State.SCHEDULED, State.READY, State.RUNNING)
    if _lane_of(file, lane.held_by) != key or ks.lane_owner(key)[0] is not Scope.QUEUE:
        yield f"K14: {name} is held by task {format_id(lane.held_by)}, which is none of its tasks"
    elif not held or held[0].state not in live:
        yield f"K14: {name} is held by task {format_id(lane.held_by)}, which has ended"


def k15(file: File) -> Iterator[str]:
    """Exposures stand for the first ready tasks of lanes, and are those that the lanes list."""
    listed = {exposure: no for no, (_, lane) in file.lanes.items() for exposure in lane.exposed}
    if listed != file.exposures:
        yield f"K15: exposures and the lists of lanes differ: {set(listed.items()) ^ set(file.exposures.items())}"
    expected: dict[int, dict[tuple[int, int, int], bytes]] = {}
    for key, value in file.items("lane"):
        parts = ks.read_lane(key)
        found = file.lanes.get(parts.lane_no)
        if found is None:
            continue
        standing = file.sound("lane", key, lambda key=key, value=value: rec.read_lane_standing(key, value))  # type: ignore[misc]
        if standing is None:
            continue
        is_thread = ks.lane_owner(found[0])[0] is Scope.QUEUE
        if is_thread and found[1].held_by not in (0, parts.id):
            continue
        turn = found[1].turns.get(parts.queue_no)
        rank = standing.rank if turn is None else ks.TURN_FIRST + turn
        exposure = ks.lane(0, parts.queue_no, standing.type_no, standing.priority, rank, parts.id)
        expected.setdefault(parts.lane_no, {}).setdefault((parts.queue_no, parts.type_no, parts.priority), exposure)
    for lane_no, (key, lane) in file.lanes.items():
        wanted = set(expected.get(lane_no, {}).values())
        is_thread = ks.lane_owner(key)[0] is Scope.QUEUE
        if set(lane.exposed) != wanted and (is_thread or lane.exposed):
            yield f"K15: {key_words('catalog', key)} does not expose the first of its ready tasks"
        for queue_no in lane.turns:
            if is_thread or not lane.counts.get(queue_no, (0, 0))[0]:
                yield f"K15: {key_words('catalog', key)} has a turn, and no ready task, in queue {queue_no}"


def k16(file: File) -> Iterator[str]:
    """A wake key belongs to the lane that names it."""
    expected = {ks.wake(*lane.wake, no) for no, (_, lane) in file.lanes.items() if lane.wake is not None}
    found = {bytes(key) for key, _ in file.items("wake")}
    yield from (f"K16: wake {key_words('wake', key)} is missing" for key in expected - found)
    yield from (f"K16: wake {key_words('wake', key)} belongs to no lane" for key in found - expected)
