"""The settings of a queue: from the wire to engine units and back."""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import Raw

from lmdbq import limits
from lmdbq.model import Order, QueueSettings
from lmdbq.wire import shapes, values
from lmdbq.wire.fields import Incoming
from lmdbq.wire.policies import dedupe_rules, keep_answer, keep_of, rate_answer, rate_of, retry_answer, retry_of
from lmdbq.wire.problems import Codec, Problems, decode_as
from lmdbq.wire.requests import template_of
from lmdbq.wire.templates import template_answer, word_of

# Field of a queue's settings, by its key on the wire.
SETTING_OF_KEY: Final = {
    "paused": "paused",
    "max_running": "max_running",
    "keepalive_timeout_in_seconds": "keepalive_ns",
    "expires_in_seconds": "expires_in_ns",
    "retry_strategy": "retry",
    "keep": "keep",
    "dedupe": "dedupe",
    "rate": "rate",
    "weight": "weight",
    "order": "order",
    "ageing_in_seconds": "ageing_ns",
    "max_dead": "max_dead",
    "priority": "priority",
    "on_dead": "on_dead",
}


def read_queue(body: bytes, codec: Codec) -> tuple[QueueSettings, tuple[str, ...]]:
    """Return (settings, the fields that were named) of a queue's body. Raises NotParseable or InvalidInput."""
    if not body:
        return QueueSettings(), ()
    said = decode_as(shapes.QueueBody, body, codec)
    problems = Problems()
    settings = QueueSettings(
        bool(said.paused),
        said.max_running or 0,
        values.keepalive_ns(said.keepalive_timeout_in_seconds, "/keepalive_timeout_in_seconds", problems),
        values.duration_ns(said.expires_in_seconds, "/expires_in_seconds", problems),
        retry_of(said.retry_strategy, "/retry_strategy", problems),
        keep_of(said.keep, "/keep", problems),
        dedupe_rules(said.dedupe, "/dedupe", problems),
        rate_of(said.rate, "/rate", problems),
        said.weight or 0,
        Order[said.order.upper()] if said.order else Order.STRICT,
        values.duration_ns(said.ageing_in_seconds, "/ageing_in_seconds", problems, high_ns=limits.DAY_NS),
        said.max_dead or 0,
        said.priority or 0,
        on_dead=None
        if said.on_dead is None
        else template_of(said.on_dead, "/on_dead", problems, Incoming(body, codec)),
    )
    problems.raise_if_any()
    named = codec.decoder(dict[str, Raw]).decode(body)
    return settings, tuple(SETTING_OF_KEY[name] for name in named)


def settings_answer(settings: QueueSettings, codec: Codec) -> shapes.QueueBody:
    """Return a queue's settings as they travel in ``codec``; what is left out is the built-in default."""
    dedupe = settings.dedupe
    return shapes.QueueBody(
        paused=settings.paused,
        max_running=settings.max_running or None,
        keepalive_timeout_in_seconds=values.seconds(settings.keepalive_ns) or None,
        expires_in_seconds=values.seconds(settings.expires_in_ns) or None,
        retry_strategy=None if settings.retry is None else retry_answer(settings.retry),
        keep=None if settings.keep is None else keep_answer(settings.keep),
        dedupe=None
        if dedupe is None
        else shapes.DedupeBody(
            scope=word_of(dedupe.scope),
            until=word_of(dedupe.until),
            ttl_in_seconds=values.seconds(dedupe.ttl_ns) or None,
            on_duplicate=word_of(dedupe.on_duplicate),
            overwrite_on_duplicate=cast("Any", list(dedupe.overwrite)) or None,
        ),
        rate=None if settings.rate is None else rate_answer(settings.rate),
        weight=settings.weight or None,
        order=None if settings.order is Order.STRICT else word_of(settings.order),
        ageing_in_seconds=values.seconds(settings.ageing_ns) or None,
        max_dead=settings.max_dead or None,
        priority=settings.priority or None,
        on_dead=None if settings.on_dead is None else template_answer(settings.on_dead, codec),
    )
