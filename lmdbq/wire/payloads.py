"""Payloads, results and metadata: what is accepted, and how it is read again in another encoding.

A payload passes through as the bytes it came in. The decoder that finds where such a value ends checks its syntax, its
control characters and its escapes, but neither UTF-8 nor numbers nor depth; that is done here. The rule is one:
*whatever is accepted can be read later by any JSON and any MessagePack reader*, so numbers must fit 64 bits (floats:
be finite), and arrays and objects stand at most ``limits.PAYLOAD_DEPTH_MAX`` deep.

The trap is the cost: a value is taken apart only when a cheap look at its bytes says that it might break the rule. Few
numbers are large, but random hex digits look like one in every fourth UUID, so the look is at values alone, not at the
keys and names around them, and one value that looks so costs the others of its body nothing.
"""

from __future__ import annotations

import base64
import binascii
import math
import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw

from lmdbq import limits
from lmdbq.errors import NotParseable
from lmdbq.model import Encoding

NULL: Final = {Encoding.JSON: b"null", Encoding.MSGPACK: b"\xc0", Encoding.BYTES: b""}
BIN_HEAD_BYTES: Final = 5  # before the bytes of a long bin in MessagePack, which are kept without

# Digits and plus become 0 and E becomes e, so that a few searches find every number that may not fit.
_DIGITS: Final = bytes.maketrans(b"123456789+E", b"0000000000e")
_EXPONENT: Final = b"0e000"  # 1e100 and more: with less, 20 digits are far from the largest float
_PERHAPS_LONG: Final = b"0" * 19
_LONG: Final = b"0" * 20  # 2**64 has 20 digits
_LONG_NEGATIVE: Final = b"-" + b"0" * 19  # -2**63 has 19
_PIECE_BYTES: Final = 65_536
_SPACES: Final = bytes.maketrans(b"\n\r", b"  ")
_STRING: Final = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_BRACKET: Final = re.compile(rb"[\[\]{}]")
_OPENING: Final = (b"[", b"{")


class Unreadable(ValueError):
    """A value some reader could not read again. code: payload_number, payload_depth or payload_kind."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


class BodyText:
    """What one look at a whole JSON body says about the values in it. Raises NotParseable if it is not UTF-8."""

    __slots__ = ("_body", "_numbers", "breaks")

    def __init__(self, body: bytes) -> None:
        if not body.isascii():
            try:
                body.decode("utf-8")
            except UnicodeDecodeError as bad:
                raise NotParseable(f"the body is not UTF-8: byte {bad.start} cannot stand there") from None
        self._body = body
        self._numbers: bool | None = None  # not known yet
        self.breaks = b"\n" in body or b"\r" in body

    def accept(self, raw: bytes) -> bytes:
        """Return a JSON value of this body as it is kept: on one line. Raises Unreadable."""
        if self.breaks:
            raw = raw.translate(_SPACES)
        if self._numbers is None:
            self._numbers = perhaps_large(self._body)
        if self._numbers and perhaps_large(raw):
            _check_json_numbers(raw)
        if len(raw) > 2 * limits.PAYLOAD_DEPTH_MAX:
            _check_json_depth(raw)
        return raw


def perhaps_large(text: bytes) -> bool:
    """Whether there may be a number in JSON that does not fit 64 bits; so may a text of hex digits.

    >>> perhaps_large(b"[1e100]"), perhaps_large(b'{"id":"6ba7b810"}'), perhaps_large(b'{"id":"3d813cbb47fb"}')
    (True, False, False)
    """
    flat = text.translate(_DIGITS)
    return _EXPONENT in flat or (_PERHAPS_LONG in flat and (_LONG in flat or _LONG_NEGATIVE in flat))


def any_perhaps_large(values: Sequence[bytes | Raw], longest: int) -> bool:
    """Whether that is so for any of many values, of which the longest has so many bytes.

    They are looked at together, in pieces that stay in the processor's cache: 0.13 us for a value of 60 bytes, not 0.7.
    """
    step = max(1, _PIECE_BYTES // max(longest, 1))
    return any(perhaps_large(b" ".join(values[at : at + step])) for at in range(0, len(values), step))


def _check_json_numbers(raw: bytes) -> None:
    try:
        msgspec.msgpack.encode(msgspec.json.decode(raw))
    except (msgspec.ValidationError, OverflowError):
        raise Unreadable(
            "payload_number", "a number in it does not fit 64 bits; send it as a string to keep every digit"
        ) from None
    except RecursionError:
        raise _too_deep() from None


def _check_json_depth(raw: bytes) -> None:
    """Refuse a value that is nested too deep. Few brackets cannot be deep, and most values have few."""
    if raw.count(b"[") + raw.count(b"{") <= limits.PAYLOAD_DEPTH_MAX:
        return
    depth = 0
    for bracket in _BRACKET.findall(_STRING.sub(b"", raw)):
        depth += 1 if bracket in _OPENING else -1
        if depth > limits.PAYLOAD_DEPTH_MAX:
            raise _too_deep()


def _too_deep() -> Unreadable:
    return Unreadable("payload_depth", f"arrays and objects may stand at most {limits.PAYLOAD_DEPTH_MAX} deep in it")


def accept_msgpack(raw: bytes) -> tuple[bytes, Encoding]:
    """Return (bytes, encoding) of a MessagePack value as it is kept; a top-level bin is BYTES. Raises Unreadable."""
    try:
        value = msgspec.msgpack.decode(raw)
        if isinstance(value, bytes):
            return value, Encoding.BYTES
        _check_msgpack(value, limits.PAYLOAD_DEPTH_MAX)
    except RecursionError:
        raise _too_deep() from None
    except (msgspec.DecodeError, UnicodeDecodeError, TypeError, ValueError, OverflowError) as bad:
        if isinstance(bad, Unreadable):
            raise
        raise Unreadable("payload_kind", f"this MessagePack value cannot be read: {bad}") from None
    return raw, Encoding.MSGPACK


def _check_msgpack(value: Any, depth_left: int) -> None:
    if value is None or isinstance(value, (str, bool, int)):
        return
    if isinstance(value, float):
        if not math.isfinite(value):
            raise Unreadable("payload_number", "NaN and infinities cannot be read as JSON; send null or a string")
        return
    if depth_left == 0 and isinstance(value, (list, dict)):
        raise _too_deep()
    if isinstance(value, list):
        for item in value:
            _check_msgpack(item, depth_left - 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise Unreadable("payload_kind", "the keys of its maps must be strings, as in JSON")
            _check_msgpack(item, depth_left - 1)
    else:
        raise Unreadable(
            "payload_kind", "it must be like JSON, or be one bin: no extensions, times or bins inside of it"
        )


def accept_base64(text: str) -> bytes:
    """Return the bytes of a base64 text. Raises Unreadable."""
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise Unreadable("payload_base64", "this is not base64 (RFC 4648, with padding, no line breaks)") from None


def to_json(data: bytes, encoding: Encoding) -> bytes:
    """Return a kept JSON or MessagePack value as JSON text. BYTES have none: see ``to_base64``."""
    return data if encoding is Encoding.JSON else msgspec.json.encode(msgspec.msgpack.decode(data))


def to_msgpack(data: bytes, encoding: Encoding) -> bytes:
    """Return a kept value as MessagePack; BYTES as a bin."""
    if encoding is Encoding.MSGPACK:
        return data
    return msgspec.msgpack.encode(data if encoding is Encoding.BYTES else msgspec.json.decode(data))


def to_base64(data: bytes) -> str:
    """Return bytes as they travel in JSON.

    >>> to_base64(b"\\x00\\xff")
    'AP8='
    """
    return base64.b64encode(data).decode("ascii")


def decode(data: bytes, encoding: Encoding) -> Any:
    """Return a kept value as Python has it.

    >>> decode(b'{"a": 1}', Encoding.JSON)
    {'a': 1}
    """
    if encoding is Encoding.BYTES:
        return data
    return msgspec.json.decode(data) if encoding is Encoding.JSON else msgspec.msgpack.decode(data)
