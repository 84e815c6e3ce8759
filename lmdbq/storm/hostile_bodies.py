"""Bodies that nobody honest sends: what is right, made wrong in one place or in many, in any encoding.

Each body is drawn from its own seed. It begins as a right request with hostile values planted in it (``_spoil``); is
written as JSON, MessagePack or lines of JSON by encoders that write anything (a number that is none, half a surrogate,
a key twice, an extension type); and then its bytes may be cut, flipped, repeated or mixed. Some are noise from the
start. What is asked for is never long in itself: nothing here waits, so that an answer that does not come is a hang.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import msgpack  # type: ignore[import-untyped]  # it has no stubs

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"
NDJSON: Final = "application/x-ndjson"
QUEUES: Final = ("hostile", "other")
_ID: Final = "tsk_0000000000A"
_LEASE: Final = f"{_ID}.1"


class Body(NamedTuple):
    """One request."""

    method: str
    path: str
    content_type: str
    accept: str
    data: bytes


class _Twice(dict[str, Any]):
    """An object that JSON will say with each key twice. first: what its keys are said to be before that."""

    def __init__(self, first: dict[str, Any], right: dict[str, Any]) -> None:
        super().__init__(right)
        self.first = first


_HOSTILE: Final[tuple[Callable[[random.Random], Any], ...]] = (
    lambda chosen: chosen.choice((float("nan"), float("inf"), float("-inf"), -0.0, 5e-324, 1e308)),
    lambda chosen: chosen.choice((-1, 0, 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, 2**64 - 1, -(2**63), 10**17 - 1)),
    lambda chosen: chosen.choice((None, True, False, [], {}, "", b"", b"\xff\xfe")),
    lambda chosen: chosen.choice(("\ud800", "\x00", "a\nb", "\u202e", "\U0001f600" * 40, "../../etc", "tsk_", "%00")),
    lambda chosen: "x" * chosen.choice((127, 128, 129, 256, 257, 5_000, 70_000)),
    lambda chosen: _nested(chosen.choice((5, 127, 128, 129, 250)), chosen.random() < 0.5),
    lambda chosen: [chosen.randrange(10)] * chosen.choice((17, 101, 1_001)),
    lambda chosen: {f"k{number}": number for number in range(chosen.choice((1, 50, 2_000)))},
    lambda chosen: msgpack.ExtType(chosen.randrange(128), chosen.randbytes(chosen.randrange(9))),
    lambda chosen: _Twice({"a": None, "b": 2}, {"a": 1, "b": 2}),
    lambda chosen: chosen.choice(("2026-01-01T00:00:00Z", "2026-13-45T99:99:99+99:99", "0000-00-00", "now", "1e999")),
    lambda chosen: chosen.randbytes(chosen.randrange(40)),
    lambda chosen: "".join(chr(chosen.randrange(0x110000)) for _ in range(chosen.randrange(12))),
)


def _nested(depth: int, lists: bool) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value] if lists else {"k": value}
    return value


def _entry(chosen: random.Random) -> dict[str, Any]:
    every: dict[str, Any] = {
        "type": "t",
        "payload": {"to": "ada", "n": [1, 2.5, None, True, "\u00e9"]},
        "priority": 3,
        "delay_in_seconds": 0.5,
        "expires_in_seconds": 3600,
        "dedupe_key": f"k{chosen.randrange(20)}",
        "dedupe_scope": "queue",
        "dedupe_until": "finished",
        "on_duplicate": "overwrite",
        "overwrite_on_duplicate": ["payload", "tags"],
        "keepalive_timeout_in_seconds": 30,
        "retry_strategy": {"max_attempts": 3, "backoff": {"kind": "exponential", "factor": 2}},
        "keep": {"succeeded_in_seconds": 1},
        "tags": ["a", "b"],
        "metadata": {"m": [1, {"x": None}]},
        "payload_base64": "AAEC",
        "scheduled_at": 1_800_000_000_000_000_000,
        "queue_name": chosen.choice(QUEUES),
    }
    keys = chosen.sample(sorted(every), chosen.randrange(0, 6))
    entry = {key: every[key] for key in keys}
    if chosen.random() < 0.3:  # what a page of tasks would have to show
        entry[chosen.choice(("payload", "payload", "metadata"))] = chosen.choice(_HOSTILE)(chosen)
    return entry


def _entries(chosen: random.Random) -> dict[str, Any]:
    return {"queue_name": chosen.choice(QUEUES), "entries": [_entry(chosen) for _ in range(chosen.randint(1, 4))]}


def _queue_settings(_chosen: random.Random) -> dict[str, Any]:
    return {"keepalive_timeout_in_seconds": 20, "retry_strategy": {"max_attempts": 2}, "keep": {"dead_in_seconds": 5}}


class _Route(NamedTuple):
    """A request to spoil: how often it is drawn, and its right body. ``{id}`` and ``{lease}`` stand for real ones."""

    weight: int
    method: str
    path: str
    right: Callable[[random.Random], Any]


_ROUTES: Final = (
    _Route(8, "POST", "/v1/enqueue", _entries),
    _Route(4, "POST", "/v1/tasks", _entry),
    _Route(3, "POST", "/v1/dequeue", lambda chosen: {"queue_names": list(QUEUES), "limit": chosen.randint(1, 20)}),
    _Route(3, "POST", "/v1/report", lambda _: {"reports": [{"lease": "{lease}", "status": "succeeded", "result": 1}]}),
    _Route(1, "POST", "/v1/report", lambda _: {"reports": [{"lease": "{lease}", "status": "failed"}], "dequeue": {}}),
    _Route(2, "POST", "/v1/extend", lambda _: {"leases": [{"lease": "{lease}", "progress": 0.5}]}),
    _Route(1, "POST", "/v1/leases/{lease}/fail", lambda _: {"error": {"message": "m", "type": "t"}, "retry": True}),
    _Route(1, "POST", "/v1/leases/{lease}/succeed", lambda _: {"result": {"a": [1]}}),
    _Route(1, "POST", "/v1/leases/{lease}/release", lambda _: {"delay_in_seconds": 1}),
    _Route(2, "PATCH", "/v1/tasks/{id}", _entry),
    _Route(1, "POST", "/v1/tasks/{id}/cancel", lambda _: {}),
    _Route(1, "POST", "/v1/tasks/{id}/retry", lambda _: {}),
    _Route(1, "POST", "/v1/tasks/actions", lambda _: {"action": "retry", "filter": {"queue_name": "other"}}),
    _Route(1, "PUT", "/v1/queues/hostile", _queue_settings),
    _Route(1, "PATCH", "/v1/queues/other", _queue_settings),
)
_WEIGHTS: Final = [route.weight for route in _ROUTES]


class Known:
    """Real task ids and leases, to be asked for: the last ones that were answered."""

    KEPT: Final = 200

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.leases: list[str] = []

    def learn(self, ids: list[str], leases: list[str]) -> None:
        """Add ids and leases."""
        self.ids = (self.ids + ids)[-self.KEPT :]
        self.leases = (self.leases + leases)[-self.KEPT :]


def body(seed: str, known: Known) -> Body:
    """Return the request of a seed; only which real ids it names depends on ``known``."""
    chosen = random.Random(seed)
    route = chosen.choices(_ROUTES, _WEIGHTS)[0]
    names = {"{id}": _one_of(known.ids or [_ID], chosen), "{lease}": _one_of(known.leases or [_LEASE], chosen)}
    value = _named(route.right(chosen), names)
    for _ in range(chosen.choice((0, 1, 1, 1, 2, 5))):
        value = _spoil(value, chosen)
    path = route.path
    for name, real in names.items():
        path = path.replace(name, real)
    kinds = [JSON, JSON, MSGPACK, MSGPACK] + [NDJSON] * (2 * (route.path == "/v1/enqueue"))
    content_type = chosen.choice(kinds)
    data = _encoded(value, content_type, chosen)
    if chosen.random() < 0.4:
        data = _mangled(data, chosen)
    if chosen.random() < 0.02:
        content_type = chosen.choice(("text/plain", "application/octet-stream", JSON + "; charset=utf-7", "x", NDJSON))
    return Body(route.method, path, content_type, chosen.choice((JSON, MSGPACK, "*/*")), data)


def _one_of(names: list[str], chosen: random.Random) -> str:
    """Return one of some names, by one number: ``choice`` draws more or fewer of them as there are more or fewer."""
    return names[int(chosen.random() * len(names))]


def _named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _named(part, names) for key, part in value.items()}
    if isinstance(value, list):
        return [_named(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def _spoil(value: Any, chosen: random.Random) -> Any:
    """Return a value in which one part is hostile, missing, of another type, or under a name that is none."""
    if isinstance(value, dict) and value and chosen.random() < 0.85:
        key = chosen.choice(sorted(value, key=repr))
        way = chosen.random()
        if way < 0.1:
            return {name: part for name, part in value.items() if name != key}
        if way < 0.2:
            return {**value, chosen.choice(("__class__", "", "k" * 300, "Payload", "\x00")): 1}
        if way < 0.25:
            return _Twice({**value, key: _spoil(value[key], chosen)}, value)
        return {**value, key: _spoil(value[key], chosen)}
    if isinstance(value, list) and value and chosen.random() < 0.85:
        at = chosen.randrange(len(value))
        return [*value[:at], _spoil(value[at], chosen), *value[at + 1 :]]
    return chosen.choice(_HOSTILE)(chosen)


def _encoded(value: Any, content_type: str, chosen: random.Random) -> bytes:
    if content_type == MSGPACK:
        return _messagepack(value)
    if content_type == JSON:
        return _json(value)
    entries = value.get("entries") if isinstance(value, dict) else None
    lines = entries if isinstance(entries, list) else [value]
    return chosen.choice((b"\n", b"\r\n", b"\n\n")).join(_json(line) for line in lines)


def _messagepack(value: Any) -> bytes:
    packer = msgpack.Packer(unicode_errors="surrogatepass", default=repr)
    try:
        packed: bytes = packer.pack(value)
    except (ValueError, OverflowError, TypeError, RecursionError):  # too deep, or a number that has no form there
        return b"\xc1"
    return packed


def _json(value: Any) -> bytes:
    """Return JSON as a careless program writes it."""
    if isinstance(value, dict):
        pairs = [*value.first.items(), *value.items()] if isinstance(value, _Twice) else value.items()
        return b"{" + b",".join(json.dumps(key).encode() + b":" + _json(part) for key, part in pairs) + b"}"
    if isinstance(value, list | msgpack.ExtType):
        return b"[" + b",".join(map(_json, value)) + b"]"
    if isinstance(value, bytes):
        return b'"' + value.replace(b'"', b"'") + b'"'
    return json.dumps(value).encode()


def _mangled(data: bytes, chosen: random.Random) -> bytes:
    """Return bytes of which a part was cut, changed, said twice, or is noise."""
    at, until = sorted((chosen.randrange(len(data) + 1), chosen.randrange(len(data) + 1)))
    way = chosen.randrange(8)
    if way == 0:
        return data[:at]
    if way == 1:
        flipped = bytearray(data)
        for _ in range(chosen.randint(1, 5)):
            if flipped:
                flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
        return bytes(flipped)
    if way == 2:
        return data[:at] + chosen.randbytes(chosen.randint(1, 20)) + data[at:]
    if way == 3:
        return data[:at] + data[until:]
    if way == 4:
        return data[:until] + data[at:]
    if way == 5:
        return data[:at] + chosen.choice(
            (b"NaN", b"\xff", b"\xed\xa0\x80", b"\xc7\x01\x05x", b"1e999", b"\xdf\xff\xff\xff\xff")
        )
    if way == 6:
        return chosen.randbytes(chosen.randrange(200))
    return chosen.choice((b"[", b"\x91", b'{"entries":', b"\x81\xa1a")) * chosen.choice((10, 1_000, 50_000))
