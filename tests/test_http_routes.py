"""Every route and what it may answer: the table, the description made from it, and one row of examples per answer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema
import msgspec
import pytest

from lmdbq import __version__
from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.openapi import describe
from lmdbq.daemon.routes import ROUTES
from lmdbq.daemon.settings import DEFAULTS, SETTINGS, Settings
from lmdbq.errors import Busy, CommitUnknown, Draining, NotCommitted, StoreClosed
from lmdbq.model import Problem, Refused
from tests.http_tools import Api, api, open_store, serving, validator  # noqa: F401

TASK = "tsk_LygHa16AHYF"
LEASE = f"{TASK}.1"
BODIES: dict[str, Any] = {
    "enqueue": {"entries": [{}]},
    "create_task": {},
    "dequeue": {},
    "report": {"reports": [{"lease": LEASE, "status": "succeeded"}]},
    "extend": {"leases": [{"lease": LEASE}]},
    "act_on_tasks": {"action": "cancel", "all": True},
    "edit_task": {"priority": 1},
    "put_queue": {},
    "patch_queue": {"paused": False},
    "put_group": {"max_running": 3, "rate": {"tokens": 5, "period_in_seconds": 1}},
    "patch_group": {"paused": True},
    "put_group_rule": {"max_running": 2, "priority": 1},
    "put_schedule": {"cron": "@daily", "task": {}},
    "patch_schedule": {"paused": False},
    "make_set": {},
    "put_worker": {"queue_names": ["mail"]},
}


def path_of(template: str) -> str:
    return (
        template.replace("{id}", TASK)
        .replace("{set_id}", "set_00000000001")
        .replace("{lease}", LEASE)
        .replace("{name}", "nobody")
        .replace("{key}", "acme")
        .replace("{pattern}", "a*")
    )


def rows(*, writes: bool = False) -> list[Any]:
    found = [route for route in ROUTES if route.operation != "stream" and (not writes or route.method != "GET")]
    return [pytest.param(route, id=route.operation) for route in found]


@pytest.mark.parametrize("route", rows())
async def test_each_route_answers_on_an_empty_store(api: Api, route: Any):  # noqa: F811
    answer = await api.call(route.method, path_of(route.path), BODIES.get(route.operation))
    assert answer.status in {*route.answers, *route.errors}
    head = route.method == "GET" and await api.call("HEAD", path_of(route.path))
    assert not head or (head.body == b"" and head.status == answer.status)


FAILURES = [
    (Busy("another process has the file"), 503, "busy"),
    (Draining("the daemon is stopping"), 503, "draining"),
    (NotCommitted("the transaction did not happen"), 503, "not_committed"),
    (CommitUnknown("the commit failed"), 503, "commit_unknown"),
    (StoreClosed("the store is closed"), 503, "store_closed"),
    (Refused("full", ()), 507, "full"),
    (Refused("internal", (Problem("internal", "", "ZeroDivisionError"),)), 500, "internal"),
]


@pytest.mark.parametrize(("failure", "status", "code"), FAILURES, ids=[code for _, _, code in FAILURES])
@pytest.mark.parametrize(
    "operation", ["enqueue", "create_task", "report", "extend", "put_queue", "succeed", "cancel_task"]
)
async def test_what_the_engine_cannot_do_has_its_status(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, operation: str, failure: Any, status: int, code: str
):
    route = next(one for one in ROUTES if one.operation == operation)
    async with serving(open_store("memory", tmp_path)) as api:  # noqa: F811

        async def call(*_: Any, **__: Any) -> Any:
            if isinstance(failure, Exception):
                raise failure
            return failure

        monkeypatch.setattr(api.engine, "call", call)
        body = BODIES.get(operation, {})
        async with api.session.request(route.method, api.url + path_of(route.path), json=body) as response:
            value = msgspec.json.decode(await response.read())
            assert (response.status, value["code"]) == (status, code)
            assert "ZeroDivisionError" not in value["detail"]
            assert ("Retry-After" in response.headers) == (status == 503)


async def test_a_draining_daemon_refuses_what_begins_new_work_and_takes_reports(api: Api):  # noqa: F811
    await api.enqueue({}, queue="q")
    lease = (await api.dequeue())["tasks"][0]["lease"]
    api.app[DAEMON].draining.set()
    api.engine.drain()
    for route in ROUTES:
        if route.role in ("producer", "admin"):
            answer = await api.call(route.method, path_of(route.path), BODIES.get(route.operation))
            answer.problem(503, "draining")
    assert (await api.dequeue(wait_in_seconds=60))["reason"] == "draining"
    ready = await api.call("GET", "/readyz")
    assert (ready.status, ready.value) == (503, {"status": "draining"})
    assert (await api.get("/livez")) == {"status": "ok"}
    assert (await api.post("/v1/extend", {"leases": [{"lease": lease}]}))["outcomes"][0]["outcome"] == "ok"
    assert await api.report(lease) == "ok"


@pytest.mark.parametrize(
    ("said", "status", "word"),
    [
        ({}, 200, "ok"),
        ({"lock_wait_seconds": 4.9}, 200, "ok"),
        ({"lock_wait_seconds": 5.1}, 503, "busy"),
        ({"failed": "the commit failed"}, 503, "failed"),
        ({"draining": True}, 503, "draining"),
    ],
)
async def test_readiness(
    api: Api,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    said: dict[str, Any],
    status: int,
    word: str,
):
    changed = msgspec.structs.replace(api.engine.status(), **said)
    with monkeypatch.context() as patched:
        patched.setattr(api.engine, "status", lambda: changed)
        answer = await api.call("GET", "/readyz")
    assert (answer.status, answer.value["status"]) == (status, word)


async def test_info_has_both_tables(api: Api):  # noqa: F811
    info = await api.get("/v1/info")
    assert (info["version"], info["durability"]) == (__version__, "full")
    assert [row["name"] for row in info["settings"]] == [row.name for row in SETTINGS]
    assert [row["name"] for row in info["defaults"]] == [row.name for row in DEFAULTS]
    assert info["store"]["kind"] in ("memory", "lmdb")


async def test_metrics_count_what_is_there(api: Api):  # noqa: F811
    await api.enqueue({"type": "a"}, {"type": "a"}, {"type": "b"})
    await api.dequeue()
    text = (await api.call("GET", "/metrics")).body.decode()
    for line in [
        'lmdbq_tasks{queue="q",state="ready",type="a"} 1.0',
        'lmdbq_tasks{queue="q",state="running",type="a"} 1.0',
        'lmdbq_tasks{queue="q",state="ready",type="b"} 1.0',
        'lmdbq_task_events_total{event="enqueued",queue="q"} 3.0',
        'lmdbq_http_requests_total{operation="enqueue",status="200"} 1.0',
        'lmdbq_http_request_seconds_count{operation="dequeue"} 1.0',
        "lmdbq_draining 0.0",
    ]:
        assert line in text.splitlines(), line


async def test_the_page_at_the_root_leads_on(api: Api):  # noqa: F811
    page = await api.get("/")
    for path in [page["openapi"], *page["links"].values()]:
        assert (await api.call("GET", path)).status == 200


# --- the description --------------------------------------------------------------------------------------------------


def refs(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if "$ref" in value else set()
        return own.union(*map(refs, value.values()))
    return set().union(*map(refs, value)) if isinstance(value, list) else set()


async def test_the_description_is_served_and_whole(api: Api):  # noqa: F811
    served = await api.get("/openapi.json")
    assert served == msgspec.json.decode(msgspec.json.encode(describe()))
    operations = [one for path in served["paths"].values() for one in path.values()]
    ids = [one["operationId"] for one in operations]
    assert sorted(ids) == sorted({route.operation for route in ROUTES})
    assert len(set(ids)) == len(ids)
    assert all(one["summary"] for one in operations)
    names = {f"#/components/schemas/{name}" for name in served["components"]["schemas"]}
    assert refs(served) == names
    for name, schema in served["components"]["schemas"].items():
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["description"], name


def test_no_object_of_an_answer_is_described_in_place():
    for path in describe()["paths"].values():
        for operation in path.values():
            for status, answer in operation["responses"].items():
                for content in answer.get("content", {}).values():
                    schema = content["schema"]
                    in_place = schema.get("type") == "object" and operation["operationId"] != "openapi"
                    assert not in_place, (operation["operationId"], status)


def test_the_description_refuses_an_answer_with_a_field_nobody_described():
    schema = {"$ref": "#/components/schemas/CountAnswer"}
    validator(schema).validate({"count": 1})
    for wrong in ({"count": -1}, {"count": "1"}, {}, {"count": 1, "more": 2}):
        with pytest.raises(jsonschema.ValidationError):
            validator(schema).validate(wrong)


def test_every_setting_has_a_row():
    assert [row.name for row in SETTINGS] == list(Settings.__struct_fields__)
    assert len({row.env for row in SETTINGS}) == len(SETTINGS)
