"""What is enqueued: payloads, priorities and dedupe keys, and the requests that carry them, all made before the clock.

The same seed gives the same input to every target. Payloads are JSON of the shape that published queue benchmarks use,
``{"id":…,"scenario":"simple","timestamp":…}``, about 60 bytes, with filler for longer ones.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from lmdbq.bench.workloads import Workload

QUEUE: Final = "benchmark"
JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
NDJSON: Final = "application/x-ndjson"
_DAY_SECONDS: Final = 86_400
_FILL: Final = 10_000
_STRIPES: Final = 8
_SHUFFLED: Final = 500_000  # tasks at the head of a backlog; more than a group works off
_POOL_BYTES: Final = 32_000_000
_BACKLOG: Final = 0  # as a seed: callers have 1 and more, so that their sequential keys come later


class Batch(Struct, frozen=True):
    """One call's worth: payloads, and per payload a priority, a key and a delay in seconds (empty lists: none has one).

    A key of "" and a delay of 0 are none.
    """

    payloads: list[bytes]
    priorities: list[int] = []
    keys: list[str] = []
    delays: list[int] = []


def payload(number: int, length: int) -> bytes:
    """Return a JSON payload of about ``length`` bytes (60 or more).

    >>> len(payload(1, 60)), len(payload(2, 1000))
    (58, 1000)
    """
    start = b'{"id":%d,"scenario":"simple","timestamp":1770000%03d.%06d' % (number, number % 1_000, number % 1_000_000)
    filler = length - len(start) - len(b',"text":""}')
    return start + (b',"text":"' + b"x" * filler + b'"}' if filler > 0 else b"}")


def batches(workload: Workload, seed: int = 1) -> Iterator[Batch]:
    """Yield batches without end. With another ``seed`` (1 or more) keys are others, too."""
    chance = random.Random(seed)

    def some(value: Any, none: Any) -> Any:
        return value if workload.share >= 1 or chance.random() < workload.share else none

    number = 0
    while True:
        numbers = range(number, number + workload.batch)
        number += workload.batch
        yield Batch(
            [payload(one, workload.payload_bytes) for one in numbers],
            [chance.randrange(workload.priorities) for _ in numbers] if workload.priorities > 1 else [],
            [some(_key(workload.keys, seed, one, chance), "") for one in numbers] if workload.keys else [],
            [some(chance.randrange(1, _DAY_SECONDS), 0) for _ in numbers] if workload.scheduled else [],
        )


def _key(kind: str, seed: int, number: int, chance: random.Random) -> str:
    return f"{seed:08d}-{number:012d}" if kind == "sequential" else f"{chance.getrandbits(128):032x}"


def backlog(workload: Workload) -> Iterator[Batch]:
    """Yield what waits before the clock starts, ``workload.backlog`` tasks, in large batches.

    Random keys are random in all their bits. Those of the first tasks, which are worked off while the clock runs, come
    in random order; those behind them come in stripes, each of which runs once through all keys in their order. A tree
    that is filled so is as full and as shuffled as one of random order only, and is there in minutes.
    """
    chance = random.Random(_BACKLOG)
    for start in range(0, workload.backlog, _FILL):
        numbers = range(start, min(start + _FILL, workload.backlog))
        keys: list[str] = []
        if workload.keys == "random":
            keys = [_key_of_backlog(number, workload.backlog, chance) for number in numbers]
        elif workload.keys:
            keys = [_key(workload.keys, _BACKLOG, number, chance) for number in numbers]
        yield Batch(
            [payload(number, workload.payload_bytes) for number in numbers],
            [chance.randrange(workload.priorities) for _ in numbers] if workload.priorities > 1 else [],
            keys,
        )


def _key_of_backlog(number: int, length: int, chance: random.Random) -> str:
    """Return the random key of the ``number``-th of ``length`` tasks: anywhere, or inside its part of its stripe."""
    if number < _SHUFFLED:
        return _key("random", _BACKLOG, number, chance)
    part = (1 << 128) * _STRIPES // (length + _STRIPES)
    return f"{number % -(-length // _STRIPES) * part + chance.randrange(part):032x}"


def pool(workload: Workload, seed: int, seconds: float, tasks_per_second: int = 500_000) -> list[Batch]:
    """Return the batches of one caller: as many as it may need when keys must differ, else a few to be repeated."""
    needed = max(2, min(16, _POOL_BYTES // (workload.batch * workload.payload_bytes)))
    if workload.keys:
        needed = int(seconds * tasks_per_second / workload.batch / workload.callers) + 1
    source = batches(workload, seed)
    return [next(source) for _ in range(needed)]


# --- requests ---------------------------------------------------------------------------------------------------------


def entries(batch: Batch, encode: Any) -> list[dict[str, Any]]:
    """Return a batch as the entries of a request."""
    result = []
    for index, raw in enumerate(batch.payloads):
        entry: dict[str, Any] = {"payload": Raw(encode(raw))}
        if batch.priorities:
            entry["priority"] = batch.priorities[index]
        if batch.keys and batch.keys[index]:
            entry["dedupe_key"] = batch.keys[index]
        if batch.delays and batch.delays[index]:
            entry["delay_in_seconds"] = batch.delays[index]
        result.append(entry)
    return result


def body(batch: Batch, content_type: str, *, minimal: bool = False) -> bytes:
    """Return the body of a POST /v1/enqueue. minimal: the answer is to leave the tasks out."""
    if content_type == NDJSON:
        return b"".join(msgspec.json.encode(entry) + b"\n" for entry in entries(batch, lambda raw: raw))
    said = {"return_tasks": False} if minimal else {}
    if content_type == MSGPACK:
        encoded = entries(batch, lambda raw: msgspec.msgpack.encode(msgspec.json.decode(raw)))
        return msgspec.msgpack.encode({"queue_name": QUEUE, "entries": encoded, **said})
    return msgspec.json.encode({"queue_name": QUEUE, "entries": entries(batch, lambda raw: raw), **said})


def request(path: str, content: bytes, content_type: str = JSON) -> bytes:
    """Return the bytes of a POST as they go over the wire."""
    lines = (f"POST {path} HTTP/1.1", "Host: localhost", f"Content-Type: {content_type}")
    return "\r\n".join((*lines, f"Content-Length: {len(content)}\r\n\r\n")).encode("ascii") + content
