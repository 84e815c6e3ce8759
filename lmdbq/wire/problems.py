"""Problems: how they are collected, what HTTP status each code has, and the body that carries them.

A body is decoded in one go. Only when that fails is it taken apart field by field, here, so that the answer can name
everything that is wrong with it at once (the first 20), each by its pointer.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from types import UnionType
from typing import Annotated, Any, Final, Literal, Union, cast, get_args, get_origin

import msgspec
from msgspec import UNSET, Raw, Struct

from lmdbq import limits
from lmdbq.errors import InvalidInput, NotParseable
from lmdbq.ids import format_id
from lmdbq.model import Problem, Refused
from lmdbq.wire import bounds
from lmdbq.wire.answers import ProblemAnswer, ProblemItem

JSON: Final = "application/json"
MSGPACK: Final = "application/msgpack"

# What a refused call answers; every other code of a problem is a wrong value, 422.
STATUS_OF_CODE: Final = {
    "duplicate": 409,
    "queue_not_found": 404,
    "schedule_not_found": 404,
    "group_not_found": 404,
    "rule_not_found": 404,
    "set_not_found": 404,
    "set_closed": 409,
    "set_decided": 409,
    "full": 507,
    "not_committed": 503,
    "internal": 500,
}

_PATH: Final = re.compile(r" - at `(?:key in )?\$([^`]*)`$")
_STEP: Final = re.compile(r"\.([^.\[]+)|\[(\d+|\.\.\.)\]")


class Problems:
    """Collects what is wrong, at most ``limits.PROBLEMS_MAX`` of it."""

    def __init__(self) -> None:
        self.found: list[Problem] = []

    def add(self, code: str, pointer: str, detail: str) -> None:
        if len(self.found) < limits.PROBLEMS_MAX:
            self.found.append(Problem(code, pointer, detail))

    @property
    def full(self) -> bool:
        return len(self.found) >= limits.PROBLEMS_MAX

    def raise_if_any(self) -> None:
        """Raise InvalidInput if anything was found."""
        if self.found:
            raise InvalidInput(self.found)


def status_of(refused: Refused) -> int:
    """Return the HTTP status of a refused call."""
    return STATUS_OF_CODE.get(refused.code, 422)


_TITLES: Final = {
    400: "Not readable",
    401: "Who are you?",
    403: "Not allowed",
    404: "Not found",
    405: "Method not allowed",
    408: "Too slow",
    409: "Conflict",
    410: "Gone",
    413: "Too large",
    415: "Unknown content type",
    422: "Wrong value",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
    507: "Full",
}


def problem_answer(
    status: int, code: str, detail: str, request_id: str, problems: Sequence[Problem] = (), pointer: str | None = None
) -> ProblemAnswer:
    """Return the body of an error, without its newline."""
    items = [
        ProblemItem(found.code, found.pointer, found.detail, format_id(found.holder) if found.holder else UNSET)
        for found in problems[: limits.PROBLEMS_MAX]
    ]
    where = pointer if pointer is not None else (problems[0].pointer if problems else None)
    return ProblemAnswer(
        type="about:blank",
        title=_TITLES.get(status, "Error"),
        status=status,
        code=code,
        detail=detail,
        request_id=request_id,
        pointer=UNSET if where is None else where,
        problems=items or UNSET,
    )


# --- decoding ---------------------------------------------------------------------------------------------------------


class Codec:
    """JSON or MessagePack, by media type; one decoder per shape is kept."""

    def __init__(self, media_type: str) -> None:
        self.media_type = media_type
        self.is_json = media_type == JSON
        self._decoders: dict[Any, Any] = {}

    def decoder(self, shape: Any) -> Any:
        found = self._decoders.get(shape)
        if found is None:
            make: Any = msgspec.json.Decoder if self.is_json else msgspec.msgpack.Decoder
            found = self._decoders[shape] = make(shape)
        return found

    def encode(self, value: Any) -> bytes:
        return msgspec.json.encode(value) if self.is_json else msgspec.msgpack.encode(value)

    def of_json(self, text: bytes) -> bytes:
        """Return a JSON text in this encoding."""
        return text if self.is_json else msgspec.msgpack.encode(msgspec.json.decode(text))


JSON_CODEC: Final = Codec(JSON)
MSGPACK_CODEC: Final = Codec(MSGPACK)


def decode_as(shape: Any, body: bytes, codec: Codec) -> Any:
    """Return ``body`` as ``shape``. Raises NotParseable, or InvalidInput with all that is wrong."""
    is_bounded = bounds.check_lists(body, codec)
    try:
        return codec.decoder(shape).decode(body)
    except msgspec.ValidationError as bad:
        check_parseable(body, codec)
        problems = Problems()
        if is_bounded:
            explain(shape, body, codec, "", problems)
        if not problems.found:
            problems.add(*translate(bad, ""))
        raise InvalidInput(problems.found) from None
    except RecursionError:
        raise InvalidInput([Problem("payload_depth", "", "the body is nested too deep")]) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise _not_parseable(bad, codec) from None


def check_parseable(body: bytes, codec: Codec) -> None:
    """Raise NotParseable unless the whole body is JSON or MessagePack: a decoder may object to a value before that."""
    try:
        codec.decoder(Raw).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as bad:
        raise _not_parseable(bad, codec) from None
    except RecursionError:
        return  # too deep is a wrong value, and said elsewhere


def _not_parseable(bad: Exception, codec: Codec) -> NotParseable:
    return NotParseable(f"the body is not {'JSON' if codec.is_json else 'MessagePack'}: {bad}")


def explain(shape: Any, raw: bytes, codec: Codec, pointer: str, problems: Problems) -> None:
    """Add everything about ``raw`` that keeps it from being a ``shape``; nothing if it is one."""
    bad = bounds.failure(shape, raw, codec)
    if bad is None or problems.full:
        return
    struct = _struct_in(shape)
    fields = fields_of(struct, raw, codec) if struct else None
    if struct is None or fields is None:
        problems.add(*translate(bad, pointer))
        return
    known = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    for name, value in fields.items():
        if problems.full:
            return
        if name in known:
            _explain_field(known[name].type, bytes(value), codec, f"{pointer}/{escape(name)}", problems)
        elif name != tag:
            problems.add("unknown_field", f"{pointer}/{escape(name)}", _unknown(name, known))
    code, where, detail = translate(bad, pointer)
    if code == "unknown_field" and where == pointer and len(raw) > bounds.LARGE_BYTES:
        problems.add(code, where, detail)  # the first one; of a large object no others are known
    for name, field in known.items():
        if field.required and name not in fields:
            problems.add("missing_field", f"{pointer}/{name}", f"{name} is required")


def fields_of(struct: type[Struct], raw: bytes, codec: Codec) -> dict[str, Raw] | None:
    """Return the fields of an object as they came, None for no object. Of a large one only those ``struct`` knows: of
    millions of others nothing is to be made."""
    if len(raw) <= bounds.LARGE_BYTES:
        return cast("dict[str, Raw] | None", _decoded(dict[str, Raw], raw, codec))
    try:
        return bounds.known_fields(struct, raw, codec)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _explain_field(kind: Any, raw: bytes, codec: Codec, pointer: str, problems: Problems) -> None:
    bad = bounds.failure(kind, raw, codec)
    if bad is None:
        return
    item = _list_item(kind)
    values = _decoded(list[Raw], raw, codec) if item is not None else None
    before = len(problems.found)
    if item is not None and values is not None:
        for index, value in enumerate(values):
            explain(item, bytes(value), codec, f"{pointer}/{index}", problems)
            if problems.full:
                return
    elif _struct_in(kind) is not None:
        explain(kind, raw, codec, pointer, problems)
    if len(problems.found) == before:
        code, pointer, detail = translate(bad, pointer)
        words = ", ".join(_words(kind))
        problems.add(code, pointer, f"{detail}; it is one of {words}" if code == "bad_value" and words else detail)


def _decoded(kind: Any, raw: bytes, codec: Codec) -> Any:
    try:
        return codec.decoder(kind).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def _options(kind: Any) -> list[Any]:
    """Return the alternatives of a type, without Annotated and None."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (Union, UnionType):
        return [option for part in get_args(kind) if part is not type(None) for option in _options(part)]
    return [kind]


def _words(kind: Any) -> list[str]:
    """Return the words a field may be, or that may stand in its list or choose its kind; none if it takes others."""
    found: list[str] = []
    for option in _options(kind):
        origin = get_origin(option)
        if origin is Literal:
            found += get_args(option)
        elif origin is list:
            found += _words(get_args(option)[0])
        elif isinstance(option, type) and issubclass(option, Struct) and isinstance(option.__struct_config__.tag, str):
            found.append(option.__struct_config__.tag)
    return found


def _struct_in(kind: Any) -> type[Struct] | None:
    """Return the one Struct a type may be, if there is exactly one."""
    structs = [option for option in _options(kind) if isinstance(option, type) and issubclass(option, Struct)]
    return structs[0] if len(structs) == 1 else None


def _list_item(kind: Any) -> Any:
    """Return what a list of Structs holds, None for anything else."""
    for option in _options(kind):
        if get_origin(option) is list and _struct_in(get_args(option)[0]) is not None:
            return get_args(option)[0]
    return None


def _unknown(name: str, known: dict[str, Any]) -> str:
    close = difflib.get_close_matches(name[:64], known, n=1)
    shown = name if len(name) <= 64 else f"{name[:64]}…"
    return f"there is no field {shown!r} here" + (f"; did you mean {close[0]!r}?" if close else "")


def translate(bad: Exception, pointer: str) -> tuple[str, str, str]:
    """Return (code, pointer, detail) for a decoder's complaint."""
    text = str(bad)
    if isinstance(bad, RecursionError):
        return "payload_depth", pointer, "it is nested too deep"
    path = _PATH.search(text)
    if path:
        text = text[: path.start()]
        pointer += "".join(f"/{escape(name or index)}" for name, index in _STEP.findall(path.group(1)))
    return _code_of(text), pointer, text.replace("`", "'").replace("Expected", "expected", 1)


def _code_of(text: str) -> str:
    if "unknown field" in text:
        return "unknown_field"
    if "missing required" in text:
        return "missing_field"
    if ", got " in text:
        return "wrong_type"
    return "bad_value" if "Invalid" in text or "matching" in text else "out_of_range"


def escape(name: str) -> str:
    """Return one step of an RFC 6901 pointer.

    >>> escape("a/b~c")
    'a~1b~0c'
    """
    return name[:64].replace("~", "~0").replace("/", "~1")
