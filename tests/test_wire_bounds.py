"""Bodies of many megabytes that are wrong cost little: nothing is made of a list before its length is known."""

from __future__ import annotations

import gc
import tracemalloc
from typing import Annotated, Any, get_args, get_origin

import msgspec
import pytest
from msgspec import Meta, Struct

from lmdbq import limits
from lmdbq.errors import InvalidInput
from lmdbq.wire import (
    bounds,
    filters,
    group_shapes,
    groups,
    queue_settings,
    registrations,
    reports,
    requests,
    schedule_shapes,
    schedules,
    set_shapes,
    sets,
    shapes,
    workers,
)
from lmdbq.wire.problems import JSON_CODEC, MSGPACK_CODEC

CODECS = pytest.mark.parametrize("codec", [JSON_CODEC, MSGPACK_CODEC], ids=["json", "msgpack"])
ITEMS = 600_000  # `{}` and a comma each; as objects they take 50 MB and more
PEAK_BYTES_MAX = 16 * 1024 * 1024
WORKER = {"queue_names": ["default"]}


def long_body(before: Any, item: Any, codec: Any, count: int = ITEMS) -> bytes:
    """Return ``before`` with the text "FILL" in it replaced by a list of many items, made without making them."""
    whole, one = codec.encode(before), codec.encode(item)
    if codec.is_json:
        return whole.replace(b'"FILL"', b"[" + b",".join([one] * count) + b"]")
    count = max(count, 2 * bounds.LARGE_BYTES // len(one))  # an empty object is one byte
    return whole.replace(codec.encode("FILL"), b"\xdd" + count.to_bytes(4, "big") + one * count)


def refused(read: Any, body: bytes, codec: Any) -> list[tuple[str, str]]:
    """Return (code, pointer) of what is wrong; reading it took little memory."""
    assert len(body) > bounds.LARGE_BYTES
    bounds.check_lists(codec.encode({"x": "x" * bounds.LARGE_BYTES}), codec)  # what is made once is made now
    gc.collect()
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput) as bad:
            read(body, codec)
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak_bytes < len(body) + PEAK_BYTES_MAX
    return [(one.code, one.pointer) for one in bad.value.problems]


def read_close(body: bytes, codec: Any) -> Any:
    return sets.read_close(body, codec, 1)


def read_worker(body: bytes, codec: Any) -> Any:
    return registrations.read_registration("w", body, codec)


def read_schedule(body: bytes, codec: Any) -> Any:
    return schedules.read_schedule(body, codec, whole=False)


def read_result(body: bytes, codec: Any) -> Any:
    return reports.read_completion("x", "succeeded", body, codec)


LONG = {
    "enqueue": (requests.read_enqueue, {"entries": "FILL"}, {}, "/entries"),
    "enqueue_plain": (requests.read_enqueue, {"entries": "FILL"}, {"priority": 1}, "/entries"),
    "set": (sets.read_set, {"entries": "FILL"}, {}, "/entries"),
    "close": (read_close, {"entries": "FILL"}, {}, "/entries"),
    "report": (reports.read_report, {"reports": "FILL"}, {}, "/reports"),
    "report_plain": (reports.read_report, {"reports": "FILL"}, {"lease": "", "status": "succeeded"}, "/reports"),
    "extend": (reports.read_extend, {"leases": "FILL"}, {"lease": ""}, "/leases"),
    "worker": (read_worker, {**WORKER, "types": "FILL"}, {"type": "a"}, "/types"),
    "dequeue": (reports.read_dequeue, {"queue_names": "FILL"}, "abc", "/queue_names"),
    "tags": (requests.read_enqueue, {"entries": [{}, {"tags": "FILL"}]}, "abc", "/entries/1/tags"),
    "tags_of_one": (requests.read_entry, {"tags": "FILL"}, "abc", "/tags"),
    "tags_of_edit": (filters.read_action, {"action": "edit", "fields": {"tags": "FILL"}}, "abc", "/fields/tags"),
    "tags_of_follower": (requests.read_entry, {"on_dead": {"tags": "FILL"}}, "abc", "/on_dead/tags"),
    "tags_of_schedule": (read_schedule, {"task": {"tags": "FILL"}}, "abc", "/task/tags"),
    "intervals": (
        queue_settings.read_queue,
        {"retry_strategy": {"retry_intervals_in_seconds": "FILL"}},
        1000,
        "/retry_strategy/retry_intervals_in_seconds",
    ),
}


@CODECS
@pytest.mark.parametrize("name", LONG)
def test_a_long_list_is_refused_unread(name: str, codec: Any) -> None:
    read, body, item, pointer = LONG[name]
    assert refused(read, long_body(body, item, codec), codec) == [("out_of_range", pointer)]


def test_a_long_list_that_a_later_one_replaces_is_refused() -> None:
    body = long_body({"entries": "FILL"}, {}, JSON_CODEC)[:-1] + b',"entries":[{}]}'
    assert refused(requests.read_enqueue, body, JSON_CODEC) == [("out_of_range", "")]


@CODECS
def test_a_long_list_behind_a_wrong_value_is_not_read_to_explain_it(codec: Any) -> None:
    body = long_body({"dequeue": 5, "reports": "FILL"}, {}, codec)
    assert refused(reports.read_report, body, codec) == [("wrong_type", "/dequeue")]
    body = long_body({"dequeue": 5, "entries": "FILL"}, {}, codec)
    assert refused(requests.read_enqueue, body, codec) == [("unknown_field", "")]


@CODECS
def test_a_chain_of_followers_is_refused(codec: Any) -> None:
    chain: dict[str, Any] = {}
    for _ in range(100):
        chain = {"on_dead": chain}
    body = long_body({"entries": "FILL"}, chain, codec, 2_000)
    assert refused(requests.read_enqueue, body, codec) == [("not_in_template", "/entries/0/on_dead/on_dead")]


@CODECS
@pytest.mark.parametrize(
    ("read", "field", "problem"),
    [
        (requests.read_entry, "payload", ("payload_too_large", "/payload")),
        (requests.read_entry, "metadata", ("out_of_range", "/metadata")),
        (read_result, "result", ("result_too_large", "/result")),
    ],
)
def test_a_value_that_is_too_large_is_not_decoded(read: Any, field: str, problem: tuple[str, str], codec: Any) -> None:
    body = long_body({field: ["FILL", 1e300]}, {}, codec)
    assert problem in refused(read, body, codec)


@CODECS
def test_a_schema_that_is_too_large_is_not_decoded(codec: Any) -> None:
    body = long_body({**WORKER, "types": [{"type": "a", "schema": {"x": "FILL"}}]}, {}, codec)
    assert refused(read_worker, body, codec) == [("out_of_range", "/types/0/schema")]


@CODECS
@pytest.mark.parametrize("read", [requests.read_entry, requests.read_enqueue, groups.read_group])
def test_many_unknown_fields_are_not_all_looked_at(read: Any, codec: Any) -> None:
    body = codec.encode({f"field{number:06}": 0 for number in range(200_000)})
    assert ("unknown_field", "") in refused(read, body, codec)


def test_of_many_unknown_fields_the_first_are_compared_with_what_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    from lmdbq.wire import problems

    asked: list[str] = []
    monkeypatch.setattr(problems.difflib, "get_close_matches", lambda name, *_, **__: asked.append(name) or [])
    body = JSON_CODEC.encode({f"field{number:05}" + "x" * 80: 0 for number in range(1_000)})
    with pytest.raises(InvalidInput) as bad:
        requests.read_entry(body, JSON_CODEC)
    assert len(bad.value.problems) == len(asked) == limits.PROBLEMS_MAX
    assert max(map(len, asked)) == 64


@CODECS
def test_a_large_batch_is_read_as_before(codec: Any) -> None:
    entry = {"payload": [{}] * 60, "type": "mail", "tags": ["a"] * limits.TAGS_MAX, "on_dead": {"type": "late"}}
    body = codec.encode({"entries": [entry] * limits.ENTRIES_MAX, "queue_name": "q"})
    assert len(body) > bounds.LARGE_BYTES
    entries = requests.read_enqueue(body, codec).entries
    assert len(entries) == limits.ENTRIES_MAX
    assert msgspec.structs.asdict(entries[-1])["queue"] == "q"


@CODECS
def test_all_that_is_wrong_with_a_large_batch_is_said(codec: Any) -> None:
    sound = {"payload": "x" * 200}
    wrong = {**sound, "priority": "high", "colour": 1}
    body = codec.encode({"entries": [sound] * 6_000 + [wrong], "queue_name": 5})
    with pytest.raises(InvalidInput) as bad:
        requests.read_enqueue(body, codec)
    assert {(one.code, one.pointer) for one in bad.value.problems} == {
        ("wrong_type", "/queue_name"),
        ("wrong_type", "/entries/6000/priority"),
        ("unknown_field", "/entries/6000/colour"),
    }


def lists_in(kind: Any, path: tuple[str, ...] = ()) -> set[tuple[tuple[str, ...], int]]:
    """Return the path of each list with a longest length in a shape, and that length."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        most = [note.max_length for note in notes if isinstance(note, Meta) and note.max_length is not None]
        if get_origin(inner) is list:
            return {(path, most[0])} | lists_in(get_args(inner)[0], (*path, "*"))
        return set()
    if isinstance(kind, type) and issubclass(kind, Struct):
        if path.count("on_dead") > 1:
            return set()
        found = [lists_in(field.type, (*path, field.encode_name)) for field in msgspec.structs.fields(kind)]
        return set().union(*found)
    return set().union(*(lists_in(option, path) for option in get_args(kind)))


@pytest.mark.parametrize(
    "shape",
    [
        shapes.EnqueueRequest,
        shapes.EntryBody,
        shapes.ReportRequest,
        shapes.ExtendRequest,
        shapes.DequeueRequest,
        shapes.ActionRequest,
        shapes.QueueBody,
        group_shapes.RuleBody,
        set_shapes.SetBody,
        set_shapes.SetMembers,
        schedule_shapes.ScheduleBody,
        workers.WorkerBody,
    ],
)
def test_no_list_of_a_request_is_left_out(shape: Any) -> None:
    for path, most in lists_in(shape):
        value: Any = [None] * (most + 1)
        for step in reversed(path):
            value = [value] if step == "*" else {step: value}
        value["x"] = "x" * bounds.LARGE_BYTES
        with pytest.raises(InvalidInput) as bad:
            bounds.check_lists(JSON_CODEC.encode(value), JSON_CODEC)
        assert bad.value.problems[0].pointer in ("/" + "/".join(path).replace("*", "0"), "/on_dead/on_dead")
