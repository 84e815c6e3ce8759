"""Groups, their rules and threads over HTTP, on both stores."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http_tools import Api, api

__all__ = ["api"]


async def test_a_group_is_put_shown_patched_and_deleted(api: Api):
    said = {"max_running": 2, "rate": {"tokens": 5, "period_in_seconds": 60, "burst": 9}, "weight": 3}
    created = await api.call("PUT", "/v1/groups/shop:7", said)
    assert (created.status, created.value["settings"], created.value["limits"]) == (201, said, said)
    assert (created.value["tokens"], created.value["blocked_by"], created.value["rule"]) == (9, "", "")
    assert (await api.call("PUT", "/v1/groups/shop:7", said)).status == 200
    patched = await api.call("PATCH", "/v1/groups/shop:7", {"rate": None, "paused": True})
    assert patched.value["settings"] == {"paused": True, "max_running": 2, "weight": 3}
    assert (patched.value["tokens"], patched.value["blocked_by"]) == (None, "paused")
    assert (await api.call("POST", "/v1/groups/shop:7/resume")).value["blocked_by"] == ""
    assert (await api.call("DELETE", "/v1/groups/shop:7")).status == 204
    (await api.call("GET", "/v1/groups/shop:7")).problem(404, "group_not_found")
    (await api.call("DELETE", "/v1/groups/shop:7")).problem(404, "group_not_found")


async def test_a_cap_holds_for_dequeues_and_says_so(api: Api):
    await api.call("PUT", "/v1/groups/acme", {"max_running": 1})
    await api.enqueue({"group_key": "acme"}, {"group_key": "acme"})
    (task,) = (await api.dequeue(limit=9))["tasks"]
    assert task["group_key"] == "acme"
    assert (await api.dequeue())["reason"] == "max_running"
    (waiting,) = (await api.get("/v1/tasks?group_key=acme&state=ready"))["tasks"]
    assert waiting["waiting_for"]["reason"] == "group"
    assert waiting["waiting_for"]["detail"] == "it waits for its group 'acme', which runs as many as it may (1)"
    (shown,) = (await api.get("/v1/groups"))["groups"]
    assert (shown["ready"], shown["running"], shown["blocked_by"]) == (1, 1, "max_running")


async def test_a_parked_dequeue_is_woken_by_the_next_token(api: Api):
    await api.call("PUT", "/v1/groups/acme", {"rate": {"tokens": 1, "period_in_seconds": 0.2}})
    await api.enqueue({"group_key": "acme"}, {"group_key": "acme"})
    assert len((await api.dequeue(limit=9))["tasks"]) == 1
    if hasattr(api.engine.clock, "advance"):
        assert (await api.dequeue())["retry_in_seconds"] == 0.2
        api.engine.clock.advance(0.2)
    assert len((await api.dequeue(wait_in_seconds=20))["tasks"]) == 1


async def test_rules_are_put_listed_and_deleted(api: Api):
    made = await api.call("PUT", "/v1/group-rules/shop%3A%2A", {"max_running": 2, "priority": 7})
    assert (made.status, made.value) == (201, {"pattern": "shop:*", "settings": {"max_running": 2}, "priority": 7})
    assert (await api.call("PUT", "/v1/group-rules/shop%3A%2A", {"max_running": 3})).status == 200
    await api.enqueue({"group_key": "shop:1"})
    shown = await api.get("/v1/groups/shop:1")
    assert (shown["settings"], shown["rule"], shown["limits"]) == (None, "shop:*", {"max_running": 3})
    assert [one["pattern"] for one in (await api.get("/v1/group-rules"))["rules"]] == ["shop:*"]
    assert (await api.call("DELETE", "/v1/group-rules/shop%3A%2A")).status == 204
    (await api.call("DELETE", "/v1/group-rules/shop%3A%2A")).problem(404, "rule_not_found")


async def test_threads_of_a_queue(api: Api):
    await api.enqueue({"thread_id": "a"}, {"thread_id": "a"}, {"thread_id": "b"})
    (first, other) = (await api.dequeue(limit=9))["tasks"]
    assert (first["thread_id"], other["thread_id"]) == ("a", "b")
    page = await api.get("/v1/queues/q/threads?limit=1")
    assert page["next"] == "a"
    assert page["threads"] == [
        {"thread_id": "a", "queue_name": "q", "ready": 1, "holder": first["id"], "state": "running", "head": None}
    ]
    assert [one["thread_id"] for one in (await api.get("/v1/queues/q/threads?cursor=a"))["threads"]] == ["b"]
    (await api.call("GET", "/v1/queues/nobody/threads")).problem(404, "queue_not_found")
    assert (await api.dequeue())["reason"] == "thread"


@pytest.mark.parametrize(
    ("entry", "code", "pointer"),
    [
        ({"thread_id": "x", "group_key": "y"}, "both_given", "/entries/0/group_key"),
        ({"rejoin": True}, "missing_field", "/entries/0/thread_id"),
        ({"thread_id": "a\nb"}, "bad_value", "/entries/0/thread_id"),
        ({"group_key": "\u00e4" * 65}, "out_of_range", "/entries/0/group_key"),
    ],
)
async def test_moab_3_2_24_wrong_names_of_lanes_are_refused(api: Api, entry: Any, code: str, pointer: str):
    problem = (await api.call("POST", "/v1/enqueue", {"entries": [entry]})).problem(422, code)
    assert [one["pointer"] for one in problem["problems"]] == [pointer]


@pytest.mark.parametrize(
    "body",
    [
        {"rate": {"tokens": 0, "period_in_seconds": 1}},
        {"rate": {"tokens": 1, "period_in_seconds": 0}},
        {"rate": {"tokens": 1, "period_in_seconds": 90_000}},
        {"rate": {"tokens": 10_000_000_000, "period_in_seconds": 1}},
        {"max_running": -1},
        {"weight": 0},
        {"cap": 3},
    ],
)
async def test_eddyq_7_89_wrong_settings_are_refused(api: Api, body: Any):
    answer = await api.call("PUT", "/v1/groups/acme", body)
    assert answer.status == 422
    assert (await api.get("/v1/groups"))["groups"] == []
