"""Fields of a task that need more than a schema: payloads, instants and durations, metadata."""

from __future__ import annotations

from typing import Any, Final

from msgspec import UNSET, Raw, UnsetType

from lmdbq import limits
from lmdbq.model import Encoding
from lmdbq.wire import payloads, shapes, values
from lmdbq.wire.problems import Codec, Problems

# A value takes at most nine times as much in MessagePack as in JSON; what is longer than this is not decoded.
_RAW_FACTOR: Final = 16


class Incoming:
    """Accepts the raw values of one body, whichever format it is in. Raises NotParseable for JSON that is not UTF-8."""

    def __init__(self, body: bytes, codec: Codec) -> None:
        self.text = payloads.BodyText(body) if codec.is_json else None

    def accept(self, raw: Raw) -> tuple[bytes, Encoding]:
        """Return a raw value of the body as it is kept. Raises Unreadable."""
        if self.text is not None:
            return self.text.accept(bytes(raw)), Encoding.JSON
        return payloads.accept_msgpack(bytes(raw))


def times(entry: shapes.TaskFields, pointer: str, problems: Problems) -> tuple[int, int, int, int]:
    """Return (scheduled_at, delay, expires_at, expires_in) in ns. Most entries say none of them."""
    at, delay, expires_at, expires_in = (
        entry.scheduled_at,
        entry.delay_in_seconds,
        entry.expires_at,
        entry.expires_in_seconds,
    )
    if at is None is delay and expires_at is None is expires_in:
        return 0, 0, 0, 0
    _only_one(at, delay, "scheduled_at", "delay_in_seconds", pointer, problems)
    _only_one(expires_at, expires_in, "expires_at", "expires_in_seconds", pointer, problems)
    return (
        values.instant_ns(at, f"{pointer}/scheduled_at", problems),
        values.duration_ns(delay, f"{pointer}/delay_in_seconds", problems),
        values.instant_ns(expires_at, f"{pointer}/expires_at", problems),
        values.duration_ns(expires_in, f"{pointer}/expires_in_seconds", problems, low_ns=limits.US_NS),
    )


def _only_one(first: Any, second: Any, name: str, other: str, pointer: str, problems: Problems) -> None:
    if first and second is not None:
        problems.add("both_given", f"{pointer}/{other}", f"give {name} or {other}, not both")


def payload(entry: shapes.TaskFields, pointer: str, problems: Problems, accept: Incoming) -> tuple[bytes, Encoding]:
    """Return (payload, encoding) as they are kept; null if there is none, or if it is wrong."""
    try:
        if entry.payload_base64 is not None:
            if entry.payload is not UNSET:
                problems.add("both_given", f"{pointer}/payload_base64", "give payload or payload_base64, not both")
            kept = payloads.accept_base64(entry.payload_base64), Encoding.BYTES
        elif entry.payload is not UNSET:
            if len(entry.payload) > limits.PAYLOAD_BYTES_MAX + payloads.BIN_HEAD_BYTES:
                _too_large(len(entry.payload), pointer, problems)  # and is not decoded to look into it
                return b"null", Encoding.JSON
            kept = accept.accept(entry.payload)
        else:
            return b"null", Encoding.JSON
    except payloads.Unreadable as bad:
        name = "payload" if entry.payload_base64 is None else "payload_base64"
        problems.add(bad.code, f"{pointer}/{name}", bad.detail)
        return b"null", Encoding.JSON
    if len(kept[0]) > limits.PAYLOAD_BYTES_MAX:
        _too_large(len(kept[0]), pointer, problems)
    return kept


def _too_large(size_bytes: int, pointer: str, problems: Problems) -> None:
    detail = f"a payload has at most {limits.PAYLOAD_BYTES_MAX} bytes, this one {size_bytes}; "
    detail += "put the data elsewhere and send where it is"
    problems.add("payload_too_large", f"{pointer}/payload", detail)


def metadata(raw: Raw | UnsetType, pointer: str, problems: Problems, accept: Incoming) -> bytes:
    """Return metadata as JSON, b"" for none."""
    text = object_text(raw, pointer, problems, accept, "metadata", limits.METADATA_BYTES_MAX)
    return b"" if text == b"{}" else text


def object_text(
    raw: Raw | UnsetType, pointer: str, problems: Problems, accept: Incoming, noun: str, bytes_max: int
) -> bytes:
    """Return an object of at most ``bytes_max`` bytes as JSON, b"" for none or null. noun: for a message."""
    if raw is UNSET:
        return b""
    too_long = f"{noun} is an object of at most {bytes_max} bytes of JSON"
    if len(raw) > _RAW_FACTOR * bytes_max:
        problems.add("out_of_range", pointer, too_long)
        return b""
    try:
        kept, encoding = accept.accept(raw)
        text = b"" if encoding is Encoding.BYTES else payloads.to_json(kept, encoding)
    except payloads.Unreadable as bad:
        problems.add(bad.code, pointer, bad.detail)
        return b""
    if text == b"null":
        return b""
    if text[:1] != b"{":
        problems.add("wrong_type", pointer, f"{noun} is an object")
    elif len(text) > bytes_max:
        problems.add("out_of_range", pointer, too_long)
    return text
