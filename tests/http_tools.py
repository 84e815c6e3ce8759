"""What the tests of the HTTP API share: a daemon on a free loopback port, and a caller that checks every answer.

``api`` runs each test over the memory store and over the file. Its clock moves only by hand and no timers run, so that
nothing happens by itself. Every answer that passes ``Api`` is validated against /openapi.json, with no unknown fields,
and each test ends with the store's checker.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import functools
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import jsonschema
import msgspec
import pytest
from aiohttp import web

from lmdbq.clock import ManualClock
from lmdbq.daemon.app import make_app
from lmdbq.daemon.openapi import describe
from lmdbq.daemon.settings import Settings
from lmdbq.engine.queue import Engine
from lmdbq.store.base import Store

JSON = "application/json"
MSGPACK = "application/msgpack"
NDJSON = "application/x-ndjson"
PROBLEM = "application/problem+json"
GENEROUS_SECONDS = 60


@functools.cache
def closed_description() -> dict[str, Any]:
    """Return /openapi.json with every object closed, so that a field nobody described is found."""
    description = copy.deepcopy(describe())
    for schema in description["components"]["schemas"].values():
        if schema.get("properties") is not None:
            schema["additionalProperties"] = False
    return description


@functools.cache
def _paths() -> list[tuple[re.Pattern[str], str]]:
    found = [(re.compile(re.sub(r"\{\w+\}", "[^/]+", path)), path) for path in closed_description()["paths"]]
    return sorted(found, key=lambda pair: "{" in pair[1])


def validate(method: str, path: str, status: int, content_type: str, body: bytes) -> None:
    """Fail unless the description has this answer, and the body is one."""
    template = next((name for pattern, name in _paths() if pattern.fullmatch(path)), None)
    described_as = "get" if method == "HEAD" else method.lower()
    operation = closed_description()["paths"].get(template, {}).get(described_as)
    if operation is None:
        assert status in (403, 404, 405), f"{method} {path} is not described, and answered {status}"
        return
    described = operation["responses"].get(str(status))
    assert described is not None, f"{method} {path} answered {status}, which is not described: {body[:200]!r}"
    if "content" not in described:
        assert body == b""
        return
    if method == "HEAD":
        assert body == b""
        return
    media_type = content_type.partition(";")[0]
    assert media_type in described["content"], f"{method} {path} answered {media_type}"
    schema = described["content"][media_type]["schema"]
    if media_type in ("text/plain", "application/octet-stream"):
        return
    value = msgspec.msgpack.decode(body) if media_type == MSGPACK else json.loads(body)
    validator(schema).validate(value)


def validator(schema: dict[str, Any]) -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator({**schema, "components": closed_description()["components"]})


class Answer(NamedTuple):
    """A status, its headers and its decoded body."""

    status: int
    headers: Any
    body: bytes

    @property
    def media_type(self) -> str:
        return str(self.headers.get("Content-Type", "")).partition(";")[0]

    @property
    def value(self) -> Any:
        return msgspec.msgpack.decode(self.body) if self.media_type == MSGPACK else json.loads(self.body)

    def problem(self, status: int, code: str) -> dict[str, Any]:
        """Return the problem this answer must be."""
        assert (self.status, self.media_type) == (status, PROBLEM), self.body
        assert self.body.endswith(b"}\n")
        assert self.value["code"] == code, self.value
        assert self.value["status"] == status
        assert self.value["request_id"]
        return self.value  # type: ignore[no-any-return]


class Api:
    """A caller of one daemon."""

    def __init__(self, url: str, session: aiohttp.ClientSession, app: web.Application, engine: Engine) -> None:
        self.url = url
        self.session = session
        self.app = app
        self.engine = engine
        self.server: Any = None
        self.store = engine.store
        self.clock: Any = engine.clock

    async def call(
        self, method: str, path: str, body: Any = None, *, headers: dict[str, str] | None = None, raw: Any = None
    ) -> Answer:
        """Send a request (body: as JSON; raw: as it is) and return the validated answer."""
        sent = {"Content-Type": JSON} if body is not None or raw is not None else {}
        data = json.dumps(body).encode() if body is not None else raw
        async with asyncio.timeout(GENEROUS_SECONDS):
            async with self.session.request(method, self.url + path, data=data, headers=sent | (headers or {})) as got:
                answer = Answer(got.status, got.headers, await got.read())
        validate(method, path.partition("?")[0], answer.status, answer.media_type, answer.body)
        return answer

    async def get(self, path: str) -> Any:
        return await self._ok("GET", path)

    async def post(self, path: str, body: Any = None) -> Any:
        return await self._ok("POST", path, body)

    async def _ok(self, method: str, path: str, body: Any = None) -> Any:
        answer = await self.call(method, path, body)
        assert answer.status in (200, 201, 204), answer.body
        return answer.value if answer.body else None

    async def enqueue(self, *entries: dict[str, Any], queue: str = "q", **more: Any) -> Any:
        return await self.post("/v1/enqueue", {"queue_name": queue, "entries": list(entries), **more})

    async def dequeue(self, *queues: str, **more: Any) -> Any:
        return await self.post("/v1/dequeue", {"queue_names": list(queues) or ["q"], **more})

    async def report(self, lease: str, status: str = "succeeded", **more: Any) -> str:
        answer = await self.post("/v1/report", {"reports": [{"lease": lease, "status": status, **more}]})
        return str(answer["outcomes"][0]["outcome"])

    def counts(self, queue: str = "q") -> dict[str, int]:
        """Return how many tasks of a queue there are, by state, from the store itself."""
        view = self.store.queue(queue)
        found: dict[str, int] = {}
        for by_state in view.counts.values() if view else ():
            for state, count in by_state.items():
                found[state] = found.get(state, 0) + count
        return found


def open_store(kind: str, directory: Path) -> Store:
    if kind == "memory":
        from lmdbq.store.memory import MemoryStore

        return MemoryStore()
    from lmdbq.store.lmdb import open_store

    return open_store(directory / "q")


@contextlib.asynccontextmanager
async def serving(store: Store, settings: Settings | None = None, **engine_options: Any) -> AsyncIterator[Api]:
    """Serve a store on a free port for the length of a block, and check it afterwards."""
    engine = Engine(store, ManualClock(), timers=False, **engine_options)
    await engine.start()
    app = make_app(settings or Settings(), engine)
    runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with aiohttp.ClientSession() as session:
            found = Api(f"http://127.0.0.1:{runner.addresses[0][1]}", session, app, engine)
            found.server = runner.server
            yield found
        await runner.cleanup()
        await engine.stop()
        assert store.check() == []
    finally:
        await runner.cleanup()
        await engine.stop()
        store.close()


@pytest.fixture(params=["memory", "lmdb"])
async def api(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Api]:
    async with serving(open_store(request.param, tmp_path)) as found:
        yield found
