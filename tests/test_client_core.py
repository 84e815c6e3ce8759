"""What the client says and understands, without a socket: every verb's request, and every kind of answer."""

from __future__ import annotations

import base64
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmdbq.client import core, core_actions, reports
from lmdbq.client.address import parse_where
from lmdbq.client.verbs import subscription
from lmdbq.errors import InvalidInput, LmdbqError, Refusal
from lmdbq.ids import parse_id
from lmdbq.wire.answers import EnqueueAnswer, TaskAnswer
from lmdbq.wire.shapes import EntryBody, ExtendEntry, ReportEntry

ID = "tsk_00000000010"
LEASE = f"{ID}.1"
CLAIM = {"queue_names": ["mail"], "limit": 2, "wait_in_seconds": 20.0, "claim_id": "c1"}
claim = subscription("mail", limit=2, wait=20.0, claim_id="c1")
done = ReportEntry(lease=LEASE, status="succeeded")
said = {"lease": LEASE, "status": "succeeded"}

REQUESTS = [
    # request, method and target, body, may be repeated, seconds the answer may be held back
    (
        core.enqueue([{"type": "a"}], queue_name="mail", return_tasks=False, key="k"),
        "POST /v1/enqueue",
        {"queue_name": "mail", "return_tasks": False, "entries": [{"type": "a"}]},
        True,
        0,
    ),
    (core.dequeue(claim), "POST /v1/dequeue", {**CLAIM}, True, 20),
    (core.dequeue(msgspec.structs.replace(claim, claim_id=None)), "POST /v1/dequeue", None, False, 20),
    (core.report([done]), "POST /v1/report", {"reports": [said]}, True, 0),
    (core.report([done], claim), "POST /v1/report", {"reports": [said], "dequeue": CLAIM}, True, 20),
    (core.report([done], msgspec.structs.replace(claim, claim_id=None)), "POST /v1/report", None, False, 20),
    (
        core.extend([ExtendEntry(lease=LEASE, keepalive_timeout_in_seconds=3)]),
        "POST /v1/extend",
        {"leases": [{"lease": LEASE, "keepalive_timeout_in_seconds": 3.0}]},
        True,
        0,
    ),
    (core.task(ID), f"GET /v1/tasks/{ID}", None, True, 0),
    (core.task(ID, wait=5, payload="none"), f"GET /v1/tasks/{ID}?wait_in_seconds=5&payload=none", None, True, 5),
    (core.task("../../x"), "GET /v1/tasks/..%2F..%2Fx", None, True, 0),
    (
        core.tasks({"queue_name": "a b", "state": ["dead", "ready"], "cursor": None, "tag": ""}),
        "GET /v1/tasks?queue_name=a+b&state=dead&state=ready",
        None,
        True,
        0,
    ),
    (core.count({"type": "x"}), "GET /v1/tasks/count?type=x", None, True, 0),
    (
        core_actions.actions("delete", {"type": "x", "tag": None}, every=False, dry_run=True, cursor=None, key="k"),
        "POST /v1/tasks/actions",
        {"action": "delete", "filter": {"type": "x"}, "dry_run": True},
        True,
        0,
    ),
    (
        core_actions.actions("delete", {}, every=True, dry_run=False, cursor="c", key="k"),
        "POST /v1/tasks/actions",
        {"action": "delete", "filter": {}, "all": True, "cursor": "c"},
        True,
        0,
    ),
    (core.cancel(ID), f"POST /v1/tasks/{ID}/cancel", {}, False, 0),
    (core.retry(ID), f"POST /v1/tasks/{ID}/retry", {}, False, 0),
    (core.edit(ID, {"priority": 3}), f"PATCH /v1/tasks/{ID}", {"priority": 3}, False, 0),
    (core.delete(ID), f"DELETE /v1/tasks/{ID}", None, False, 0),
    (core.workers(), "GET /v1/workers", None, True, 0),
    (core.register("a b", {"queue_names": ["q"]}), "PUT /v1/workers/a%20b", {"queue_names": ["q"]}, True, 0),
    (core.touch("a b", 0.5), "POST /v1/workers/a%20b/touch", {}, True, 0),
    (core.unregister("a b"), "DELETE /v1/workers/a%20b", None, True, 0),
    (core.queues(), "GET /v1/queues", None, True, 0),
    (core.queue("mail"), "GET /v1/queues/mail", None, True, 0),
    (core.put_queue("mail", {"max_running": 1}), "PUT /v1/queues/mail", {"max_running": 1}, True, 0),
    (core.patch_queue("mail", {"keep": None}), "PATCH /v1/queues/mail", {"keep": None}, True, 0),
    (core.delete_queue("mail"), "DELETE /v1/queues/mail", None, False, 0),
    (core.pause("mail"), "POST /v1/queues/mail/pause", {}, True, 0),
    (core.resume("mail"), "POST /v1/queues/mail/resume", {}, True, 0),
    (core.purge("mail"), "POST /v1/queues/mail/purge", {}, False, 0),
    (core.info(), "GET /v1/info", None, True, 0),
    (core.health(ready=True), "GET /readyz", None, False, 0),
    (core.health(ready=False), "GET /livez", None, False, 0),
]


@pytest.mark.parametrize(("request_", "line", "body", "repeatable", "wait"), REQUESTS)
def test_every_verb(request_: core.Request[object], line: str, body: object, repeatable: bool, wait: float):
    assert f"{request_.method} {request_.target}" == line
    if body is not None:
        assert json.loads(request_.body) == body
        assert request_.headers["Content-Type"] == "application/json"
    assert request_.repeatable is repeatable
    assert request_.wait_seconds == wait


def test_an_enqueue_carries_its_idempotency_key():
    request = core.enqueue([{}], queue_name=None, return_tasks=True, key="key-1")
    assert request.headers["Idempotency-Key"] == "key-1"


def test_entries_may_be_mappings_or_structs_and_bytes_travel_as_base64():
    entries = [{"payload": b"\xff\x00"}, EntryBody(type="b", payload=msgspec.Raw(b'{"x":1}'))]
    body = json.loads(core.enqueue(entries, queue_name=None, return_tasks=False, key="k").body)
    assert body["entries"] == [
        {"payload_base64": base64.b64encode(b"\xff\x00").decode()},
        {"type": "b", "payload": {"x": 1}},
    ]


@given(st.lists(st.integers(0, 2**63 - 1), min_size=2, max_size=2), st.binary(min_size=8, max_size=8))
def test_keys_sort_as_their_times_do(walls: list[int], noise: bytes):
    earlier, later = sorted(walls)
    assert core.key_at(earlier, noise) <= core.key_at(later, noise)
    assert len(core.key_at(earlier, noise)) <= 64


def test_answers_are_structs_and_what_a_newer_daemon_adds_is_ignored():
    body = (
        b'{"outcomes":[{"id":"%s","outcome":"enqueued","deduped":false,"queue_name":"q","state":"ready",' % ID.encode()
    )
    body += b'"priority":0,"colour":"red"}],"more":1}'
    request = core.enqueue([{}], queue_name=None, return_tasks=False, key="k")
    answer = core.interpret(request, 200, "application/json", body)
    assert isinstance(answer, EnqueueAnswer)
    assert answer.outcomes[0].id == ID


def test_an_answer_without_a_body():
    assert core.interpret(core.delete(ID), 204, "", b"") is None


@pytest.mark.parametrize("body", [b"<html>", b"", b'{"queues": 3}', b"[]"])
def test_an_answer_that_no_daemon_gives_is_an_error(body: bytes):
    with pytest.raises(LmdbqError, match="no answer of an lmdbq daemon"):
        core.interpret(core.queues(), 200, "application/json", body)


def problem(status: int, code: str, *problems: dict[str, str]) -> bytes:
    said = {"type": "x", "title": "t", "status": status, "code": code, "detail": "do this", "request_id": "r"}
    return json.dumps({**said, "problems": list(problems)} if problems else said).encode()


def test_wrong_values_are_invalid_input_with_every_problem():
    first = {"code": "bad_name", "pointer": "/entries/0/type", "detail": "no"}
    second = {"code": "duplicate", "pointer": "/entries/1/dedupe_key", "detail": "taken", "holder": ID}
    with pytest.raises(InvalidInput) as raised:
        core.interpret(core.queues(), 422, "application/problem+json", problem(422, "bad_name", first, second))
    assert [each.pointer for each in raised.value.problems] == ["/entries/0/type", "/entries/1/dedupe_key"]
    assert raised.value.problems[1].holder == parse_id(ID)


@pytest.mark.parametrize(
    ("status", "code"), [(401, "unauthorized"), (404, "not_found"), (409, "conflict"), (507, "full")]
)
def test_a_refusal_has_status_reason_and_what_to_do(status: int, code: str):
    with pytest.raises(Refusal) as raised:
        core.interpret(core.queues(), status, "application/problem+json", problem(status, code))
    assert (raised.value.status, raised.value.reason, raised.value.detail) == (status, code, "do this")


@pytest.mark.parametrize(("kind", "body"), [("text/html", b"<html>"), ("application/json", b"not json"), ("", b"")])
def test_a_refusal_in_foreign_words_is_a_refusal_too(kind: str, body: bytes):
    with pytest.raises(Refusal) as raised:
        core.interpret(core.queues(), 502, kind, body)
    assert (raised.value.status, raised.value.reason) == (502, "http_502")


def task_with(**more: object) -> TaskAnswer:
    base = {"id": ID, "queue_name": "q", "type": "t", "priority": 0, "created_at": 0, "scheduled_at": 0}
    rest = {"expires_at": 0, "dedupe_key": "", "attempts": 0, "deliveries": 0, "state": "ready"}
    return msgspec.json.decode(json.dumps({**base, **rest, **more}), type=TaskAnswer)


def test_payload_and_result_are_json_or_bytes_or_none():
    assert core.payload_of(task_with(payload={"a": [1]})) == {"a": [1]}
    assert core.payload_of(task_with(payload=None)) is None
    assert core.payload_of(task_with(payload_base64="/wA=")) == b"\xff\x00"
    assert core.payload_of(task_with()) is None
    assert core.result_of(task_with(result=0)) == 0
    assert core.result_of(task_with(result_base64="/wA=")) == b"\xff\x00"
    assert core.result_of(task_with()) is None


def test_success_with_json_with_bytes_and_with_nothing():
    encode = msgspec.json.encode
    assert json.loads(encode(reports.succeeded(LEASE, {"a": 1}))) == {**said, "result": {"a": 1}}
    assert json.loads(encode(reports.succeeded(LEASE, b"\xff\x00")))["result_base64"] == "/wA="
    assert json.loads(encode(reports.succeeded(LEASE))) == said
    with pytest.raises(InvalidInput, match="/result"):
        reports.succeeded(LEASE, object())


@pytest.mark.parametrize(
    "where", ["", "x", "ftp://h", "http://", "http://h:port", "unix://host/path", "./dir", "http://h:99999"]
)
def test_a_wrong_address_says_what_one_looks_like(where: str):
    with pytest.raises(InvalidInput, match=r"http://127\.0\.0\.1:7325"):
        parse_where(where)


def test_addresses():
    assert parse_where("http://[::1]:80/x/") == ("http", "::1", 80, "/x")
    assert parse_where("https://queue.example") == ("https", "queue.example", 443, "")
    assert parse_where("unix:/run/a%20b") == ("unix", "localhost", 0, "/run/a b")
