"""Who may ask what: tokens and roles, and a daemon without a token that no web page may use."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.daemon.access import ADMIN, OPEN, PRODUCE, READ, ROLES, WORK, Access, BadSetting, read_tokens
from lmdbq.daemon.routes import ROUTES
from lmdbq.daemon.settings import Settings
from tests.http_tools import JSON, Answer, Api, open_store, serving

TOKENS = {READ: "reader-secret", PRODUCE: "producer-secret", WORK: "worker-secret", ADMIN: "admin-secret"}
SETTING = ",".join(f"{role}:{secret}" for role, secret in TOKENS.items())


@contextlib.asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[Api]:
    async with serving(open_store("memory", Path()), Settings(**settings)) as api:
        yield api


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def path_of(template: str) -> str:
    ids = {"id": "tsk_00000000001", "lease": "tsk_00000000001.1"}
    return re.sub(r"{(\w+)}", lambda named: ids.get(named[1], "q"), template)


async def ask(api: Api, method: str, path: str, headers: dict[str, str]) -> Answer:
    body = None if method in ("GET", "DELETE") else {"nobody": 1} if path == "/v1/stream" else {}
    return await api.call(method, path, body, headers=headers)


async def test_each_role_may_do_what_it_is_for_and_nothing_else():
    async with served(token=SETTING) as api:
        for route in ROUTES:
            for role, secret in TOKENS.items():
                answer = await ask(api, route.method, path_of(route.path), bearer(secret))
                allowed = route.role == OPEN or route.role in ROLES[role]
                assert (answer.status not in (401, 403)) == allowed, f"{role} {route.method} {route.path}"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        bearer("wrong-secret"),
        bearer(""),
        bearer("reader-secre"),
        {"Authorization": "Basic reader-secret"},
        bearer("ü"),
    ],
)
async def test_no_token_or_a_wrong_one_is_refused(headers: dict[str, str]):
    async with served(token=SETTING) as api:
        answer = await api.call("GET", "/v1/queues", headers=headers)
        answer.problem(401, "token_required")
        is_given = headers.get("Authorization", "") not in ("", "Bearer ", "Basic reader-secret")
        assert ("is not the daemon's" in answer.value["detail"]) == is_given
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
        assert (await api.call("GET", "/livez", headers=headers)).status == 200


async def test_with_a_token_any_host_may_be_asked():
    async with served(token="admin-secret") as api:
        headers = {**bearer("admin-secret"), "Host": "queue.example", "Sec-Fetch-Site": "cross-site"}
        assert (await api.call("GET", "/v1/queues", headers=headers)).status == 200


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({"Host": "evil.example"}, "foreign_host"),
        ({"Host": "127.0.0.1.evil.example:7325"}, "foreign_host"),
        ({"Host": "10.0.0.1:7325"}, "foreign_host"),
        ({"Host": ""}, "foreign_host"),
        ({"Sec-Fetch-Site": "cross-site"}, "cross_site"),
        ({"Sec-Fetch-Site": "same-site"}, "cross_site"),
        ({"Origin": "http://evil.example"}, "cross_site"),
        ({"Origin": "null"}, "cross_site"),
        ({"Origin": "http://localhost:1", "Host": "localhost:2"}, "cross_site"),
    ],
)
async def test_without_a_token_foreign_pages_are_refused(headers: dict[str, str], code: str):
    async with served() as api:
        for method, path in [("GET", "/v1/queues"), ("POST", "/v1/enqueue")]:
            (await ask(api, method, path, headers)).problem(403, code)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "localhost"},
        {"Host": "LOCALHOST:7325"},
        {"Host": "[::1]:7325"},
        {"Host": "127.8.9.1"},
        {"Host": "queue.localhost:7325"},
        {"Host": "queue.internal:7325"},
        {"Host": "localhost:5", "Origin": "http://localhost:5", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
    ],
)
async def test_without_a_token_this_machine_and_allowed_names_may_ask(headers: dict[str, str]):
    async with served(allow_hosts=("Queue.internal",)) as api:
        assert (await api.call("GET", "/v1/queues", headers=headers)).status == 200


@pytest.mark.parametrize(
    "media_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a/b"]
)
async def test_a_body_a_form_could_send_is_refused_with_the_line_that_works(media_type: str):
    async with served() as api:
        for method, path in [(route.method, path_of(route.path)) for route in ROUTES if route.method != "GET"]:
            answer = await api.call(method, path, raw=b"{}", headers={"Content-Type": media_type})
            assert "curl --json" in answer.problem(415, "content_type")["detail"]
        empty = await api.call("POST", "/v1/queues/q/purge", headers={"Content-Type": "text/plain"})
        empty.problem(415, "content_type")


def test_an_open_address_needs_a_token_or_a_word():
    for listen in ("0.0.0.0:7325", "[::]:7325", ":7325", "192.168.1.5:80"):
        with pytest.raises(BadSetting, match=r"LMDBQ_TOKEN=\$\(openssl rand -hex 16\) lmdbq serve"):
            Access(Settings(listen=listen))
        Access(Settings(listen=listen, auth="none"))
        Access(Settings(listen=listen, token="long-enough"))
    for listen in ("127.0.0.1:0", "localhost:7325", "[::1]:7325", "unix:/tmp/q.sock"):
        Access(Settings(listen=listen))


def test_an_open_daemon_answers_to_addresses_but_not_to_foreign_names():
    access = Access(Settings(listen="0.0.0.0:7325", auth="none"))
    access.check(READ, "10.0.0.7:7325", "", "", "")
    with pytest.raises(Exception, match=r"--allow-host evil\.example"):
        access.check(READ, "evil.example:7325", "", "", "")


@pytest.mark.parametrize("text", ["boss:long-enough", "shrt", "admin:", "reader:x"])
def test_wrong_token_settings_are_refused_without_repeating_them(text: str):
    with pytest.raises(BadSetting) as refused:
        read_tokens(text)
    assert text not in refused.value.detail


@pytest.mark.parametrize("text", [",", " ", " , "])
def test_tokens_that_are_all_empty_do_not_open_the_daemon(text: str):
    with pytest.raises(BadSetting, match="no token in it"):
        Access(Settings(token=text))
    assert read_tokens("") == ()


@pytest.mark.parametrize(
    "listen", ["7325x", "localhost", "localhost:99999", "localhost:-1", "localhost:²", "unix:", "unix://"]
)
def test_wrong_addresses(listen: str):
    with pytest.raises(BadSetting, match="HOST:PORT"):
        Access(Settings(listen=listen, token="long-enough"))


async def test_no_secret_is_answered_or_logged(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    async with served(token=SETTING) as api:
        answers = [
            await api.call("GET", "/v1/info", headers=bearer("admin-secret")),
            await api.call("GET", "/v1/info", headers=bearer("admin-secreT")),
            await api.call("GET", "/metrics", headers=bearer("reader-secret")),
        ]
    for secret in [*TOKENS.values(), "admin-secreT"]:
        assert not any(secret.encode() in answer.body for answer in answers)
        assert secret not in caplog.text
    assert answers[0].media_type == JSON
