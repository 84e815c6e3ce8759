"""The worker loop against the real daemon: success, failure, heartbeats, kills, and an orderly end."""

from __future__ import annotations

import contextlib
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lmdbq.client import leases
from lmdbq.client.core import Request, T, result_of
from lmdbq.client.directives import TaskFailed
from lmdbq.client.http import HttpClient
from lmdbq.client.job_worker import JobWorker as Worker
from lmdbq.client.leases import Job
from lmdbq.client.verbs import subscription
from lmdbq.errors import InvalidInput
from lmdbq.wire.answers import TaskAnswer
from tests.fake_daemon import FakeDaemon, answer, hold
from tests.real_daemon import RealDaemon

NO_RETRY = {"max_attempts": 1}
KEPT = {"succeeded_in_seconds": 600}


@pytest.fixture(scope="module")
def daemon() -> Iterator[RealDaemon]:
    with tempfile.TemporaryDirectory() as directory, RealDaemon(Path(directory)) as real:
        yield real


class WatchedClient(HttpClient):
    """A client that tells of what passes through it."""

    def __init__(self, where: str) -> None:
        super().__init__(where, patience=60)
        self.extended = threading.Semaphore(0)
        self.asked = threading.Event()

    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        if request.target == "/v1/dequeue":
            self.asked.set()
        said = super().call(request, stop)
        if request.target == "/v1/extend":
            self.extended.release()
        return said


@pytest.fixture
def client(daemon: RealDaemon) -> Iterator[WatchedClient]:
    with WatchedClient(daemon.where) as made:
        yield made


@contextlib.contextmanager
def working(worker: Worker) -> Iterator[threading.Thread]:
    """Run a worker in a thread; at the end it is stopped, and must end."""
    thread = threading.Thread(target=worker.run)
    thread.start()
    try:
        yield thread
    finally:
        worker.stop()
        thread.join(60)
        assert not thread.is_alive()


def enqueue(client: HttpClient, queue: str, *payloads: object, **options: object) -> list[str]:
    entries = [{"payload": payload, "keep": KEPT, **options} for payload in payloads]
    return [outcome.id for outcome in client.enqueue(entries, queue_name=queue).outcomes]


def ended(client: HttpClient, task_id: str) -> TaskAnswer:
    task = client.task(task_id, wait=60)
    assert task.state in ("succeeded", "dead", "cancelled")
    return task


def test_what_a_handler_returns_is_the_result(client: WatchedClient):
    ids = enqueue(client, "results", 1, {"a": [None]}, "text", b"\xff\x00", None)
    with working(Worker(client, lambda job: job.payload, ["results"])):
        assert [result_of(ended(client, each)) for each in ids] == [1, {"a": [None]}, "text", b"\xff\x00", None]


def test_what_a_handler_raises_is_the_failure(client: WatchedClient):
    def fail(job: Job) -> None:
        raise ValueError(f"not {job.payload} \udcff")  # a lone surrogate, as in the name of an odd file

    (task_id,) = enqueue(client, "failures", 7, retry_strategy=NO_RETRY)
    with working(Worker(client, fail, ["failures"])):
        task = ended(client, task_id)
    assert (task.state, task.reason) == ("dead", "max_attempts")
    assert task.errors is not None
    assert (task.errors[0].type, task.errors[0].message) == ("ValueError", "not 7 \\udcff")
    assert "in fail" in task.errors[0].backtrace


def test_a_failed_task_is_tried_again(client: WatchedClient):
    def at_second(job: Job) -> str:
        if job.attempts < 2:
            raise TaskFailed("not yet", kind="Early", delay=0)
        return f"attempt {job.attempts}"

    (task_id,) = enqueue(client, "retries", None)
    with working(Worker(client, at_second, ["retries"])):
        task = ended(client, task_id)
    assert result_of(task) == "attempt 2"
    assert [(error.type, error.message) for error in task.errors or ()] == [("Early", "not yet")]


def test_a_handler_may_say_that_another_attempt_is_useless(client: WatchedClient):
    def give_up(job: Job) -> None:
        raise TaskFailed("no such customer", retry=False)

    (task_id,) = enqueue(client, "hopeless", None)
    with working(Worker(client, give_up, ["hopeless"])):
        assert ended(client, task_id).reason == "no_retry"


@pytest.mark.parametrize("result", [object(), "x" * 70_000], ids=["no JSON", "too large"])
def test_a_result_that_cannot_be_sent_is_a_failure_and_harms_nobody_else(client: WatchedClient, result: object):
    bad, good = enqueue(client, "odd-results", "bad", "good", retry_strategy=NO_RETRY)
    with working(Worker(client, lambda job: result if job.payload == "bad" else "fine", ["odd-results"])):
        assert ended(client, bad).state == "dead"
        assert result_of(ended(client, good)) == "fine"


def expires_at(client: HttpClient, task_id: str) -> int:
    found = client.task(task_id).lease_expires_at
    assert isinstance(found, int), "it has no lease"
    return found


@pytest.fixture
def lease(monkeypatch: pytest.MonkeyPatch) -> float:
    """A lease that outlasts whatever halts this machine, with heartbeats that are not waited for long."""
    monkeypatch.setattr(leases, "HEARTBEATS_PER_LEASE", 180)
    return 60.0


def test_heartbeats_keep_a_task_longer_than_its_lease(client: WatchedClient, lease: float):
    go_on = threading.Event()

    def slow(job: Job) -> int:
        assert go_on.wait(60)
        return job.deliveries

    ids = enqueue(client, "slow", 1, 2)
    with working(Worker(client, slow, ["slow"], limit=2, lease=lease)):
        assert client.extended.acquire(timeout=60)
        extended = [expires_at(client, each) for each in ids]
        for _ in range(4):  # some may have been for one of them alone
            assert client.extended.acquire(timeout=60)
        assert all(expires_at(client, each) > first for each, first in zip(ids, extended, strict=True))
        go_on.set()
        tasks = [ended(client, each) for each in ids]
    assert [(result_of(task), task.deliveries, task.errors) for task in tasks] == [(1, 1, []), (1, 1, [])]


def test_reports_of_short_tasks_do_not_wait_for_a_long_one(client: WatchedClient):
    go_on = threading.Event()
    short, long = enqueue(client, "mixed", "short", "long")
    with working(Worker(client, lambda job: job.payload == "short" or go_on.wait(60), ["mixed"], limit=2)):
        assert ended(client, short).state == "succeeded"
        assert client.task(long).state == "running"
        go_on.set()
        assert ended(client, long).state == "succeeded"


def test_a_daemon_killed_in_the_middle_is_waited_for(daemon: RealDaemon, client: WatchedClient):
    started, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def handle(job: Job) -> int:
        seen.append(job.payload)
        if job.payload == 5:
            started.set()
            assert go_on.wait(60)
        return int(job.payload)

    ids = enqueue(client, "killed", *range(20))
    with working(Worker(client, handle, ["killed"], limit=4)):
        assert started.wait(60)
        daemon.kill_and_start_again()
        go_on.set()
        tasks = [ended(client, each) for each in ids]
    assert [result_of(task) for task in tasks] == list(range(20))
    assert sorted(seen) == list(range(20)), "none has run twice"
    assert [task.failures for task in tasks] == [0] * 20  # a claim may be broken off, and is repeated: see ``renew``


def test_a_stop_finishes_the_running_and_releases_the_rest(client: WatchedClient):
    started, go_on = threading.Event(), threading.Event()

    def handle(job: Job) -> str:
        started.set()
        assert go_on.wait(60)
        return "finished"

    ids = enqueue(client, "stopped", *range(5))
    worker = Worker(client, handle, ["stopped"], limit=5)
    with working(worker):
        assert started.wait(60)
        worker.stop()
        go_on.set()
    first, *rest = (client.task(each) for each in ids)
    assert result_of(first) == "finished"
    assert [(task.state, task.attempts, task.failures) for task in rest] == [("ready", 0, 0)] * 4


def test_a_handler_that_outlasts_the_grace_loses_its_task_to_others(client: WatchedClient):
    started = threading.Event()
    why: list[str] = []

    def handle(job: Job) -> None:
        started.set()
        assert job.over.wait(60)
        why.append(job.why_over)

    (task_id,) = enqueue(client, "grace", None)
    worker = Worker(client, handle, ["grace"], grace=0.05)
    with working(worker) as thread:
        assert started.wait(60)
        worker.stop()
        thread.join(60)
    assert client.task(task_id).state == "ready"
    assert why == ["the grace after the stop is over"]


def test_a_worker_that_waits_for_tasks_ends_at_once(client: WatchedClient):
    with working(Worker(client, print, ["empty"], concurrency=3)):
        assert client.asked.wait(60)


@pytest.mark.parametrize(
    ("what", "why"),
    [(lambda client, each: client.cancel(each), "cancel"), (lambda client, each: client.delete(each), "lost")],
    ids=["cancelled", "deleted"],
)
def test_a_running_handler_is_told_that_it_is_over(
    client: WatchedClient, lease: float, what: Callable[..., Any], why: str
):
    started = threading.Event()
    told: list[str] = []

    def handle(job: Job) -> None:
        started.set()
        assert job.over.wait(60)
        told.append(job.why_over)
        raise TaskFailed("stopped")

    (task_id,) = enqueue(client, "over", None)
    with working(Worker(client, handle, ["over"], lease=lease)):
        assert started.wait(60)
        what(client, task_id)
        if why == "cancel":
            assert ended(client, task_id).state == "cancelled"
    assert len(told) == 1
    assert why in told[0]


def test_a_task_cancelled_before_its_turn_is_not_run(client: WatchedClient, lease: float):
    started, go_on = threading.Event(), threading.Event()
    seen: list[int] = []

    def handle(job: Job) -> None:
        seen.append(job.payload)
        started.set()
        assert go_on.wait(60)

    first, second = enqueue(client, "unbegun", 1, 2)
    with working(Worker(client, handle, ["unbegun"], limit=2, lease=lease)):
        assert started.wait(60)
        client.cancel(second)
        for _ in range(3):  # the first or second heartbeat from now brings the news
            assert client.extended.acquire(timeout=60)
        go_on.set()
        assert ended(client, second).state == "cancelled"
        assert ended(client, first).state == "succeeded"
    assert seen == [1]


def test_a_refusal_for_good_ends_the_worker(daemon: RealDaemon, client: WatchedClient):
    worker = Worker(client, print, ["no such name!"])
    with pytest.raises(InvalidInput, match="queue_names"):
        worker.run()


def test_types_and_concurrency(client: WatchedClient):
    together = threading.Barrier(3)
    enqueue(client, "typed", "other", type="other")
    ids = enqueue(client, "typed", 1, 2, 3, type="wanted")
    worker = Worker(client, lambda job: together.wait(60) >= 0, ["typed"], types=["wanted"], limit=1, concurrency=3)
    with working(worker):
        assert [result_of(ended(client, each)) for each in ids] == [True, True, True]
    assert client.count(queue_name="typed", type="other", state="ready") == 1


def test_a_claim_broken_off_by_a_stop_is_handed_back():
    """The answer was on its way when the stop came: the same claim id brings the same task, and it is released."""
    let_go = threading.Event()
    task = {"id": "tsk_00000000010", "lease": "tsk_00000000010.1", "queue_name": "q", "type": "t", "priority": 0}
    rest = {"created_at": 0, "scheduled_at": 0, "expires_at": 0, "dedupe_key": "", "attempts": 1, "deliveries": 1}
    outcome = {"lease": task["lease"], "outcome": "ok"}
    with FakeDaemon() as fake, HttpClient(fake.where) as client:
        fake.script = [
            hold(let_go),
            answer(body={"tasks": [{**task, **rest, "state": "running", "payload": 1}]}),
            answer(body={"outcomes": [outcome]}),
        ]
        with working(Worker(client, print, ["q"])):
            first = fake.next()
        again, report = fake.next(), fake.next()
        let_go.set()
        assert again.path == "/v1/dequeue"
        assert again.body["claim_id"] == first.body["claim_id"]
        assert again.body.get("wait_in_seconds", 0) == 0
        assert report.body == {"reports": [{"lease": task["lease"], "status": "released"}]}


def test_the_subscription_of_a_worker_is_fresh_for_each_claim():
    assert subscription("q").claim_id != subscription("q").claim_id
