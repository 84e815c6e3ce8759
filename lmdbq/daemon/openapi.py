"""/openapi.json, generated from the table of routes and the Structs they take and answer.

Every operation has an id and every shape a name; nothing is written twice. What a schema cannot say stands in the
docstrings of the handlers and shapes, which become the descriptions.
"""

from __future__ import annotations

import functools
import inspect
import re
from typing import Any, Final

import msgspec

from lmdbq import __version__
from lmdbq.daemon.handlers_backup import BINARY
from lmdbq.daemon.replies import NDJSON, PROBLEM
from lmdbq.daemon.routes import COMMON_ERRORS, ROUTES, Parameter, Route
from lmdbq.wire import answers
from lmdbq.wire.problems import JSON, MSGPACK

_REF: Final = "#/components/schemas/{name}"
_PATH_PARAMETER: Final = re.compile(r"\{(\w+)\}")
_PATH_DOCS: Final = {
    "id": "A task id, tsk_ and eleven letters or digits.",
    "external_id": "What the entry said as `external_id`.",
    "set_id": "A set's id, set_ and eleven letters or digits.",
    "lease": "What dequeue answered as `lease`.",
    "name": "The name of a queue, or of a schedule.",
    "key": "The key of a group.",
    "pattern": "Which groups a rule is for: * stands for any characters, ? for one.",
}


@functools.cache
def description() -> bytes:
    """Return the description as it is served."""
    return msgspec.json.encode(describe())


def describe() -> dict[str, Any]:
    """Return the description of the whole API as OpenAPI 3.1 has it."""
    kinds = _kinds()
    schemas, components = msgspec.json.schema_components(kinds, schema_hook=_schema_hook, ref_template=_REF)
    known = {repr(kind): schema for kind, schema in zip(kinds, schemas, strict=True)}
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, known)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "lmdbq",
            "version": __version__,
            "description": "A durable task queue. Instants are Unix nanoseconds or RFC 3339 text, durations seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": _without_unset_defaults(components),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _kinds() -> list[Any]:
    """Return every type that is used, once."""
    found: dict[str, Any] = {repr(answers.ProblemAnswer): answers.ProblemAnswer}
    for route in ROUTES:
        used = [*route.answers.values(), route.body, *(parameter.kind for parameter in route.parameters)]
        for kind in used:
            found.update((repr(one), one) for one in (kind if isinstance(kind, tuple) else (kind,)) if one is not None)
    return list(found.values())


def _schema_hook(kind: type) -> dict[str, Any]:
    if kind is msgspec.Raw:
        return {"description": "Any JSON value."}
    raise NotImplementedError(kind)


def _without_unset_defaults(value: Any) -> Any:
    """Drop what msgspec writes for a default that stands for: not said."""
    if isinstance(value, dict):
        return {
            key: _without_unset_defaults(part)
            for key, part in value.items()
            if not (key == "default" and (part is None or isinstance(part, msgspec.Raw)))
        }
    return [_without_unset_defaults(part) for part in value] if isinstance(value, list) else value


def _operation(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    documented = inspect.getdoc(route.handler) or ""
    operation: dict[str, Any] = {
        "operationId": route.operation,
        "summary": documented.partition("\n")[0],
        "tags": [route.path.split("/")[2] if route.path.startswith("/v1/") else "daemon"],
        "parameters": [*_path_parameters(route), *(_parameter(one, known) for one in route.parameters)],
        "responses": _responses(route, known),
        "x-role": route.role or "none",
    }
    if route.has_key:
        operation["parameters"].append(
            {
                "name": "Idempotency-Key",
                "in": "header",
                "required": False,
                "schema": {"type": "string", "minLength": 1, "maxLength": 255},
                "description": "The same key and body again get the same answer, and change nothing.",
            }
        )
    if route.body is not None:
        schema = known[repr(route.body)]
        types = [JSON, MSGPACK] + ([NDJSON] if route.operation in ("enqueue", "stream") else [])
        operation["requestBody"] = {
            "required": _is_required(route),
            "content": {kind: {"schema": schema} for kind in types},
        }
    return operation


def _is_required(route: Route) -> bool:
    return any(field.required for field in msgspec.structs.fields(route.body))


def _path_parameters(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}, "description": _PATH_DOCS[name]}
        for name in _PATH_PARAMETER.findall(route.path)
    ]


def _parameter(parameter: Parameter, known: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": parameter.name,
        "in": "query",
        "required": False,
        "schema": known[repr(parameter.kind)],
        "description": parameter.doc,
    }


def _responses(route: Route, known: dict[str, Any]) -> dict[str, Any]:
    problem = {"description": "A problem.", "content": {PROBLEM: {"schema": known[repr(answers.ProblemAnswer)]}}}
    found: dict[str, Any] = {str(status): problem for status in (*COMMON_ERRORS, *route.errors)}
    for status, kind in route.answers.items():
        if kind is None:
            found[str(status)] = {"description": "Done."}
        elif kind is bytes:
            found[str(status)] = {"description": "The file.", "content": {BINARY: {"schema": {"type": "string"}}}}
        elif kind is str:
            found[str(status)] = {"description": "Text.", "content": {"text/plain": {"schema": {"type": "string"}}}}
        else:
            types = (NDJSON, MSGPACK) if route.operation == "stream" else (JSON, MSGPACK)
            one_of = [known[repr(one)] for one in kind] if isinstance(kind, tuple) else [known[repr(kind)]]
            schema = {"oneOf": one_of} if len(one_of) > 1 else one_of[0]
            content = {media_type: {"schema": schema} for media_type in types}
            found[str(status)] = {"description": "The answer.", "content": content}
            if status in COMMON_ERRORS:
                content.update(problem["content"])  # type: ignore[arg-type]
    return dict(sorted(found.items()))
