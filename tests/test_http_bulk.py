"""Dead letters and changes by filter, over HTTP: what follows a death, retries elsewhere, edits of all that match."""

from __future__ import annotations

from typing import Any

import pytest

from lmdbq.model import Refused
from tests.http_tools import Api, api  # noqa: F401

ALERT = {"queue_name": "alerts", "type": "alert", "tags": ["pager"], "retry_strategy": {"max_attempts": 2}}


async def die(api: Api, **entry: Any) -> str:  # noqa: F811
    task = (await api.enqueue({"queue_name": "q", **entry}))["tasks"][0]["id"]
    lease = (await api.dequeue())["tasks"][0]["lease"]
    await api.report(lease, "failed", retry=False, error={"message": "boom", "type": "Bad"})
    return str(task)


async def ids(api: Api, query: str) -> list[str]:  # noqa: F811
    return [task["id"] for task in (await api.get(f"/v1/tasks?{query}"))["tasks"]]


async def test_on_dead_is_shown_as_it_was_said_and_tells_what_died(api: Api):  # noqa: F811
    task = await die(api, payload={"to": "Ada"}, on_dead=ALERT)
    assert (await api.get(f"/v1/tasks/{task}"))["on_dead"] == ALERT
    (alert,) = (await api.get("/v1/tasks?queue_name=alerts"))["tasks"]
    assert (alert["type"], alert["tags"]) == ("alert", ["pager"])
    assert alert["payload"]["task_id"] == task
    assert (alert["payload"]["reason"], alert["payload"]["payload"]) == ("no_retry", {"to": "Ada"})
    assert alert["payload"]["errors"][0]["message"] == "boom"


async def test_a_queue_has_an_on_dead_of_its_own(api: Api):  # noqa: F811
    said = {"type": "alert", "payload": {"n": 1}, "dedupe_key": "storm", "dedupe_until": "finished"}
    queue = await api.call("PUT", "/v1/queues/q", {"on_dead": said})
    assert queue.value["settings"]["on_dead"] == said
    assert (await api.call("PATCH", "/v1/queues/q", {"on_dead": None})).value["settings"].get("on_dead") is None
    await api.call("PATCH", "/v1/queues/q", {"on_dead": said})
    await die(api)
    assert [task["payload"] for task in (await api.get("/v1/tasks?queue_name=q&type=alert"))["tasks"]] == [{"n": 1}]


@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({"scheduled_at": 1_800_000_000_000_000_000}, "not_in_template", "/on_dead/scheduled_at"),
        ({"on_dead": {}}, "not_in_template", "/on_dead/on_dead"),
        ({"delay_in_seconds": 5, "expires_in_seconds": 5}, "expires_too_early", "/on_dead/expires_in_seconds"),
        ({"queue_name": "a b"}, "bad_name", "/on_dead/queue_name"),
    ],
)
async def test_a_template_that_could_not_be_enqueued_later_is_refused_now(
    api: Api,  # noqa: F811
    said: dict[str, Any],
    code: str,
    pointer: str,
):
    refused = (await api.call("POST", "/v1/tasks", {"on_dead": said})).value
    assert (code, pointer) in [(one["code"], one["pointer"]) for one in refused["problems"]]


async def test_a_dead_task_is_retried_in_another_queue(api: Api):  # noqa: F811
    task = await die(api)
    refused = (await api.call("POST", f"/v1/tasks/{task}/retry", {"queue_name": "slow"})).problem(
        404, "queue_not_found"
    )
    assert "slow" in refused["detail"]
    await api.call("PUT", "/v1/queues/slow", {})
    assert (await api.post(f"/v1/tasks/{task}/retry", {"queue_name": "slow"}))["state"] == "ready"
    assert await ids(api, "queue_name=slow") == [task]


async def test_some_or_all_dead_tasks_are_retried_elsewhere_with_a_dry_run(api: Api):  # noqa: F811
    await api.call("PUT", "/v1/queues/slow", {})
    one, other = await die(api, type="a"), await die(api, type="b")
    body = {"action": "retry", "filter": {"type": "a"}, "queue_name": "slow"}
    dry = await api.post("/v1/tasks/actions", {**body, "dry_run": True})
    assert (dry["matched"], dry["changed"], await ids(api, "queue_name=slow")) == (1, 1, [])
    assert (await api.post("/v1/tasks/actions", body))["changed"] == 1
    assert await ids(api, "queue_name=slow&state=ready") == [one]
    assert (await api.post("/v1/tasks/actions", {"action": "retry", "all": True}))["changed"] == 1
    assert await ids(api, "queue_name=q&state=ready") == [other]


async def test_an_action_looks_only_at_what_it_can_change(api: Api):  # noqa: F811
    dead = await die(api)
    await api.enqueue({"queue_name": "q"})
    retried = await api.post("/v1/tasks/actions", {"action": "retry", "filter": {"queue_name": "q"}, "dry_run": True})
    assert [one["id"] for one in retried["outcomes"]] == [dead]
    named = {"action": "cancel", "filter": {"state": "dead"}}
    conflicts = await api.post("/v1/tasks/actions", named)
    assert [one["outcome"] for one in conflicts["outcomes"]] == ["conflict"]
    assert (await api.post("/v1/tasks/actions", {**named, "dry_run": True}))["changed"] == 0


async def test_all_that_match_are_edited(api: Api):  # noqa: F811
    await api.enqueue(*({"queue_name": "q", "type": f"t{n % 2}", "payload": n} for n in range(6)))
    body = {"action": "edit", "filter": {"type": "t1"}, "fields": {"priority": -5, "tags": ["x"]}, "limit": 2}
    first = await api.post("/v1/tasks/actions", body)
    assert (first["matched"], first["changed"]) == (2, 2)
    await api.post("/v1/tasks/actions", {**body, "cursor": first["next"]})
    tasks = (await api.get("/v1/tasks?tag=x&priority_max=-5"))["tasks"]
    assert [task["payload"] for task in tasks] == [1, 3, 5]


async def test_a_page_that_is_asked_for_again_with_its_key_leaves_out_nothing_behind_it(api: Api):  # noqa: F811
    """A client that lost the answer goes on where the page ended, though that finds other tasks by now."""
    await api.enqueue(*({"queue_name": "q"} for _ in range(7)))
    body = {"action": "delete", "filter": {"queue_name": "q"}, "limit": 3}
    key = {"Idempotency-Key": "first page"}
    first = (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value
    again = (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value
    assert again["outcomes"] == first["outcomes"]
    while "next" in again:
        again = await api.post("/v1/tasks/actions", {**body, "cursor": again["next"]})
    assert api.counts() == {}


async def test_an_empty_page_that_is_asked_for_again_with_its_key_names_what_came_since(api: Api):  # noqa: F811
    body = {"action": "delete", "all": True}
    key = {"Idempotency-Key": "nothing yet"}
    assert "next" not in (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value
    await api.enqueue({"queue_name": "q"})
    again = (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value
    assert (again["matched"], api.counts()) == (0, {"ready": 1})
    assert (await api.post("/v1/tasks/actions", {**body, "cursor": again["next"]}))["changed"] == 1


async def test_an_action_that_is_refused_answers_what_is_described(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    await die(api)
    nowhere = {"action": "retry", "all": True, "queue_name": "none"}
    (await api.call("POST", "/v1/tasks/actions", nowhere)).problem(404, "queue_not_found")

    async def full(*_: Any, **more: Any) -> Refused:
        return Refused("full", ())

    task = (await api.enqueue({"queue_name": "q"}))["tasks"][0]["id"]
    monkeypatch.setattr(api.engine, "call", full)
    edit = {"action": "edit", "all": True, "fields": {"priority": 1}}
    (await api.call("POST", "/v1/tasks/actions", edit)).problem(507, "full")
    (await api.call("PATCH", f"/v1/tasks/{task}", {"priority": 1})).problem(507, "full")


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"action": "edit"}, "missing_field", "/fields"),
        ({"action": "delete", "fields": {"priority": 1}}, "missing_field", "/fields"),
        ({"action": "edit", "fields": {}}, "missing_field", "/fields"),
        ({"action": "edit", "fields": {"delay_in_seconds": -1}}, "out_of_range", "/fields/delay_in_seconds"),
        ({"action": "cancel", "queue_name": "slow"}, "not_allowed", "/queue_name"),
        ({"action": "cancel", "filter": {"created_from": 5}}, "instant_unit", "/filter/created_from"),
    ],
)
async def test_wrong_actions(api: Api, body: dict[str, Any], code: str, pointer: str):  # noqa: F811
    refused = (await api.call("POST", "/v1/tasks/actions", {"all": True, **body})).value
    assert (code, pointer) in [(one["code"], one["pointer"]) for one in refused["problems"]]


async def test_filters_by_range_time_and_reason(api: Api):  # noqa: F811
    dead = await die(api)
    ended = (await api.get(f"/v1/tasks/{dead}"))["ended_at"]
    api.clock.advance(60)
    late = (await api.enqueue({"queue_name": "q", "priority": 7, "delay_in_seconds": 5}))["tasks"][0]
    assert await ids(api, "reason=no_retry") == [dead]
    assert await ids(api, "attempts_min=1") == [dead]
    assert await ids(api, "attempts_max=0&priority_min=7&priority_max=7") == [late["id"]]
    assert await ids(api, f"ended_from={ended}&ended_before={ended + 1000}") == [dead]
    assert await ids(api, f"ended_from={ended + 1000}") == []
    assert await ids(api, f"created_from={late['created_at']}") == [late["id"]]
    assert await ids(api, f"created_before={late['created_at']}") == [dead]
    assert await ids(api, f"scheduled_from={late['scheduled_at']}") == [late["id"]]
    assert await ids(api, "created_from=2020-01-01T00:00:00Z&scheduled_before=2100-01-01T00:00:00%2B00:00") == [
        dead,
        late["id"],
    ]
    assert (await api.get("/v1/tasks/count?reason=no_retry&queue_name=q"))["count"] == 1


async def test_a_task_is_found_by_its_external_id(api: Api):  # noqa: F811
    first = (await api.enqueue({"queue_name": "q", "external_id": "job/7 ü"}))["outcomes"][0]
    again = (await api.enqueue({"queue_name": "q", "external_id": "job/7 ü"}))["outcomes"][0]
    assert (again["id"], again["outcome"], again["reason"]) == (first["id"], "skipped", "external_id")
    assert (await api.get("/v1/tasks/by-external-id/job%2F7%20%C3%BC"))["id"] == first["id"]
    assert await ids(api, "external_id=job%2F7%20%C3%BC") == [first["id"]]
    (await api.call("GET", "/v1/tasks/by-external-id/none")).problem(404, "not_found")
