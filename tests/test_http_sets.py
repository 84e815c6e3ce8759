"""Sets over HTTP, on both stores: made, joined, closed, waited for, listed, deleted; what is refused, and how."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from lmdbq.daemon.settings import Settings
from lmdbq.limits import SECOND_NS
from tests.http_tools import Api, api, open_store, serving

__all__ = ["api"]
REPORT = {"queue_name": "after", "type": "report"}


async def make(api: Api, **fields: Any) -> Any:
    made = await api.call("POST", "/v1/sets", {"callback": REPORT, **fields})
    assert made.status == 201, made.body
    return made.value


async def followers(api: Api) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = (await api.get("/v1/tasks?queue_name=after"))["tasks"]
    return found


async def finish(api: Api, status: str = "succeeded") -> None:
    (task,) = (await api.dequeue())["tasks"]
    assert await api.report(task["lease"], status, **({"retry": False} if status == "failed" else {})) == "ok"


async def test_a_set_is_made_joined_closed_and_followed(api: Api):
    made = await make(api)
    assert (made["state"], made["condition"], made["members"]) == ("open", "all", 0)
    assert made["callback"] == REPORT
    assert made["keep_in_seconds"] == 7 * 86_400
    id = made["id"]

    enqueued = await api.enqueue({"type": "a", "set_id": id}, {"type": "b", "set_id": id})
    assert (await api.get(f"/v1/tasks/{enqueued['tasks'][0]['id']}"))["set_id"] == id
    closed = await api.call("POST", f"/v1/sets/{id}/close")
    assert (closed.status, closed.value["state"], closed.value["pending"]) == (200, "closed", 2)
    (first,) = (await api.dequeue())["tasks"]
    assert first["set_id"] == id
    assert await api.report(first["lease"]) == "ok"
    await finish(api)

    met = await api.get(f"/v1/sets/{id}")
    assert (met["state"], met["members"], met["succeeded"], met["pending"]) == ("met", 2, 2, 0)
    assert met["remove_at"] == met["ended_at"] + 7 * 86_400 * SECOND_NS
    (task,) = await followers(api)
    assert (task["type"], task["callback_of"]) == ("report", id)
    told = {"members": 2, "succeeded": 2, "dead": 0, "cancelled": 0, "expired": 0, "deleted": 0}
    assert task["payload"] == {"set_id": id, "state": "met", **told}
    (claimed,) = (await api.dequeue("after"))["tasks"]
    assert claimed["callback_of"] == id


async def test_all_in_one_request(api: Api):
    body = {"condition": "finished", "queue_name": "q", "entries": [{"type": "a"}, {"type": "b"}], "close": True}
    made = await make(api, **body, keep_in_seconds=60)
    assert (made["state"], made["pending"], made["condition"]) == ("closed", 2, "finished")
    assert [one["outcome"] for one in made["outcomes"]] == ["enqueued"] * 2

    await finish(api)
    await finish(api, "failed")

    met = await api.get(f"/v1/sets/{made['id']}")
    assert (met["state"], met["succeeded"], met["dead"]) == ("met", 1, 1)
    listed = (await api.get(f"/v1/tasks?set_id={made['id']}"))["tasks"]
    assert [task["type"] for task in listed] == ["b"], "of the other nothing is kept"
    assert (await api.get(f"/v1/tasks/count?set_id={made['id']}"))["count"] == 1


async def test_the_last_members_come_with_the_close(api: Api):
    id = (await make(api))["id"]
    closed = await api.post(f"/v1/sets/{id}/close", {"entries": [{"type": "a"}], "queue_name": "q"})
    assert (closed["state"], closed["members"]) == ("closed", 1)
    assert closed["outcomes"][0]["queue_name"] == "q"


async def test_an_unmet_set_is_followed_by_what_it_says(api: Api):
    made = await make(api, on_unmet={"queue_name": "after", "type": "sorry", "payload": 5}, entries=[{}], close=True)
    await api.post(f"/v1/tasks/{made['outcomes'][0]['id']}/cancel")
    assert [(task["type"], task["payload"]) for task in await followers(api)] == [("sorry", 5)]
    assert (await api.get(f"/v1/sets/{made['id']}"))["state"] == "unmet"


async def test_all_members_are_cancelled_by_a_filter(api: Api):
    made = await make(api, entries=[{}, {}], close=True)
    done = await api.post("/v1/tasks/actions", {"action": "cancel", "filter": {"set_id": made["id"]}})
    assert done["changed"] == 2
    assert (await api.get(f"/v1/sets/{made['id']}"))["cancelled"] == 2


async def test_a_running_member_adds_with_its_lease(api: Api):
    made = await make(api, entries=[{"queue_name": "q"}], close=True)
    entry = {"type": "more", "set_id": made["id"]}
    refused = await api.call("POST", "/v1/enqueue", {"entries": [entry]})
    assert refused.problem(409, "set_closed")["pointer"] == "/entries/0/set_id"
    (task,) = (await api.dequeue())["tasks"]

    await api.enqueue(entry, lease=task["lease"])

    assert await api.report(task["lease"]) == "ok"
    assert (await api.get(f"/v1/sets/{made['id']}"))["pending"] == 1
    await finish(api)
    assert len(await followers(api)) == 1


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"condition": "most"}, "/condition", "bad_value"),
        ({"callback": {"on_dead": {}}}, "/callback/on_dead", "not_in_template"),
        ({"on_unmet": {"set_id": "set_00000000001"}}, "/on_unmet/set_id", "not_in_template"),
        ({"callback": {"payload": "x" * 70_000}}, "/callback/payload", "payload_too_large"),
        ({"entries": [{"set_id": "set_00000000001"}]}, "/entries/0/set_id", "both_given"),
        ({"entries": [{"type": "no blanks"}]}, "/entries/0/type", "bad_name"),
        ({"keep_in_seconds": -1}, "/keep_in_seconds", "out_of_range"),
    ],
)
async def test_what_is_wrong_is_named(api: Api, body: dict[str, Any], pointer: str, code: str):
    refused = (await api.call("POST", "/v1/sets", body)).problem(422, code)
    assert refused["problems"][0]["pointer"] == pointer
    assert (await api.get("/v1/sets"))["sets"] == []


async def test_what_cannot_be_joined_or_found(api: Api):
    decided = (await make(api, close=True))["id"]
    for id, status, code in (
        ("set_00000000001", 404, "set_not_found"),
        (decided, 409, "set_decided"),
    ):
        (await api.call("POST", "/v1/enqueue", {"entries": [{"set_id": id}]})).problem(status, code)
    (await api.call("POST", "/v1/tasks", {"set_id": "tsk_00000000001"})).problem(422, "bad_value")
    (await api.call("POST", "/v1/enqueue", {"entries": [{}], "lease": "no lease"})).problem(422, "bad_value")
    (await api.call("PUT", "/v1/schedules/s", {"cron": "@daily", "task": {"set_id": decided}})).problem(
        422, "bad_value"
    )
    for id in ("set_00000000001", "nothing"):
        (await api.call("GET", f"/v1/sets/{id}")).problem(404, "set_not_found")
        (await api.call("POST", f"/v1/sets/{id}/close")).problem(404, "set_not_found")
        (await api.call("DELETE", f"/v1/sets/{id}")).problem(404, "set_not_found")
    (await api.call("GET", "/v1/sets?state=over")).problem(422, "bad_parameter")


async def test_pages_states_and_deletion(api: Api):
    ids = [(await make(api))["id"] for _ in range(3)]
    await api.post(f"/v1/sets/{ids[1]}/close")
    page = await api.get("/v1/sets?limit=2")
    assert [one["id"] for one in page["sets"]] == ids[:2]
    rest = await api.get(f"/v1/sets?limit=2&cursor={page['next']}")
    assert [one["id"] for one in rest["sets"]] == ids[2:]
    assert "next" not in rest
    assert [one["id"] for one in (await api.get("/v1/sets?state=met,unmet"))["sets"]] == [ids[1]]

    assert (await api.call("DELETE", f"/v1/sets/{ids[0]}")).status == 204
    (await api.call("GET", f"/v1/sets/{ids[0]}")).problem(404, "set_not_found")


async def test_a_wait_ends_when_the_set_is_decided(api: Api):
    made = await make(api, entries=[{"queue_name": "q"}], close=True)
    waiting = asyncio.create_task(api.get(f"/v1/sets/{made['id']}?wait_in_seconds=30"))
    await finish(api)
    assert (await waiting)["state"] == "met"
    assert (await api.get(f"/v1/sets/{made['id']}?wait_in_seconds=30"))["state"] == "met"


async def test_a_repeated_request_makes_one_set(api: Api):
    key = {"Idempotency-Key": "k"}
    body = {"entries": [{}], "close": True}
    first, again = [await api.call("POST", "/v1/sets", body, headers=key) for _ in range(2)]
    assert first.value == again.value
    assert len((await api.get("/v1/sets"))["sets"]) == 1
    (await api.call("POST", "/v1/sets", {}, headers=key)).problem(422, "key_reused")


async def test_messagepack_and_strict_queues(api: Api):
    packed = {"Content-Type": "application/msgpack"}
    raw = msgspec.msgpack.encode({"callback": {"payload": b"\0\1"}, "entries": [{"payload": b"\2"}]})
    made = await api.call("POST", "/v1/sets", raw=raw, headers=packed)
    assert made.status == 201, made.body
    assert msgspec.msgpack.decode(made.body)["callback"]["payload"] == b"\0\1"


async def test_with_strict_queues_members_need_one(tmp_path: Any):
    async with serving(open_store("memory", tmp_path), Settings(strict_queues=True)) as api:
        (await api.call("POST", "/v1/sets", {"entries": [{}]})).problem(404, "queue_not_found")
        assert (await api.get("/v1/sets"))["sets"] == []
