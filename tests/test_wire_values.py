"""Single values on the wire: units, bounds, names; and the one rule of payloads, that what is accepted can be read."""

from __future__ import annotations

import json
import math
from typing import Any

import msgpack
import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lmdbq import limits
from lmdbq.errors import InvalidInput, LmdbqError
from lmdbq.model import Encoding
from lmdbq.wire import payloads, requests, values
from lmdbq.wire.problems import JSON_CODEC, MSGPACK_CODEC, Problems

NOW = 1_700_000_000_000_000_000


def codes(problems: Problems) -> list[str]:
    return [one.code for one in problems.found]


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (1, "seconds"),
        (NOW // 10**9, "seconds"),
        (NOW // 10**6, "milliseconds"),
        (NOW // 10**3, "microseconds"),
        (10**17 - 1, "microseconds"),
    ],
)
def test_a_number_in_another_unit_is_named(number: int, unit: str):
    problems = Problems()
    assert values.instant_ns(number, "/scheduled_at", problems) == 0
    (found,) = problems.found
    assert (found.code, found.pointer) == ("instant_unit", "/scheduled_at")
    assert f"looks like {unit}" in found.detail


@pytest.mark.parametrize(
    ("given_value", "expected"),
    [
        (None, 0),
        (0, 0),
        (NOW, NOW),
        (NOW + 1, NOW + 1000),
        (10**17, 10**17),
        ("2023-11-14T22:13:20Z", NOW),
        ("2023-11-14t22:13:20z", NOW),
        ("2023-11-14 23:13:20+01:00", NOW),
        ("2023-11-14T22:13:20.5Z", NOW + 500_000_000),
        ("2023-11-14T22:13:20.000000001Z", NOW + 1000),
        ("2023-11-14T22:13:20.123456789-00:00", NOW + 123_457_000),
    ],
)
def test_instants(given_value: Any, expected: int):
    problems = Problems()
    assert values.instant_ns(given_value, "", problems) == expected
    assert problems.found == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "2023-11-14",
        "2023-11-14T22:13:20",
        "2023-13-14T22:13:20Z",
        "9999-12-31T23:59:59Z",
        "1970-01-01T00:00:00Z",
    ],
)
def test_other_texts_are_no_instants(text: str):
    problems = Problems()
    assert values.instant_ns(text, "", problems) == 0
    assert codes(problems) in (["bad_value"], ["out_of_range"])


@given(st.floats(min_value=0, max_value=limits.DELAY_NS_MAX / limits.SECOND_NS))
def test_durations_are_whole_microseconds_and_close(seconds: float):
    problems = Problems()
    found = values.duration_ns(seconds, "", problems)
    assert problems.found == []
    assert found % limits.US_NS == 0
    assert abs(found - seconds * limits.SECOND_NS) <= limits.US_NS + seconds


@pytest.mark.parametrize("seconds", [math.nan, math.inf, -1.0, 1e300, 400_000_000.0])
def test_durations_out_of_bounds(seconds: float):
    problems = Problems()
    assert values.duration_ns(seconds, "/delay_in_seconds", problems) == 0
    assert codes(problems) == ["out_of_range"]


@pytest.mark.parametrize("seconds", [0.5, 43_201])
def test_leases_out_of_bounds(seconds: float):
    problems = Problems()
    values.keepalive_ns(seconds, "", problems)
    assert codes(problems) == ["out_of_range"]


@pytest.mark.parametrize("name", ["", "a b", "a" * 129, "ä", "a\n", "a/b", "a:b"])
def test_bad_queue_names(name: str):
    problems = Problems()
    values.check_queue_name(name, "", problems)
    assert codes(problems) == ["bad_name"]


@pytest.mark.parametrize(("name", "wrong"), [("a/b:c.d-e_F9", 0), ("a" * 128, 0), ("a\n", 1), ("", 1)])
def test_type_names(name: str, wrong: int):
    problems = Problems()
    values.check_type_name(name, "", problems)
    assert len(problems.found) == wrong


@pytest.mark.parametrize("text", ["", "c", "tsk_00000000000", "c0000000000!", "d00000000001"])
def test_cursors_are_what_was_answered(text: str):
    problems = Problems()
    values.read_cursor(text, "/cursor", problems)
    assert codes(problems) == ["bad_cursor"]


# --- payloads ---------------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.text(alphabet="\ud800\udfff\\u0aé\n\r"),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=8,
)
number_texts = st.from_regex(r"-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?([eE][-+]?[0-9]{1,5})?", fullmatch=True)
string_texts = st.from_regex(r'"([a-z]|\\u[0-9a-fA-F]{4}|\\[nrt"\\/bf]){0,6}"', fullmatch=True)
spaced = st.sampled_from(["", " ", "\n", "\r\n", "\t"])


@st.composite
def json_texts(draw: st.DrawFn) -> bytes:
    """JSON that is nearly right: values, numbers of all sizes, escapes of all kinds, line breaks, and bytes put in."""
    kind = draw(st.integers(0, 4))
    if kind == 0:
        text = json.dumps(draw(json_values), ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1])))
        return text.encode("utf-8", "surrogatepass")
    if kind == 1:
        return draw(number_texts).encode()
    if kind == 2:
        return draw(string_texts).encode()
    if kind == 3:
        inner = draw(st.lists(number_texts | string_texts, max_size=4))
        gap = draw(spaced)
        return ("[" + f"{gap},{gap}".join(inner) + "]").encode()
    return draw(st.binary(max_size=12))


def read_everywhere(data: bytes, encoding: Encoding) -> None:
    """Fail unless every reader, ours and others', can read what was accepted."""
    as_json = payloads.to_json(data, encoding)
    assert b"\n" not in data
    assert b"\r" not in as_json
    value = json.loads(as_json)
    assert msgspec.json.decode(as_json) == value
    packed = payloads.to_msgpack(data, encoding)
    assert msgspec.msgpack.decode(packed) == value
    assert msgpack.unpackb(packed) == value
    json.dumps(value, allow_nan=False).encode("utf-8")


@given(json_texts())
@example(b"1e999")
@example(b"-1e309")
@example(b"1.7976931348623159e308")
@example(b"123456789012345678901234567890")
@example(b"18446744073709551616")
@example(b"-9223372036854775809")
@example(b'"\\ud800"')
@example(b'"\\ud800\\u0041"')
@example(b'"\xed\xa0\x80"')
@example(b'"\xff"')
@example(b"[" * 129 + b"]" * 129)
@example(b"[" * 100_000)
@example(b'{"a":' * 2000 + b"1" + b"}" * 2000)
@example(b"1E+400")
@example(b"1" + b"0" * 400)
@example(b"0." + b"0" * 400 + b"1e800")
@example(b"NaN")
@example(b'"a\nb"')
@example(b"[1,\r\n2]")
def test_every_accepted_json_payload_can_be_read(text: bytes):
    for body in (b'{"payload":' + text + b"}", b'{"payload": ' + text + b' ,"tags":["x"]}'):
        try:
            entry = requests.read_entry(body, JSON_CODEC)
        except LmdbqError:
            continue
        if entry.encoding is Encoding.JSON:
            read_everywhere(entry.payload, entry.encoding)


@given(json_texts())
@example(b"1e999")
@example(b'"\xff"')
@example(b"[" * 200 + b"]" * 200)
def test_a_batch_accepts_the_payloads_a_single_entry_does(text: bytes):
    def accepted(read: Any, body: bytes) -> Any:
        try:
            return read(body, JSON_CODEC)
        except LmdbqError:
            return None

    one = accepted(requests.read_entry, b'{"payload":' + text + b"}")
    plain, other = (
        [None] if batch is None else list(batch.entries)
        for batch in (
            accepted(requests.read_enqueue, b'{"entries":[{"payload":' + text + b"}]}"),
            accepted(requests.read_enqueue, b'{"entries":[{"payload":' + text + b',"tags":[]}]}'),
        )
    )
    assert [one] == plain == other


packable = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats() | st.text() | st.binary(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=3) | st.integers(0, 5) | st.binary(max_size=2), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(packable | st.just(msgpack.ExtType(5, b"x")) | st.just(msgpack.Timestamp(1)))
@example([[[b"x"]]])
@example({1: 2})
@example(math.nan)
@example({"a": math.inf})
def test_every_accepted_messagepack_payload_can_be_read(value: Any):
    body = msgpack.packb({"payload": value})
    try:
        entry = requests.read_entry(body, MSGPACK_CODEC)
    except InvalidInput as refused:
        assert refused.problems[0].pointer == "/payload"
        return
    if isinstance(value, bytes):
        assert (entry.payload, entry.encoding) == (value, Encoding.BYTES)
    else:
        assert msgspec.json.decode(payloads.to_json(entry.payload, entry.encoding)) == value
        json.dumps(value, allow_nan=False)


@pytest.mark.parametrize(
    "value", [b"\xc1", b"\xa1\xff", b"\x81\xa1\xff\x01", b"\x91" * 200 + b"\x01", b"\x91" * 5000 + b"\x01"]
)
def test_broken_messagepack_payloads_are_refused(value: bytes):
    with pytest.raises(LmdbqError):
        requests.read_entry(b"\x81\xa7payload" + value, MSGPACK_CODEC)


def test_a_deep_value_is_refused_at_the_limit():
    for depth, accepted in ((limits.PAYLOAD_DEPTH_MAX, True), (limits.PAYLOAD_DEPTH_MAX + 1, False)):
        for opened, closed in ((b"[", b"]"), (b'{"a":', b"}")):
            body = b'{"payload":' + opened * depth + b"1" + closed * depth + b"}"
            try:
                requests.read_entry(body, JSON_CODEC)
            except InvalidInput as refused:
                assert not accepted
                assert refused.problems[0].code == "payload_depth"
            else:
                assert accepted


def test_brackets_in_strings_are_not_depth():
    text = json.dumps({"a": "[" * 5000 + '\\"' + "{" * 5000}).encode()
    assert requests.read_entry(b'{"payload":' + text + b"}", JSON_CODEC).payload == text


@given(st.binary(max_size=50))
def test_bytes_travel_as_base64(data: bytes):
    body = json.dumps({"payload_base64": payloads.to_base64(data)}).encode()
    entry = requests.read_entry(body, JSON_CODEC)
    assert (entry.payload, entry.encoding) == (data, Encoding.BYTES)


@pytest.mark.parametrize("text", ["a", "a===", "AP8", "AP8=\n", "AP-_"])
def test_what_is_not_base64_is_refused(text: str):
    with pytest.raises(InvalidInput) as refused:
        requests.read_entry(json.dumps({"payload_base64": text}).encode(), JSON_CODEC)
    assert refused.value.problems[0].pointer == "/payload_base64"
