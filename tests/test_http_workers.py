"""Workers over HTTP: they say what they are; their types are stored, they themselves are remembered for a minute."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import lmdbq
from lmdbq.client import registration
from lmdbq.client.http import HttpClient
from lmdbq.engine import registry
from lmdbq.model import TypePut, TypeSettings
from lmdbq.wire.problems import JSON_CODEC
from lmdbq.wire.registrations import read_registration
from tests.http_tools import Api, api  # noqa: F401
from tests.real_daemon import RealDaemon
from tests.real_daemon import lmdbq as command

SEND = {
    "type": "send",
    "schema": {"type": "object", "properties": {"to": {"type": "string"}}},
    "defaults": {
        "keepalive_timeout_in_seconds": 90,
        "expires_in_seconds": 600,
        "retry_strategy": {"retry_intervals_in_seconds": [1, 10]},
        "keep": {"succeeded_in_seconds": 60},
        "dedupe": {"on_duplicate": "reject"},
    },
}
MAIL = {"queue_names": ["mail"], "types": [SEND], "concurrency": 4}


async def test_a_worker_is_listed_with_what_it_said_of_its_types(api: Api):  # noqa: F811
    answer = await api.call("PUT", "/v1/workers/w-1", MAIL)
    assert answer.status == 200
    assert (answer.value["name"], answer.value["types"], answer.value["concurrency"]) == ("w-1", ["send"], 4)
    await api.call("PUT", "/v1/workers/a", {"queue_names": ["mail", "x"]})
    listed = await api.get("/v1/workers")
    assert [worker["name"] for worker in listed["workers"]] == ["a", "w-1"]
    (kind,) = listed["types"]
    assert (kind["type"], kind["schema"]) == ("send", SEND["schema"])
    assert kind["defaults"]["keepalive_timeout_in_seconds"] == 90
    assert kind["defaults"]["keep"] == {"succeeded_in_seconds": 60}
    assert (await api.call("DELETE", "/v1/workers/w-1")).status == 204
    assert [worker["name"] for worker in (await api.get("/v1/workers"))["workers"]] == ["a"]
    assert (await api.get("/v1/workers"))["types"] == [kind], "what it said of its types stays"


async def test_a_touch_is_for_a_worker_that_is_known(api: Api):  # noqa: F811
    (await api.call("POST", "/v1/workers/w/touch")).problem(404, "worker_not_found")
    first = (await api.call("PUT", "/v1/workers/w", MAIL)).value
    touched = await api.call("POST", "/v1/workers/w/touch")
    assert touched.value["registered_at"] == first["registered_at"] <= touched.value["seen_at"]


async def test_its_types_defaults_hold_for_everybody(api: Api):  # noqa: F811
    await api.call("PUT", "/v1/workers/w", MAIL)
    first = await api.enqueue({"type": "send", "dedupe_key": "k"}, queue="mail")
    assert first["tasks"][0]["expires_at"] > first["tasks"][0]["created_at"]
    refused = await api.call(
        "POST", "/v1/enqueue", {"queue_name": "mail", "entries": [{"type": "send", "dedupe_key": "k"}]}
    )
    assert refused.problem(409, "duplicate")
    (task,) = (await api.dequeue("mail"))["tasks"]
    assert (task["keepalive_timeout_in_seconds"], task["max_attempts"]) == (90, 3)


async def test_the_same_again_writes_nothing(api: Api):  # noqa: F811
    await api.call("PUT", "/v1/workers/w", MAIL)
    before = api.engine.store.changed()
    await api.call("PUT", "/v1/workers/w", MAIL)
    await api.call("PUT", "/v1/workers/another", MAIL)
    assert api.engine.store.changed() == before


async def test_two_releases_do_not_overwrite_each_other_for_ever(api: Api):  # noqa: F811
    newer = {**MAIL, "types": [{"type": "send", "defaults": {"keepalive_timeout_in_seconds": 30}}]}
    for name, said in (("old", MAIL), ("new", newer), ("old", MAIL), ("new", newer), ("old", MAIL)):
        await api.call("PUT", f"/v1/workers/{name}", said)
    (kind,) = (await api.get("/v1/workers"))["types"]
    assert kind["defaults"] == {"keepalive_timeout_in_seconds": 30}, "the last one that started"
    await api.call("PUT", "/v1/workers/old", {**MAIL, "concurrency": 5})
    (kind,) = (await api.get("/v1/workers"))["types"]
    assert kind["defaults"]["keepalive_timeout_in_seconds"] == 90, "it said something new"


async def test_who_has_registered_is_a_consumer(api: Api):  # noqa: F811
    await api.enqueue({"type": "send"}, {"type": "sned"}, queue="mail")
    tasks = (await api.get("/v1/tasks"))["tasks"]
    assert [task["waiting_for"]["reason"] for task in tasks] == ["no_consumer"] * 2
    await api.call("PUT", "/v1/workers/w", MAIL)
    tasks = (await api.get("/v1/tasks"))["tasks"]
    assert [task["waiting_for"]["reason"] for task in tasks] == ["ready", "no_consumer"]
    assert (await api.get("/v1/queues/mail"))["unconsumed_types"] == ["sned"]
    await api.call("PUT", "/v1/workers/any", {"queue_names": ["mail"]})
    assert (await api.get("/v1/queues/mail"))["unconsumed_types"] == []


def test_one_that_fell_silent_is_forgotten():
    known = registry.Registry()
    said = read_registration("w", json.dumps(MAIL).encode(), JSON_CODEC)
    known.note(said, now_wall=10**18)
    assert known.changes(said, []) == (), "it has said so before"
    later = 10**18 + registry.KNOWN_NS + 1
    assert known.takes("mail", "send", later - 1)
    assert not known.takes("mail", "send", later)
    known.note(said, now_wall=10**18)
    assert known.takes("mail", "send", 10**18 - registry.KNOWN_NS)
    assert known.touch("w", 10**18 - registry.KNOWN_NS - 1) is None, "the clock was put back"
    assert [put.name for put in known.changes(said, [])] == ["send"], "it says it anew, and may be believed"


def test_a_type_of_which_nothing_is_said_changes_nothing():
    known = registry.Registry()
    body = json.dumps({"queue_names": ["q"], "types": [{"type": "t"}]}).encode()
    assert known.changes(read_registration("w", body, JSON_CODEC), []) == ()


WRONG = [
    ("w", {"queue_names": []}, "/queue_names"),
    ("w", {"queue_names": ["a b"]}, "/queue_names/0"),
    ("w", {"queue_names": ["q"], "types": [{"type": "a b"}]}, "/types/0/type"),
    ("w", {"queue_names": ["q"], "types": [{"type": "t", "schema": {"x": "y" * 20_000}}]}, "/types/0/schema"),
    ("w", {"queue_names": ["q"], "types": [{"type": "t", "schema": ["x"]}]}, "/types/0/schema"),
    (
        "w",
        {"queue_names": ["q"], "types": [{"type": "t", "defaults": {"keepalive_timeout_in_seconds": 0.1}}]},
        "/types/0/defaults/keepalive_timeout_in_seconds",
    ),
    (
        "w",
        {"queue_names": ["q"], "types": [{"type": "t", "defaults": {"dedupe": {"until": "ttl"}}}]},
        "/types/0/defaults/dedupe/ttl_in_seconds",
    ),
    ("n" * 129, {"queue_names": ["q"]}, "/name"),
]


@pytest.mark.parametrize(("name", "body", "pointer"), WRONG, ids=[pointer for _, _, pointer in WRONG])
async def test_what_is_wrong_is_named(api: Api, name: str, body: dict[str, Any], pointer: str):  # noqa: F811
    answer = await api.call("PUT", f"/v1/workers/{name}", body)
    assert answer.status == 422
    problem = answer.value
    assert pointer in [problem.get("pointer"), *[item["pointer"] for item in problem.get("problems") or ()]]
    assert (await api.get("/v1/workers"))["workers"] == []


def test_what_a_worker_says_of_its_functions():
    tasks = lmdbq.Tasks(keep=60)

    @tasks.task(lease=90, expires=600, retry=3, dedupe=lmdbq.Dedupe("", ttl=5, until="ttl"), aliases=("old",), delay=5)
    def send(to: str, copies: int = 1) -> None: ...

    said = registration.said_types(tasks.by_name())
    assert [one["type"] for one in said] == ["send", "old"]
    assert said[0]["schema"]["required" if "required" in said[0]["schema"] else "$ref"]
    body = json.dumps({"queue_names": ["q"], "types": said}).encode()
    put = read_registration("w", body, JSON_CODEC).types[0]
    assert isinstance(put, TypePut)
    assert put.settings == TypeSettings(
        keepalive_ns=90 * 10**9,
        expires_in_ns=600 * 10**9,
        retry=put.settings.retry,
        keep=put.settings.keep,
        dedupe=put.settings.dedupe,
    )
    assert (put.settings.retry.max_attempts, put.settings.keep.succeeded_ns) == (3, 60 * 10**9)  # type: ignore[union-attr]


def test_a_worker_registers_again_with_a_daemon_that_was_restarted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(registration, "REPEAT_SECONDS", 0.05)
    tasks = lmdbq.Tasks()

    @tasks.task(lease=90)
    def send(to: str) -> None: ...

    with RealDaemon(tmp_path) as daemon, HttpClient(daemon.where, patience=30) as look:

        def registered() -> list[str]:
            while not (found := look.workers().workers):
                pass
            return [kind for worker in found for kind in worker.types]

        with lmdbq.Worker(lmdbq.Client(daemon.where), tasks, queues=["mail"]):
            assert registered() == ["send"]
            daemon.kill_and_start_again()
            assert registered() == ["send"]
            listed = command("workers", where=daemon.where).stdout
            assert "mail" in listed
            assert "send" in listed
        while look.workers().workers:
            pass
        assert [kind.type for kind in look.workers().types] == ["send"]
        assert "nobody works" in command("workers", where=daemon.where).stderr
