"""A function's arguments as a payload, and back: one JSON object of named arguments.

At enqueue the arguments are bound by the function's signature, so what a caller of the function may write, a producer
may write; defaults are not stored, the worker's hold. On the worker the object is decoded by the annotations. So curl,
cron and the command line enqueue the same task as Python does. Annotations are read when they are first needed, as
they may name what is defined further down.
"""

from __future__ import annotations

import inspect
import typing
from collections import OrderedDict
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

import msgspec
from msgspec import UNSET, UnsetType

from lmdbq.client.decoders import making
from lmdbq.client.encoding import read_as

_NOT_NAMED: Final = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


class BadPayload(Exception):
    """A payload does not fit the function; no other attempt would do better."""


class Binding:
    """The signature of one function. Raises TypeError for ``*args``, which have no names."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._signature = inspect.signature(function)
        parameters = self._signature.parameters.values()
        for parameter in parameters:
            if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
                raise TypeError(f"{function.__qualname__}: *{parameter.name} cannot be a payload, which has names")
        self._rest = next((one.name for one in parameters if one.kind is inspect.Parameter.VAR_KEYWORD), None)

    def bind(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the named arguments of a call. Raises TypeError if the function could not be called so."""
        try:
            arguments = self._signature.bind(*args, **kwargs).arguments
        except TypeError as wrong:
            name = getattr(self._function, "__name__", "it")
            raise TypeError(f"{name}{self._signature}: {wrong}") from None
        if self._rest is not None:
            arguments.update(arguments.pop(self._rest, {}))
        return arguments

    def unbind(self, payload: bytes) -> inspect.BoundArguments:
        """Return the arguments that a JSON payload says, decoded. Raises BadPayload, and TypeError for the annotations.

        No payload is one without arguments.
        """
        text = b"{}" if payload in (b"", b"null") else payload
        decoder = self._decoder
        try:
            decoded = decoder.decode(text)
            rest = msgspec.json.decode(text, type=dict[str, Any]) if self._rest is not None else {}
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, NotImplementedError, TypeError) as bad:
            raise BadPayload(str(bad)) from bad
        named = {name: getattr(decoded, name) for name in decoded.__struct_fields__}
        arguments = OrderedDict((name, value) for name, value in named.items() if value is not UNSET)
        if self._rest is not None:
            arguments[self._rest] = {name: value for name, value in rest.items() if name not in named}
        return inspect.BoundArguments(self._signature, arguments)

    @cached_property
    def _hints(self) -> dict[str, Any]:
        try:
            return typing.get_type_hints(self._function, include_extras=True)
        except NameError as bad:
            name = self._function.__qualname__
            raise TypeError(f"{name}: {bad}; a task's annotations must name what its module has at run time") from bad

    @cached_property
    def schema(self) -> dict[str, Any] | None:
        """The JSON Schema of the payload; None where an annotation is a type of which nobody knows how JSON has it."""
        try:
            return msgspec.json.schema(self._decoder.type)
        except TypeError:
            return None

    @cached_property
    def _decoder(self) -> msgspec.json.Decoder[Any]:
        fields: list[Any] = []
        for name, parameter in self._signature.parameters.items():
            if parameter.kind in _NOT_NAMED:
                continue
            kind = self._hints.get(name, Any)
            required = parameter.default is inspect.Parameter.empty
            fields.append((name, kind) if required else (name, typing.Union[kind, UnsetType], UNSET))  # noqa: UP007
        shape = msgspec.defstruct(
            f"{self._function.__name__}_arguments", fields, kw_only=True, forbid_unknown_fields=self._rest is None
        )
        try:
            with making:
                return msgspec.json.Decoder(shape, dec_hook=read_as)
        except TypeError as bad:
            raise TypeError(f"{self._function.__qualname__}: its annotations cannot be read from JSON: {bad}") from bad

    @cached_property
    def returns(self) -> Any:
        """The type of the result; Any where the annotation says none that JSON can be read as."""
        try:
            kind = self._hints.get("return", Any)
            with making:
                msgspec.json.Decoder(kind, dec_hook=read_as)
        except TypeError:
            return Any
        return kind

    def check(self) -> None:
        """Raise TypeError if payloads could not be decoded: better at a worker's start than at its first task."""
        _ = self._decoder
