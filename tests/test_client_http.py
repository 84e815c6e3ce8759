"""The client and a daemon that misbehaves: what is sent again, what is not, and on which connection."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lmdbq.client import conversation, core, sending
from lmdbq.client.http import HttpClient
from lmdbq.client.verbs import subscription
from lmdbq.errors import InvalidInput, Refusal, Unreachable
from tests.fake_daemon import FakeDaemon, answer, drop, hang_up_after, hold

OUTCOMES = {"outcomes": []}
QUEUES = {"queues": []}
LOCALHOST = Path(__file__).parent / "fixtures" / "localhost.pem"  # a key that is no secret, and its certificate
BUSY = {"type": "x", "title": "t", "status": 503, "code": "draining", "detail": "d", "request_id": "r"}


@pytest.fixture
def daemon() -> Iterator[FakeDaemon]:
    with FakeDaemon() as fake:
        yield fake


@pytest.fixture
def client(daemon: FakeDaemon) -> Iterator[HttpClient]:
    with HttpClient(daemon.where, timeout=60) as made:
        yield made


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_connection_is_kept(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(body=QUEUES), answer(body=QUEUES)]
    client.queues()
    client.queues()
    assert daemon.connections == 1


def test_a_connection_behind_tls_is_kept_and_given_up_when_it_was_closed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(LOCALHOST))
    with FakeDaemon(tls=LOCALHOST) as daemon, HttpClient(daemon.where, timeout=60) as client:
        daemon.script = [answer(body=QUEUES), hang_up_after(answer(body=QUEUES)), answer(body=QUEUES)]
        assert client.queues() == client.queues() == []
        assert daemon.connections == 1
        assert daemon.closed.acquire(timeout=60)
        assert client.queues() == []
        assert daemon.connections == 2


def test_each_thread_has_its_own_connection(daemon: FakeDaemon, client: HttpClient):
    both = threading.Barrier(2)
    daemon.script = [answer(body=QUEUES), answer(body=QUEUES)]

    def call(_: int) -> list[object]:
        both.wait(60)
        return list(client.queues())

    with ThreadPoolExecutor(2) as threads:
        assert list(threads.map(call, range(2))) == [[], []]
    assert daemon.connections == 2


def test_an_idle_connection_the_daemon_has_closed_is_not_written_to(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [hang_up_after(answer(body=QUEUES)), answer(body={"queue_name": "q", "tasks": 0})]
    client.queues()
    assert daemon.closed.acquire(timeout=60)
    assert client.purge("q").tasks == 0  # which may not be repeated, so it was sent once, on a fresh connection
    assert (daemon.next().path, daemon.next().path) == ("/v1/queues", "/v1/queues/q/purge")
    assert daemon.nothing_more()


def test_a_lost_answer_is_asked_for_again_under_the_same_key(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [drop, drop, answer(body=OUTCOMES)]
    client.enqueue([{}])
    keys = {daemon.next().headers["Idempotency-Key"] for _ in range(3)}
    assert len(keys) == 1


def test_a_lost_dequeue_is_asked_for_again_under_the_same_claim_id(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [drop, answer(body={"tasks": []})]
    client.dequeue(subscription("q"))
    ids = {daemon.next().body["claim_id"] for _ in range(2)}
    assert len(ids) == 1
    assert ids != {None}


def test_two_enqueues_have_different_keys(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(body=OUTCOMES)] * 2
    client.enqueue([{}])
    client.enqueue([{}])
    assert daemon.next().headers["Idempotency-Key"] != daemon.next().headers["Idempotency-Key"]


def test_what_may_not_be_repeated_is_sent_once_and_the_doubt_is_said(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [drop]
    with pytest.raises(Unreachable, match="may have been carried out"):
        client.purge("q")
    daemon.next()
    assert daemon.nothing_more()


def test_not_now_is_tried_again(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(503, BUSY), answer(429, {**BUSY, "status": 429}), answer(body=OUTCOMES)]
    assert client.enqueue([{}]).outcomes == []


def test_not_now_is_an_error_once_patience_is_over(daemon: FakeDaemon):
    daemon.script = [answer(503, BUSY, Retry_After="5")]
    with HttpClient(daemon.where, patience=2) as client, pytest.raises(Refusal) as raised:
        client.enqueue([{}])
    assert raised.value.reason == "draining"


def test_not_now_is_an_error_at_once_for_what_may_not_be_repeated(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(503, BUSY)]
    with pytest.raises(Refusal):
        client.purge("q")


def test_other_refusals_are_not_tried_again(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(507, {**BUSY, "status": 507, "code": "full"})]
    with pytest.raises(Refusal) as raised:
        client.enqueue([{}])
    assert (raised.value.status, raised.value.reason) == (507, "full")
    daemon.next()
    assert daemon.nothing_more()


def test_nobody_listens():
    with HttpClient(f"http://127.0.0.1:{free_port()}", patience=0) as client, pytest.raises(Unreachable) as raised:
        client.purge("q")
    assert "refused" in str(raised.value)
    assert "carried out" not in str(raised.value)


def test_a_daemon_that_comes_back_is_reached_even_by_what_may_not_be_repeated(monkeypatch: pytest.MonkeyPatch):
    port = free_port()
    started: list[FakeDaemon] = []

    def start_instead_of_waiting(_seconds: float, _stop: object) -> None:
        fake = FakeDaemon(port=port)
        fake.script = [answer(body={"queue_name": "q", "tasks": 7})]
        started.append(fake.__enter__())

    monkeypatch.setattr(sending, "_wait", start_instead_of_waiting)
    with HttpClient(f"http://127.0.0.1:{port}") as client:
        assert client.purge("q").tasks == 7
    assert len(started) == 1
    started[0].__exit__()


def test_a_stopped_call_neither_waits_nor_tries_again(daemon: FakeDaemon, client: HttpClient):
    stop = threading.Event()
    stop.set()
    with pytest.raises(Unreachable):
        client.dequeue(subscription("q", wait=20), stop=stop)
    assert daemon.nothing_more()


def test_interrupt_ends_a_call_that_waits(daemon: FakeDaemon, client: HttpClient):
    stop, let_go = threading.Event(), threading.Event()
    daemon.script = [hold(let_go)]
    with ThreadPoolExecutor(1) as threads:
        call = threads.submit(client.dequeue, subscription("q", wait=20), stop=stop)
        daemon.next()
        stop.set()
        client.interrupt()
        with pytest.raises(Unreachable):
            call.result(60)
    let_go.set()
    assert daemon.nothing_more()


@pytest.mark.parametrize(("tells", "times"), [(True, 1), (False, 0)])
def test_an_absent_daemon_is_said_once_while_it_is_waited_for(
    tells: bool, times: int, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(conversation, "TELL_SECONDS", 0.0)
    talk = conversation.conversation(core.queues(), "http://here", 60, tells=tells)
    next(talk)
    for _ in range(5):
        talk.send(conversation.Broken(ConnectionRefusedError(111, "Connection refused"), sent=False))
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == times
    assert all("no answer from http://here (Connection refused)" in one and "`lmdbq serve`" in one for one in said)


def test_a_time_out_is_a_lost_answer(daemon: FakeDaemon):
    let_go = threading.Event()
    daemon.script = [hold(let_go)]
    with HttpClient(daemon.where, timeout=0.1, patience=0) as client, pytest.raises(Unreachable, match="timed out"):
        client.queues()
    let_go.set()


def test_a_forked_child_opens_its_own_connection(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(body=QUEUES)] * 3
    client.queues()
    child = os.fork()
    if child == 0:
        os._exit(0 if client.queues() == [] else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert daemon.connections == 2
    client.queues()
    assert daemon.connections == 2  # the parent's own one, untouched by the child's end


def test_a_fork_beside_a_thread_that_begins_to_wait_leaves_the_child_able_to_call(
    daemon: FakeDaemon, client: HttpClient, monkeypatch: pytest.MonkeyPatch
):
    class Forking(set):
        """Forks where a waiting call becomes visible, and lets the child make a call of another thread's."""

        child = 0

        def add(self, connection: object) -> None:
            self.child = os.fork()
            if self.child == 0:
                signal.alarm(30)  # should it wait for what nobody will give back
                thread = threading.Thread(target=client.queues)
                thread.start()
                thread.join()
                os._exit(0)
            super().add(connection)

    daemon.script = [answer(body={"tasks": [], **QUEUES})] * 2  # whoever of the two asks first
    forking = Forking()
    monkeypatch.setattr(client, "_parked", forking)
    client.dequeue(subscription(wait=1))
    assert os.waitstatus_to_exitcode(os.waitpid(forking.child, 0)[1]) == 0


FIRST_CALLS = """
import sys, threading
from lmdbq.client import core
from lmdbq.errors import LmdbqError
sys.setswitchinterval(1e-6)
for request in (core.queues(), core.tasks({}), core.info()):
    together = threading.Barrier(8)
    def first():
        together.wait()
        try:
            core.interpret(request, 200, "application/json", b'{"queues": [], "tasks": []}')
        except LmdbqError:
            pass
    threads = [threading.Thread(target=first) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
"""


def test_the_first_calls_of_many_threads_may_be_made_at_once():
    for _ in range(6):  # without a lock two of three end in a segmentation fault
        subprocess.run([sys.executable, "-c", FIRST_CALLS], timeout=120, check=True)


def test_unix_socket_and_token(tmp_path: Path):
    with FakeDaemon(tmp_path / "s") as daemon, HttpClient(daemon.where, token="secret") as client:
        daemon.script = [answer(body=QUEUES)]
        assert client.queues() == []
        assert daemon.next().headers["Authorization"] == "Bearer secret"


@pytest.mark.parametrize("token", ["two\nlines", "tökén"])
def test_a_token_that_no_header_can_carry(token: str):
    with pytest.raises(InvalidInput, match="printable ASCII"):
        HttpClient(token=token)


def test_address_and_token_come_from_the_environment(daemon: FakeDaemon, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("LMDBQ_URL", daemon.where + "/prefix")
    monkeypatch.setenv("LMDBQ_TOKEN", "from-the-environment\n")
    daemon.script = [answer(body=QUEUES)]
    with HttpClient() as client:
        client.queues()
    seen = daemon.next()
    assert (seen.path, seen.headers["Authorization"]) == ("/prefix/v1/queues", "Bearer from-the-environment")


def test_pages_are_followed(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(body={"tasks": [], "next": "c1"}), answer(body={"tasks": [], "next": ""})]
    assert list(client.each_task(at_most=5, queue_name="q")) == []
    assert daemon.next().path == "/v1/tasks?queue_name=q&limit=5"
    assert daemon.next().path == "/v1/tasks?queue_name=q&limit=5&cursor=c1"


def test_health_is_a_yes_or_a_no(daemon: FakeDaemon, client: HttpClient):
    daemon.script = [answer(body={"status": "ok"}), answer(503, {"status": "busy"})]
    assert client.healthy()
    assert not client.healthy()
    assert [daemon.next().path for _ in range(2)] == ["/readyz", "/readyz"]
