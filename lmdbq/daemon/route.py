"""What a row of the table of routes is: one operation of the HTTP API."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web
from msgspec import Struct

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Parameter(Struct, frozen=True):
    """A query parameter: its name, the type of its value, and what it does."""

    name: str
    kind: Any
    doc: str


class Route(Struct, frozen=True):
    """One operation. answers: the Struct per status (a tuple: one of
    them), None for no body, str for text. errors: those beyond 400, 401,
    403, 408, 413, 415, 422, 500 and 503, which every route may answer."""

    method: str
    path: str
    handler: Handler
    operation: str
    role: str
    answers: dict[int, Any]
    body: Any = None
    errors: tuple[int, ...] = ()
    parameters: tuple[Parameter, ...] = ()
    has_key: bool = False
