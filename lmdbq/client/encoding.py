"""Values to JSON and back: what a payload, an argument or a result may be.

msgspec does the work: plain values, dataclasses, Structs, named tuples, enums, datetime, UUID, Decimal, bytes (as
base64). What has ``model_dump`` and ``model_validate`` (pydantic's models) is asked to do it itself, so pydantic is
never imported here. The trap: JSON has no NaN, and an encoder that writes null for it would lose it in silence. It is
refused; only a text that has a null in it needs to be looked at for that.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec

from lmdbq.errors import InvalidInput
from lmdbq.model import Problem


def _say(value: Any) -> Any:
    dump = getattr(value, "model_dump", None)
    if dump is not None:
        return dump(mode="json")
    raise NotImplementedError(f"{type(value).__name__} is nothing that JSON can say")


def read_as(kind: Any, value: Any) -> Any:
    """Return a decoded JSON value as ``kind``, a type that msgspec does not know. Raises ValueError, TypeError."""
    if isinstance(value, kind):
        return value
    validate = getattr(kind, "model_validate", None)
    if validate is None:
        raise NotImplementedError(f"{kind!r} cannot be made from JSON; annotate with a dataclass or plain types")
    return validate(value)


_encoder: Final = msgspec.json.Encoder(enc_hook=_say)


def to_json(value: Any, pointer: str) -> bytes:
    """Return ``value`` as JSON. Raises InvalidInput, naming ``pointer``, for NaN and what JSON cannot say."""
    try:
        text = _encoder.encode(value)
    except (TypeError, ValueError, NotImplementedError, OverflowError, RecursionError) as bad:
        raise InvalidInput([Problem("not_json", pointer, str(bad))]) from bad
    if b"null" in text and _has_nan(msgspec.to_builtins(value, enc_hook=_say)):
        detail = "NaN and infinities cannot be said in JSON; send null or a string"
        raise InvalidInput([Problem("payload_number", pointer, detail)])
    return text


def _has_nan(value: Any) -> bool:
    if isinstance(value, float):
        return not math.isfinite(value)
    if isinstance(value, dict):
        return any(_has_nan(each) for each in value.values())
    return isinstance(value, (list, tuple)) and any(_has_nan(each) for each in value)


def convert(value: Any, kind: Any) -> Any:
    """Return a decoded JSON value as ``kind``; as it is where nothing (Any) is asked for. Raises ValueError, TypeError.

    >>> convert("2030-01-01", __import__("datetime").date)
    datetime.date(2030, 1, 1)
    """
    return value if kind is Any else msgspec.convert(value, kind, dec_hook=read_as)
