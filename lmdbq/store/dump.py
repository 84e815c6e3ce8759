"""Every key of a file as a line of text, in the words of the map in ``keyspace``. For people, and for debugging."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import msgspec

from lmdbq.ids import format_id, format_set_id
from lmdbq.model import Scope, State
from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.environment import open_environment
from lmdbq.store.pages import explained

PAYLOAD_CHARS_MAX: Final = 120


def dump_lines(path: str | Path) -> Iterator[str]:
    """Yield a line for each key of the file in directory ``path``: database, key, value. Raises StoreError."""
    shared = open_environment(Path(path), max_bytes=0, metasync=True)
    try:
        with explained(shared.data_path), shared.reading() as txn:
            for name in ks.DATABASES:
                cursor: Any = txn.cursor(db=shared.databases[name])
                for key, value in cursor.iternext():
                    yield f"lmdbq/{name}  {_line(name, key, value)}"
    finally:
        shared.release()


def key_words(database: str, key: bytes) -> str:
    """Return a key in the words of the map; one that is no key of its database, as hexadecimal digits."""
    try:
        return _WORDS[database](key)[0]
    except (struct.error, ValueError, IndexError, KeyError):
        return key.hex()


def _line(database: str, key: bytes, value: bytes) -> str:
    try:
        shown_key, read = _WORDS[database](key)
        return f"{shown_key}  {read(value)}".rstrip()
    except (rec.Damaged, struct.error, ValueError, IndexError, KeyError) as error:
        return f"{key_words(database, key)}  DAMAGED: {error}: {value.hex()}"


_Read = Callable[[bytes], str]


def _catalog(key: bytes) -> tuple[str, _Read]:
    kind = key[:1]
    if kind == b"M":
        return "meta", lambda value: _fields(rec.read_meta(value))
    if kind == b"Q":
        return f"queue {ks.read_name(key)!r}", lambda value: _fields(rec.read_queue(value))
    if kind == b"T":
        return f"type {ks.read_name(key)!r}", lambda value: f"type_no={rec.read_number(value)}"
    if kind == ks.TYPE_RECORDS:
        return f"rules type_no={ks.read_number(key)}", lambda value: _fields(rec.read_type(value))
    if kind == b"G":
        return f"grave queue_no={ks.read_number(key)}", lambda value: _fields(rec.read_grave(value))
    if kind == b"L":
        scope, owner_no, name = ks.lane_owner(key)
        words = f"thread {name!r} queue_no={owner_no}" if scope is Scope.QUEUE else f"group {name!r}"
        return words, lambda value: _fields(rec.read_lane(value))
    if kind == b"l":
        return f"lane_no={ks.read_number(key)}", lambda value: f"name={ks.lane_owner(b'L' + rec.unseal(value))[2]!r}"
    if kind == b"R":
        return f"rule {ks.read_name(key)!r}", lambda value: _fields(rec.read_rule(value))
    if kind == b"N":
        return "last_lane", lambda value: f"lane_no={rec.read_number(value)}"
    if kind == b"A":
        return "rules_cursor", lambda value: f"name={rec.read_name(value)!r}"
    if kind == b"B":
        return f"pace queue_no={ks.read_number(key)}", lambda value: _fields(rec.read_pace(value))
    if kind == b"S":
        return f"schedule {ks.read_name(key)!r}", lambda value: _fields(rec.read_schedule(value))
    what = {b"q": "queue_no", b"s": "schedule_no"}.get(kind, "type_no")
    return f"{what}={ks.read_number(key)}", lambda value: f"name={rec.read_name(value)!r}"


def _count(key: bytes) -> tuple[str, _Read]:
    queue_no, type_no = ks.read_count(key)
    if not queue_no:
        return "sequence", lambda value: _fields(rec.read_sequence(value))
    if not type_no:
        return f"totals queue_no={queue_no}", lambda value: _pairs(rec.TOTALS_ORDER, rec.read_totals(value))
    words = tuple(state.word for state in State)
    return f"tally queue_no={queue_no} type_no={type_no}", lambda value: _pairs(words, rec.read_tally(value))


def _task(key: bytes) -> tuple[str, _Read]:
    def read(value: bytes) -> str:
        record = rec.read_task(value)
        payload = record.payload.decode("utf-8", errors="backslashreplace")
        if len(payload) > PAYLOAD_CHARS_MAX:
            payload = payload[:PAYLOAD_CHARS_MAX] + "..."
        record.payload = b""
        return f"{_fields(record)} payload={payload!r}"

    return format_id(ks.read_id(key)), read


def _history(key: bytes) -> tuple[str, _Read]:
    return format_id(ks.read_id(key)), lambda value: _fields(rec.read_history(value))


def _ready(key: bytes) -> tuple[str, _Read]:
    parts = ks.read_ready(key)
    shown = parts._replace(priority=parts.priority - ks.PRIORITY_BIAS)
    return _fields(shown), lambda value: _fields(rec.read_ready_run(key, value))


def _scheduled(key: bytes) -> tuple[str, _Read]:
    return _fields(ks.read_timed(key)), lambda value: _fields(rec.read_standing(key, value))


def _lease(key: bytes) -> tuple[str, _Read]:
    return f"last_id={format_id(ks.read_id(key))}", lambda value: _fields(rec.read_lease_run(key, value))


def _ended(key: bytes) -> tuple[str, _Read]:
    return _fields(ks.read_ended(key)), lambda value: _fields(rec.read_standing(key, value))


def _dedupe(key: bytes) -> tuple[str, _Read]:
    scope, owner_no, name = ks.read_slot(key)
    shown = f"scope={ks.SCOPES[scope].name.lower()} owner_no={owner_no} key={name!r}"
    return shown, lambda value: _fields(rec.read_slot(value))


def _memo(key: bytes) -> tuple[str, _Read]:
    return f"{ks.MemoKind(key[0]).name.lower()} key={key[1:]!r}", lambda value: _fields(rec.read_memo(value))


def _forget(key: bytes) -> tuple[str, _Read]:
    parts = ks.read_forget(key)
    return f"remove_at={parts.remove_at} {ks.MemoKind(parts.kind).name.lower()} key={parts.key!r}", lambda value: ""


def _quarantine(key: bytes) -> tuple[str, _Read]:
    return format_id(ks.read_id(key)), lambda value: value.partition(b"\0")[0].decode("utf-8", errors="replace")


def _lane(key: bytes) -> tuple[str, _Read]:
    parts = ks.read_lane(key)
    shown = parts._replace(priority=parts.priority - ks.PRIORITY_BIAS if parts.priority else 0)
    if not parts.lane_no:
        return f"exposed {_fields(shown)}", lambda value: f"lane_no={rec.read_number(value)}"
    return _fields(shown), lambda value: _fields(rec.read_lane_standing(key, value))


def _external(key: bytes) -> tuple[str, _Read]:
    namespace_no, external_id = ks.read_external(key)
    return f"namespace_no={namespace_no} external_id={external_id!r}", lambda value: format_id(rec.read_task_id(value))


def _set(key: bytes) -> tuple[str, _Read]:
    return format_set_id(ks.read_id(key)), lambda value: _fields(rec.read_set(value))


def _reserved(key: bytes) -> tuple[str, _Read]:
    return key.hex(), lambda value: value.hex()


_WORDS: Final[dict[str, Callable[[bytes], tuple[str, _Read]]]] = {
    "catalog": _catalog,
    "count": _count,
    "task": _task,
    "history": _history,
    "ready": _ready,
    "scheduled": _scheduled,
    "lease": _lease,
    "deadline": lambda key: (_fields(ks.read_deadline(key)), lambda value: ""),
    "ended": _ended,
    "expiry": lambda key: (_fields(ks.read_timed(key)), lambda value: ""),
    "dedupe": _dedupe,
    "memo": _memo,
    "forget": _forget,
    "quarantine": _quarantine,
    "lane": _lane,
    "schedule": lambda key: ("due_at={} schedule_no={}".format(*ks.read_schedule(key)), lambda value: ""),
    "external": _external,
    "set": _set,
    "wake": lambda key: (_fields(ks.read_wake(key)), lambda value: ""),
}


def _fields(value: Any) -> str:
    """Return the fields of a Struct or named tuple that say something, as name=value."""
    if isinstance(value, tuple):
        return _pairs(value._fields, value)  # type: ignore[attr-defined]
    return _pairs(value.__struct_fields__, [getattr(value, name) for name in value.__struct_fields__])


def _pairs(names: tuple[str, ...], values: Any) -> str:
    shown = []
    for name, value in zip(names, values, strict=True):
        if name in ("id", "last_id"):
            shown.append(f"{name}={format_id(value)}")
        elif value not in (0, "", b"", (), None, False) or name in ("priority", "remove_at"):
            shown.append(f"{name}={_plain(value)}")
    return " ".join(shown)


def _plain(value: Any) -> str:
    if isinstance(value, bytes):
        return repr(value)
    return json.dumps(msgspec.to_builtins(value), ensure_ascii=False, separators=(",", ":"))
