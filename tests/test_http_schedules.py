"""Schedules over HTTP, on both stores; the same table of what is sent and shown for JSON and MessagePack."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from lmdbq.daemon.settings import Settings
from lmdbq.limits import SECOND_NS
from lmdbq.model import Fire
from lmdbq.wire import shapes
from tests.http_tools import Api, api, open_store, serving

__all__ = ["api"]
DAILY = {"cron": "0 3 * * *", "timezone": "Europe/Berlin", "task": {"type": "report", "queue_name": "mail"}}
START = 1_700_000_000 * SECOND_NS  # 2023-11-14 22:13:20 UTC
FIRST = 1_700_013_600 * SECOND_NS  # 2023-11-15 03:00 in Berlin
WHOLE_TASK: dict[str, Any] = {
    "queue_name": "mail",
    "type": "report",
    "payload": {"a": [1, "ü"]},
    "priority": -3,
    "delay_in_seconds": 1.5,
    "expires_in_seconds": 60,
    "keepalive_timeout_in_seconds": 30,
    "retry_strategy": {
        "max_attempts": 3,
        "max_deliveries": 9,
        "backoff": {"kind": "intervals", "intervals_in_seconds": [1, 10]},
    },
    "keep": {"succeeded_in_seconds": 5, "dead_in_seconds": 0, "cancelled_in_seconds": 7},
    "tags": ["x"],
    "metadata": {"m": 1},
    "thread_id": "t",
    "rejoin": True,
    "dedupe_key": "k {instant}",
    "dedupe_scope": "type",
    "dedupe_until": "started",
    "dedupe_ttl_in_seconds": 60,
    "on_duplicate": "overwrite",
    "overwrite_on_duplicate": ["payload"],
    "dedupe_max_wait_in_seconds": 90,
    "fold": "append",
    "fold_max": 7,
    "external_id": "job-7",
    "on_dead": {"queue_name": "alerts", "type": "alert", "tags": ["pager"]},
}
NOT_FOR_SCHEDULES = {"scheduled_at", "expires_at", "payload_base64", "group_key"}  # or not beside the others
NOT_FOR_SCHEDULES |= {"debounce", "throttle", "coalesce", "set_id"}  # shown as what they stand for


async def fire(daemon: Api) -> None:
    await daemon.engine.call(Fire())


async def put(daemon: Api, body: Any = DAILY, name: str = "nightly") -> Any:
    answer = await daemon.call("PUT", f"/v1/schedules/{name}", body)
    assert answer.status in (200, 201), answer.body
    return answer.value


async def test_a_schedule_is_put_shown_and_replaced(api: Api):
    created = await api.call("PUT", "/v1/schedules/nightly", DAILY)
    assert created.status == 201
    assert created.value["next_at"] == FIRST
    assert [one["local"] for one in created.value["upcoming"]] == [
        f"2023-11-{day}T03:00:00+01:00" for day in range(15, 20)
    ]
    assert await api.get("/v1/schedules/nightly") == created.value
    listed = (await api.get("/v1/schedules"))["schedules"]
    assert [(one["name"], one["cron"], one["catch_up"], one["paused"]) for one in listed] == [
        ("nightly", "0 3 * * *", "one", False)
    ]

    replaced = await api.call("PUT", "/v1/schedules/nightly", {**DAILY, "catch_up": "all"})
    assert (replaced.status, replaced.value["catch_up"], replaced.value["next_at"]) == (200, "all", FIRST)


async def test_every_field_of_a_task_is_shown_as_it_was_sent(api: Api):
    """What is answered can be sent again: a field that EntryBody gets must be given back, too."""
    known = {field.encode_name for field in msgspec.structs.fields(shapes.EntryBody)}
    assert known == WHOLE_TASK.keys() | NOT_FOR_SCHEDULES

    shown = await put(api, {"cron": "@daily", "task": WHOLE_TASK})

    assert shown["task"] == WHOLE_TASK
    assert (await put(api, {"cron": "@daily", "task": shown["task"]}))["task"] == WHOLE_TASK


async def test_bytes_and_messagepack(api: Api):
    await put(api, {"cron": "@daily", "task": {"payload_base64": "AAE="}})
    assert (await api.get("/v1/schedules/nightly"))["task"]["payload_base64"] == "AAE="
    packed = await api.call("GET", "/v1/schedules/nightly", headers={"Accept": "application/msgpack"})
    assert msgspec.msgpack.decode(packed.body)["task"]["payload"] == b"\0\1"


async def test_a_due_schedule_enqueues_and_says_so(api: Api):
    await put(api)
    api.clock.advance((FIRST - START) / SECOND_NS)
    await fire(api)

    shown = await api.get("/v1/schedules/nightly")
    assert (shown["last_at"], shown["fired"], shown["next_at"]) == (FIRST, 1, FIRST + 86_400 * SECOND_NS)
    (task,) = (await api.get("/v1/tasks?queue_name=mail"))["tasks"]
    assert (task["type"], task["state"]) == ("report", "ready")
    assert task["metadata"] == {"schedule": {"name": "nightly", "instant_at": FIRST}}


async def test_pause_resume_and_what_comes_next(api: Api):
    await put(api)
    paused = await api.post("/v1/schedules/nightly/pause")
    assert (paused["paused"], paused["next_at"]) == (True, 0)
    assert paused["upcoming"][0]["at"] == FIRST, "as if it were not paused"
    assert (await put(api))["paused"] is True, "a put that does not say leaves it paused"
    resumed = await api.post("/v1/schedules/nightly/resume")
    assert (resumed["paused"], resumed["next_at"]) == (False, FIRST)
    assert (await put(api, {**DAILY, "paused": True}))["paused"] is True

    (await api.call("GET", "/v1/schedules/nightly/next?count=101")).problem(422, "bad_parameter")
    coming = (await api.get("/v1/schedules/nightly/next?count=100"))["upcoming"]
    assert len(coming) == 100
    assert all(after["at"] > before["at"] for before, after in itertools.pairwise(coming))


async def test_notes_say_where_clocks_change(api: Api):
    api.clock.step((1_711_800_000 * SECOND_NS - START) / SECOND_NS)  # 2024-03-30 12:00 UTC
    await put(api, {**DAILY, "cron": "30 2 * * *"})

    coming = (await api.get("/v1/schedules/nightly/next?count=2"))["upcoming"]

    assert coming[0]["local"] == "2024-03-31T03:00:00+02:00"
    assert "02:30:00 does not exist" in coming[0]["note"]
    assert (coming[1]["local"], coming[1]["note"]) == ("2024-04-01T02:30:00+02:00", "")


async def test_a_part_of_a_schedule_is_changed(api: Api):
    await put(api)

    shown = (await api.call("PATCH", "/v1/schedules/nightly", {"cron": "0 4 * * *"})).value
    assert (shown["next_at"], shown["timezone"]) == (FIRST + 3600 * SECOND_NS, "Europe/Berlin")
    shown = (await api.call("PATCH", "/v1/schedules/nightly", {"timezone": None, "catch_up": "none"})).value
    assert (shown["timezone"], shown["catch_up"], shown["task"]["type"]) == ("UTC", "none", "report")
    (await api.call("PATCH", "/v1/schedules/nightly", {})).problem(422, "missing_field")
    (await api.call("PATCH", "/v1/schedules/nightly", {"task": None})).problem(422, "missing_field")


async def test_run_enqueues_now_and_moves_nothing(api: Api):
    stood = await put(api)
    await api.post("/v1/schedules/nightly/pause")

    ran = await api.call("POST", "/v1/schedules/nightly/run")

    assert (ran.status, ran.value["outcome"]["outcome"], ran.value["task"]["type"]) == (201, "enqueued", "report")
    assert (await api.post("/v1/schedules/nightly/resume"))["next_at"] == stood["next_at"]
    await put(api, {**DAILY, "task": {"dedupe_key": "k", "on_duplicate": "reject"}})
    await api.post("/v1/schedules/nightly/run")
    (await api.call("POST", "/v1/schedules/nightly/run")).problem(409, "duplicate")


@pytest.mark.parametrize("verb", ["GET ", "PATCH ", "DELETE ", "POST /run", "POST /pause", "POST /resume", "GET /next"])
async def test_zizq_6_100_a_schedule_that_is_not_there_is_not_found(api: Api, verb: str):
    method, _, path = verb.partition(" ")
    body = {"paused": True} if method == "PATCH" else None

    (await api.call(method, "/v1/schedules/nobody" + path, body)).problem(404, "schedule_not_found")


async def test_a_deleted_schedule_is_gone_and_its_tasks_are_not(api: Api):
    await put(api)
    await api.post("/v1/schedules/nightly/run")

    assert (await api.call("DELETE", "/v1/schedules/nightly")).status == 204
    assert (await api.get("/v1/schedules"))["schedules"] == []
    assert (await api.get("/v1/tasks/count"))["count"] == 1


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"cron": "* * *", "task": {}}, "bad_cron", "/cron"),
        ({"task": {}}, "missing_field", "/cron"),
        ({"cron": "@daily"}, "missing_field", "/task"),
        ({"cron": "@daily", "timezone": "Mars", "task": {}}, "unknown_timezone", "/timezone"),
        ({"cron": "@daily", "task": {"scheduled_at": "2030-01-01T00:00:00Z"}}, "bad_value", "/task/scheduled_at"),
        ({"cron": "@daily", "task": {"queue_name": "a b"}}, "bad_name", "/task/queue_name"),
        ({"cron": "@daily", "task": {"type": "a b"}}, "bad_name", "/task/type"),
        ({"cron": "@daily", "task": {}, "catch_up": "two"}, "bad_value", "/catch_up"),
        ({"cron": "@daily", "task": {}, "crontab": 1}, "unknown_field", "/crontab"),
        ({"cron": "@daily", "task": {"payload": "x" * 70_000}}, "payload_too_large", "/task/payload"),
    ],
)
async def test_zizq_6_96_what_is_wrong_is_named(api: Api, body: Any, code: str, pointer: str):
    problem = (await api.call("PUT", "/v1/schedules/nightly", body)).problem(422, code)

    assert problem["pointer"] == pointer
    assert (await api.get("/v1/schedules"))["schedules"] == []


async def test_all_that_is_wrong_is_named_at_once(api: Api):
    body = {"cron": "bad", "timezone": "Mars", "task": {"type": "a b"}}
    problem = (await api.call("PUT", "/v1/schedules/nightly", body)).problem(422, "bad_name")
    assert {one["pointer"] for one in problem["problems"]} == {"/cron", "/timezone", "/task/type"}


async def test_names_are_those_of_types(api: Api):
    assert (await api.call("PUT", "/v1/schedules/cron:mail%2Fsend", DAILY)).value["name"] == "cron:mail/send"
    assert (await api.get("/v1/schedules/cron:mail%2Fsend"))["name"] == "cron:mail/send"
    (await api.call("PUT", "/v1/schedules/a%20b", DAILY)).problem(422, "bad_name")


async def test_strict_queues_hold_for_schedules_too(tmp_path: Path):
    async with serving(open_store("lmdb", tmp_path), Settings(strict_queues=True)) as daemon:
        refused = (await daemon.call("PUT", "/v1/schedules/nightly", DAILY)).problem(404, "queue_not_found")
        assert refused["pointer"] == "/task/queue_name"
        await daemon.call("PUT", "/v1/queues/mail", {})
        assert (await daemon.call("PUT", "/v1/schedules/nightly", DAILY)).status == 201


async def test_what_is_answered_is_json_that_can_be_put(api: Api):
    shown = await put(api, {**DAILY, "catch_up": "none", "paused": True})
    again = {name: shown[name] for name in ("cron", "timezone", "catch_up", "paused", "task")}
    assert await put(api, json.loads(json.dumps(again))) == shown
