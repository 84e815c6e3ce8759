"""POST /v1/stream: pushed tasks, leases kept by what is received, and release when the connection goes."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

import msgpack
import msgspec
import pytest

from lmdbq.daemon import handlers_stream
from lmdbq.daemon.context import DAEMON
from lmdbq.errors import NotCommitted
from lmdbq.ids import parse_id
from tests.http_tools import JSON, MSGPACK, NDJSON, Api, api, closed_description, validator  # noqa: F401

SECONDS = 60
FRAME = {"$ref": "#/components/schemas/StreamFrame"}


class Connection:
    """The client's end of a stream; ``outgoing`` carries what it sends."""

    def __init__(self, response: Any, outgoing: asyncio.Queue[bytes | None], media_type: str) -> None:
        self.response = response
        self.outgoing = outgoing
        self._unpacker = msgpack.Unpacker()
        self._media_type = media_type

    async def frame(self) -> dict[str, Any]:
        """Return the next frame, validated against the description."""
        if self._media_type == MSGPACK:
            value = await self._packed()
        else:
            line = await self.response.content.readline()
            assert line, "the stream has ended"
            value = json.loads(line)
        validator(FRAME).validate(value)
        return value  # type: ignore[no-any-return]

    async def _packed(self) -> Any:
        while True:
            for value in self._unpacker:
                return value
            data = await self.response.content.readany()
            assert data, "the stream has ended"
            self._unpacker.feed(data)

    async def next(self, kind: str) -> Any:
        """Return the next frame of a kind, passing over heartbeats."""
        async with asyncio.timeout(SECONDS):
            while kind not in (frame := await self.frame()):
                assert frame.keys() == {"heartbeat"}, frame
            return frame[kind]


@contextlib.asynccontextmanager
async def connected(api: Api, media_type: str = NDJSON, **subscription: Any) -> AsyncIterator[Connection]:  # noqa: F811
    outgoing: asyncio.Queue[bytes | None] = asyncio.Queue()
    wanted = {"queue_names": ["q"], **subscription}
    first = msgspec.msgpack.encode(wanted) if media_type == MSGPACK else json.dumps(wanted).encode() + b"\n"

    async def body() -> AsyncIterator[bytes]:
        yield first
        while (data := await outgoing.get()) is not None:
            yield data

    headers = {"Content-Type": media_type}
    async with api.session.post(f"{api.url}/v1/stream", data=body(), headers=headers) as response:
        assert response.status == 200, await response.read()
        yield Connection(response, outgoing, media_type)
        outgoing.put_nowait(None)
        response.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(SECONDS):
        while not condition():
            await asyncio.sleep(0)


@pytest.mark.parametrize("media_type", [NDJSON, MSGPACK, JSON])
async def test_tasks_are_pushed_and_reported_over_another_connection(api: Api, media_type: str):  # noqa: F811
    await api.enqueue({"payload": {"n": 1}})
    async with connected(api, media_type) as stream:
        first = await stream.next("task")
        assert (first["payload"], first["state"]) == ({"n": 1}, "running")
        await api.enqueue({"payload": {"n": 2}})
        assert await api.report(first["lease"]) == "ok"  # which frees the only place
        second = await stream.next("task")
        assert second["payload"] == {"n": 2}
        assert await api.report(second["lease"]) == "ok"
    assert api.counts() == {}


async def test_no_more_than_limit_are_out(api: Api):  # noqa: F811
    await api.enqueue({}, {}, {})
    async with connected(api, limit=2) as stream:
        one, two = await stream.next("task"), await stream.next("task")
        assert api.counts() == {"ready": 1, "running": 2}
        await api.post(f"/v1/leases/{two['lease']}/fail", {"retry": False})
        three = await stream.next("task")
        assert len({one["id"], two["id"], three["id"]}) == 3


async def test_a_dropped_stream_gives_its_tasks_back_uncounted(api: Api):  # noqa: F811
    await api.enqueue({}, {})
    async with connected(api, limit=5) as stream:
        held = [await stream.next("task"), await stream.next("task")]
        assert api.counts() == {"running": 2}
    await until(lambda: api.counts() == {"ready": 2})
    again = (await api.dequeue(limit=2))["tasks"]
    assert {task["id"] for task in again} == {task["id"] for task in held}
    assert [(task["attempts"], task["deliveries"]) for task in again] == [(1, 2), (1, 2)]
    assert api.app[DAEMON].streams._holders == {}


async def test_a_stream_dropped_while_it_waits_leases_nothing(api: Api):  # noqa: F811
    async with connected(api) as stream:
        await stream.next("heartbeat")
        await until(lambda: api.engine.status().parked == 1)
    await until(lambda: api.engine.status().parked == 0)
    await api.enqueue({})
    assert api.counts() == {"ready": 1}


async def test_the_place_of_a_lapsed_task_is_free_again(api: Api):  # noqa: F811
    await api.enqueue({"payload": 1})
    async with connected(api, keepalive_timeout_in_seconds=1) as stream:
        assert (await stream.next("task"))["payload"] == 1
        api.clock.advance(1.1)
        await api.enqueue({"payload": 2}, queue="r")
        # This claim lets the lease of the other lapse.
        assert (await api.dequeue("q", "r"))["tasks"][0]["payload"] == 2
        assert api.counts() == {"scheduled": 1}
        await api.enqueue({"payload": 3})
        assert (await stream.next("task"))["payload"] == 3


async def test_a_stream_that_lost_a_task_does_not_take_the_place_from_who_has_it_now(api: Api):  # noqa: F811
    await api.enqueue({"retry_strategy": {"retry_intervals_in_seconds": [0]}})
    async with connected(api, keepalive_timeout_in_seconds=1) as lost:
        await lost.next("task")
        api.clock.advance(1.1)
        async with connected(api, keepalive_timeout_in_seconds=60) as stream:
            task = await stream.next("task")
            assert task["deliveries"] == 2
            await lost.next("heartbeat")
            await lost.next("heartbeat")
            await lost.next("heartbeat")
            await api.report(task["lease"])
            await until(lambda: api.app[DAEMON].streams._holders == {})
            await until(lambda: api.engine.status().parked == 2)


async def test_what_is_received_extends_leases_and_tells_of_a_cancel(api: Api):  # noqa: F811
    await api.enqueue({})
    async with connected(api, keepalive_timeout_in_seconds=1) as stream:
        task = await stream.next("task")
        api.clock.advance(0.9)
        await api.post(f"/v1/tasks/{task['id']}/cancel")

        async def talk() -> None:
            while True:
                stream.outgoing.put_nowait(b"\n")
                await asyncio.sleep(0.02)

        talking = asyncio.ensure_future(talk())
        told = await stream.next("cancel")
        talking.cancel()
        assert told == {"id": task["id"], "lease": task["lease"]}
        shown = await api.get(f"/v1/tasks/{task['id']}")
        assert shown["lease_expires_at"] == api.clock.wall_ns() + 10**9


@pytest.mark.parametrize("limit", [1, 2])
async def test_a_report_whose_dequeue_waits_frees_the_place_at_once(api: Api, limit: int):  # noqa: F811
    """And what it released and came back is not taken from the stream when the dequeue is answered."""
    await api.enqueue({})
    async with connected(api, limit=limit) as stream:
        task = await stream.next("task")
        reports = [{"lease": task["lease"], "status": "released"}]
        claim = {"queue_names": ["other"], "wait_in_seconds": 60}
        waiting = asyncio.ensure_future(api.post("/v1/report", {"reports": reports, "dequeue": claim}))
        again = await stream.next("task")
        assert again["deliveries"] == 2
        await until(lambda: api.engine.consumers().get("other"))
        await api.enqueue({}, queue="other")
        assert (await waiting)["outcomes"][0]["outcome"] == "ok"
        assert list(api.app[DAEMON].streams._holders) == [parse_id(again["id"])]
    await until(lambda: api.counts() == {"ready": 1})


async def test_a_retry_that_is_asked_for_again_does_not_take_the_task_that_runs(api: Api):  # noqa: F811
    await api.enqueue({})
    await api.report((await api.dequeue())["tasks"][0]["lease"], "failed", retry=False)
    body = {"action": "retry", "filter": {"state": "dead"}}
    key = {"Idempotency-Key": "k"}
    async with connected(api) as stream:
        assert (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value["changed"] == 1
        task = await stream.next("task")
        assert (await api.call("POST", "/v1/tasks/actions", body, headers=key)).value["changed"] == 1
        assert list(api.app[DAEMON].streams._holders) == [parse_id(task["id"])]


async def test_a_body_that_ends_with_the_subscription_still_gets_tasks(api: Api):  # noqa: F811
    headers = {"Content-Type": JSON}
    async with api.session.post(f"{api.url}/v1/stream", data=b'{"queue_names":["q"]}', headers=headers) as response:
        stream = Connection(response, asyncio.Queue(), JSON)
        await api.enqueue({"payload": "hello"})
        assert (await stream.next("task"))["payload"] == "hello"
        response.close()
    await until(lambda: api.counts() == {"ready": 1})


async def test_a_draining_daemon_says_bye_and_waits_for_reports(api: Api):  # noqa: F811
    await api.enqueue({}, {})
    async with connected(api) as stream:
        task = await stream.next("task")
        api.app[DAEMON].draining.set()
        api.engine.drain()
        await api.report(task["lease"])
        assert await stream.next("bye") == {"reason": "draining"}
        async with asyncio.timeout(SECONDS):
            assert await stream.response.content.read() == b""
    assert api.counts() == {"ready": 1}


async def test_a_stream_that_cannot_give_back_ends_as_any_other(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    async def fail(_: Any) -> None:
        raise NotCommitted("the disk is full")

    await api.enqueue({})
    async with connected(api) as stream:
        await stream.next("task")
        monkeypatch.setattr(api.engine, "release", fail)
        monkeypatch.setattr(handlers_stream, "REPORTING_SHARE", 0)
        api.app[DAEMON].draining.set()
        api.engine.drain()
        assert await stream.next("bye") == {"reason": "draining"}
        async with asyncio.timeout(SECONDS):
            assert await stream.response.content.read() == b""
    assert "not given back: not_committed" in caplog.text


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"queue_names":["q"],"limit":0}\n', 422, "out_of_range"),
        (b'{"queue":["q"]}\n', 422, "unknown_field"),
        (b"{\n", 400, "not_parseable"),
        (b"", 400, "not_parseable"),
        (b"x" * 70_000, 413, "frame_too_large"),
    ],
)
async def test_wrong_subscriptions(api: Api, body: bytes, status: int, code: str):  # noqa: F811
    answer = await api.call("POST", "/v1/stream", raw=body, headers={"Content-Type": NDJSON})
    answer.problem(status, code)


async def test_what_comes_with_a_packed_subscription_may_be_much(api: Api):  # noqa: F811
    await api.enqueue({"payload": 1})
    body = msgspec.msgpack.encode({"queue_names": ["q"]}) + b"\0" * 400_000
    async with api.session.post(f"{api.url}/v1/stream", data=body, headers={"Content-Type": MSGPACK}) as response:
        assert response.status == 200, await response.read()
        assert (await Connection(response, asyncio.Queue(), MSGPACK).next("task"))["payload"] == 1
        response.close()
    await until(lambda: api.counts() == {"ready": 1})


async def test_a_packed_subscription_that_is_too_long_is_refused(api: Api):  # noqa: F811
    body = msgspec.msgpack.encode({"queue_names": ["q" * 400_000]})
    answer = await api.call("POST", "/v1/stream", raw=body, headers={"Content-Type": MSGPACK})
    answer.problem(413, "frame_too_large")


def test_the_description_has_the_frames():
    assert closed_description()["components"]["schemas"]["StreamFrame"]
