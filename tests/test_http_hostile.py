"""Requests that nobody honest sends: each gets a precise 4xx, changes nothing, and the next honest one is served."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest

from lmdbq import limits
from lmdbq.daemon import replies
from tests.http_tools import JSON, MSGPACK, NDJSON, Api, api  # noqa: F401

DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "not_parseable"),
        (b"{", 400, "not_parseable"),
        (b"\xff\xfe", 400, "not_parseable"),
        (b'{"entries":[{"payload":"\xff"}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":"\xed\xa0\x80"}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":NaN}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":Infinity}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":"\\ud800"}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":"a\nb"}]}', 400, "not_parseable"),
        (b'{"entries":[{"payload":1e999}]}', 422, "payload_number"),
        (b'{"entries":[{"payload":-1e999}]}', 422, "payload_number"),
        (b'{"entries":[{"payload":' + b"9" * 5000 + b"}]}", 422, "payload_number"),
        (b'{"entries":[{"payload":' + DEEP, 422, "payload_depth"),
        (b'{"entries":[{"metadata":' + DEEP, 422, "payload_depth"),
        (b'{"entries":[{"tags":' + DEEP, 422, None),
        (b'{"x":' * 100_000, 422, None),
        (DEEP, 422, None),
        (b'{"entries":[{"payload":' + b"[" * 300 + b"]" * 300 + b"}]}", 422, "payload_depth"),
        (b'{"entries":[{"priority":' + b"9" * 5000 + b"}]}", 422, "out_of_range"),
        (b'{"entries":[{"priority":1e999}]}', 422, None),
        (b'{"entries":[{"delay_in_seconds":1e999}]}', 422, "out_of_range"),
        (b'{"entries":[{"scheduled_at":' + b"9" * 5000 + b"}]}", 422, "out_of_range"),
        (b'{"entries":[{"payload":"' + b"x" * (limits.PAYLOAD_BYTES_MAX + 1) + b'"}]}', 422, "payload_too_large"),
        (b'{"entries":[{"' + b"k" * 100_000 + b'":1}]}', 422, "unknown_field"),
        (b'{"entries":[{"__class__":1}]}', 422, "unknown_field"),
        (b'{"entries":null}', 422, "wrong_type"),
        (b"null", 422, "wrong_type"),
        (b'"entries"', 422, "wrong_type"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
async def test_hostile_json(api: Api, body: bytes, status: int, code: str | None):  # noqa: F811
    answer = await api.call("POST", "/v1/enqueue", raw=body)
    assert answer.status == status, answer.body[:300]
    if code is not None:
        answer.problem(status, code)
    assert len(answer.body) < 10_000
    assert api.counts("default") == {}
    await api.enqueue({})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x81",
        b"\x91" * 100_000,
        b"\x81\xa7entries\x91" + b"\x81\xa7payload" + b"\x91" * 100_000,
        b"\x81\xa7entries\x91\x81\xa7payload\xc7\x01\x05x",
        b"\x81\xa7entries\x91\x81\xa7payload\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
        b"\x81\xa7entries\x91\x81\xa7payload\xa1\xff",
        b"\x81\xa7entries\x91\x81\xa7payload\x81\x01\x02",
        b"\x81\xa7entries\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x81\xa7entries\x91\x81\xb0delay_in_seconds\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00",
    ],
    ids=lambda value: repr(value[:40]),
)
async def test_hostile_messagepack(api: Api, body: bytes):  # noqa: F811
    answer = await api.call("POST", "/v1/enqueue", raw=body, headers={"Content-Type": MSGPACK})
    assert answer.status in (400, 422), answer.body[:300]
    assert api.counts("default") == {}


async def test_not_a_number_is_no_number(api: Api):  # noqa: F811
    body = msgspec.msgpack.encode({"wait_in_seconds": float("nan")})
    answer = await api.call("POST", "/v1/dequeue", raw=body, headers={"Content-Type": MSGPACK})
    answer.problem(422, "out_of_range")


async def test_of_a_field_that_is_said_twice_the_last_counts(api: Api):  # noqa: F811
    raw = b'{"entries":[{"priority":1,"priority":2,"payload":{"a":1,"a":2}}]}'
    answer = await api.call("POST", "/v1/enqueue", raw=raw)
    assert (answer.value["tasks"][0]["priority"], answer.value["tasks"][0]["payload"]) == (2, {"a": 2})


async def test_a_body_above_the_limit_is_refused_whatever_it_says_of_its_length(api: Api):  # noqa: F811
    large = b" " * (limits.BODY_BYTES_MAX + 1)
    (await api.call("POST", "/v1/enqueue", raw=large)).problem(413, "body_too_large")

    async def chunks() -> Any:
        for _ in range(limits.BODY_BYTES_MAX // 2**20 + 2):
            yield b" " * 2**20

    (await api.call("POST", "/v1/enqueue", raw=chunks())).problem(413, "body_too_large")


async def test_a_length_above_the_limit_is_refused_before_the_body_is_awaited(api: Api):  # noqa: F811
    host, _, port = api.url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    headers = {"Host": host, "Content-Type": JSON, "Content-Length": limits.BODY_BYTES_MAX + 1}
    head = ["POST /v1/enqueue HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    writer.write("\r\n".join(head).encode())
    async with asyncio.timeout(60):
        assert (await reader.readline()).split()[1] == b"413"
    writer.close()


@pytest.mark.parametrize("media_type", [JSON, NDJSON])
async def test_a_body_that_is_not_in_the_encoding_it_names_is_the_senders_mistake(api: Api, media_type: str):  # noqa: F811
    headers = {"Content-Encoding": "gzip", "Content-Type": media_type}
    (await api.call("POST", "/v1/enqueue", raw=b"no gzip", headers=headers)).problem(400, "bad_encoding")
    for unknown in ("lzma", "gzip, gzip", "x-gzip"):
        said = await api.call("POST", "/v1/enqueue", raw=b"{}", headers=headers | {"Content-Encoding": unknown})
        said.problem(415, "content_encoding")


async def test_a_body_that_does_not_arrive_is_given_up(api: Api, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    monkeypatch.setattr(replies, "BODY_SECONDS", 0.05)
    never = asyncio.Event()

    async def slow() -> Any:
        yield b'{"entries":'
        await never.wait()

    (await api.call("POST", "/v1/enqueue", raw=slow())).problem(408, "slow_body")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v2/tasks", 404, "no_such_path"),
        ("GET", "/v1/tasks/", 404, "no_such_path"),
        ("GET", "/v1/dequeue", 405, "method"),
        ("DELETE", "/v1/enqueue", 405, "method"),
        ("GET", "/v1/tasks/..%2f..%2fetc", 404, "not_found"),
        ("GET", "/v1/tasks/%00", 404, "not_found"),
        ("GET", "/v1/queues/" + "x" * 5000, 404, "queue_not_found"),
        ("GET", "/v1/queues/%ff%fe", 404, "queue_not_found"),
    ],
)
async def test_paths_that_are_none(api: Api, method: str, path: str, status: int, code: str):  # noqa: F811
    from yarl import URL

    async with api.session.request(method, URL(api.url + path, encoded=True)) as response:
        body = await response.read()
    assert (response.status, json.loads(body)["code"]) == (status, code)
    assert len(body) < 2000


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (b"Host: localhost\r\nContent-Type: \xff\r\nIdempotency-Key: k", 415),
        (b"Host: \xff.example", 403),
        (b"Host: localhost\r\nOrigin: http://[", 403),
        (b"Host: localhost\r\nOrigin: http://[x]", 403),
        (b"Host: localhost\r\nContent-Type: \xff", 415),
    ],
)
async def test_headers_that_are_none_are_refused_in_the_one_shape(api: Api, header: bytes, status: int):  # noqa: F811
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"POST /v1/tasks HTTP/1.1\r\nConnection: close\r\nContent-Length: 2\r\n" + header + b"\r\n\r\n{}")
    async with asyncio.timeout(60):
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert int(head.split()[1]) == status, head
    assert json.loads(body)["status"] == status


async def test_an_empty_body_may_have_a_key_and_any_type(api: Api):  # noqa: F811
    made = await api.post("/v1/sets", {})
    host, port = api.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/sets/{made['id']}/close HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nIdempotency-Key: k\r\n"
    writer.write(head.encode() + b"Content-Type: \xff\r\nContent-Length: 0\r\n\r\n")
    async with asyncio.timeout(60):
        assert (await reader.read()).split()[1] == b"200"
    writer.close()


@pytest.mark.parametrize("name", ["priority_min", "attempts_max", "created_from", "ended_before"])
@pytest.mark.parametrize("text", ["1" * 5000, "-" + "1" * 5000, "1" * 21, "1" * 20, "²", "٣"])
async def test_a_number_that_is_none_or_larger_than_any_is_refused(api: Api, name: str, text: str):  # noqa: F811
    assert (await api.call("GET", f"/v1/tasks?{name}={text}")).status == 422


@pytest.mark.parametrize("text", ["x" * 129, "€" * 43, "a\n"])
async def test_an_external_id_that_no_task_can_have_is_found_nowhere(api: Api, text: str):  # noqa: F811
    from urllib.parse import quote

    path = f"/v1/tasks/by-external-id/{quote(text)}"
    (await api.call("GET", path)).problem(404, "not_found")
    (await api.call("GET", f"/v1/tasks?external_id={quote(text)}")).problem(
        422, "bad_parameter" if len(text) > 128 else "out_of_range" if text[0] == "€" else "bad_value"
    )
    body = {"action": "delete", "filter": {"external_id": text}}
    assert (await api.call("POST", "/v1/tasks/actions", body)).status == 422


async def test_an_unknown_parameter_is_refused_where_none_is_known(api: Api):  # noqa: F811
    for path in ("/v1/enqueue", "/v1/dequeue", "/v1/tasks", "/v1/report", "/v1/extend"):
        (await api.call("POST", f"{path}?limit=5", {})).problem(422, "bad_parameter")


async def test_a_broken_request_line_does_not_harm_the_daemon(api: Api):  # noqa: F811
    host, port = api.url.removeprefix("http://").split(":")
    for garbage in (
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(garbage)
        async with asyncio.timeout(60):
            assert (await reader.read()).startswith(b"HTTP/1.")
        writer.close()
    await api.enqueue({})


async def test_a_bug_is_a_500_that_names_its_line_in_the_log(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(api.store, "queues", broken)
    answer = await api.call("GET", "/v1/queues")
    problem = answer.problem(500, "internal")
    assert b"secret detail" not in answer.body
    assert problem["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
