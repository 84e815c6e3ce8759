"""The worker of functions: arguments and results, directives, places to run, cancel, progress, and an orderly end."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

import lmdbq
from lmdbq import AsyncClient, Client, Entry, Worker
from lmdbq.client.core import Request, T
from lmdbq.client.embedded import EmbeddedTransport
from lmdbq.client.leases import Held
from lmdbq.client.tasks import Task
from tests import sdk_tasks
from tests.real_daemon import RealDaemon
from tests.sdk_places import run_python

SINCE = datetime(2030, 1, 1, tzinfo=timezone.utc)  # noqa: UP017
KEY = UUID(int=7)


@pytest.fixture
def client() -> Iterator[Client]:
    with Client(":memory:") as made:
        yield made
        assert made.place.embedded.queue().store.check() == []  # type: ignore[attr-defined]


@pytest.fixture(scope="module")
def daemon() -> Iterator[RealDaemon]:
    with tempfile.TemporaryDirectory() as directory, RealDaemon(Path(directory)) as real:
        yield real


def drain(client: Client | AsyncClient, *tasks: lmdbq.Tasks, **options: Any) -> int:
    return Worker(client, *(tasks or (sdk_tasks.tasks,)), **options).drain(timeout=60)


# --- arguments and results


def test_arguments_travel_by_name_and_come_back_as_annotated(client: Client):
    address = sdk_tasks.Address("Main St", SINCE)
    handle = client.enqueue(sdk_tasks.typed, address, sdk_tasks.Money(3), KEY, sdk_tasks.Model(4), timedelta(minutes=1))
    payload = {
        "address": {"street": "Main St", "since": "2030-01-01T00:00:00Z"},
        "price": {"amount": 3, "currency": "EUR"},
        "key": str(KEY),
        "model": {"x": 4},
        "wait": "PT60S",
    }
    assert handle.info().payload == payload
    assert drain(client) == 1
    assert handle.result() == sdk_tasks.Address("Main St 3 4 60", SINCE)


def test_any_front_end_enqueues_the_same_task(client: Client):
    handles = client.enqueue_many([Entry("add", {"a": 1}), Entry("add", {"a": 1, "b": 5, "c": 10}), Entry("think")])
    handles.append(client.enqueue(sdk_tasks.add, 1, 5, c=10))
    assert handles[-1].info().payload == {"a": 1, "b": 5, "c": 10}
    assert drain(client) == 4
    assert [handle.result() for handle in handles] == [3, 16, "think", 16]


@pytest.mark.parametrize(
    "payload",
    [{"a": "one"}, {}, {"a": 1, "more": {"b": "x"}, "c": "y"}, [1], b"\x00", {"a": 1.5}],
    ids=["wrong type", "missing", "wrong rest", "no object", "bytes", "no integer"],
)
def test_a_payload_that_does_not_fit_is_dead_at_once(client: Client, payload: Any):
    @(tasks := lmdbq.Tasks()).task
    def add(a: int, b: int = 0) -> int:
        return a + b

    handle = client.enqueue(Entry("add", payload))
    assert drain(client, tasks) == 1
    with pytest.raises(lmdbq.TaskDead) as caught:
        handle.result()
    assert [(error.type, error.backtrace) for error in caught.value.task.errors] == [("bad_payload", "")]
    assert caught.value.task.reason == "no_retry"


def test_a_call_that_does_not_fit_is_a_type_error_at_once(client: Client):
    for wrong in ((), (1, 2, 3)):
        with pytest.raises(TypeError):
            client.enqueue(sdk_tasks.add, *wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="decorate the function"):
        client.enqueue(len, [])  # type: ignore[call-overload]
    with pytest.raises(lmdbq.InvalidInput, match="NaN"):
        client.enqueue(sdk_tasks.think, float("nan"))
    assert client.tasks().count() == 0


def test_a_result_that_cannot_be_said_is_no_reason_to_do_it_again(client: Client):
    handle = client.enqueue(sdk_tasks.unsayable)
    assert drain(client) == 1
    with pytest.raises(lmdbq.TaskDead, match="bad_result"):
        handle.result()


def test_a_task_is_still_a_function():
    assert sdk_tasks.add(1, b=3) == 4
    assert isinstance(sdk_tasks.add, Task)
    assert sdk_tasks.add.using(priority=3).options == {"priority": 3}
    assert sdk_tasks.add.options == {}
    with pytest.raises(RuntimeError, match="no task runs here"):
        lmdbq.current()


# --- how an attempt ends


def test_directives_and_dead_on(client: Client):
    names = ["ada", "nobody", "later", "soon", "never"]
    handles = {to: client.enqueue(sdk_tasks.send, to) for to in names}
    old = client.enqueue(Entry("mail", {"to": "eve"}))
    assert drain(client) == 7
    infos = {to: handle.info() for to, handle in handles.items()}
    assert {to: info.state for to, info in infos.items()} == {
        "ada": "succeeded",
        "nobody": "dead",
        "later": "scheduled",
        "soon": "succeeded",
        "never": "dead",
    }
    assert [one.message for one in infos["soon"].errors] == ["not yet"]
    assert (infos["later"].attempts, infos["later"].errors) == (0, ())
    assert (infos["nobody"].errors[0].type, infos["never"].errors[0].type) == ("KeyError", "Dead")
    assert "in send" in infos["nobody"].errors[0].backtrace
    assert old.result() == "sent to eve"
    assert sdk_tasks.seen.pop() == ("mail.send", "KeyError('nobody')")


def test_a_failed_task_is_tried_as_its_strategy_says(client: Client):
    calls: list[int] = []

    @(tasks := lmdbq.Tasks(retry=[0, 0])).task
    def flaky() -> None:
        calls.append(lmdbq.current().task.attempts)
        raise OSError("broken")

    handle = client.enqueue(flaky)
    assert drain(client, tasks) == 3
    assert calls == [1, 2, 3]
    assert handle.info().reason == "max_attempts"


def test_lifespans_begin_and_end_with_the_worker(client: Client):
    before = {name: sdk_tasks.state.get(name, 0) for name in ("opened", "closed")}
    client.enqueue(sdk_tasks.add, 1)
    with Worker(client, sdk_tasks.tasks):
        assert sdk_tasks.state["opened"] == before["opened"] + 1
        assert sdk_tasks.state.get("closed", 0) == before["closed"]
    assert sdk_tasks.state["closed"] == before["closed"] + 1


# --- on an event loop


def test_async_functions_run_together(client: Client):
    handles = client.enqueue_many([sdk_tasks.think.entry(0.01) for _ in range(100)])
    assert drain(client, concurrency=100) == 100
    assert {handle.result() for handle in handles} == {"think"}


def test_a_timeout_ends_an_async_function(client: Client):
    handle = client.enqueue(sdk_tasks.dawdle)
    assert drain(client) == 1
    with pytest.raises(lmdbq.TaskDead, match=r"timeout: it ran for more than 0\.1 s"):
        handle.result()


async def test_within_an_app_async_functions_run_on_its_loop():
    async with AsyncClient(":memory:") as client, Worker(client, sdk_tasks.async_tasks):
        handle = await client.enqueue(sdk_tasks.on_this_loop)
        assert await handle.result(timeout=30) is True
    assert sdk_tasks.seen.pop() == "on_this_loop"


def test_a_thread_cannot_be_stopped_so_it_has_no_timeout():
    with pytest.raises(TypeError, match="a thread cannot be killed"):
        lmdbq.Tasks().task(timeout=5)(len)
    tasks = lmdbq.Tasks()
    tasks.around(sdk_tasks.counted)
    tasks.task("size")(lambda: 0)
    with pytest.raises(TypeError, match="cannot be async"):
        Worker(Client(":memory:"), tasks)


def test_a_function_that_calls_exit_ends_its_attempt_and_nothing_else(client: Client):
    tasks = lmdbq.Tasks(retry=1)

    @tasks.task
    async def leave() -> None:
        sys.exit("from a coroutine")

    @tasks.task
    def leave_thread() -> None:
        sys.exit("from a thread")

    @tasks.task
    async def stay() -> str:
        return "here"

    left = [client.enqueue(leave), client.enqueue(leave_thread)]
    assert drain(client, tasks) == 2
    assert [handle.info().errors[0].type for handle in left] == ["SystemExit"] * 2
    handle = client.enqueue(stay)
    assert drain(client, tasks) == 1
    assert handle.result() == "here"


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Panic(BaseException):
    """As extensions in Rust raise it."""


class Share(float):
    """A number of a library's own, as numpy's are."""


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1


ODD_ENDS = {
    "an exception without words": (Mute(), "Mute", "cannot say what it is"),
    "no exception of the usual kind": (Panic("overflow"), "Panic", "overflow"),
    "the past": (lmdbq.Snooze(timedelta(seconds=-1)), "ValueError", "Snooze: delay is 0 to 316224000 seconds, not -1"),
    "no number": (lmdbq.Retry(delay=float("nan")), "ValueError", "Retry: delay is 0 to"),
    "too far away": (lmdbq.Retry(delay=1e18), "ValueError", "Retry: delay is 0 to"),
    "a word": (lmdbq.Snooze("later"), "ValueError", "could not convert"),  # type: ignore[arg-type]
    "a result too deep": (nested(129), "bad_result", "at most 128 deep"),
    "a result that is no JSON": (msgspec.Raw(b"[1 2]"), "bad_result", "malformed"),
    "a result that is no text": (msgspec.Raw(b'"\xff"'), "bad_result", "UTF-8"),
    "a result without end": (msgspec.Raw(b"[" * 5_000), "bad_result", "recursion"),
}


@pytest.mark.parametrize(("end", "kind", "message"), ODD_ENDS.values(), ids=ODD_ENDS)
@pytest.mark.parametrize("is_async", [False, True], ids=["thread", "loop"])
def test_an_odd_end_is_its_own_attempts_failure_and_harms_nobody_else(
    client: Client, is_async: bool, end: Any, kind: str, message: str
):
    tasks = lmdbq.Tasks(retry=1)

    def end_oddly() -> Any:
        if isinstance(end, BaseException):
            raise end
        return end

    async def end_oddly_later() -> Any:
        return end_oddly()

    odd = tasks.task("odd")(end_oddly_later if is_async else end_oddly)
    other = tasks.task("other")(lambda: "fine")
    handles = client.enqueue_many([odd.entry(), other.entry()])
    with Worker(client, tasks):
        with pytest.raises(lmdbq.TaskDead) as caught:
            handles[0].result(timeout=30)
        assert handles[1].result(timeout=30) == "fine"
    (failure,) = caught.value.task.errors
    assert failure.type == kind
    assert message in failure.message
    assert kind == "bad_result" or "in end_oddly" in failure.backtrace


def test_what_cannot_be_a_task_says_so_early():
    with pytest.raises(TypeError, match="names"):
        lmdbq.Tasks().task(lambda *args: args)
    with pytest.raises(lmdbq.InvalidInput, match="type"):
        lmdbq.Tasks().task("no such name!")(len)
    with pytest.raises(TypeError, match="did you mean 'retry'"):
        lmdbq.Tasks().task(retri=3)(len)  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="two tasks"):
        (tasks := lmdbq.Tasks()).task("a")(tasks.task("a")(lambda: 0).function)
    with pytest.raises(ValueError, match="no task"):
        Worker(Client(":memory:"), lmdbq.Tasks())
    numbers: list[dict[str, Any]] = [
        {"concurrency": 0},
        {"buffer": -1},
        {"grace": -1},
        {"grace": float("inf")},
        {"grace": float("nan")},
        {"processes": -1},
        {"max_tasks_per_process": 0},
        {"max_memory_per_process": 0},
    ]
    for number in numbers:
        with pytest.raises(ValueError, match=f"{next(iter(number))} .*(is|they are) "):
            Worker(Client(":memory:"), sdk_tasks.tasks, **number)


def test_included_tasks_run_with_their_own_arounds(client: Client):
    outer = lmdbq.Tasks()
    outer.include(sdk_tasks.async_tasks)
    sdk_tasks.async_tasks.include(outer)  # a circle harms nobody
    client.enqueue(sdk_tasks.on_this_loop)
    assert drain(client, outer) == 1
    assert sdk_tasks.seen.pop() == "on_this_loop"
    sdk_tasks.async_tasks._included.clear()


# --- in processes


def test_processes_run_replace_themselves_and_are_replaced(client: Client):
    handles = [client.enqueue(sdk_tasks.pid_of, name) for name in "abc"]
    handles += [client.enqueue(sdk_tasks.pid_of_async)]
    again = client.enqueue(sdk_tasks.die_once)
    slow = client.enqueue(sdk_tasks.spin)
    assert drain(client, sdk_tasks.processes, processes=1, max_tasks_per_process=2) == 7
    said: list[Any] = [handle.result() for handle in handles]
    assert [one["name"] for one in said[:3]] == ["a", "b", "c"]
    assert {one["parent"] for one in said[:3]} == {os.getpid()}
    assert all(one["pid"] == one["state"] for one in said[:3])
    pids = [one["pid"] for one in said[:3]] + [said[3]]
    assert (pids[0], pids[2]) == (pids[1], pids[3])
    assert pids[1] != pids[2]
    assert again.result() == 2
    assert again.info().errors[0].type == "process_died"
    with pytest.raises(lmdbq.TaskDead, match=r"timeout: it ran for more than 0\.3 s"):
        slow.result()


def test_a_process_that_has_grown_is_replaced_before_the_next_task(client: Client):
    sizes = [1, 1, 300 * 1024 * 1024, 1, 1]
    handles = client.enqueue_many([sdk_tasks.grow.entry(size) for size in sizes])
    limits: dict[str, Any] = {"processes": 1, "concurrency": 1, "max_memory_per_process": 250 * 1024 * 1024}
    assert drain(client, sdk_tasks.processes, **limits) == 5
    pids = [handle.result() for handle in handles]
    assert [pid == pids[0] for pid in pids] == [True, True, True, False, False]
    assert pids[3] == pids[4]


def test_a_cancel_kills_a_process(client: Client, tmp_path: Path):
    handle = client.enqueue(sdk_tasks.hold.using(lease=1), str(tmp_path / "pid"))
    with Worker(client, sdk_tasks.processes, processes=1):
        while handle.info().state != "running":
            time.sleep(0.01)
        assert handle.cancel().outcome == "cancel_requested"
        with pytest.raises(lmdbq.TaskCancelled):
            handle.result(timeout=30)


# --- cancel and progress


@pytest.mark.parametrize("task", [sdk_tasks.wait_for_stop, sdk_tasks.wait_for_cancel], ids=["thread", "async"])
def test_a_cancel_reaches_what_runs(client: Client, task: Any):
    started, _ = sdk_tasks.fresh_events()
    handle = client.enqueue(task.using(lease=1))
    with Worker(client, sdk_tasks.tasks):
        assert started.wait(30)
        handle.cancel()
        with pytest.raises(lmdbq.TaskCancelled):
            handle.result(timeout=30)


def test_progress_is_seen_while_it_runs(client: Client):
    started, go_on = sdk_tasks.fresh_events()
    handle = client.enqueue(sdk_tasks.report_progress)
    with Worker(client, sdk_tasks.tasks):
        assert started.wait(30)
        while handle.info().progress is None:
            time.sleep(0.01)
        assert handle.info().progress == 0.5
        go_on.set()


@pytest.mark.parametrize("share", [Decimal("0.5"), Fraction(1, 2), Share(0.5)], ids=lambda share: type(share).__name__)
def test_progress_may_be_any_kind_of_number(client: Client, share: Any):
    told, tasks = threading.Event(), lmdbq.Tasks()

    @tasks.task
    def half() -> None:
        lmdbq.current().progress(share)
        assert told.wait(60)

    handle = client.enqueue(half)
    until = time.monotonic() + 30
    with Worker(client, tasks):
        while handle.info().progress is None and time.monotonic() < until:
            time.sleep(0.01)
        assert handle.info().progress == 0.5
        told.set()


# --- over HTTP, and the end


def test_over_http_results_come_at_once_and_reports_are_not_held_back(daemon: RealDaemon):
    with Client(daemon.where) as client, Worker(client, sdk_tasks.tasks, queues=["http"], concurrency=4):
        for number in range(20):
            assert client.enqueue(sdk_tasks.add.using(queue="http"), number).result(timeout=30) == number + 2


def test_a_daemon_that_is_killed_again_and_again_is_waited_for(tmp_path: Path):
    with RealDaemon(tmp_path) as real, Client(real.where) as client, Worker(client, sdk_tasks.tasks, concurrency=2):
        for number in range(4):
            real.kill_and_start_again()
            handles: list[Any] = [client.enqueue(sdk_tasks.add, number), client.enqueue(sdk_tasks.think)]
            assert [handle.result(timeout=30) for handle in handles] == [number + 2, "think"]


def drain_until(started: threading.Event, client: Client) -> None:
    """Drain for longer and longer, until the time was enough for a task to start. Raises TimeoutError, as it does."""
    for seconds in (0.05, 0.5, 5):
        with pytest.raises(TimeoutError) as timed_out:
            Worker(client, sdk_tasks.tasks).drain(timeout=seconds)
        if started.is_set():
            raise timed_out.value
    Worker(client, sdk_tasks.tasks).drain(timeout=60)


def test_a_drain_has_an_end(client: Client):
    started, _ = sdk_tasks.fresh_events()
    handle = client.enqueue(sdk_tasks.wait_for_stop)
    with pytest.raises(TimeoutError, match="still work"):
        drain_until(started, client)
    assert (handle.info().state, handle.info().attempts) == ("ready", 0)


def test_what_was_handed_back_is_not_reported_as_well(client: Client, caplog: pytest.LogCaptureFixture):
    started, _ = sdk_tasks.fresh_events()
    handle = client.enqueue(sdk_tasks.wait_for_cancel)
    with pytest.raises(TimeoutError):
        drain_until(started, client)
    assert sdk_tasks.state.pop("cancelled")
    assert (handle.info().state, handle.info().errors) == ("ready", ())
    assert [record.getMessage() for record in caplog.records if "came to nothing" in record.getMessage()] == []


def test_a_drain_waits_for_reports_that_are_on_their_way(client: Client, monkeypatch: pytest.MonkeyPatch):
    """The keeper sends the report while a claim is on its way, and is slow about it."""
    claiming, reporting, drained = threading.Event(), threading.Event(), threading.Event()
    call = EmbeddedTransport.call
    claims = iter(range(100))

    def slow_call(self: EmbeddedTransport, request: Request[T], stop: threading.Event | None = None) -> T:
        if threading.current_thread().name == "lmdbq-keeper" and request.target == "/v1/report":
            reporting.set()
            drained.wait(1.5)  # which is never set before the report has arrived
        elif request.target in ("/v1/dequeue", "/v1/report") and next(claims) == 1:  # with the report of the first
            claiming.set()
            assert reporting.wait(30)
        return call(self, request, stop)

    @(tasks := lmdbq.Tasks()).task
    def hold_on(first: bool) -> bool:
        return first or claiming.wait(30)

    handles = client.enqueue_many([hold_on.entry(first=True), hold_on.entry(first=False)])
    worker = Worker(client, tasks, concurrency=2)
    monkeypatch.setattr(EmbeddedTransport, "call", slow_call)
    assert worker.drain(timeout=30) == 2
    monkeypatch.undo()
    assert [handle.info().state for handle in handles] == ["succeeded"] * 2
    drained.set()


def test_a_worker_can_be_drained_again_and_again_but_not_once_stopped(client: Client):
    worker = Worker(client, sdk_tasks.tasks, concurrency=3)
    for number in range(50):
        job = client.enqueue(sdk_tasks.add, number)
        assert worker.drain(timeout=30) == 1
        assert job.info().state == "succeeded"
    worker.stop()
    with pytest.raises(RuntimeError, match="stopped"):
        worker.drain()


def test_what_ends_its_keeper_ends_the_worker(client: Client, monkeypatch: pytest.MonkeyPatch):
    def broken(held: Held) -> None:
        raise ZeroDivisionError("a bug")

    monkeypatch.setattr(Held, "run", broken)
    with pytest.raises(ZeroDivisionError, match="a bug"):
        Worker(client, sdk_tasks.tasks).run()


def test_a_lifespan_that_fails_ends_the_worker(client: Client):
    def closed() -> Iterator[None]:
        raise LookupError("no database")
        yield

    tasks = lmdbq.Tasks(lifespan=closed)
    tasks.task("never")(lambda: 0)
    with pytest.raises(LookupError, match="no database"):
        Worker(client, tasks).run()


def test_a_worker_is_gentle_to_its_client(client: Client):
    """A worker that ends disturbs none of its client's own calls."""
    handle = client.enqueue(Entry("other"))
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(handle.wait(timeout=60)))
    thread.start()
    assert drain(client) == 0
    (lease,) = client.dequeue()
    lease.succeed(1)
    thread.join(30)
    assert got[0].state == "succeeded"


def test_who_waits_in_vain_is_told_what_for(client: Client):
    handle = client.enqueue(Entry("nobody"))
    with pytest.raises(
        lmdbq.ResultTimeout, match=r"is ready after 0 s: nobody asks for type 'nobody' .* start a worker"
    ):
        handle.result(timeout=0)


NOTHING = """
import sys, lmdbq
tasks = lmdbq.Tasks()
tasks.task("nothing")(lambda: None)
with lmdbq.Client(sys.argv[1]) as client:
    print(lmdbq.Worker(client, tasks).drain(timeout=60))
"""


def test_none_from_a_worker_in_another_process_on_the_directory_is_known_if_it_is_kept(tmp_path: Path):
    with Client(tmp_path / "q") as client:
        plain, kept = client.enqueue_many([Entry("nothing"), Entry("nothing", keep=60)])
        command = [sys.executable, "-c", NOTHING, str(tmp_path / "q")]
        assert subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout == "2\n"
        assert kept.result(timeout=30) is None
        with pytest.raises(lmdbq.TaskGone, match="see `keep`"):
            plain.result(timeout=30)
        assert plain.wait(timeout=30) is None
        assert client.place.embedded.queue().store.check() == []  # type: ignore[attr-defined]


def test_importing_the_worker_needs_no_daemon():
    code = (
        "import sys, lmdbq; lmdbq.Worker; print([m for m in ('aiohttp', 'lmdb', 'lmdbq.daemon') if m in sys.modules])"
    )
    assert run_python(code).strip() == "[]"
