"""Connections that hold what others need are closed: those that never ask anything whole, and those that never read."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest

from lmdbq.daemon import connections as bounds
from lmdbq.daemon.context import DAEMON
from tests.http_tools import GENEROUS_SECONDS, Api, api  # noqa: F401

HEAD = b"POST /v1/enqueue HTTP/1.1\r\nHost: localhost\r\n"


@contextlib.asynccontextmanager
async def watched(api: Api, monkeypatch: pytest.MonkeyPatch, **limits: float) -> AsyncIterator[None]:  # noqa: F811
    """Watch the connections of a daemon for the length of a block, by other bounds."""
    for name, value in limits.items():
        monkeypatch.setattr(bounds, name, value)
    monkeypatch.setattr(bounds.UnderWay.look, "__defaults__", (bounds.IDLE_SECONDS,))
    monkeypatch.setattr(bounds.give_up_unread, "__defaults__", (bounds.UNREAD_SECONDS,))
    watching = asyncio.ensure_future(api.app[DAEMON].under_way.watch(lambda: api.server.connections))
    try:
        yield
    finally:
        watching.cancel()


def port(api: Api) -> int:  # noqa: F811
    return int(api.url.rpartition(":")[2])


def look(api: Api, now: float) -> int:  # noqa: F811
    """Look at the connections as the watch does, at a second of our choice; return how many were closed."""
    return api.app[DAEMON].under_way.look(api.server.connections, now)


@pytest.mark.parametrize("said", [b"", HEAD, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
async def test_a_connection_without_a_whole_request_is_closed(api: Api, said: bytes):  # noqa: F811
    """One that never says anything, one in the middle of a head, and one that has asked and says nothing more."""
    async with asyncio.timeout(GENEROUS_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(api))
        writer.write(said)
        while not api.server.connections:
            await asyncio.sleep(0.01)
        if said.startswith(b"GET"):
            assert (await reader.readuntil(b"}\n")).startswith(b"HTTP/1.1 200")
            assert look(api, -1.0) == 0  # which sees that it has asked since the last look
        assert [look(api, now) for now in (0.0, bounds.IDLE_SECONDS - 0.1, bounds.IDLE_SECONDS)] == [0, 0, 1]
        with contextlib.suppress(ConnectionResetError):  # it was closed before the daemon had read what was sent
            assert await reader.read() == b""
        writer.close()


async def test_a_head_that_comes_a_byte_at_a_time_is_no_different_from_silence(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    async with watched(api, monkeypatch, IDLE_SECONDS=0.1, LOOK_SECONDS=0.02), asyncio.timeout(GENEROUS_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", port(api))
        closed = asyncio.ensure_future(reader.read())
        while not closed.done():
            writer.write(b"X")
            await asyncio.wait([closed], timeout=0.01)
        assert not closed.exception() or isinstance(closed.exception(), ConnectionResetError)
        writer.close()


async def test_a_connection_whose_request_is_being_answered_is_left_alone(api: Api):  # noqa: F811
    async with asyncio.timeout(GENEROUS_SECONDS):
        waiting = asyncio.ensure_future(api.dequeue(wait_in_seconds=30))
        while not api.engine.status().parked:
            await asyncio.sleep(0.01)
        assert [look(api, now) for now in (0.0, bounds.IDLE_SECONDS, 9 * bounds.IDLE_SECONDS)] == [0, 0, 0]
        assert not waiting.done()
        await api.enqueue({"type": "t"})
        assert len((await waiting)["tasks"]) == 1


async def test_an_answer_that_nobody_takes_is_given_up(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """What was pushed into a stream whose other side stopped reading is given back, though the connection stands."""
    first = (await api.enqueue(*[{"payload": "x" * 1_000_000}] * 16))["tasks"][0]["id"]
    with socket.socket() as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        async with watched(api, monkeypatch, UNREAD_SECONDS=0.2, LOOK_SECONDS=0.02), asyncio.timeout(GENEROUS_SECONDS):
            deaf.connect(("127.0.0.1", port(api)))
            asked = b'{"queue_names":["q"],"limit":16}'
            head = b"POST /v1/stream HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
            deaf.sendall(head + b"Content-Length: %d\r\n\r\n" % len(asked) + asked)
            while api.counts() != {"ready": 16} or (await api.get(f"/v1/tasks/{first}"))["deliveries"] == 0:
                await asyncio.sleep(0.01)


def test_a_daemon_may_have_as_many_connections_as_it_may_allow_itself(monkeypatch: pytest.MonkeyPatch):
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, 4096))
    said: list[tuple[int, tuple[int, int]]] = []
    monkeypatch.setattr(resource, "setrlimit", lambda which, limits: said.append((which, limits)))
    bounds.allow_descriptors()
    assert said == [(resource.RLIMIT_NOFILE, (4096, 4096))]
