"""The hostile storm: bodies that nobody honest sends, connections that nobody honest holds, and what the schema allows.

Bodies go out by sixteen at a time; between rounds every page of tasks must decode in both encodings, as many tasks as
were answered for must have been counted, and the daemon must not have grown. A body of a seed can be sent again; which
real ids it named depends on what was answered before. ``hostile_sockets`` and ``hostile_schema`` are the other parts.
"""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any, Final

import aiohttp
import msgpack  # type: ignore[import-untyped]  # it has no stubs

from lmdbq.storm import hostile_schema, hostile_sockets
from lmdbq.storm.hostile_bodies import JSON, MSGPACK, Body, Known, body
from lmdbq.storm.planted_daemon import PLANTS
from lmdbq.storm.report import Report, Tell
from lmdbq.storm.scratch import scratch_directory
from lmdbq.storm.served import Served

ROUND: Final = 1_000
AT_ONCE: Final = 16
HANG_SECONDS: Final = 60.0
GROWTH_BYTES_MAX: Final = 48 * 2**20  # beyond what it had after the first round
_PAGE: Final = 500


class Bodies:
    """Sends bodies to a daemon and judges the answers."""

    def __init__(self, served: Served, report: Report, session: aiohttp.ClientSession) -> None:
        self._url = f"http://127.0.0.1:{served.port}"
        self._served = served
        self._report = report
        self._session = session
        self._known = Known()
        self._accepted = 0
        self._grown_from = 0

    async def begin(self) -> None:
        """Take note of what is there before the first body."""
        self._accepted = await self._counted()

    async def round(self, first: int) -> None:
        """Send a round of bodies, and look at what has become of the daemon."""
        numbers = iter(range(first, first + ROUND))

        async def send_some() -> None:
            for number in numbers:
                await self._send(f"{self._report.seed}/{number}")

        await asyncio.gather(*(send_some() for _ in range(AT_ONCE)))
        self._report.tried += ROUND
        await self._look(f"seed {self._report.seed}, before body {first + ROUND}")

    async def _send(self, seed: str) -> None:
        sent = body(seed, self._known)
        try:
            status, media_type, answer = await self._ask(sent)
        except (TimeoutError, aiohttp.ClientError) as error:
            self._blame(seed, sent, f"no answer: {error!r}")
            return
        self._report.count(f"{status // 100}xx")
        if status >= 500:
            self._blame(seed, sent, f"answered {status}: {answer[:300]!r}")
            return
        try:
            value = decode(answer, media_type) if answer else None
        except ValueError as error:
            self._blame(seed, sent, f"answered {status} and what is no {media_type}: {error}; {answer[:300]!r}")
            return
        if status < 300:
            self._learn(value)
        elif not isinstance(value, dict) or not value.get("code") or media_type != "application/problem+json":
            self._blame(seed, sent, f"answered {status} without saying why: {answer[:300]!r}")

    def _blame(self, seed: str, sent: Body, problem: str) -> None:
        said = f"{sent.method} {sent.path}, {sent.content_type}, {len(sent.data)} bytes: {sent.data[:200]!r}"
        self._report.blame(f"body {seed}", [said, problem])

    async def _ask(self, sent: Body) -> tuple[int, str, bytes]:
        headers = {"Content-Type": sent.content_type, "Accept": sent.accept}
        timeout = aiohttp.ClientTimeout(total=HANG_SECONDS)
        async with self._session.request(
            sent.method, self._url + sent.path, data=sent.data, headers=headers, timeout=timeout
        ) as answer:
            return answer.status, answer.content_type, await answer.read()

    def _learn(self, value: Any) -> None:
        if not isinstance(value, dict):
            return
        outcomes = [*value.get("outcomes", []), *([value["outcome"]] if isinstance(value.get("outcome"), dict) else [])]
        self._accepted += sum(outcome.get("outcome") == "enqueued" for outcome in outcomes)
        self._accepted += value.get("enqueued", 0)
        tasks = value.get("tasks", [])
        ids = [task["id"] for task in tasks] + [outcome["id"] for outcome in outcomes if "id" in outcome]
        self._known.learn(ids[:50], [task["lease"] for task in tasks if "lease" in task][:50])

    # --- between rounds ---

    async def _look(self, where: str) -> None:
        for media_type in (JSON, MSGPACK):
            await self._read_pages(where, media_type)
        await self._compare_counts(where)
        await self._drain(where)
        anonymous = self._served.anonymous_bytes()
        self._grown_from = self._grown_from or anonymous
        grown = anonymous - self._grown_from
        self._report.figures["MB grown"] = max(self._report.figures.get("MB grown", 0), grown // 2**20)
        if grown > GROWTH_BYTES_MAX:
            self._report.blame(where, [f"the daemon has grown by {grown / 2**20:.0f} MB since the first round"])
            self._grown_from = anonymous

    async def _read_pages(self, where: str, media_type: str) -> None:
        cursor = ""
        while True:
            path = f"/v1/tasks?limit={_PAGE}&payload=full" + (f"&cursor={cursor}" if cursor else "")
            status, said, answer = await self._ask(Body("GET", path, JSON, media_type, b""))
            try:
                assert (status, said) == (200, media_type), f"answered {status}, {said}"
                page = decode(answer, media_type)
            except (AssertionError, ValueError) as error:
                self._report.blame(where, [f"a page of tasks as {media_type} is broken: {error}; {answer[:300]!r}"])
                return
            self._report.count("pages read")
            cursor = page.get("next", "")
            if not cursor:
                return

    async def _compare_counts(self, where: str) -> None:
        """What was refused has left nothing: as many tasks were counted as were answered for."""
        counted = await self._counted()
        if counted != self._accepted:
            self._report.blame(where, [f"{self._accepted} tasks were accepted, {counted} are counted"])
            self._accepted = counted

    async def _counted(self) -> int:
        queues = json.loads((await self._ask(Body("GET", "/v1/queues", JSON, JSON, b"")))[2])["queues"]
        return sum(queue["totals"]["enqueued"] for queue in queues)

    async def _drain(self, where: str) -> None:
        asked: dict[str, Any] = {"action": "delete", "all": True}
        while True:
            status, _, answer = await self._ask(
                Body("POST", "/v1/tasks/actions", JSON, JSON, json.dumps(asked).encode())
            )
            if status != 200:
                self._report.blame(where, [f"tasks cannot be deleted: {status} {answer[:300]!r}"])
                return
            cursor = json.loads(answer).get("next", "")
            if not cursor:
                return
            asked["cursor"] = cursor


def decode(answer: bytes, media_type: str) -> Any:
    """Return what a careful reader reads. Raises ValueError."""
    if media_type == MSGPACK:
        return msgpack.unpackb(answer, strict_map_key=False)
    return json.loads(answer.decode("utf-8"), parse_constant=_refuse)


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def run(
    seed: str,
    tell: Tell,
    bodies: int = 0,
    minutes: float = 0.0,
    *,
    connections: int = 1_000,
    examples: int = 10,
    plant: str = "",
) -> Report:
    """Send ``bodies``, or as many as fit into ``minutes``; hold ``connections`` of each bad kind; ask ``examples`` of
    each operation that the schema describes. 0 of the latter two leaves that part out.

    plant: a name of planted_daemon.PLANTS, or "". Raises trace.Unclear, KeyError (plant).
    """
    if plant and plant not in PLANTS:
        raise KeyError(plant)
    report = Report("hostile", seed, "bodies")
    started = time.monotonic()
    with scratch_directory() as scratch, Served(scratch / "data", plant=plant) as served:
        if examples:
            tell(0, bodies, "what the schema allows, and what it does not")
            hostile_schema.run(served, report, scratch, examples)
        if connections:
            tell(0, bodies, f"{connections} connections that are slow, idle, wait, or never read")
            asyncio.run(hostile_sockets.run(served, report, connections))
        tell(0, bodies, "bodies")
        asyncio.run(_send_all(served, report, tell, bodies, minutes * 60))
        report.seconds = time.monotonic() - started
        if status := served.stop():
            report.blame(f"seed {seed}", [f"the daemon ended with status {status}: {served.log[-500:]}"])
        if found := served.violations():
            report.blame(f"seed {seed}", [f"lmdbq check: {line}" for line in found])
    return report


async def _send_all(served: Served, report: Report, tell: Tell, bodies_max: int, seconds: float) -> None:
    until = time.monotonic() + seconds if seconds else None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=AT_ONCE)) as session:
        sender = Bodies(served, report, session)
        await sender.begin()
        while served.is_alive:
            await sender.round(report.tried)
            tell(report.tried, bodies_max, "")
            if time.monotonic() > until if until else report.tried >= bodies_max:
                return
        report.blame(f"seed {report.seed}", [f"the daemon has died: {served.log[-1000:]}"])
