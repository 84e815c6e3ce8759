"""Bulk import: NDJSON of any length to /v1/enqueue."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from lmdbq.daemon.handlers_import import Import
from lmdbq.daemon.settings import Settings
from tests.http_tools import NDJSON, Api, api, open_store, serving, validate  # noqa: F401


def lines(*entries: Any) -> bytes:
    return b"".join(
        entry + b"\n" if isinstance(entry, bytes) else json.dumps(entry).encode() + b"\n" for entry in entries
    )


async def send(api: Api, body: Any, query: str = "") -> dict[str, Any]:  # noqa: F811
    answer = await api.call("POST", f"/v1/enqueue?queue_name=q{query}", raw=body, headers={"Content-Type": NDJSON})
    assert answer.status == 200, answer.body
    return answer.value  # type: ignore[no-any-return]


async def test_lines_become_tasks_in_order(api: Api):  # noqa: F811
    summary = await send(api, lines(*({"payload": n} for n in range(2500)), {"queue_name": "other"}))
    assert summary == {
        "lines": 2501,
        "enqueued": 2501,
        "skipped": 0,
        "overwritten": 0,
        "failed": 0,
        "last_line": 2501,
        "stopped": False,
        "errors": [],
    }
    assert [task["payload"] for task in (await api.dequeue(limit=1000))["tasks"]] == list(range(1000))
    assert api.counts("other") == {"ready": 1}


async def test_others_are_answered_while_lines_are_read_that_commit_nothing(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
):
    """Compressed, a hundred thousand of them are a hundred bytes, and need no waiting for the network either."""
    begun = asyncio.Event()
    take = Import.take

    async def noted(job: Import, line_number: int, line: bytes | None) -> None:
        begun.set()
        await take(job, line_number, line)

    monkeypatch.setattr(Import, "take", noted)
    headers = {"Content-Type": NDJSON, "Content-Encoding": "gzip"}
    importing = asyncio.ensure_future(
        api.call("POST", "/v1/enqueue", raw=gzip.compress(b"\n" * 200_000), headers=headers)
    )
    await begun.wait()
    await api.get("/livez")
    assert not importing.done()
    assert (await importing).value["last_line"] == 200_000


async def test_wrong_lines_are_named_and_the_others_taken(api: Api):  # noqa: F811
    body = (
        lines(
            {"payload": 1},
            b"{",
            {"priority": "x"},
            b"",
            {"delay_in_seconds": 9, "expires_in_seconds": 5},
            {"dedupe_key": "k"},
            {"dedupe_key": "k", "on_duplicate": "reject"},
            {"dedupe_key": "k"},
            b'{"payload": "' + b"x" * 2_100_000 + b'"}',
        )
        + b'{"payload": "no newline at the end"}'
    )
    summary = await send(api, body)
    found = {(one["line"], one["code"], one["pointer"]) for one in summary["errors"]}
    assert found == {
        (2, "not_parseable", ""),
        (3, "wrong_type", "/priority"),
        (5, "expires_too_early", "/expires_at"),
        (7, "duplicate", "/dedupe_key"),
        (9, "not_parseable", ""),
    }
    assert (summary["lines"], summary["enqueued"], summary["skipped"], summary["failed"]) == (10, 3, 1, 5)
    assert api.counts() == {"ready": 3}


@pytest.mark.parametrize(
    "wrong", [b"{", b'{"delay_in_seconds": 9, "expires_in_seconds": 5}'], ids=["unreadable", "refused"]
)
async def test_stop_commits_what_is_before_the_wrong_line_and_resumes(api: Api, wrong: bytes):  # noqa: F811
    good = [{"payload": n} for n in range(1200)]
    summary = await send(api, lines(*good, wrong, {"payload": "after"}, b"{"), "&on_error=stop")
    assert (summary["enqueued"], summary["failed"], summary["stopped"]) == (1200, 1, True)
    assert summary["last_line"] == 1200
    assert [one["line"] for one in summary["errors"]] == [1201]
    assert api.counts() == {"ready": 1200}
    rest = await send(api, lines(*good, {"payload": "mended"}, {"payload": "after"}), "&from_line=1201&on_error=stop")
    assert (rest["enqueued"], rest["last_line"]) == (2, 1202)
    assert api.counts() == {"ready": 1202}


async def test_stop_at_the_first_line_commits_nothing(api: Api):  # noqa: F811
    summary = await send(api, lines({"delay_in_seconds": 9, "expires_in_seconds": 5}, {}), "&on_error=stop")
    assert (summary["enqueued"], summary["last_line"], summary["stopped"]) == (0, 0, True)
    assert api.counts() == {}


async def test_only_the_first_hundred_errors_are_listed(api: Api):  # noqa: F811
    refused = {"dedupe_key": "k", "on_duplicate": "reject"}
    summary = await send(api, lines({"dedupe_key": "k"}, *[refused] * 150, *[b"{"] * 50))
    assert (summary["failed"], len(summary["errors"]), summary["enqueued"]) == (200, 100, 1)


async def test_outcomes_are_answered_when_asked_for(api: Api):  # noqa: F811
    summary = await send(api, lines(*({"dedupe_key": f"k{n % 3000}"} for n in range(6000))), "&outcomes=true")
    assert [one["outcome"] for one in summary["outcomes"]] == ["enqueued"] * 3000 + ["skipped"] * 3000
    assert (await send(api, b"", "&outcomes=true"))["outcomes"] == []


async def test_a_client_that_sends_everything_before_it_reads_is_not_blocked(api: Api):  # noqa: F811
    """The answer, with an outcome for each line, is larger than the buffers between; nobody reads until all is sent."""
    body = lines(*({"payload": "x" * 100} for _ in range(20_000)))
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=2**26)
    head = (
        f"POST /v1/enqueue?queue_name=q&outcomes=true HTTP/1.1\r\nHost: localhost\r\nContent-Type: {NDJSON}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    async with asyncio.timeout(60):
        writer.write(head.encode() + body)
        await writer.drain()
        answer = await reader.read()
        writer.close()
    assert answer.startswith(b"HTTP/1.1 200")
    assert answer.count(b'"outcome":"enqueued"') == 20_000
    assert api.counts() == {"ready": 20_000}


async def test_chunks_are_committed_while_the_body_still_arrives(api: Api):  # noqa: F811
    last = asyncio.Event()

    async def body() -> Any:
        yield lines(*({"payload": n} for n in range(1000)))
        await last.wait()
        yield lines({"payload": "last"})

    sending = asyncio.ensure_future(send(api, body()))
    while api.counts() != {"ready": 1000}:
        await asyncio.sleep(0)
    last.set()
    assert (await sending)["enqueued"] == 1001


async def test_how_far_an_import_came_that_was_cut_off_is_logged(api: Api, caplog: pytest.LogCaptureFixture):  # noqa: F811
    never = asyncio.Event()

    async def body() -> Any:
        yield lines(*({"payload": n} for n in range(2_500)))
        await never.wait()

    sending = asyncio.ensure_future(send(api, body()))
    async with asyncio.timeout(60):
        while api.counts() != {"ready": 2_000}:
            await asyncio.sleep(0)
        sending.cancel()
        while not caplog.messages:
            await asyncio.sleep(0)
    assert caplog.messages == [
        "an import into q was cut off: its lines up to 2000 are dealt with, and perhaps some more"
    ]


async def test_lines_are_found_wherever_the_body_is_cut(api: Api):  # noqa: F811
    async def body() -> Any:
        for byte in lines({"payload": "ü"}, {"payload": 2}):
            yield bytes([byte])
            await asyncio.sleep(0)

    assert (await send(api, body()))["enqueued"] == 2


async def test_an_import_takes_no_key_and_no_unknown_parameter(api: Api):  # noqa: F811
    headers = {"Content-Type": NDJSON, "Idempotency-Key": "k"}
    answer = await api.call("POST", "/v1/enqueue", raw=b"{}", headers=headers)
    answer.problem(422, "bad_idempotency_key")
    for query in ("onerror=stop", "on_error=never", "from_line=0", "outcomes=maybe"):
        answer = await api.call("POST", f"/v1/enqueue?{query}", raw=b"{}", headers={"Content-Type": NDJSON})
        answer.problem(422, "bad_parameter")
    answer = await api.call("POST", "/v1/enqueue?queue_name=a%20b", raw=b"{}", headers={"Content-Type": NDJSON})
    answer.problem(422, "bad_name")


async def test_strict_queues_refuse_the_unknown(tmp_path: Path):
    async with serving(open_store("memory", tmp_path), Settings(strict_queues=True)) as api:  # noqa: F811
        await api.call("PUT", "/v1/queues/q", {})
        summary = await send(api, lines({}, {"queue_name": "none"}, {}))
        assert [(one["line"], one["code"]) for one in summary["errors"]] == [(2, "queue_not_found")]
        assert api.counts() == {"ready": 2}
        refused = await api.call("POST", "/v1/enqueue", {"entries": [{"queue_name": "none"}]})
        assert refused.problem(404, "queue_not_found")["pointer"] == "/entries/0/queue_name"
