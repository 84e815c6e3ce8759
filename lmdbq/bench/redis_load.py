"""The load on Redis: redis-py in the layout of the published queue benchmark that this harness follows.

A task is a MessagePack message, pushed to the list ``asynq:{benchmark.default}:pending``, and a hash
``asynq:t:<id>`` with its queue, state and time. Modes: ``pipeline`` (one connection, a batch of such pairs per round
trip, no transaction), ``bulk`` (all messages of a batch in one LPUSH, then the hashes in one pipeline), ``threads`` and
``asyncio`` (a connection per caller; one task per round trip, in MULTI and EXEC together with a SADD of the queue),
``life`` and ``life one by one`` (a worker that enqueues a batch by pipeline and works as many tasks off: LMOVE or
BLMOVE to a list of active ones, then LREM and DEL). Messages are made before the clock; what redis-py does with them is
inside of it.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from itertools import count
from typing import Any, Final

import msgspec

from lmdbq.bench import inputs
from lmdbq.bench.processes import driver_main
from lmdbq.bench.workloads import Workload

PENDING: Final = "asynq:{benchmark.default}:pending"
ACTIVE: Final = "asynq:{benchmark.default}:active"
QUEUES: Final = "asynq:queues"
_POOL: Final = 10_000

Run = Callable[[float, float], dict[str, Any]]


def messages(spec: dict[str, Any]) -> list[bytes]:
    """Return the messages a driver sends again and again, about 190 bytes each with a payload of 60."""
    workload = msgspec.convert(spec["workload"], Workload)
    made = []
    for number in range(_POOL):
        task = {
            "type": "benchmark.default",
            "payload": inputs.payload(number, workload.payload_bytes),
            "id": f"{spec['seed']:08x}-0000-4000-8000-{number:012x}",
            "queue": "benchmark.default",
            "retry": 3,
            "timeout": 1800,
            "deadline": 0,
        }
        made.append(msgspec.msgpack.encode(task))
    return made


class Names:
    """Keys of hashes, each given once."""

    def __init__(self, seed: int) -> None:
        self._prefix = f"asynq:t:{seed:08x}-"
        self._number = count()

    def take(self) -> str:
        return f"{self._prefix}{next(self._number):012x}"


def _describe(pipe: Any, name: str) -> None:
    pipe.hset(name, mapping={"queue": "benchmark.default", "state": "pending", "created": "1770000000"})


def _add(pipe: Any, name: str, message: bytes) -> None:
    _describe(pipe, name)  # first: a pipeline is no transaction, and another worker may take the message at once
    pipe.lpush(PENDING, message)


def pipeline(spec: dict[str, Any]) -> Run:
    """One connection, many tasks per round trip; in bulk, two round trips for a batch."""
    import redis

    client = redis.Redis(port=spec["port"], protocol=3)
    pool, names, length = messages(spec), Names(spec["seed"]), spec["workload"]["batch"]
    bulk = spec["mode"] == "bulk"
    client.ping()

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = sent = 0
        now = 0.0
        while now < end:
            pipe = client.pipeline(transaction=False)
            if bulk:
                client.lpush(PENDING, *(pool[(sent + number) % _POOL] for number in range(length)))
                for _ in range(length):
                    _describe(pipe, names.take())
            else:
                for number in range(length):
                    _add(pipe, names.take(), pool[(sent + number) % _POOL])
            pipe.execute()
            now = time.monotonic()
            sent += length
            counted += length if begin <= now < end else 0
        return {"counted": counted, "sent": sent}

    return run


def threads(spec: dict[str, Any]) -> Run:
    """A thread and a connection per caller, one task per round trip."""
    import redis

    clients = [redis.Redis(port=spec["port"], protocol=3) for _ in range(spec["connections"])]
    pool = messages(spec)
    for client in clients:
        client.ping()

    def call(client: Any, seed: int, begin: float, end: float, done: list[tuple[int, int]]) -> None:
        names = Names(seed)
        counted = sent = 0
        now = 0.0
        while now < end:
            pipe = client.pipeline(transaction=True)
            _add(pipe, names.take(), pool[sent % _POOL])
            pipe.sadd(QUEUES, "benchmark.default")
            pipe.execute()
            now = time.monotonic()
            sent += 1
            counted += begin <= now < end
        done.append((counted, sent))

    def run(begin: float, end: float) -> dict[str, Any]:
        done: list[tuple[int, int]] = []
        callers = [
            threading.Thread(target=call, args=(client, seed, begin, end, done)) for seed, client in enumerate(clients)
        ]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        if len(done) < len(callers):
            raise RuntimeError("a caller has failed; its error is above")
        return {"counted": sum(one for one, _ in done), "sent": sum(one for _, one in done)}

    return run


def on_loop(spec: dict[str, Any]) -> Run:
    """A connection per caller, all on one event loop, one task per round trip."""
    import redis.asyncio

    pool = messages(spec)

    async def call(client: Any, seed: int, begin: float, end: float) -> tuple[int, int]:
        names = Names(seed)
        counted = sent = 0
        now = 0.0
        while now < end:
            pipe = client.pipeline(transaction=True)
            _add(pipe, names.take(), pool[sent % _POOL])
            pipe.sadd(QUEUES, "benchmark.default")
            await pipe.execute()
            now = time.monotonic()
            sent += 1
            counted += begin <= now < end
        await client.aclose()
        return counted, sent

    async def callers(begin: float, end: float) -> dict[str, Any]:
        clients = [redis.asyncio.Redis(port=spec["port"], protocol=3) for _ in range(spec["connections"])]
        done = await asyncio.gather(*(call(client, seed, begin, end) for seed, client in enumerate(clients)))
        return {"counted": sum(one for one, _ in done), "sent": sum(one for _, one in done)}

    def run(begin: float, end: float) -> dict[str, Any]:
        import uvloop

        return uvloop.run(callers(begin, end))

    return run


def life(spec: dict[str, Any]) -> Run:
    """Enqueue a batch, then work off as many tasks: ``take`` to a pipeline, or with BLMOVE one by one.

    The name of the hash stands in front of the message, so that a worker needs no round trip to find it.
    """
    import redis

    client = redis.Redis(port=spec["port"], protocol=3)
    pool, names, length, take = messages(spec), Names(spec["seed"]), spec["workload"]["batch"], spec["workload"]["take"]
    one_by_one = spec["mode"] == "life one by one"
    client.ping()

    def enqueue(sent: int) -> None:
        pipe = client.pipeline(transaction=length == 1)
        for number in range(length):
            name = names.take()
            _add(pipe, name, name.encode("ascii") + b" " + pool[(sent + number) % _POOL])
        pipe.execute()

    def take_some() -> list[bytes]:
        if one_by_one:
            moved: Any = client.blmove(PENDING, ACTIVE, 30, "RIGHT", "LEFT")
            return [moved]
        pipe = client.pipeline(transaction=False)
        for _ in range(take):
            pipe.lmove(PENDING, ACTIVE, "RIGHT", "LEFT")
        return pipe.execute()

    def finish(taken: list[bytes]) -> None:
        pipe: Any = client.pipeline(transaction=one_by_one)
        for message in taken:
            pipe.lrem(ACTIVE, -1, message)
            pipe.delete(message.partition(b" ")[0])
        assert all(pipe.execute()), "a task was not there to be finished"

    def run(begin: float, end: float) -> dict[str, Any]:
        counted = sent = 0
        now = producing = 0.0
        while now < end:
            began = time.process_time()
            enqueue(sent)
            producing += time.process_time() - began
            for _ in range(0, length, 1 if one_by_one else take):
                finish(take_some())
            now = time.monotonic()
            sent += length
            counted += length if begin <= now < end else 0
        return {"counted": counted, "sent": 0, "total": sent, "producing_seconds": producing}

    return run


MODES: Final = {
    "life": life,
    "life one by one": life,
    "pipeline": pipeline,
    "bulk": pipeline,
    "threads": threads,
    "asyncio": on_loop,
}


if __name__ == "__main__":
    driver_main(lambda spec: MODES[spec["mode"]](spec))
