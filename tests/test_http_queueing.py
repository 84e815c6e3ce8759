"""Enqueue, dequeue, report, extend over HTTP, and their singular twins."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import msgspec
import pytest
from aiohttp.test_utils import make_mocked_request

from lmdbq import limits
from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import memo_of
from tests.http_tools import MSGPACK, Api, api  # noqa: F401

# The request and the answer of another system's documentation, as its page shows them.
PAGE_REQUEST = r"""
{
  "entries": [
    {
      "payload": "{\"user_id\": 123, \"event_type\": \"updated\"}",
      "scheduled_at": 0,
      "expires_at": 0,
      "dedupe_key": "unique_key_123",
      "keepalive_timeout_in_seconds": 60,
      "retry_strategy": {
      },
      "overwrite_on_duplicate": []
    }
  ],
  "queue_name": "MyQueue1"
}
"""
PAGE_TASK_KEYS = {
    "id",
    "queue_name",
    "payload",
    "created_at",
    "scheduled_at",
    "expires_at",
    "dedupe_key",
    "attempts",
}


async def test_the_request_of_the_page_answers_in_its_shape(api: Api):  # noqa: F811
    answer = await api.call("POST", "/v1/enqueue", raw=PAGE_REQUEST.encode())
    assert answer.status == 200
    (task,) = answer.value["tasks"]
    assert task.keys() >= PAGE_TASK_KEYS
    assert task["payload"] == '{"user_id": 123, "event_type": "updated"}'
    assert (task["queue_name"], task["dedupe_key"], task["attempts"]) == ("MyQueue1", "unique_key_123", 0)
    assert task["scheduled_at"] == task["created_at"] == api.clock.wall_ns()
    again = await api.call("POST", "/v1/enqueue", raw=PAGE_REQUEST.encode())
    assert again.value["tasks"] == []
    assert again.value["outcomes"][0]["outcome"] == "skipped"
    assert again.value["outcomes"][0]["id"] == task["id"]


async def test_plain_and_other_entries_are_answered_alike(api: Api):  # noqa: F811
    plain = await api.enqueue({"payload": {"n": 1}, "type": "t", "priority": 3})
    other = await api.enqueue({"payload": {"n": 1}, "type": "t", "priority": 3, "tags": ["x"]})
    late = await api.enqueue({"payload": {"n": 1}, "type": "t", "priority": 3, "delay_in_seconds": 5})
    assert plain["tasks"][0].keys() == other["tasks"][0].keys() == late["tasks"][0].keys()
    assert {**plain["tasks"][0], "id": ""} == {**other["tasks"][0], "id": ""}
    assert (late["tasks"][0]["state"], late["tasks"][0]["scheduled_at"]) == (
        "scheduled",
        api.clock.wall_ns() + 5 * 10**9,
    )
    assert plain["outcomes"][0].keys() == late["outcomes"][0].keys()


async def test_a_thousand_entries_come_back_in_order(api: Api):  # noqa: F811
    answer = await api.enqueue(*({"payload": {"n": n}, "type": f"t{n % 3}"} for n in range(1000)))
    assert [task["payload"]["n"] for task in answer["tasks"]] == list(range(1000))
    assert [task["type"] for task in answer["tasks"]] == [f"t{n % 3}" for n in range(1000)]
    assert [one["id"] for one in answer["outcomes"]] == [task["id"] for task in answer["tasks"]]
    got = await api.dequeue(limit=1000)
    assert [task["payload"]["n"] for task in got["tasks"]] == list(range(1000))


async def test_without_tasks_only_outcomes_are_answered(api: Api):  # noqa: F811
    plain = await api.enqueue({"payload": 1}, {"payload": 2}, return_tasks=False)
    other = await api.enqueue({"payload": 1, "dedupe_key": "k"}, {"dedupe_key": "k"}, return_tasks=False)
    assert plain.keys() == other.keys() == {"outcomes"}
    assert [one["outcome"] for one in other["outcomes"]] == ["enqueued", "skipped"]


async def test_an_entry_may_name_its_own_queue(api: Api):  # noqa: F811
    answer = await api.enqueue({"queue_name": "other"}, {}, queue="q")
    assert [task["queue_name"] for task in answer["tasks"]] == ["other", "q"]
    nameless = await api.post("/v1/enqueue", {"entries": [{}]})
    assert (nameless["tasks"][0]["queue_name"], nameless["tasks"][0]["type"]) == ("default", "default")
    assert nameless["tasks"][0]["payload"] is None


async def test_overwrite_answers_the_task_as_it_is_now(api: Api):  # noqa: F811
    first = await api.enqueue({"payload": 1, "priority": 5, "dedupe_key": "k"})
    second = await api.enqueue(
        {"payload": 2, "priority": -5, "dedupe_key": "k", "overwrite_on_duplicate": ["payload"]},
        {"payload": 3, "dedupe_key": "k"},
    )
    (task,) = second["tasks"]
    assert (task["id"], task["payload"], task["priority"]) == (first["tasks"][0]["id"], 2, 5)
    assert [one["outcome"] for one in second["outcomes"]] == ["overwritten", "skipped"]
    assert [one["deduped"] for one in second["outcomes"]] == [True, True]


async def test_a_later_entry_of_a_batch_may_overwrite_an_earlier(api: Api):  # noqa: F811
    entry = {"dedupe_key": "k", "overwrite_on_duplicate": ["payload"]}
    answer = await api.enqueue({**entry, "payload": 1}, {**entry, "payload": 2})
    assert [task["payload"] for task in answer["tasks"]] == [2]
    assert [one["outcome"] for one in answer["outcomes"]] == ["enqueued", "overwritten"]


async def test_a_rejected_duplicate_refuses_the_whole_batch_and_names_the_holder(api: Api):  # noqa: F811
    holder = (await api.enqueue({"dedupe_key": "k"}))["tasks"][0]["id"]
    entries = [{}, {"dedupe_key": "k", "on_duplicate": "reject"}]
    answer = await api.call("POST", "/v1/enqueue", {"queue_name": "q", "entries": entries})
    problem = answer.problem(409, "duplicate")
    assert problem["pointer"] == "/entries/1/dedupe_key"
    assert problem["problems"][0]["holder"] == holder
    assert api.counts() == {"ready": 1}


async def test_skipped_in_another_queue_says_where_the_task_is(api: Api):  # noqa: F811
    await api.enqueue({"dedupe_key": "k", "dedupe_scope": "global", "priority": 7}, queue="first")
    answer = await api.enqueue({"dedupe_key": "k", "dedupe_scope": "global"}, queue="second")
    assert (answer["outcomes"][0]["queue_name"], answer["outcomes"][0]["priority"]) == ("first", 7)


async def test_expiring_before_it_may_start_is_refused(api: Api):  # noqa: F811
    answer = await api.call("POST", "/v1/enqueue", {"entries": [{"delay_in_seconds": 10, "expires_in_seconds": 5}, {}]})
    assert answer.problem(422, "expires_too_early")["pointer"] == "/entries/0/expires_at"


# --- workers ----------------------------------------------------------------------------------------------------------


async def test_a_task_goes_through_its_life(api: Api):  # noqa: F811
    await api.enqueue({"payload": {"a": 1}, "type": "t", "tags": ["x"], "metadata": {"trace": "1"}})
    (task,) = (await api.dequeue(keepalive_timeout_in_seconds=30))["tasks"]
    assert task["lease"] == f"{task['id']}.1"
    assert (task["deliveries"], task["attempts"], task["max_attempts"], task["state"]) == (1, 1, 5, "running")
    assert (task["payload"], task["tags"], task["metadata"]) == ({"a": 1}, ["x"], {"trace": "1"})
    assert task["lease_expires_at"] == api.clock.wall_ns() + 30 * 10**9
    extended = await api.post(
        "/v1/extend", {"leases": [{"lease": task["lease"], "keepalive_timeout_in_seconds": 90, "progress": 0.5}]}
    )
    assert extended["outcomes"] == [
        {
            "lease": task["lease"],
            "outcome": "ok",
            "lease_expires_at": api.clock.wall_ns() + 90 * 10**9,
            "cancel_requested": False,
        }
    ]
    assert (await api.get(f"/v1/tasks/{task['id']}"))["progress"] == 0.5
    assert await api.report(task["lease"], result={"sum": 3}) == "ok"
    ended = await api.get(f"/v1/tasks/{task['id']}")
    assert (ended["state"], ended["result"]) == ("succeeded", {"sum": 3})


async def test_tasks_claimed_together_show_each_its_own(api: Api):  # noqa: F811
    said = [{"type": "a"}, {"type": "a", "tags": ["x"]}, {"type": "a", "dedupe_key": "k"}, {"type": "b", "priority": 9}]
    await api.enqueue(*said, {"metadata": {"m": 1}})
    tasks = (await api.dequeue(limit=9))["tasks"]
    shown = [(task["type"], task["tags"], task["dedupe_key"], task["priority"], task["metadata"]) for task in tasks]
    assert shown == [
        ("a", [], "", 0, {}),
        ("a", ["x"], "", 0, {}),
        ("a", [], "k", 0, {}),
        ("default", [], "", 0, {"m": 1}),
        ("b", [], "", 9, {}),
    ]
    for claimed in tasks:
        stored = await api.get(f"/v1/tasks/{claimed['id']}")
        assert {name: stored[name] for name in claimed.keys() & stored.keys()} == {
            name: claimed[name] for name in claimed.keys() & stored.keys()
        }


async def test_empty_dequeues_say_why(api: Api):  # noqa: F811
    assert await api.dequeue() == {"tasks": [], "reason": "empty"}
    await api.enqueue({"delay_in_seconds": 7})
    assert await api.dequeue() == {"tasks": [], "reason": "empty", "retry_in_seconds": 7}
    await api.enqueue({})
    await api.post("/v1/queues/q/pause")
    assert (await api.dequeue())["reason"] == "paused"


async def test_a_parked_dequeue_is_served_by_an_enqueue(api: Api):  # noqa: F811
    parked = asyncio.ensure_future(api.dequeue(wait_in_seconds=30))
    while not api.engine.status().parked:
        await asyncio.sleep(0)
    await api.enqueue({"payload": "late"})
    assert (await parked)["tasks"][0]["payload"] == "late"


async def test_failed_and_released_reports(api: Api):  # noqa: F811
    await api.enqueue({})
    lease = (await api.dequeue())["tasks"][0]["lease"]
    assert await api.report(lease, "failed", error={"message": "no", "type": "E"}, delay_in_seconds=3) == "ok"
    assert await api.report(lease, "failed") == "ok"  # the same report again
    assert await api.report(lease) == "not_running"
    task = await api.get(f"/v1/tasks/{lease[:-2]}")
    assert (task["state"], task["failures"], task["due_at"]) == ("scheduled", 1, api.clock.wall_ns() + 3 * 10**9)
    assert task["errors"] == [{"at": api.clock.wall_ns(), "delivery": 1, "message": "no", "type": "E", "backtrace": ""}]
    api.clock.advance(3)
    lease = (await api.dequeue())["tasks"][0]["lease"]
    assert lease.endswith(".2")
    assert await api.report(lease, "released") == "ok"
    assert await api.report(lease[:-2] + ".1") == "stale_lease"
    assert (await api.get(f"/v1/tasks/{lease[:-2]}"))["state"] == "ready"


async def test_a_failure_without_retry_is_dead(api: Api):  # noqa: F811
    await api.enqueue({})
    lease = (await api.dequeue())["tasks"][0]["lease"]
    assert await api.report(lease, "failed", retry=False) == "ok"
    task = await api.get(f"/v1/tasks/{lease[:-2]}")
    assert (task["state"], task["reason"]) == ("dead", "no_retry")


async def test_report_and_dequeue_in_one_call(api: Api):  # noqa: F811
    await api.enqueue({"payload": 1}, {"payload": 2})
    lease = (await api.dequeue())["tasks"][0]["lease"]
    answer = await api.post(
        "/v1/report",
        {"reports": [{"lease": lease, "status": "succeeded"}], "dequeue": {"queue_names": ["q"]}},
    )
    assert answer["outcomes"] == [{"lease": lease, "outcome": "ok", "state": None}]
    assert answer["tasks"][0]["payload"] == 2
    last = await api.post(
        "/v1/report",
        {
            "reports": [{"lease": answer["tasks"][0]["lease"], "status": "succeeded"}],
            "dequeue": {"queue_names": ["q"]},
        },
    )
    assert (last["tasks"], last["reason"]) == ([], "empty")


async def test_a_claim_id_answers_the_same_leases_again(api: Api):  # noqa: F811
    await api.enqueue({}, {})
    first = await api.dequeue(claim_id="c1")
    again = await api.dequeue(claim_id="c1")
    assert first["tasks"][0]["lease"] == again["tasks"][0]["lease"]
    assert api.counts() == {"ready": 1, "running": 1}


async def test_a_caller_who_leaves_while_parked_gets_nothing(api: Api):  # noqa: F811
    parked = asyncio.ensure_future(api.dequeue(wait_in_seconds=60))
    while not api.engine.status().parked:
        await asyncio.sleep(0)
    parked.cancel()
    while api.engine.status().parked:
        await asyncio.sleep(0)
    await api.enqueue({})
    assert api.counts() == {"ready": 1}


async def test_an_answer_that_cannot_be_written_is_given_back(api: Api, monkeypatch: pytest.MonkeyPatch):  # noqa: F811
    from aiohttp import web

    await api.enqueue({}, {})
    broken = asyncio.Event()

    async def refuse(_self: Any, *_more: Any) -> None:
        broken.set()
        raise ConnectionResetError

    with monkeypatch.context() as patched:
        patched.setattr(web.Response, "write_eof", refuse)
        with pytest.raises(Exception, match=r"(?i)disconnect|reset|closed|EOF|connect"):
            await api.dequeue(limit=2)
    assert broken.is_set()
    assert api.counts() == {"ready": 2}
    assert (await api.dequeue())["tasks"][0]["attempts"] == 1


@pytest.mark.parametrize("kind", ["base64", "escapes"])
async def test_an_answer_is_bounded_whatever_the_payloads_become(api: Api, kind: str):  # noqa: F811
    """Bytes grow by a third in base64, control characters sixfold in JSON; what does not fit is given back."""
    payload = b"\x00" * 1_000_000 if kind == "base64" else "\x00" * 1_000_000
    for _ in range(3):
        await pack(
            api, "/v1/enqueue", {"queue_name": "q", "entries": [{"payload": payload}] * 3, "return_tasks": False}
        )
    seen = 0
    while seen < 9:
        answer = await api.call("POST", "/v1/dequeue", {"queue_names": ["q"], "limit": 100})
        assert len(answer.body) <= limits.CLAIM_BYTES_MAX
        tasks = answer.value["tasks"]
        assert tasks
        assert api.counts().get("running") == len(tasks)
        for task in tasks:
            await api.report(task["lease"])
        seen += len(tasks)
    assert api.counts() == {}


# --- singular twins ---------------------------------------------------------------------------------------------------


async def test_one_task_is_created_with_true_statuses(api: Api):  # noqa: F811
    new = await api.call("POST", "/v1/tasks", {"queue_name": "q", "dedupe_key": "k", "payload": 1})
    assert new.status == 201
    assert new.value["task"]["payload"] == 1
    same = await api.call("POST", "/v1/tasks", {"queue_name": "q", "dedupe_key": "k", "payload": 2})
    assert (same.status, same.value["outcome"]["outcome"]) == (200, "skipped")
    assert same.value["task"]["payload"] == 1
    body = {"queue_name": "q", "dedupe_key": "k", "payload": 2, "overwrite_on_duplicate": ["payload"]}
    over = await api.call("POST", "/v1/tasks", body)
    assert (over.status, over.value["task"]["payload"]) == (200, 2)
    rejected = await api.call("POST", "/v1/tasks", {"queue_name": "q", "dedupe_key": "k", "on_duplicate": "reject"})
    assert rejected.problem(409, "duplicate")["pointer"] == "/dedupe_key"


@pytest.mark.parametrize("verb", ["succeed", "fail", "release"])
async def test_one_lease_is_ended_with_true_statuses(api: Api, verb: str):  # noqa: F811
    await api.enqueue({})
    lease = (await api.dequeue())["tasks"][0]["lease"]
    path = f"/v1/leases/{lease}"
    extended = await api.call("POST", f"{path}/extend", {"keepalive_timeout_in_seconds": 5})
    assert (extended.status, extended.value["lease_expires_at"]) == (200, api.clock.wall_ns() + 5 * 10**9)
    assert (await api.call("POST", f"{path}/{verb}")).status == 204
    assert (await api.call("POST", f"{path}/extend")).status in (404, 409)
    stale = f"/v1/leases/{lease[:-1]}9/{verb}"
    gone = verb == "succeed"
    (await api.call("POST", stale, {})).problem(404 if gone else 409, "not_found" if gone else "stale_lease")
    (await api.call("POST", f"/v1/leases/nonsense/{verb}")).problem(404, "not_found")


# --- encodings --------------------------------------------------------------------------------------------------------


async def pack(api: Api, path: str, body: Any, accept: str = "*/*") -> Any:  # noqa: F811
    headers = {"Content-Type": MSGPACK, "Accept": accept}
    answer = await api.call("POST", path, raw=msgspec.msgpack.encode(body), headers=headers)
    assert answer.status == 200, answer.body
    assert answer.media_type == (accept if accept != "*/*" else MSGPACK)
    return answer.value


async def test_messagepack_both_ways(api: Api):  # noqa: F811
    entries = [{"payload": {"n": [1, 2.5, None, "ü"]}}, {"payload": b"\x00\xff"}, {"metadata": {"a": 1}}]
    put = await pack(api, "/v1/enqueue", {"queue_name": "q", "entries": entries})
    assert [task["payload"] for task in put["tasks"]] == [{"n": [1, 2.5, None, "ü"]}, b"\x00\xff", None]
    got = await pack(api, "/v1/dequeue", {"queue_names": ["q"], "limit": 9})
    assert [task["payload"] for task in got["tasks"]] == [{"n": [1, 2.5, None, "ü"]}, b"\x00\xff", None]
    assert got["tasks"][2]["metadata"] == {"a": 1}
    reports = [{"lease": task["lease"], "status": "succeeded", "result": b"\x01"} for task in got["tasks"]]
    done = await pack(api, "/v1/report", {"reports": reports})
    assert [one["outcome"] for one in done["outcomes"]] == ["ok"] * 3
    assert (await api.get(f"/v1/tasks/{got['tasks'][0]['id']}"))["result_base64"] == "AQ=="


async def test_a_payload_is_read_in_the_encoding_that_is_asked_for(api: Api):  # noqa: F811
    await pack(api, "/v1/enqueue", {"queue_name": "q", "entries": [{"payload": {"a": 1}}, {"payload": b"\x00"}]})
    await api.enqueue({"payload": {"b": 2}}, {"payload_base64": base64.b64encode(b"\x01").decode()})
    listed = (await api.get("/v1/tasks"))["tasks"]
    assert [task.get("payload", task.get("payload_base64")) for task in listed] == [{"a": 1}, "AA==", {"b": 2}, "AQ=="]
    got = await pack(api, "/v1/dequeue", {"queue_names": ["q"], "limit": 9})
    assert [task["payload"] for task in got["tasks"]] == [{"a": 1}, b"\x00", {"b": 2}, b"\x01"]
    for task in got["tasks"]:
        await api.report(task["lease"], "released")
    assert "payload_base64" in (await api.dequeue(limit=2))["tasks"][1]


async def test_accept_decides_the_answer(api: Api):  # noqa: F811
    assert (await pack(api, "/v1/enqueue", {"entries": [{"payload": 1}]}, accept="application/json"))["tasks"]
    answer = await api.call("POST", "/v1/dequeue", {}, headers={"Accept": MSGPACK})
    assert answer.media_type == MSGPACK


async def test_a_json_payload_keeps_its_text_on_one_line(api: Api):  # noqa: F811
    raw = b'{"queue_name": "q", "entries": [{"payload": {"a":\r\n 1.50,\n "b": "\\u00fc"}}]}'
    answer = await api.call("POST", "/v1/enqueue", raw=raw)
    assert b'"payload":{"a":   1.50,  "b": "\\u00fc"},' in answer.body
    assert answer.body.index(b"\n") == len(answer.body) - 1
    assert json.loads(answer.body)["tasks"][0]["payload"] == {"a": 1.5, "b": "ü"}


# --- idempotency ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/enqueue", {"queue_name": "q", "entries": [{"payload": 1}, {"payload": 2, "delay_in_seconds": 5}]}),
        ("/v1/tasks", {"queue_name": "q", "payload": 1}),
    ],
)
async def test_the_same_key_and_body_answer_the_same(api: Api, path: str, body: Any):  # noqa: F811
    key = {"Idempotency-Key": "key-1"}
    first = await api.call("POST", path, body, headers=key)
    before = api.counts()
    api.clock.advance(1)
    again = await api.call("POST", path, body, headers=key)
    assert (first.status, first.value) == (again.status, again.value)
    assert api.counts() == before
    other = await api.call("POST", path, {**body, "queue_name": "other"}, headers=key)
    other.problem(422, "key_reused")


async def test_a_key_belongs_to_its_path_its_format_and_its_body(api: Api):  # noqa: F811
    def hashed(path: str, media_type: str, body: bytes) -> bytes:
        headers = {"Idempotency-Key": "k", "Content-Type": media_type}
        memo = memo_of(make_mocked_request("POST", path, headers), api.app[DAEMON], body)
        assert memo is not None
        return memo.body_hash

    cases = [("/a", "x", b"1"), ("/b", "x", b"1"), ("/a", "y", b"1"), ("/a", "x", b"2")]
    assert len({hashed(*case) for case in cases}) == len(cases)
    assert hashed("/a", "x", b"1") == hashed("/a", "x", b"1")
    key = {"Idempotency-Key": "key-1"}
    await api.call("POST", "/v1/tasks", {"payload": 1}, headers=key)
    answer = await api.call("POST", "/v1/tasks/actions", {"action": "cancel", "all": True}, headers=key)
    answer.problem(422, "key_reused")


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_bad_key_is_refused(api: Api, key: str):  # noqa: F811
    answer = await api.call("POST", "/v1/tasks", {}, headers={"Idempotency-Key": key})
    answer.problem(422, "bad_idempotency_key")
    assert DAEMON in api.app
