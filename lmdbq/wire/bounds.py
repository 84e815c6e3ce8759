"""Long lists are refused before they are decoded.

A decoder makes every item of a list before it judges the list's length, so ten million `{}` cost gigabytes. A large
body is therefore read first as ``lists()``, which names nothing but the lists of all requests, each as a fixed number
of places: that reading ends at the first item too many, makes nothing of what it does not name, and sees a list that a
later key of the same name replaces. A small body cannot hold enough to matter, and is not read twice.

The trap: what that shape cannot read (a number where a list belongs) is left to the decoder, which fails there, too;
what stands behind it was not looked at, and must not be decoded to explain it.
"""

from __future__ import annotations

import functools
import re
from typing import Any, Final, Protocol, get_args

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, defstruct

from lmdbq import limits
from lmdbq.errors import InvalidInput
from lmdbq.model import Problem

LARGE_BYTES: Final = 1024 * 1024

_TOO_LONG: Final = re.compile(r"Expected `array` of at most length (\d+)")
_FOLLOWED: Final = "Expected `null`, got"  # only of what follows a death and is itself followed, see lists


class Decoders(Protocol):
    """What makes and keeps a decoder for each shape."""

    def decoder(self, shape: Any) -> Any: ...


@functools.cache
def _list(most: int, item: Any = Raw) -> Any:
    """Return the shape of a list of at most ``most`` items."""
    return defstruct("List", [(f"at{n}", item, None) for n in range(most)], array_like=True, forbid_unknown_fields=True)


def _object(**lists: Any) -> Any:
    """Return the shape of an object that may have these lists, and objects that have some."""
    return defstruct("Object", [(name, kind if kind is None else kind | None, None) for name, kind in lists.items()])


@functools.cache  # made when the first large body comes: twenty thousand places take their time
def lists() -> Any:
    """Return the shape of every list of every request body. No two requests mean different things by one name."""
    tags, intervals = _list(limits.TAGS_MAX), _list(limits.INTERVALS_MAX)
    retry = _object(retry_intervals_in_seconds=intervals, backoff=_object(intervals_in_seconds=intervals))
    # What follows a death is followed by nothing: a chain of them would be as large as a list.
    template = _object(tags=tags, retry_strategy=retry, on_dead=None)
    entry = _object(tags=tags, retry_strategy=retry, on_dead=template)
    worker_type = _object(defaults=_object(retry_strategy=retry))
    wanted = {
        "queue_names": _list(limits.CLAIM_QUEUES_MAX),
        "types": _list(limits.TYPES_PER_QUEUE_MAX, worker_type | str | None),
    }
    return _object(
        entries=_list(limits.ENTRIES_MAX, entry | None),
        reports=_list(limits.ENTRIES_MAX),
        leases=_list(limits.ENTRIES_MAX),
        dequeue=_object(**wanted),
        **wanted,
        **dict.fromkeys(("fields", "task", "callback", "on_unmet", "on_dead"), entry),
        tags=tags,
        retry_strategy=retry,
    )


def check_lists(body: bytes, codec: Decoders) -> bool:
    """Raise InvalidInput if a list of a large body is too long. Return False if not all of the body was looked at."""
    if len(body) <= LARGE_BYTES:
        return True
    bad = failure(lists(), body, codec)
    if bad is None:
        return True
    text = str(bad)
    too_long = _TOO_LONG.match(text)
    if too_long is None and not text.startswith(_FOLLOWED):
        return False
    pointer = _where(lists(), body, codec, "")
    if too_long is None:
        problem = Problem("not_in_template", pointer, "what is enqueued by itself later has no on_dead")
    elif pointer == "/entries":
        problem = Problem("out_of_range", pointer, f"a call takes 1 to {too_long[1]} entries, not more")
    else:
        problem = Problem("out_of_range", pointer, f"expected 'array' of length <= {too_long[1]}")
    raise InvalidInput([problem])


def failure(shape: Any, raw: bytes | Raw, codec: Decoders) -> Exception | None:
    """Return what a decoder has against a value, None if it is a ``shape``."""
    try:
        codec.decoder(shape).decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as bad:
        return bad
    return None


def _where(shape: Any, raw: bytes | Raw, codec: Decoders, pointer: str) -> str:
    """Return where in a value, which is no ``shape``, the long list stands: of JSON the decoder does not say it."""
    parts: dict[str, Any]
    fields = msgspec.structs.fields(shape)
    if shape.__struct_config__.array_like:
        if failure(_list(len(fields)), raw, codec) is not None:
            return pointer
        items = msgspec.structs.astuple(codec.decoder(_list(len(fields))).decode(raw))
        parts = {str(index): item for index, item in enumerate(items) if item is not None}
    else:
        parts = known_fields(shape, raw, codec)
    for (name, part), kind in zip(parts.items(), _kinds(shape, parts), strict=True):
        text = str(failure(kind, part, codec))
        if _TOO_LONG.match(text) or text.startswith(_FOLLOWED):
            inner = [one for one in get_args(kind) if isinstance(one, type) and issubclass(one, Struct)]
            return _where(inner[0], part, codec, f"{pointer}/{name}") if inner else f"{pointer}/{name}"
    return pointer


def _kinds(shape: Any, parts: dict[str, Any]) -> list[Any]:
    """Return the type of each of the parts."""
    fields = msgspec.structs.fields(shape)
    if shape.__struct_config__.array_like:
        return [field.type for field in fields[: len(parts)]]
    by_name = {field.encode_name: field.type for field in fields}
    return [by_name[name] for name in parts]


def known_fields(shape: Any, raw: bytes | Raw, codec: Decoders) -> dict[str, Raw]:
    """Return the fields of an object that ``shape`` knows, as they came; nothing is made of the others."""
    found = codec.decoder(_known(shape)).decode(raw)
    return {name: part for name, part in msgspec.structs.asdict(found).items() if part is not UNSET}


@functools.cache
def _known(shape: Any) -> Any:
    return defstruct("Known", [(name, Raw | UnsetType, UNSET) for name in shape.__struct_encode_fields__])
