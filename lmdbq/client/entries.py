"""An entry: one task as it is to be enqueued, made by ``Task.entry(...)`` or, for a type named by a string, by hand."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Generic, TypeVar, Unpack

from lmdbq.client.options import Options, check_names, entry_fields

R = TypeVar("R")


class Entry(Generic[R]):
    """A task to enqueue: its type, its payload, and options (``lmdbq.Options``). A value: nothing changes it.

    payload: anything JSON can say (dataclasses, datetimes ... included), or bytes. Raises TypeError for an option that
    does not exist.
    """

    __slots__ = ("options", "payload", "returns", "type")

    def __init__(self, type: str, payload: Any = None, **options: Unpack[Options]) -> None:
        check_names(options)
        self.type = type
        self.payload = payload
        self.options: Mapping[str, Any] = options
        self.returns: Any = Any

    def __repr__(self) -> str:
        said = "".join(f", {name}={value!r}" for name, value in self.options.items())
        return f"Entry({self.type!r}, {self.payload!r}{said})"


def entry_returning(returns: Any, type: str, payload: Any, options: Mapping[str, Any]) -> Entry[Any]:
    """Return an entry whose result is to be read as ``returns``. The names of ``options`` have been checked."""
    entry: Entry[Any] = Entry.__new__(Entry)
    entry.type, entry.payload, entry.options, entry.returns = type, payload, options, returns
    return entry


def bodies_of(entries: Iterable[Entry[Any]]) -> list[dict[str, Any]]:
    """Return entries as the API has them. Raises InvalidInput for what JSON cannot say."""
    return [entry_fields(entry, f"/entries/{index}/payload") for index, entry in enumerate(entries)]
