"""What every store does about schedules: where they stand, what Fire enqueues, and what never happens twice.

The clock of a Driver begins on a Tuesday, 2023-11-14 at 22:13:20 UTC.
"""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from lmdbq import cron, limits, schedules
from lmdbq.model import (
    CatchUp,
    Dedupe,
    Enqueue,
    Fire,
    OnDuplicate,
    Schedule,
    ScheduleChanged,
    ScheduleDelete,
    SchedulePatch,
    SchedulePut,
    ScheduleView,
    State,
    Swept,
)
from tests.store_driver import Driver, S, entry

MINUTELY = "* * * * *"
NEXT_MINUTE = 40 * S  # from the start of the clock
HOURLY = "0 * * * *"


def put(q: Driver, cron: str = MINUTELY, name: str = "tick", **fields: Any) -> ScheduleChanged:
    fields.setdefault("entry", entry(type="tick"))
    changed: ScheduleChanged = q.do(SchedulePut(name, Schedule(cron, **fields)))
    return changed


def patch(q: Driver, name: str = "tick", **fields: Any) -> None:
    q.do(SchedulePatch(name, Schedule(**{"cron": "", "entry": entry(), **fields}), tuple(fields)))


def view(q: Driver, name: str = "tick") -> ScheduleView:
    found = q.store.schedule(name)
    assert found is not None
    return found


def fire_all(q: Driver) -> int:
    """Fire until nothing is due, as timers do; return how many tasks that gave."""
    count = 0
    while (swept := q.sweep(Fire())).more:
        count += swept.count
    return count + swept.count


def instants(q: Driver) -> list[int]:
    """Return for which instants tasks were enqueued, in the order of their ids."""
    found = [msgspec.json.decode(task.options.metadata)["schedule"]["instant_at"] for task in q.all_tasks()]
    return [int(at) for at in found]


class ScheduleContract:
    """Schedules."""

    def test_a_new_schedule_stands_at_its_first_instant(self, q: Driver):
        start = q.now

        assert put(q).created
        assert view(q) == ScheduleView("tick", Schedule(MINUTELY, entry(type="tick")), start, start + NEXT_MINUTE)
        assert q.store.due(q.clock).fire_at == start + NEXT_MINUTE
        assert q.sweep(Fire()) == Swept(0)

    def test_an_instant_that_has_come_gives_one_task_and_moves_the_schedule_on(self, q: Driver):
        start = q.now
        put(q, entry=entry(queue="mail", type="digest", payload=b'{"a":1}', priority=3, delay_ns=5 * S, tags=("x",)))
        q.clock.advance(40)

        assert q.sweep(Fire()) == Swept(1)
        assert q.sweep(Fire()) == Swept(0)
        (task,) = q.all_tasks()
        assert (task.queue, task.type, task.payload, task.priority) == ("mail", "digest", b'{"a":1}', 3)
        assert (task.state, task.due_at, task.options.tags) == (State.SCHEDULED, q.now + 5 * S, ("x",))
        assert task.options.metadata == b'{"schedule":{"name":"tick","instant_at":%d}}' % (start + NEXT_MINUTE)
        shown = view(q)
        assert (shown.last_at, shown.next_at, shown.fired) == (start + NEXT_MINUTE, start + NEXT_MINUTE + 60 * S, 1)

    def test_moab_6_76_a_schedule_of_every_second_gives_sixty_tasks_in_a_minute(self, q: Driver):
        put(q, "* * * * * *")
        start = q.now
        for _ in range(60):
            q.clock.advance(1)
            fire_all(q)

        assert instants(q) == [start + second * S for second in range(1, 61)]

    def test_schedules_fire_in_the_order_of_their_instants_and_then_of_their_creation(self, q: Driver):
        put(q, MINUTELY, "z", entry=entry(type="z"))
        put(q, MINUTELY, "a", entry=entry(type="a"))
        put(q, "30 13 22 * * *", "first", entry=entry(type="first"))
        q.clock.advance(40)

        assert q.sweep(Fire()) == Swept(3)
        assert [task.type for task in q.all_tasks()] == ["first", "z", "a"]

    def test_fire_stops_at_its_limit_and_says_that_there_is_more(self, q: Driver):
        for name in ("a", "b", "c"):
            put(q, MINUTELY, name)
        q.clock.advance(40)

        assert q.sweep(Fire(limit=2)) == Swept(2, more=True)
        assert q.sweep(Fire(limit=2)) == Swept(1)

    # --- what was missed

    @pytest.mark.parametrize(("catch_up", "hours"), [(CatchUp.NONE, []), (CatchUp.ONE, [3]), (CatchUp.ALL, [1, 2, 3])])
    def test_eddyq_7_102_an_outage_of_three_hours_is_made_up_for_as_asked(
        self, q: Driver, catch_up: CatchUp, hours: list[int]
    ):
        put(q, HOURLY, catch_up=catch_up)
        first = view(q).next_at
        q.clock.advance(3 * 3600)

        fire_all(q)

        assert instants(q) == [first + (hour - 1) * 3600 * S for hour in hours]
        assert view(q).next_at == first + 3 * 3600 * S

    @pytest.mark.parametrize("catch_up", list(CatchUp))
    def test_what_is_late_by_less_than_a_minute_was_not_missed(self, q: Driver, catch_up: CatchUp):
        put(q, "*/10 * * * * *", catch_up=catch_up)
        first = view(q).next_at
        q.clock.advance(59)

        assert fire_all(q) == 5
        assert instants(q) == [first + number * 10 * S for number in range(5)]

    def test_moab_6_74_ten_minutes_without_anybody_are_one_task_unless_the_schedule_says_otherwise(self, q: Driver):
        put(q)
        q.clock.advance(600)

        assert fire_all(q) == 1

    def test_all_that_was_missed_is_at_most_a_hundred_instants_the_latest(self, q: Driver):
        put(q, catch_up=CatchUp.ALL)
        first = view(q).next_at
        q.clock.advance(250 * 60)

        assert fire_all(q) == limits.CATCH_UP_INSTANTS_MAX
        assert instants(q) == [first + minute * 60 * S for minute in range(150, 250)]

    def test_a_year_of_seconds_that_were_missed_costs_no_more_than_a_minute_of_them(self, q: Driver):
        put(q, "* * * * * *", catch_up=CatchUp.ALL)
        q.clock.advance(365 * 86_400)

        assert fire_all(q) == limits.CATCH_UP_INSTANTS_MAX
        assert instants(q)[-1] == q.now

    # --- clocks

    def test_an_instant_does_not_fire_again_when_the_wall_clock_is_put_back(self, q: Driver):
        put(q)
        q.clock.advance(40)
        assert fire_all(q) == 1
        (fired,) = instants(q)

        q.clock.step(-3600)
        assert q.sweep(Fire()) == Swept(0)
        q.clock.advance(3600 - 1)
        assert fire_all(q) == 0
        q.clock.advance(61)

        assert fire_all(q) == 1
        assert instants(q) == [fired, fired + 60 * S]

    def test_a_change_does_not_make_an_instant_fire_again_either(self, q: Driver):
        put(q)
        q.clock.advance(40)
        fire_all(q)
        fired = instants(q)

        q.clock.step(-3600)
        patch(q, cron="*/2 * * * *")
        patch(q, paused=True)
        patch(q, paused=False)

        assert view(q).next_at > fired[0]

    def test_a_step_forward_is_an_outage(self, q: Driver):
        put(q, catch_up=CatchUp.ALL)
        q.clock.step(180)

        assert fire_all(q) == 3

    def test_eddyq_7_105_a_time_of_day_stays_one_across_a_change_of_clocks(self, q: Driver):
        put(q, "0 3 * * *", timezone="Europe/Berlin", catch_up=CatchUp.ALL)
        q.clock.step((1_711_764_000 * S - q.now) / S)  # 2024-03-30 02:00 UTC: clocks go forward the night after
        q.sweep(Fire(limit=1_000))
        before = view(q).next_at

        q.clock.advance(86_400)
        q.sweep(Fire(limit=1_000))

        assert before == 1_711_846_800 * S  # 03:00 in winter was 02:00 UTC; on the 31st it is 01:00 UTC
        assert view(q).next_at == before + 86_400 * S

    # --- changes

    def test_eddyq_7_98_a_second_put_of_the_same_name_replaces_the_first_and_keeps_its_place(self, q: Driver):
        put(q)
        stood = view(q).next_at
        q.clock.advance(100)

        assert not put(q, entry=entry(type="newer"), catch_up=CatchUp.ALL).created
        assert len(q.store.schedules()) == 1
        assert (view(q).next_at, view(q).schedule.entry.type) == (stood, "newer")
        assert fire_all(q) == 2  # what was due meanwhile

    def test_zizq_6_95_another_expression_begins_anew_and_the_last_instant_is_kept(self, q: Driver):
        put(q)
        q.clock.advance(40)
        fire_all(q)
        last = view(q).last_at
        q.clock.advance(100)

        put(q, HOURLY)

        shown = view(q)
        assert (shown.last_at, shown.fired) == (last, 1)
        assert shown.next_at == cron.next_after(HOURLY, "UTC", q.now)
        put(q, HOURLY, timezone="Asia/Kolkata")
        assert view(q).next_at == cron.next_after(HOURLY, "Asia/Kolkata", q.now)

    def test_zizq_6_97_a_paused_schedule_fires_nothing_and_begins_anew_when_it_is_resumed(self, q: Driver):
        put(q)
        patch(q, paused=True)
        assert (view(q).next_at, q.store.due(q.clock).fire_at) == (0, 0)
        q.clock.advance(600)
        assert q.sweep(Fire()) == Swept(0)

        patch(q, paused=False)

        assert view(q).next_at == cron.next_after(MINUTELY, "UTC", q.now)
        assert q.sweep(Fire()) == Swept(0)
        q.clock.advance(60)
        assert fire_all(q) == 1

    def test_a_put_may_leave_a_pause_as_it_is(self, q: Driver):
        q.do(SchedulePut("tick", Schedule(MINUTELY, entry()), keep_paused=True))
        assert not view(q).schedule.paused
        patch(q, paused=True)

        q.do(SchedulePut("tick", Schedule(MINUTELY, entry(type="u")), keep_paused=True))

        assert (view(q).schedule.paused, view(q).schedule.entry.type, view(q).next_at) == (True, "u", 0)
        put(q)
        assert not view(q).schedule.paused

    def test_moab_6_71_a_schedule_that_is_deleted_leaves_its_tasks(self, q: Driver):
        put(q)
        q.clock.advance(40)
        fire_all(q)

        q.do(ScheduleDelete("tick"))

        assert (q.store.schedules(), q.store.schedule("tick"), q.store.due(q.clock).fire_at) == ([], None, 0)
        assert len(q.all_tasks()) == 1
        assert put(q).created

    def test_schedules_are_listed_by_name(self, q: Driver):
        for name in ("b", "a", "c"):
            put(q, name=name)

        assert [found.name for found in q.store.schedules()] == ["a", "b", "c"]

    # --- refusals

    @pytest.mark.parametrize(
        ("fields", "code", "pointer"),
        [
            ({"cron": "not a cron"}, "bad_cron", "/cron"),
            ({"cron": "60 * * * *"}, "bad_cron", "/cron"),
            ({"timezone": "Mars/Phobos"}, "unknown_timezone", "/timezone"),
            ({"timezone": ""}, "unknown_timezone", "/timezone"),
            ({"entry": entry(scheduled_at=2 * 10**18)}, "bad_value", "/task/scheduled_at"),
            ({"entry": entry(delay_ns=S, expires_in_ns=S)}, "expires_too_early", "/task/expires_in_seconds"),
            ({"entry": entry(payload=b'"' + b"x" * 65_536)}, "payload_too_large", "/task/payload"),
            ({"entry": entry(dedupe="k" * 250 + "{instant}")}, "out_of_range", "/task/dedupe_key"),
        ],
    )
    def test_eddyq_7_101_what_cannot_be_a_schedule_is_refused(
        self, q: Driver, fields: dict[str, Any], code: str, pointer: str
    ):
        wrong = Schedule(**{"cron": MINUTELY, "entry": entry(), **fields})
        put(q, name="there")

        for op in (SchedulePut("tick", wrong), SchedulePatch("there", wrong, tuple(fields))):
            refused = q.refusal(op)
            assert (refused.code, refused.problems[0].pointer) == (code, pointer)

    @pytest.mark.parametrize(
        "op", [ScheduleDelete("nobody"), SchedulePatch("nobody", Schedule(MINUTELY, entry()), ("cron",))]
    )
    def test_an_unknown_schedule_is_refused(self, q: Driver, op: ScheduleDelete | SchedulePatch):
        refused = q.refusal(op)

        assert (refused.code, refused.problems[0].pointer) == ("schedule_not_found", "/name")

    def test_the_queue_of_a_schedule_must_exist_where_queues_are_not_created(self, q: Driver):
        op = SchedulePut("tick", Schedule(MINUTELY, entry(queue="mail")), create_queues=False)

        refused = q.refusal(op)

        assert (refused.code, refused.problems[0].pointer) == ("queue_not_found", "/task/queue_name")
        q.put_queue("mail")
        assert q.do(op).created

    def test_a_call_that_is_refused_leaves_no_schedule(self, q: Driver):
        q.refusal(SchedulePut("tick", Schedule(MINUTELY, entry())), ScheduleDelete("nobody"))

        assert q.store.schedules() == []

    def test_there_are_at_most_so_many_schedules(self, q: Driver, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(limits, "SCHEDULES_MAX", 2)
        put(q, name="a")
        put(q, name="b")

        assert q.refusal(SchedulePut("c", Schedule(MINUTELY, entry()))).code == "too_many_schedules"
        assert not put(q, name="b").created

    # --- one and the others

    def test_moab_6_77_one_schedule_that_cannot_be_read_any_more_is_paused_and_harms_no_other(
        self, q: Driver, monkeypatch: pytest.MonkeyPatch
    ):
        for number in range(10):
            put(q, name=f"s{number}", timezone="America/Nuuk" if number == 4 else "UTC")
        q.clock.advance(40)
        zone = cron.zone

        def without_nuuk(name: str) -> Any:
            if name == "America/Nuuk":
                raise cron.UnknownZone("it went with an update")
            return zone(name)

        monkeypatch.setattr(cron, "zone", without_nuuk)

        assert q.sweep(Fire()) == Swept(9)
        shown = view(q, "s4")
        assert (shown.reason, shown.next_at, shown.fired) == ("it went with an update", 0, 0)
        assert q.sweep(Fire()) == Swept(0)
        put(q, name="s4", timezone="America/Godthab")
        assert view(q, "s4").reason == ""
        assert view(q, "s4").next_at > q.now

    def test_what_a_schedule_enqueues_is_never_refused(self, q: Driver):
        held = Dedupe("k", on_duplicate=OnDuplicate.REJECT)
        first = q.add(dedupe=held)
        put(q, entry=entry(dedupe=held))
        q.clock.advance(40)

        assert q.sweep(Fire()) == Swept(1)
        assert [task.id for task in q.all_tasks()] == [first]
        assert q.totals().deduplicated == 1

    def test_a_dedupe_key_may_hold_the_instant(self, q: Driver):
        put(q, entry=entry(dedupe="digest {instant}"), catch_up=CatchUp.ALL)
        q.clock.advance(100)
        fire_all(q)

        keys = [task.options.dedupe.key for task in q.all_tasks() if task.options.dedupe]
        assert keys == ["digest 2023-11-14T22:14:00Z", "digest 2023-11-14T22:15:00Z"]

    def test_what_fires_is_enqueued_as_anybody_would_enqueue_it(self, q: Driver):
        q.put_queue("mail", expires_in_ns=60 * S)
        put(q, entry=entry(queue="mail", metadata=b'{"team":"a"}'))
        q.clock.advance(40)

        assert q.apply_fire() == frozenset({"mail"})
        (task,) = q.all_tasks()
        assert task.expires_at == q.now + 60 * S
        assert msgspec.json.decode(task.options.metadata)["team"] == "a"
        assert q.totals("mail").enqueued == 1
        assert q.take("mail").id == task.id

    def test_run_now_is_an_enqueue_of_the_same_entry(self, q: Driver):
        put(q, entry=entry(payload=b"7"))
        shown = view(q)

        q.do(Enqueue((schedules.entry_of("tick", shown.schedule, 5 * S),)))

        assert (q.all_tasks()[0].payload, instants(q)) == (b"7", [5 * S])
        assert view(q) == shown
