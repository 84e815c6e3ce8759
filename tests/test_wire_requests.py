"""Bodies: what is wrong is said all at once, each by its pointer; and the quick way reads as the thorough one."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.errors import InvalidInput, NotParseable
from lmdbq.model import (
    PLAIN,
    Dedupe,
    Enqueued,
    Exponential,
    Intervals,
    Keep,
    OnDuplicate,
    Outcome,
    Placed,
    Polynomial,
    RetryStrategy,
    Scope,
    State,
    UniformEntries,
    Until,
)
from lmdbq.wire import filters, policies, queue_settings, render, reports, requests, shapes
from lmdbq.wire.answers import EnqueueAnswer
from lmdbq.wire.problems import JSON_CODEC, MSGPACK_CODEC


def problems_of(read: Any, body: Any, codec: Any = JSON_CODEC) -> list[tuple[str, str]]:
    raw = body if isinstance(body, bytes) else codec.encode(body)
    with pytest.raises(InvalidInput) as refused:
        read(raw, codec)
    return [(one.code, one.pointer) for one in refused.value.problems]


WRONG_ENTRIES = [
    ({"priority": 99_999}, "out_of_range", "/priority"),
    ({"priority": True}, "wrong_type", "/priority"),
    ({"priority": 1.5}, "wrong_type", "/priority"),
    ({"type": 5}, "wrong_type", "/type"),
    ({"type": "a b"}, "bad_name", "/type"),
    ({"queue_name": "a/b"}, "bad_name", "/queue_name"),
    ({"scheduled_at": 1_695_826_539}, "instant_unit", "/scheduled_at"),
    ({"expires_at": 1_695_826_539_000}, "instant_unit", "/expires_at"),
    ({"scheduled_at": -1}, "out_of_range", "/scheduled_at"),
    ({"scheduled_at": 10**40}, "out_of_range", "/scheduled_at"),
    ({"scheduled_at": "soon"}, "bad_value", "/scheduled_at"),
    ({"delay_in_seconds": -1}, "out_of_range", "/delay_in_seconds"),
    ({"delay_in_seconds": "5"}, "wrong_type", "/delay_in_seconds"),
    ({"delay_in_seconds": 1, "scheduled_at": "2030-01-01T00:00:00Z"}, "both_given", "/delay_in_seconds"),
    ({"expires_in_seconds": 1, "expires_at": "2030-01-01T00:00:00Z"}, "both_given", "/expires_in_seconds"),
    ({"expires_in_seconds": 0}, "out_of_range", "/expires_in_seconds"),
    ({"payload": 1, "payload_base64": ""}, "both_given", "/payload_base64"),
    ({"keepalive_timeout_in_seconds": 0.5}, "out_of_range", "/keepalive_timeout_in_seconds"),
    ({"keepalive_timeout_in_seconds": 50_000}, "out_of_range", "/keepalive_timeout_in_seconds"),
    ({"dedupe_key": "k" * 257}, "out_of_range", "/dedupe_key"),
    ({"dedupe_key": "a\u0000"}, "bad_value", "/dedupe_key"),
    ({"dedupe_scope": "queue"}, "missing_field", "/dedupe_key"),
    ({"overwrite_on_duplicate": ["payload"]}, "missing_field", "/dedupe_key"),
    ({"dedupe_key": "k", "dedupe_until": "ttl"}, "missing_field", "/dedupe_ttl_in_seconds"),
    ({"dedupe_key": "k", "dedupe_until": "never"}, "bad_value", "/dedupe_until"),
    ({"dedupe_key": "k", "on_duplicate": "overwrite"}, "missing_field", "/overwrite_on_duplicate"),
    (
        {"dedupe_key": "k", "on_duplicate": "skip", "overwrite_on_duplicate": ["payload"]},
        "both_given",
        "/on_duplicate",
    ),
    ({"dedupe_key": "k", "overwrite_on_duplicate": ["id"]}, "bad_value", "/overwrite_on_duplicate/0"),
    ({"retry_strategy": {"max_attempts": 0}}, "out_of_range", "/retry_strategy/max_attempts"),
    ({"retry_strategy": {"max_attempts": 1001}}, "out_of_range", "/retry_strategy/max_attempts"),
    ({"retry_strategy": {"backoff": {"kind": "linear"}}}, "bad_value", "/retry_strategy/backoff/kind"),
    ({"retry_strategy": {"attempts": 3}}, "unknown_field", "/retry_strategy/attempts"),
    (
        {"retry_strategy": {"backoff": {"kind": "intervals", "intervals_in_seconds": []}}},
        "out_of_range",
        "/retry_strategy/backoff/intervals_in_seconds",
    ),
    (
        {"retry_strategy": {"retry_intervals_in_seconds": [1, 1e18]}},
        "out_of_range",
        "/retry_strategy/retry_intervals_in_seconds/1",
    ),
    ({"keep": {"dead_in_seconds": -1}}, "out_of_range", "/keep/dead_in_seconds"),
    ({"tags": ["a", 1]}, "wrong_type", "/tags/1"),
    ({"tags": ["a"] * 17}, "out_of_range", "/tags"),
    ({"tags": ["a\n"]}, "bad_value", "/tags/0"),
    ({"tags": ["ä" * 100]}, "out_of_range", "/tags/0"),
    ({"metadata": []}, "wrong_type", "/metadata"),
    ({"metadata": {"a": "x" * 4096}}, "out_of_range", "/metadata"),
    ({"prioriti": 1}, "unknown_field", "/prioriti"),
    ({"a/b~": 1}, "unknown_field", "/a~1b~0"),
]


@pytest.mark.parametrize(("entry", "code", "pointer"), WRONG_ENTRIES)
@pytest.mark.parametrize("codec", [JSON_CODEC, MSGPACK_CODEC], ids=["json", "msgpack"])
def test_a_wrong_field_is_named(entry: dict[str, Any], code: str, pointer: str, codec: Any):
    if codec is MSGPACK_CODEC and entry.get("scheduled_at") == 10**40:
        return  # MessagePack has no such number
    assert (code, pointer) in problems_of(requests.read_entry, entry, codec)
    batch = {"entries": [{}, entry]}
    assert (code, f"/entries/1{pointer}") in problems_of(requests.read_enqueue, batch, codec)


def test_all_wrong_entries_are_named_at_once():
    found = problems_of(requests.read_enqueue, {"entries": [entry for entry, _, _ in WRONG_ENTRIES][:15], "extra": 1})
    expected = {(code, f"/entries/{index}{pointer}") for index, (_, code, pointer) in enumerate(WRONG_ENTRIES[:15])}
    assert expected | {("unknown_field", "/extra")} == set(found)


def test_at_most_twenty_problems_are_named():
    assert len(problems_of(requests.read_enqueue, {"entries": [{"priority": "x"}] * 50})) == limits.PROBLEMS_MAX
    assert len(problems_of(requests.read_enqueue, {"entries": [{"scheduled_at": 1}] * 50})) == limits.PROBLEMS_MAX


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"dedupe_key": "k", "dedupe_until": "never"}, "started, finished, deleted, ttl"),
        ({"dedupe_key": "k", "overwrite_on_duplicate": ["id"]}, "payload, type, priority"),
        ({"retry_strategy": {"backoff": {"kind": "linear"}}}, "intervals, exponential, polynomial"),
    ],
)
def test_a_word_that_is_none_is_met_with_those_that_are(entry: dict[str, Any], words: str):
    with pytest.raises(InvalidInput) as refused:
        requests.read_enqueue(json.dumps({"entries": [entry]}).encode(), JSON_CODEC)
    assert words in refused.value.problems[0].detail


def test_an_unknown_field_is_met_with_the_nearest_known_one():
    with pytest.raises(InvalidInput, match="did you mean 'dedupe_key'"):
        requests.read_entry(b'{"dedup_key": "k"}', JSON_CODEC)


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({}, "missing_field", "/entries"),
        ([], "wrong_type", ""),
        (5, "wrong_type", ""),
        ({"entries": {}}, "wrong_type", "/entries"),
        ({"entries": []}, "out_of_range", "/entries"),
        ({"entries": [{}] * 10_001}, "out_of_range", "/entries"),
        ({"entries": [5]}, "wrong_type", "/entries/0"),
        ({"entries": [{}], "queue_name": "a b"}, "bad_name", "/queue_name"),
        ({"entries": [{}], "return_tasks": 1}, "wrong_type", "/return_tasks"),
    ],
)
def test_wrong_batches(body: Any, code: str, pointer: str):
    assert (code, pointer) in problems_of(requests.read_enqueue, body)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b'{"entries":[{"colour":1}],"entries":[{"payload":1}]}', ("unknown_field", "/entries/0")),
        (b'{"entries":"all","entries":[{},{}]}', ("wrong_type", "/entries")),
        (b'{"queue_name":1,"entries":[{}],"queue_name":"q"}', ("wrong_type", "/queue_name")),
        (b'{"entries":[{"tags":1,"tags":[]}]}', ("wrong_type", "/entries/0/tags")),
        (b"\x82\xa7entries\x01\xa7entries\x91\x80", ("wrong_type", "/entries")),
    ],
)
def test_a_key_that_stands_there_twice_does_not_hide_a_wrong_value(body: bytes, problem: tuple[str, str]):
    with pytest.raises(InvalidInput) as refused:
        requests.read_enqueue(body, MSGPACK_CODEC if body[0] > 127 else JSON_CODEC)
    assert [(found.code, found.pointer) for found in refused.value.problems] == [problem]


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"entries":[{}]', b"\xff", b'{"entries":[{"payload":NaN}]}', b"nonsense"]
)
@pytest.mark.parametrize(
    "read", [requests.read_enqueue, requests.read_entry, reports.read_dequeue, reports.read_report, reports.read_extend]
)
def test_what_is_no_json_is_not_parseable(read: Any, body: bytes):
    with pytest.raises(NotParseable):
        read(body, JSON_CODEC)


def test_everything_an_entry_may_say():
    body = {
        "queue_name": "q",
        "type": "t",
        "payload": {"a": 1},
        "priority": -5,
        "delay_in_seconds": 1.5,
        "expires_in_seconds": 60,
        "dedupe_key": "k",
        "dedupe_scope": "global",
        "dedupe_until": "ttl",
        "dedupe_ttl_in_seconds": 10,
        "on_duplicate": "overwrite",
        "overwrite_on_duplicate": ["payload", "tags"],
        "keepalive_timeout_in_seconds": 30,
        "retry_strategy": {"max_attempts": 3, "max_deliveries": 9, "backoff": {"kind": "exponential", "factor": 3}},
        "keep": {"succeeded_in_seconds": 5},
        "tags": ["x"],
        "metadata": {"m": 1},
    }
    entry = requests.read_entry(msgspec.json.encode(body), JSON_CODEC)
    packed = requests.read_entry(msgspec.msgpack.encode(body), MSGPACK_CODEC)
    assert entry.options == packed.options
    assert (entry.delay_ns, entry.expires_in_ns, entry.priority) == (1_500_000_000, 60 * 10**9, -5)
    options = entry.options
    rules = Dedupe("k", Scope.GLOBAL, Until.TTL, 10 * 10**9, OnDuplicate.OVERWRITE, ("payload", "tags"))
    assert options.dedupe == rules
    assert options.retry == RetryStrategy(3, Exponential(factor=3.0), 9)
    assert (options.keep, options.tags, options.metadata) == (Keep(succeeded_ns=5 * 10**9), ("x",), b'{"m":1}')
    assert options.keepalive_ns == 30 * 10**9


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({}, None),
        ({"retry_intervals_in_seconds": [1, 10]}, RetryStrategy(0, Intervals((10**9, 10**10)))),
        (
            {"backoff": {"kind": "intervals", "intervals_in_seconds": [0.5]}},
            RetryStrategy(0, Intervals((500_000_000,))),
        ),
        ({"backoff": {"kind": "exponential"}}, RetryStrategy(0, Exponential())),
        (
            {"backoff": {"kind": "polynomial", "exponent": 3, "base_in_seconds": 2, "jitter": 0}},
            RetryStrategy(0, Polynomial(3.0, 2 * 10**9, 0.0)),
        ),
    ],
)
def test_retry_strategies_go_in_and_come_back(said: Any, expected: RetryStrategy | None):
    entry = requests.read_entry(json.dumps({"retry_strategy": said}).encode(), JSON_CODEC)
    assert entry.options.retry == expected
    if expected is None:
        assert entry.options is PLAIN
    else:
        again = msgspec.json.encode({"retry_strategy": policies.retry_answer(expected)})
        assert requests.read_entry(again, JSON_CODEC).options.retry == expected


def test_nulls_say_nothing():
    names = [name for name in shapes.EntryBody.__struct_fields__ if name not in ("payload", "metadata")]
    entry = requests.read_entry(json.dumps(dict.fromkeys(names)).encode(), JSON_CODEC)
    assert entry == requests.read_entry(b"{}", JSON_CODEC)


def test_queue_settings_go_in_and_come_back():
    said = {
        "paused": True,
        "max_running": 5,
        "keepalive_timeout_in_seconds": 30,
        "expires_in_seconds": 60,
        "retry_strategy": {"max_attempts": 2},
        "keep": {"dead_in_seconds": 0},
        "dedupe": {"scope": "type", "until": "started", "overwrite_on_duplicate": ["payload"]},
    }
    settings, named = queue_settings.read_queue(json.dumps(said).encode(), JSON_CODEC)
    assert len(named) == len(said)
    again, _ = queue_settings.read_queue(
        msgspec.json.encode(queue_settings.settings_answer(settings, JSON_CODEC)), JSON_CODEC
    )
    assert again == settings


@pytest.mark.parametrize(
    ("body", "code", "pointer"),
    [
        ({"dedupe": {"until": "ttl"}}, "missing_field", "/dedupe/ttl_in_seconds"),
        ({"dedupe": {"key": "x"}}, "unknown_field", "/dedupe/key"),
        ({"max_running": -1}, "out_of_range", "/max_running"),
        ({"keepalive_timeout_in_seconds": 0.1}, "out_of_range", "/keepalive_timeout_in_seconds"),
    ],
)
def test_wrong_queue_settings(body: Any, code: str, pointer: str):
    assert (code, pointer) in problems_of(queue_settings.read_queue, body)


@pytest.mark.parametrize(
    ("read", "body", "code", "pointer"),
    [
        (reports.read_dequeue, {"limit": 0}, "out_of_range", "/limit"),
        (reports.read_dequeue, {"limit": 1001}, "out_of_range", "/limit"),
        (reports.read_dequeue, {"queue_names": []}, "out_of_range", "/queue_names"),
        (reports.read_dequeue, {"queue_names": ["a b"]}, "bad_name", "/queue_names/0"),
        (reports.read_dequeue, {"queue_name": "a"}, "unknown_field", "/queue_name"),
        (reports.read_dequeue, {"wait_in_seconds": 61}, "out_of_range", "/wait_in_seconds"),
        (reports.read_dequeue, {"claim_id": "ü" * 40}, "out_of_range", "/claim_id"),
        (reports.read_report, {"reports": []}, "missing_field", "/reports"),
        (reports.read_report, {"reports": [{}]}, "missing_field", "/reports/0/lease"),
        (reports.read_report, {"reports": [{"lease": "x", "status": "failed"}]}, "bad_lease", "/reports/0/lease"),
        (reports.read_report, {"reports": [], "dequeue": {"limit": 0}}, "out_of_range", "/dequeue/limit"),
        (
            reports.read_report,
            {"reports": [{"lease": "tsk_00000000001.1", "status": "succeeded", "result": "x" * 65_536}]},
            "result_too_large",
            "/reports/0/result",
        ),
        (reports.read_extend, {"leases": []}, "out_of_range", "/leases"),
        (
            reports.read_extend,
            {"leases": [{"lease": "tsk_00000000001.1", "progress": 2}]},
            "out_of_range",
            "/leases/0/progress",
        ),
        (filters.read_action, {"action": "cancel"}, "missing_field", "/filter"),
        (filters.read_action, {"action": "cancel", "filter": {}}, "missing_field", "/filter"),
        (filters.read_action, {"action": "pause", "all": True}, "bad_value", "/action"),
        (filters.read_action, {"action": "cancel", "all": True, "cursor": "x"}, "bad_cursor", "/cursor"),
        (requests.read_edit, {}, "missing_field", ""),
        (requests.read_edit, {"dedupe_key": "k"}, "unknown_field", "/dedupe_key"),
    ],
)
def test_wrong_requests(read: Any, body: Any, code: str, pointer: str):
    assert (code, pointer) in problems_of(read, body)


def test_an_edit_names_the_fields_it_was_given():
    _, fields = requests.read_edit(b'{"payload_base64":"AA==","delay_in_seconds":5,"expires_at":null}', JSON_CODEC)
    assert fields == ("payload", "scheduled_at", "expires_at")


def test_a_long_error_is_cut_and_not_refused():
    error = {"message": "m" * 10_000, "type": "t" * 500, "backtrace": "first" + "b" * 50_000 + "last"}
    body = {"reports": [{"lease": "tsk_00000000001.1", "status": "failed", "error": error}]}
    (completion,) = reports.read_report(json.dumps(body).encode(), JSON_CODEC).op.completions
    assert completion.error is not None
    assert len(completion.error.message) == limits.ERROR_MESSAGE_CHARS_MAX
    assert completion.error.backtrace.endswith("last")
    assert len(completion.error.backtrace) == limits.ERROR_BACKTRACE_CHARS_MAX


def test_a_null_result_is_none():
    body = b'{"reports":[{"lease":"tsk_00000000001.1","status":"succeeded","result":null}]}'
    assert reports.read_report(body, JSON_CODEC).op.completions[0].result is None


# --- answers ----------------------------------------------------------------------------------------------------------

plain_entries = st.fixed_dictionaries(
    {},
    optional={
        "payload": st.none() | st.integers(0, 9) | st.text(max_size=5),
        "type": st.sampled_from(["a", "b"]),
        "priority": st.integers(-3, 3),
        "queue_name": st.sampled_from(["q", "r"]),
        "tags": st.just(["x"]),
        "dedupe_key": st.sampled_from(["k", 'ü"']),
        "payload_base64": st.just("AA=="),
    },
).filter(lambda entry: not {"payload", "payload_base64"} <= entry.keys())


@given(st.lists(plain_entries, min_size=1, max_size=5), st.booleans())
@example([{"payload": n, "dedupe_key": f'"{n}\\'} for n in range(6)], True)
@example([{"dedupe_key": "k"}], False)
@example([{"payload": 1, "dedupe_key": 'k"'}], True)
def test_the_flat_answer_says_what_the_structs_say(said: list[dict[str, Any]], with_tasks: bool):
    batch = requests.read_enqueue(json.dumps({"entries": said, "return_tasks": with_tasks}).encode(), JSON_CODEC)
    entries = batch.entries
    now = 1_700_000_000_000_000_000
    done = Enqueued(now, [(5 << 20) + 3840 + index for index in range(len(entries))], {})
    flat = render.enqueue_answer(batch, done, {}, JSON_CODEC)
    structs = render.enqueue_struct(entries, done, {}, JSON_CODEC, with_tasks=with_tasks)
    assert json.loads(flat) == json.loads(msgspec.json.encode(structs))
    assert msgspec.json.decode(flat, type=EnqueueAnswer).outcomes == structs.outcomes


def test_a_skipped_entry_says_why():
    entries = requests.read_enqueue(b'{"entries":[{"dedupe_key":"k"}]}', JSON_CODEC).entries
    placed = Placed(7, Outcome.SKIPPED, State.RUNNING, 5, 0, True, "running")
    answer = render.enqueue_struct(entries, Enqueued(1, [7], {0: placed}), {}, JSON_CODEC, with_tasks=True)
    assert (answer.tasks, answer.outcomes[0].reason, answer.outcomes[0].state) == ([], "running", "running")


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("payloads", [[{"id": 1}, None], [[[1]] * 100, "é" * 400]])
def test_entries_that_say_their_payload_only_are_read_as_those_that_say_more(payloads: list[Any], indent: int | None):
    entries: list[dict[str, Any]] = [{}, *({"payload": payload} for payload in payloads)]
    bare, said = (
        requests.read_enqueue(json.dumps({"queue_name": "q", "entries": each}, indent=indent).encode(), JSON_CODEC)
        for each in (entries, [{**entry, "type": "default", "priority": 0} for entry in entries])
    )
    assert isinstance(bare.entries, UniformEntries)
    assert list(bare.entries) == list(said.entries)
    assert {entry.queue for entry in bare.entries} == {"q"}
    assert all(b"\n" not in entry.payload for entry in bare.entries)
    assert [json.loads(entry.payload) for entry in bare.entries] == [None, *payloads]


LOOKS_LARGE = ["3d81e1047fb", "1234567890123456789012"]  # 81e104, and 22 digits


@pytest.mark.parametrize("keys", [LOOKS_LARGE, [""] * 2])
@pytest.mark.parametrize("payloads", [LOOKS_LARGE, [1, 2]])
def test_a_text_that_looks_like_a_large_number_costs_a_batch_nothing(keys: list[str], payloads: list[Any]):
    said = [
        {"payload": payload, **({"dedupe_key": key} if key else {})}
        for key, payload in zip(keys, payloads, strict=True)
    ]
    entries = requests.read_enqueue(json.dumps({"entries": said}).encode(), JSON_CODEC).entries
    assert isinstance(entries, UniformEntries)
    assert [json.loads(entry.payload) for entry in entries] == payloads
    assert [entry.options.dedupe.key if entry.options.dedupe else "" for entry in entries] == keys


@pytest.mark.parametrize("more", [{}, {"dedupe_key": LOOKS_LARGE[0]}, {"tags": ["x"]}])
@pytest.mark.parametrize("large", [10**22, -(2**63) - 1, "LARGEST"])
def test_a_large_number_is_found_among_many_payloads(large: Any, more: dict[str, Any]):
    said = [{"payload": "x" * 200, **more} for _ in range(1_000)] + [{"payload": [large], **more}]
    body = json.dumps({"entries": said}).encode().replace(b'"LARGEST"', b"1e999")
    with pytest.raises(InvalidInput) as raised:
        requests.read_enqueue(body, JSON_CODEC)
    assert [(one.code, one.pointer) for one in raised.value.problems] == [("payload_number", "/entries/1000/payload")]
