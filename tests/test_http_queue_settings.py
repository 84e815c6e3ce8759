"""Settings of queues over HTTP and in Python: rates, weights, ageing, sub-queues; who waits learns why."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import pytest

import lmdbq
from lmdbq.clock import SystemClock
from lmdbq.engine.queue import Engine
from lmdbq.model import Claim, Enqueue, Entry, QueuePut, QueueSettings, Rate
from lmdbq.store.memory import MemoryStore
from lmdbq.wire import shapes
from tests.http_tools import Api, api

__all__ = ["api"]
WHOLE: dict[str, Any] = {
    "paused": False,
    "max_running": 3,
    "keepalive_timeout_in_seconds": 30,
    "expires_in_seconds": 60,
    "retry_strategy": {"max_attempts": 2},
    "keep": {"dead_in_seconds": 60},
    "dedupe": {"scope": "type"},
    "rate": {"tokens": 10, "period_in_seconds": 0.5, "burst": 3},
    "weight": 7,
    "order": "ageing",
    "on_dead": {"queue_name": "alerts", "type": "alert"},
    "ageing_in_seconds": 1.5,
    "max_dead": 100,
    "priority": -3,
}


async def test_every_setting_is_shown_as_it_was_sent(api: Api):
    assert {field.encode_name for field in msgspec.structs.fields(shapes.QueueBody)} == WHOLE.keys()

    created = await api.call("PUT", "/v1/queues/q", WHOLE)

    assert (created.status, created.value["settings"]) == (201, WHOLE)
    nothing = dict.fromkeys(WHOLE, None)
    assert (await api.call("PATCH", "/v1/queues/q", nothing)).value["settings"] == {"paused": False}


@pytest.mark.parametrize(("order", "shown"), [("strict", None), ("fair", "fair"), ("ageing", "ageing")])
async def test_the_order_of_a_queue_is_shown_unless_it_is_the_default(api: Api, order: str, shown: str | None):
    created = await api.call("PUT", "/v1/queues/q", {"order": order})

    assert created.value["settings"].get("order") == shown


async def test_groups_of_a_fair_queue_take_turns_over_http(api: Api):
    await api.call("PUT", "/v1/queues/default", {"order": "fair"})
    await api.call("PUT", "/v1/groups/b", {"weight": 2})
    entries = [{"type": "t", "group_key": key} for key in "aaaabbbb"]
    await api.call("POST", "/v1/enqueue", {"entries": entries})

    got = await api.call("POST", "/v1/dequeue", {"queue_names": ["default"], "limit": 6})

    assert sorted(task["group_key"] for task in got.value["tasks"]) == ["a", "a", "b", "b", "b", "b"]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"rate": {"tokens": 0, "period_in_seconds": 1}}, "/rate/tokens"),
        ({"rate": {"tokens": 1, "period_in_seconds": 0}}, "/rate/period_in_seconds"),
        ({"rate": {"tokens": 1, "period_in_seconds": 86_401}}, "/rate/period_in_seconds"),
        ({"rate": {"tokens": 1}}, "/rate/period_in_seconds"),
        ({"weight": 1_001}, "/weight"),
        ({"order": "fifo"}, "/order"),
        ({"max_dead": -1}, "/max_dead"),
        ({"priority": 40_000}, "/priority"),
        ({"ageing_in_seconds": -1}, "/ageing_in_seconds"),
    ],
)
async def test_eddyq_7_89_a_setting_that_cannot_be_is_refused(api: Api, body: Any, pointer: str):
    answer = await api.call("PUT", "/v1/queues/q", body)

    assert answer.status == 422
    assert answer.value["pointer"] == pointer


async def test_a_queue_without_tokens_says_so_everywhere(api: Api):
    await api.call("PUT", "/v1/queues/q", {"rate": {"tokens": 1, "period_in_seconds": 10}})
    ids = [one["id"] for one in (await api.enqueue({}, {}))["outcomes"]]
    assert (await api.get("/v1/queues/q"))["blocked_by"] == ""
    assert [task["id"] for task in (await api.dequeue(limit=5))["tasks"]] == ids[:1]

    empty = await api.dequeue()

    assert (empty["reason"], empty["retry_in_seconds"]) == ("rate_limited", 10)
    assert (await api.get("/v1/queues/q"))["blocked_by"] == "rate_limited"
    assert (await api.get(f"/v1/tasks/{ids[1]}"))["waiting_for"]["reason"] == "rate_limited"
    api.clock.advance(10)
    assert (await api.get("/v1/queues/q"))["blocked_by"] == ""
    assert len((await api.dequeue())["tasks"]) == 1


async def test_who_asks_for_the_parent_is_a_consumer_of_its_sub_queues(api: Api):
    await api.enqueue({"type": "t"}, queue="p.x")
    assert (await api.get("/v1/queues/p.x"))["unconsumed_types"] == ["t"]

    assert len((await api.dequeue("p"))["tasks"]) == 1
    await api.enqueue({"type": "t"}, queue="p.x")

    assert (await api.get("/v1/queues/p.x"))["unconsumed_types"] == []


async def test_a_parked_dequeue_of_the_parent_wakes_for_a_sub_queue(api: Api):
    parked = asyncio.create_task(api.dequeue("p", wait_in_seconds=30))
    while not api.engine.status().parked:
        await asyncio.sleep(0)

    await api.enqueue({}, queue="p.x")

    assert [task["queue_name"] for task in (await parked)["tasks"]] == ["p.x"]


async def test_parked_dequeues_wake_when_a_token_comes_in():
    engine = Engine(MemoryStore(), SystemClock(), timers=False)
    await engine.start()
    try:
        await engine.call(QueuePut("q", QueueSettings(rate=Rate(1, 50_000_000))))
        parked = [asyncio.create_task(engine.dequeue(Claim(("q",), limit=10), 30)) for _ in range(4)]
        while engine.status().parked < len(parked):
            await asyncio.sleep(0)

        await engine.call(Enqueue([Entry(queue="q")] * len(parked)))

        async with asyncio.timeout(60):
            claimed = [(await one)[0].tasks for one in parked]
        assert [len(tasks) for tasks in claimed] == [1] * len(parked)
    finally:
        await engine.stop()


def test_options_of_a_queue_in_python(tmp_path: Path):
    with lmdbq.Client(tmp_path / "q") as client:
        said = client.queue("q").create(
            rate=lmdbq.Rate(10, 0.5, burst=3), weight=7, order="ageing", ageing=1.5, max_dead=100, priority=-3
        )
        shown = msgspec.to_builtins(said.settings)
        names = ("rate", "weight", "order", "ageing_in_seconds", "max_dead", "priority")
        assert {name: shown[name] for name in names} == {name: WHOLE[name] for name in names}
        assert client.queue("q").edit(rate=(5, 60)).settings.rate == shapes.RateBody(tokens=5, period_in_seconds=60)
        assert client.queue("q").edit(rate=None).settings.rate is None
