"""Debounce, throttle, coalesce and fold over HTTP: once for many calls."""

from __future__ import annotations

from typing import Any

import pytest

from tests.http_tools import Api, api  # noqa: F401


async def send(api: Api, **entry: Any) -> dict[str, Any]:  # noqa: F811
    outcome: dict[str, Any] = (await api.enqueue({"queue_name": "q", **entry}))["outcomes"][0]
    return outcome


async def payloads(api: Api) -> list[Any]:  # noqa: F811
    return [task["payload"] for task in (await api.get("/v1/tasks"))["tasks"]]


async def test_a_debounced_task_starts_a_while_after_the_last_call(api: Api):  # noqa: F811
    rule = {"key": "k", "wait_in_seconds": 2, "max_wait_in_seconds": 3}
    first = await send(api, payload=1, debounce=rule)
    assert first["state"] == "scheduled"
    created = (await api.get(f"/v1/tasks/{first['id']}"))["created_at"]
    for payload in (2, 3):
        api.clock.advance(1)
        assert (await send(api, payload=payload, debounce=rule))["outcome"] == "overwritten"
    task = await api.get(f"/v1/tasks/{first['id']}")
    assert (task["payload"], task["due_at"], task["dedupe_key"]) == (3, created + 3_000_000_000, "k")


async def test_a_throttled_call_is_skipped_until_the_period_is_over(api: Api):  # noqa: F811
    rule = {"key": "k", "period_in_seconds": 60}
    assert (await send(api, throttle=rule))["outcome"] == "enqueued"
    lease = (await api.dequeue())["tasks"][0]["lease"]
    await api.report(lease)
    api.clock.advance(59)
    assert (await send(api, throttle=rule))["outcome"] == "skipped"
    api.clock.advance(1)
    assert (await send(api, throttle=rule))["outcome"] == "enqueued"


async def test_a_coalesced_call_waits_behind_the_one_that_runs(api: Api):  # noqa: F811
    await send(api, payload=1, coalesce="k")
    lease = (await api.dequeue())["tasks"][0]["lease"]
    assert [(await send(api, payload=payload, coalesce="k"))["outcome"] for payload in (2, 3)] == [
        "enqueued",
        "overwritten",
    ]
    assert (await api.dequeue())["tasks"] == []
    await api.report(lease)
    assert [task["payload"] for task in (await api.dequeue())["tasks"]] == [3]


async def test_a_fold_joins_payloads_and_refuses_only_what_it_cannot_join(api: Api):  # noqa: F811
    for payload in (1, "two", {"n": 3}):
        await send(api, payload=payload, dedupe_key="k", fold="append", fold_max=3)
    assert await payloads(api) == [[1, "two", {"n": 3}]]
    assert (await send(api, payload=4, dedupe_key="k", fold="append", fold_max=3))["outcome"] == "enqueued"
    await send(api, payload=1, dedupe_key="n", fold="sum")
    refused = await api.call("POST", "/v1/tasks", {"queue_name": "q", "payload": "x", "dedupe_key": "n", "fold": "sum"})
    assert refused.problem(422, "fold_failed")["problems"][0]["pointer"] == "/payload"
    assert await payloads(api) == [[1, "two", {"n": 3}], [4], 1]


@pytest.mark.parametrize(
    ("entry", "code", "pointer"),
    [
        ({"debounce": {"key": "k", "wait_in_seconds": 1}, "dedupe_key": "k"}, "both_given", "/dedupe_key"),
        ({"debounce": {"key": "k", "wait_in_seconds": 1}, "delay_in_seconds": 1}, "both_given", "/delay_in_seconds"),
        ({"coalesce": "k", "throttle": {"key": "k", "period_in_seconds": 1}}, "both_given", "/throttle"),
        ({"fold": "sum"}, "missing_field", "/dedupe_key"),
        ({"dedupe_key": "k", "fold": "sum", "on_duplicate": "skip"}, "both_given", "/on_duplicate"),
        ({"dedupe_key": "k", "fold": "multiply"}, "bad_value", "/fold"),
    ],
)
async def test_zizq_6_93_rules_that_exclude_each_other(
    api: Api,  # noqa: F811
    entry: dict[str, Any],
    code: str,
    pointer: str,
):
    refused = (await api.call("POST", "/v1/tasks", entry)).value
    assert (code, pointer) in [
        (one["code"], one["pointer"].replace("/coalesce", "/throttle")) for one in refused["problems"]
    ]
