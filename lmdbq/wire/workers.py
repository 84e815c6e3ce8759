"""Workers as they travel: what one says of itself and of its types, and how that is answered. Data only."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from lmdbq import limits
from lmdbq.wire import shapes


class TypeDefaults(shapes.Shape, frozen=True, kw_only=True):
    """What a type decides for its tasks where they say nothing, before their queue does."""

    keepalive_timeout_in_seconds: shapes.Seconds | None = None
    expires_in_seconds: shapes.Seconds | None = None
    retry_strategy: shapes.RetryStrategyBody | None = None
    keep: shapes.KeepBody | None = None
    dedupe: shapes.DedupeBody | None = None


class WorkerType(shapes.Shape, frozen=True, kw_only=True):
    """A type that a worker runs. schema: JSON Schema of its payloads, an object of up to 16 KiB. Both are stored."""

    type: shapes.TypeName
    schema: Annotated[Raw, Meta(extra_json_schema={"type": "object"})] | UnsetType = UNSET
    defaults: TypeDefaults | None = None


class WorkerBody(shapes.Shape, frozen=True, kw_only=True):
    """Body of PUT /v1/workers/{name}. types: none = it runs every type. concurrency: how many tasks at once."""

    queue_names: Annotated[list[shapes.QueueName], Meta(min_length=1, max_length=limits.CLAIM_QUEUES_MAX)]
    types: Annotated[list[WorkerType], Meta(max_length=limits.TYPES_PER_QUEUE_MAX)] = msgspec.field(
        default_factory=list
    )
    concurrency: Annotated[int, Meta(ge=1, le=1_000_000)] = 1


class WorkerAnswer(Struct):
    """A worker that was heard of in the last minute. types: empty = every type. Instants are Unix ns."""

    name: str
    queue_names: list[str]
    types: list[str]
    concurrency: int
    registered_at: int
    seen_at: int


class TypeAnswer(Struct):
    """A type of which workers have said something."""

    type: str
    defaults: TypeDefaults
    schema: dict[str, Any] | UnsetType = UNSET


class WorkersAnswer(Struct):
    """Who works, by name, and what is known of types, by name."""

    workers: list[WorkerAnswer]
    types: list[TypeAnswer]
