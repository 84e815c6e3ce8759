"""Tasks and queues as people see and change them over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from lmdbq.engine import finished
from lmdbq.model import Call, Completion, Done, Outcome, Report, ReportDone, Reported, State, Status
from tests.http_tools import Api, api  # noqa: F401

UNKNOWN = "tsk_zzzzzzzzzzz"[:15]
NEVER = "tsk_LygHa16AHYF"  # the largest id there is


async def one(api: Api, **entry: Any) -> str:  # noqa: F811
    return str((await api.enqueue(entry))["tasks"][0]["id"])


async def running(api: Api, **entry: Any) -> tuple[str, str]:  # noqa: F811
    task = await one(api, **entry)
    return task, (await api.dequeue())["tasks"][0]["lease"]


# --- one task ---------------------------------------------------------------------------------------------------------


async def test_a_task_says_why_it_is_not_running(api: Api):  # noqa: F811
    task = await one(api, delay_in_seconds=60, type="mail")
    scheduled = await api.get(f"/v1/tasks/{task}")
    assert scheduled["waiting_for"]["reason"] == "scheduled"
    assert scheduled["waiting_for"]["until"] == scheduled["due_at"]
    ready = await one(api, type="mail")
    assert (await api.get(f"/v1/tasks/{ready}"))["waiting_for"]["reason"] == "no_consumer"
    await api.post("/v1/dequeue", {"queue_names": ["q"], "types": ["other"]})
    assert (await api.get(f"/v1/tasks/{ready}"))["waiting_for"]["reason"] == "no_consumer"
    await api.call("PATCH", "/v1/queues/q", {"max_running": 1})
    lease = (await api.dequeue())["tasks"][0]["lease"]
    assert "waiting_for" not in await api.get(f"/v1/tasks/{ready}")
    second = await one(api, type="mail")
    assert (await api.get(f"/v1/tasks/{second}"))["waiting_for"]["reason"] == "max_running"
    await api.report(lease, "failed", delay_in_seconds=5)
    assert (await api.get(f"/v1/tasks/{ready}"))["waiting_for"]["reason"] == "retry"
    assert (await api.get(f"/v1/tasks/{second}"))["waiting_for"]["reason"] == "ready"
    await api.post("/v1/queues/q/pause")
    assert (await api.get(f"/v1/tasks/{second}"))["waiting_for"]["reason"] == "paused"


async def test_unknown_and_gone_tasks(api: Api):  # noqa: F811
    task = await one(api)
    assert (await api.call("DELETE", f"/v1/tasks/{task}")).status == 204
    for method, path, body in [
        ("GET", "", None),
        ("PATCH", "", {"priority": 1}),
        ("DELETE", "", None),
        ("POST", "/cancel", {}),
        ("POST", "/retry", {}),
    ]:
        (await api.call(method, f"/v1/tasks/{task}{path}", body)).problem(410, "gone")
        (await api.call(method, f"/v1/tasks/{NEVER}{path}", body)).problem(404, "not_found")
        (await api.call(method, f"/v1/tasks/nonsense{path}", body)).problem(404, "not_found")


@pytest.mark.parametrize(
    ("how", "present", "absent"),
    [
        ("full", {"payload"}, {"payload_head", "payload_bytes"}),
        ("head", {"payload_head", "payload_bytes"}, {"payload"}),
        ("none", {"payload_bytes"}, {"payload", "payload_head"}),
    ],
)
async def test_as_much_payload_as_is_asked_for(api: Api, how: str, present: set[str], absent: set[str]):  # noqa: F811
    task = await one(api, payload="x" * 1000)
    shown = await api.get(f"/v1/tasks/{task}?payload={how}")
    assert present <= shown.keys()
    assert not absent & shown.keys()
    if how == "head":
        assert shown["payload_head"] == '"' + "x" * 255
        assert shown["payload_bytes"] == 1002


async def test_waiting_for_the_end_of_a_task(api: Api):  # noqa: F811
    task, lease = await running(api)
    waiting = asyncio.ensure_future(api.get(f"/v1/tasks/{task}?wait_in_seconds=60"))
    while not _watched(api):
        await asyncio.sleep(0)
    await api.report(lease, result=[1])
    ended = await waiting
    assert (ended["state"], ended["result"]) == ("succeeded", [1])
    assert not _watched(api)


def _watched(api: Api) -> bool:  # noqa: F811
    from lmdbq.daemon.context import DAEMON

    return bool(api.app[DAEMON].endings._waiting)


async def test_waiting_for_an_end_that_is_not_kept_says_gone(api: Api):  # noqa: F811
    task, _ = await running(api)
    waiting = asyncio.ensure_future(api.call("GET", f"/v1/tasks/{task}?wait_in_seconds=60"))
    while not _watched(api):
        await asyncio.sleep(0)
    await api.call("DELETE", f"/v1/tasks/{task}")
    (await waiting).problem(410, "gone")


async def test_who_waits_for_one_that_succeeds_and_is_not_kept_is_told(api: Api):  # noqa: F811
    task, lease = await running(api)
    waiting = asyncio.ensure_future(api.call("GET", f"/v1/tasks/{task}?wait_in_seconds=60"))
    while not _watched(api):
        await asyncio.sleep(0)
    await api.report(lease)
    (await waiting).problem(410, "succeeded_not_kept")
    (await api.call("GET", f"/v1/tasks/{task}?wait_in_seconds=1")).problem(410, "succeeded_not_kept")
    (await api.call("GET", f"/v1/tasks/{task}")).problem(410, "gone")


async def test_a_report_that_waits_for_tasks_is_known_at_once(api: Api):  # noqa: F811
    task, lease = await running(api)
    waiting = asyncio.ensure_future(api.call("GET", f"/v1/tasks/{task}?wait_in_seconds=60"))
    while not _watched(api):
        await asyncio.sleep(0)
    more = {"queue_names": ["q"], "wait_in_seconds": 60}
    said = {"reports": [{"lease": lease, "status": "succeeded"}], "dequeue": more}
    parked = asyncio.ensure_future(api.call("POST", "/v1/report", said))
    (await waiting).problem(410, "succeeded_not_kept")
    assert not parked.done()
    await api.enqueue({})
    assert len((await parked).value["tasks"]) == 1


async def test_the_last_successes_are_remembered(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(finished, "REMEMBERED_MAX", 2)
    known = finished.Finished()
    for number in range(6):
        completion = Completion(number, 1, Status.SUCCEEDED if number != 1 else Status.FAILED)
        known.note([Call((Report((completion,)),))], [Done((ReportDone([Reported(Outcome.OK)]),))])
        assert (number in known) == (number != 1)
    assert [number in known for number in range(6)] == [False, False, False, True, True, True]
    kept, gone = Reported(Outcome.OK, State.SUCCEEDED), Reported(Outcome.NOT_FOUND)
    said = Report((Completion(8, 1, Status.SUCCEEDED), Completion(9, 1, Status.SUCCEEDED)))
    known.note([Call((said,))], [Done((ReportDone([kept, gone]),))])
    assert (8 in known, 9 in known) == (False, False)


async def test_waiting_ends_with_its_time(api: Api):  # noqa: F811
    task = await one(api)
    assert (await api.get(f"/v1/tasks/{task}?wait_in_seconds=0.01"))["state"] == "ready"


async def test_a_waiting_task_can_be_edited(api: Api):  # noqa: F811
    task = await one(api, payload=1, tags=["a"], metadata={"m": 1})
    body = {"payload": {"new": True}, "priority": -3, "delay_in_seconds": 30, "tags": ["b"], "metadata": None}
    edited = await api.call("PATCH", f"/v1/tasks/{task}", body)
    assert edited.status == 200
    value = edited.value
    assert (value["payload"], value["priority"], value["tags"], value["metadata"]) == ({"new": True}, -3, ["b"], {})
    assert (value["state"], value["due_at"]) == ("scheduled", api.clock.wall_ns() + 30 * 10**9)
    assert (await api.call("PATCH", f"/v1/tasks/{task}", {"scheduled_at": 0})).value["state"] == "ready"
    early = await api.call("PATCH", f"/v1/tasks/{task}", {"expires_at": "2000-01-01T00:00:00Z"})
    early.problem(422, "expires_too_early")
    await api.dequeue()
    (await api.call("PATCH", f"/v1/tasks/{task}", {"priority": 1})).problem(409, "conflict")


async def test_cancel_and_retry(api: Api):  # noqa: F811
    task = await one(api)
    assert await api.post(f"/v1/tasks/{task}/cancel") == {"id": task, "outcome": "ok", "state": "cancelled"}
    (await api.call("POST", f"/v1/tasks/{task}/cancel")).problem(409, "conflict")
    assert await api.post(f"/v1/tasks/{task}/retry") == {"id": task, "outcome": "ok", "state": "ready"}
    (await api.call("POST", f"/v1/tasks/{task}/retry")).problem(409, "conflict")
    lease = (await api.dequeue())["tasks"][0]["lease"]
    asked = await api.post(f"/v1/tasks/{task}/cancel")
    assert (asked["outcome"], asked["state"]) == ("cancel_requested", "running")
    told = await api.post("/v1/extend", {"leases": [{"lease": lease}]})
    assert told["outcomes"][0]["cancel_requested"] is True
    await api.report(lease, "released")
    assert (await api.get(f"/v1/tasks/{task}"))["state"] == "cancelled"


async def test_retry_meets_a_taken_key_and_a_passed_expiry(api: Api):  # noqa: F811
    task = await one(api, dedupe_key="k")
    await api.post(f"/v1/tasks/{task}/cancel")
    await one(api, dedupe_key="k")
    (await api.call("POST", f"/v1/tasks/{task}/retry")).problem(409, "dedupe_conflict")
    other = await one(api, expires_in_seconds=5)
    await api.post(f"/v1/tasks/{other}/cancel")
    api.clock.advance(6)
    (await api.call("POST", f"/v1/tasks/{other}/retry")).problem(409, "expired")


# --- many tasks -------------------------------------------------------------------------------------------------------


async def test_lists_filter_and_page(api: Api):  # noqa: F811
    await api.enqueue(
        *({"type": f"t{n % 2}", "tags": ["odd"] if n % 2 else [], "dedupe_key": f"k{n}"} for n in range(7))
    )
    await api.enqueue({"delay_in_seconds": 5}, queue="other")
    ids = [task["id"] for task in (await api.get("/v1/tasks"))["tasks"]]
    assert len(ids) == 8
    seen: list[str] = []
    path = "/v1/tasks?limit=3"
    while path:
        page = await api.get(path)
        seen += [task["id"] for task in page["tasks"]]
        path = f"/v1/tasks?limit=3&cursor={page['next']}" if "next" in page else ""
    assert seen == ids
    for query, count in [
        ("queue_name=q", 7),
        ("queue_name=q&type=t1", 3),
        ("tag=odd", 3),
        ("dedupe_key=k2", 1),
        ("state=scheduled", 1),
        ("state=scheduled,ready", 8),
        ("state=scheduled&state=ready&queue_name=q", 7),
        ("state=dead", 0),
    ]:
        assert len((await api.get(f"/v1/tasks?{query}"))["tasks"]) == count, query
        assert await api.get(f"/v1/tasks/count?{query}") == {"count": count}, query


async def test_a_page_of_large_payloads_is_bounded(api: Api):  # noqa: F811
    for _ in range(3):
        await api.enqueue(*({"payload": "x" * 1_000_000} for _ in range(4)), return_tasks=False)
    seen = 0
    path = "/v1/tasks"
    while path:
        answer = await api.call("GET", path)
        assert len(answer.body) < 9 * 1024 * 1024
        seen += len(answer.value["tasks"])
        path = f"/v1/tasks?cursor={answer.value['next']}" if "next" in answer.value else ""
    assert seen == 12
    assert len((await api.get("/v1/tasks?payload=none"))["tasks"]) == 12


@pytest.mark.parametrize(
    "query",
    [
        "states=ready",
        "state=asleep",
        "limit=0",
        "limit=1001",
        "limit=x",
        "limit=nan",
        "limit=1_0",
        "limit=1&limit=2",
        "queue_name=a&queue_name=b",
        "cursor=x",
        "payload=some",
        "queue_name=a%20b",
        "tag=",
        "dedupe_key=" + "k" * 257,
    ],
)
async def test_wrong_parameters_do_not_widen_a_list(api: Api, query: str):  # noqa: F811
    answer = await api.call("GET", f"/v1/tasks?{query}")
    assert answer.status == 422
    assert answer.value["code"] in ("bad_parameter", "bad_cursor", "bad_name")


async def test_actions_on_all_that_match(api: Api):  # noqa: F811
    await api.enqueue(*({"type": f"t{n % 2}"} for n in range(10)))
    body = {"action": "cancel", "filter": {"queue_name": "q", "type": "t1"}, "limit": 3}
    dry = await api.post("/v1/tasks/actions", {**body, "dry_run": True})
    assert (dry["matched"], dry["changed"]) == (3, 3)
    assert api.counts() == {"ready": 10}
    first = await api.post("/v1/tasks/actions", body)
    assert (first["matched"], first["changed"]) == (3, 3)
    second = await api.post("/v1/tasks/actions", {**body, "cursor": first["next"]})
    assert (second["matched"], second["changed"]) == (2, 2)
    assert api.counts() == {"ready": 5, "cancelled": 5}
    retried = await api.post("/v1/tasks/actions", {"action": "retry", "filter": {"state": "cancelled"}})
    assert retried["changed"] == 5
    deleted = await api.post("/v1/tasks/actions", {"action": "delete", "all": True})
    assert deleted["changed"] == 10
    assert api.counts() == {}
    assert (await api.post("/v1/tasks/actions", {"action": "delete", "all": True}))["matched"] == 0


async def test_an_action_with_a_key_is_done_once(api: Api):  # noqa: F811
    await api.enqueue({}, {})
    key = {"Idempotency-Key": "once"}
    body = {"action": "cancel", "filter": {"state": "ready"}}
    first = await api.call("POST", "/v1/tasks/actions", body, headers=key)
    await api.enqueue({})
    again = await api.call("POST", "/v1/tasks/actions", body, headers=key)
    assert again.value["outcomes"] == first.value["outcomes"]
    assert api.counts() == {"cancelled": 2, "ready": 1}


# --- queues -----------------------------------------------------------------------------------------------------------


async def test_a_queue_from_creation_to_deletion(api: Api):  # noqa: F811
    settings = {"max_running": 3, "retry_strategy": {"max_attempts": 2}, "keep": {"dead_in_seconds": 60}}
    created = await api.call("PUT", "/v1/queues/q", settings)
    assert (created.status, created.value["settings"]) == (201, {**settings, "paused": False})
    replaced = await api.call("PUT", "/v1/queues/q", {"max_running": 4})
    assert (replaced.status, replaced.value["settings"]) == (200, {"paused": False, "max_running": 4})
    patched = await api.call("PATCH", "/v1/queues/q", {"keepalive_timeout_in_seconds": 5, "max_running": None})
    assert patched.value["settings"] == {"paused": False, "keepalive_timeout_in_seconds": 5}
    await api.enqueue({}, {})
    assert (await api.dequeue())["tasks"][0]["keepalive_timeout_in_seconds"] == 5
    paused = await api.post("/v1/queues/q/pause")
    assert (paused["settings"]["paused"], paused["blocked_by"]) == (True, "paused")
    assert paused["counts"] == {"scheduled": 0, "ready": 1, "running": 1, "succeeded": 0, "dead": 0, "cancelled": 0}
    assert (await api.post("/v1/queues/q/resume"))["blocked_by"] == ""
    assert await api.post("/v1/queues/q/purge") == {"queue_name": "q", "tasks": 2}
    assert (await api.get("/v1/queues/q"))["totals"]["enqueued"] == 2
    assert [queue["name"] for queue in (await api.get("/v1/queues"))["queues"]] == ["q"]
    assert (await api.call("DELETE", "/v1/queues/q")).status == 204
    (await api.call("GET", "/v1/queues/q")).problem(404, "queue_not_found")


async def test_a_queue_says_what_nobody_asks_for_and_how_long_it_waits(api: Api):  # noqa: F811
    await api.enqueue({"type": "a"}, {"type": "b"})
    api.clock.advance(2.5)
    queue = await api.get("/v1/queues/q")
    assert queue["unconsumed_types"] == ["a", "b"]
    assert queue["oldest_ready_seconds"] == 2.5
    await api.post("/v1/dequeue", {"queue_names": ["q"], "types": ["a"], "limit": 5})
    assert (await api.get("/v1/queues/q"))["unconsumed_types"] == ["b"]


@pytest.mark.parametrize("verb", ["pause", "resume", "purge"])
async def test_verbs_on_an_unknown_queue(api: Api, verb: str):  # noqa: F811
    (await api.call("POST", f"/v1/queues/none/{verb}")).problem(404, "queue_not_found")


async def test_unknown_and_badly_named_queues(api: Api):  # noqa: F811
    (await api.call("PATCH", "/v1/queues/none", {"paused": True})).problem(404, "queue_not_found")
    (await api.call("DELETE", "/v1/queues/none")).problem(404, "queue_not_found")
    (await api.call("PUT", "/v1/queues/a%20b", {})).problem(422, "bad_name")
    (await api.call("PUT", "/v1/queues/a", {"max_runing": 1})).problem(422, "unknown_field")
    assert (await api.call("PUT", "/v1/queues/a")).status == 201
