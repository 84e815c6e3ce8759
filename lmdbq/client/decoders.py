"""Decoders of JSON, made one at a time, whichever threads ask first.

The trap is msgspec: what it finds out about a type it keeps with the type before it is whole. Two threads that decode
a type for the first time at once meet there, and the process dies of it. So decoders are made under one lock, which
nobody holds while a program forks: a child would inherit it held, and a type half known.
"""

from __future__ import annotations

import os
import threading
from typing import Any, Final, TypeVar, cast

import msgspec

T = TypeVar("T")
making: Final = threading.RLock()
_made: Final[dict[Any, msgspec.json.Decoder[Any]]] = {}

if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=making.acquire, after_in_parent=making.release, after_in_child=making.release)


def decoder_of(kind: type[T]) -> msgspec.json.Decoder[T]:
    """Return the decoder of a type."""
    known = _made.get(kind)
    if known is None:
        with making:
            known = _made.setdefault(kind, msgspec.json.Decoder(kind))
    return cast("msgspec.json.Decoder[T]", known)
