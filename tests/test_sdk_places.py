"""Where a client goes: places and what is wrong with them, one environment per directory, threads, forks, loops."""

from __future__ import annotations

import asyncio
import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import lmdbq
from lmdbq import AsyncClient, Client, Entry
from lmdbq.client import embedded_file
from lmdbq.store import environment
from lmdbq.store.lmdb import open_store
from tests.fake_daemon import FakeDaemon, answer
from tests.sdk_places import run_python

ROOT = Path(__file__).resolve().parent.parent


def script(name: str) -> Any:
    """Return a module of packaging/, which is no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("where", "options", "word"),
    [
        ("localhost:7325", {}, "http://HOST:PORT"),
        ("", {}, "no place"),
        ("ftp://host/", {}, "ftp"),
        ("postgresql://host/", {}, "postgresql"),
        ("http://127.0.0.1:1", {"durability": "batch"}, "lmdbq serve --durability"),
        (":memory:", {"durability": "full"}, "does not last"),
        (":memory:", {"token": "t"}, "only a daemon"),
        ("./dir", {"token": "t"}, "only a daemon"),
        ("./dir", {"durability": "sometimes"}, "'full' or 'batch'"),
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_a_place_that_cannot_be_is_refused_at_once(kind: Any, where: str, options: dict[str, Any], word: str):
    with pytest.raises(lmdbq.InvalidInput, match=word):
        kind(where, **options)


def test_without_a_place_it_is_the_one_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    assert Client().where == "http://127.0.0.1:7325"
    monkeypatch.setenv("LMDBQ_URL", "unix:///run/q.sock")
    assert Client().where == AsyncClient().where == "unix:///run/q.sock"


def test_nothing_is_opened_before_the_first_call(tmp_path: Path):
    Client(tmp_path / "q").close()
    assert not (tmp_path / "q").exists()


def test_a_directory_opened_twice_is_one_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "link").symlink_to(tmp_path / "q")
    monkeypatch.chdir(tmp_path)
    one, other, third = Client("./q"), Client(tmp_path / "link"), AsyncClient(str(tmp_path / "q"))
    handle = one.enqueue(Entry("n", 1))
    assert other.task(handle.id).info().payload == 1
    assert asyncio.run(third.task(handle.id).info()).payload == 1
    assert len(embedded_file._open) == len(environment._shared) == 1
    one.close()
    assert other.tasks().count() == 1
    other.close()
    asyncio.run(third.close())
    assert embedded_file._open == environment._shared == {}
    store = open_store(tmp_path / "q")
    assert store.check() == []
    store.close()


def test_one_process_has_one_durability_for_a_directory(tmp_path: Path):
    with Client(tmp_path / "q", durability="batch") as client:
        client.queues()
        with pytest.raises(lmdbq.InvalidInput, match="'batch'"):
            Client(tmp_path / "q", durability="full").queues()
        assert Client(tmp_path / "q").queues() == []


def test_a_directory_that_cannot_be_one_says_so(tmp_path: Path):
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(lmdbq.StoreError, match="file"):
        Client(tmp_path / "file").queues()


@pytest.mark.parametrize("where", ["directory", ":memory:"])
def test_many_threads_share_a_client_that_nobody_has_opened(tmp_path: Path, where: str):
    client = Client(tmp_path / "q" if where == "directory" else where)
    together = threading.Barrier(8)

    def produce(number: int) -> str:
        together.wait(30)
        return client.enqueue(Entry("n", number)).id

    with client, ThreadPoolExecutor(8) as threads:
        assert len(set(threads.map(produce, range(8)))) == 8
        assert client.tasks().count() == 8


def test_a_memory_queue_is_its_clients_own():
    with Client(":memory:") as one, Client(":memory:") as other:
        one.enqueue(Entry("n"))
        assert (one.tasks().count(), other.tasks().count()) == (1, 0)


def test_a_task_of_another_process_wakes_a_dequeue(tmp_path: Path):
    code = "import sys, lmdbq; lmdbq.Client(sys.argv[1]).enqueue(lmdbq.Entry('n', 'from afar'))"
    with Client(tmp_path / "q") as client, ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(client.dequeue, wait=60)
        run_python(code, str(tmp_path / "q"))
        (lease,) = waiting.result(30)
        assert lease.task.payload == "from afar"
        lease.succeed()


FORK = """
import os, sys, lmdbq
client = lmdbq.Client(sys.argv[1])
memory = lmdbq.Client(":memory:")
memory.queues()
client.enqueue(lmdbq.Entry("n", "parent"))
client.dequeue(wait=0.01)  # this process keeps the time from now on
child = os.fork()
if not child:
    client.enqueue(lmdbq.Entry("n", "child"))
    try:
        memory.queues()
    except lmdbq.StoreError as error:
        print(error.code, flush=True)
    client.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
client.enqueue(lmdbq.Entry("n", "parent again"))
print(sorted(task.payload for task in client.tasks()))
"""


def test_a_forked_child_opens_a_directory_for_itself(tmp_path: Path):
    assert run_python(FORK, str(tmp_path / "q")).splitlines() == ["store_closed", "['child', 'parent', 'parent again']"]
    store = open_store(tmp_path / "q")
    assert store.check() == []
    store.close()


def test_a_program_that_does_not_close_ends_by_itself(tmp_path: Path):
    code = (
        "import sys, lmdbq\nfor where in sys.argv[1], ':memory:':\n    client = lmdbq.Client(where)\n"
        "    client.enqueue(lmdbq.Entry('n'))\n    client.dequeue(wait=0.01)\nprint('end')"
    )
    assert run_python(code, str(tmp_path / "q")) == "end\n"


@pytest.mark.parametrize("where", ["http", "directory", "memory"])
def test_an_async_client_may_be_used_on_one_loop_after_another(tmp_path: Path, where: str):
    async def count(client: AsyncClient) -> int:
        number = len(await client.queues())
        if where == "http":
            await client.close()
        return number

    with FakeDaemon() as fake:
        fake.script = [answer(body={"queues": []})] * 2
        client = AsyncClient({"http": fake.where, "directory": tmp_path / "q", "memory": ":memory:"}[where])
        assert [asyncio.run(count(client)), asyncio.run(count(client))] == [0, 0]
        asyncio.run(client.close())


async def test_an_async_client_sends_again_what_it_may(tmp_path: Path):
    busy = {"type": "x", "title": "t", "status": 503, "code": "draining", "detail": "d", "request_id": "r"}
    with FakeDaemon() as fake:
        fake.script = [answer(503, busy), answer(body={"queues": []}), answer(503, busy)]
        async with AsyncClient(fake.where, token="secret") as client:
            assert await client.queues() == []
            with pytest.raises(lmdbq.NotNow) as caught:
                await client.task("tsk_00000000010").cancel()
    assert caught.value.code == "draining"
    assert [fake.next().headers.get("Authorization") for _ in range(3)] == ["Bearer secret"] * 3


async def test_nobody_there(tmp_path: Path):
    async with AsyncClient(f"unix://{tmp_path}/none", timeout=0.01) as client:
        with pytest.raises(lmdbq.Unreachable, match="none"):
            await client.queues()


async def test_a_cancelled_dequeue_claims_nothing():
    async with AsyncClient(":memory:") as client:
        waiting = asyncio.create_task(client.dequeue(wait=60))
        while not client._transport.embedded.queue().engine.status().parked:  # type: ignore[attr-defined]
            await asyncio.sleep(0.001)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        await client.enqueue(Entry("n", 1))
        (lease,) = await client.dequeue(wait=30)
        assert lease.task.deliveries == 1


def test_the_sync_client_is_made_from_the_async_one():
    make_sync = script("make_sync")
    for origin, name in make_sync.PAIRS.items():
        made = make_sync.sync_text(origin)
        assert (make_sync.CLIENT / name).read_text(encoding="utf-8") == made, "run: python packaging/make_sync.py"


def test_importing_lmdbq_is_light():
    code = "import sys, lmdbq; print(*sorted(name for name in sys.modules if name.startswith(('lmdbq', 'msgspec'))))"
    assert run_python(code).split() == ["lmdbq"]
    heavy = "import sys, lmdbq; lmdbq.Client, lmdbq.Tasks; print([m for m in ('aiohttp', 'lmdb') if m in sys.modules])"
    assert run_python(heavy).strip() == "[]"


def test_every_public_name_is_there():
    names = [name for name in dir(lmdbq) if name in lmdbq._HOME]
    assert len(names) >= 30
    for name in names:
        assert getattr(lmdbq, name).__name__ in (name, name.replace("Info", "Answer"), "RuleAnswer")
    with pytest.raises(AttributeError, match="Cleint"):
        lmdbq.Cleint  # noqa: B018
    text = Path(lmdbq.__file__).read_text(encoding="utf-8")
    assert [name for name in names if f" import {name} as {name}\n" not in text] == []
