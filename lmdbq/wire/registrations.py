"""What a worker says of itself and its types, read into ops; and what is stored of types, as it travels."""

from __future__ import annotations

from typing import Final

import msgspec
from msgspec import UNSET, Struct

from lmdbq import limits
from lmdbq.model import NO_TYPE_SETTINGS, QueueSettings, TypePut, TypeSettings, TypeView
from lmdbq.wire import fields, policies, values
from lmdbq.wire.problems import JSON_CODEC, Codec, Problems, decode_as
from lmdbq.wire.queue_settings import settings_answer
from lmdbq.wire.workers import TypeAnswer, TypeDefaults, WorkerBody, WorkerType

SCHEMA_BYTES_MAX: Final = 16 * 1024


class Registration(Struct, frozen=True):
    """What a worker said."""

    name: str
    queue_names: tuple[str, ...]
    concurrency: int
    types: tuple[TypePut, ...]


def read_registration(name: str, body: bytes, codec: Codec) -> Registration:
    """Return what a worker says of itself. Raises NotParseable or InvalidInput."""
    said: WorkerBody = decode_as(WorkerBody, body, codec)
    problems = Problems()
    if not name:
        problems.add("bad_name", "/name", "a worker has a name of 1 to 128 bytes")
    values.check_text(name, "/name", problems, limits.NAME_BYTES_MAX)
    incoming = fields.Incoming(body, codec)
    types = tuple(_type_put(one, f"/types/{index}", problems, incoming) for index, one in enumerate(said.types))
    for index, queue_name in enumerate(said.queue_names):
        values.check_queue_name(queue_name, f"/queue_names/{index}", problems)
    problems.raise_if_any()
    return Registration(name, tuple(said.queue_names), said.concurrency, types)


def _type_put(said: WorkerType, pointer: str, problems: Problems, incoming: fields.Incoming) -> TypePut:
    values.check_type_name(said.type, f"{pointer}/type", problems)
    schema = fields.object_text(said.schema, f"{pointer}/schema", problems, incoming, "a schema", SCHEMA_BYTES_MAX)
    defaults, at = said.defaults or TypeDefaults(), f"{pointer}/defaults"
    settings = TypeSettings(
        values.keepalive_ns(defaults.keepalive_timeout_in_seconds, f"{at}/keepalive_timeout_in_seconds", problems),
        values.duration_ns(defaults.expires_in_seconds, f"{at}/expires_in_seconds", problems),
        policies.retry_of(defaults.retry_strategy, f"{at}/retry_strategy", problems),
        policies.keep_of(defaults.keep, f"{at}/keep", problems),
        policies.dedupe_rules(defaults.dedupe, f"{at}/dedupe", problems),
    )
    return TypePut(said.type, settings, schema)


def type_answer(view: TypeView) -> TypeAnswer:
    """Return what is known of a type as it travels."""
    said = view.settings
    queue = QueueSettings(False, 0, said.keepalive_ns, said.expires_in_ns, said.retry, said.keep, said.dedupe)
    shown = settings_answer(queue, JSON_CODEC)
    defaults = TypeDefaults(
        keepalive_timeout_in_seconds=shown.keepalive_timeout_in_seconds,
        expires_in_seconds=shown.expires_in_seconds,
        retry_strategy=shown.retry_strategy,
        keep=shown.keep,
        dedupe=shown.dedupe,
    )
    return TypeAnswer(
        view.name,
        TypeDefaults() if said == NO_TYPE_SETTINGS else defaults,
        msgspec.json.decode(view.schema) if view.schema else UNSET,
    )
