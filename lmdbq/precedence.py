"""What a type and its queue decide together for the tasks that say nothing themselves. Pure, as ``lifecycle`` is.

The order is dequeue, entry, type, queue, built-in, for each field alone. The first two and the last are in the
functions of ``lifecycle`` that take (entry, settings); here the settings of a type and a queue become one.
"""

from __future__ import annotations

from lmdbq.lifecycle import attempts_said
from lmdbq.model import Dedupe, Keep, QueueSettings, RetryStrategy, TypeSettings


def settings_of(kind: TypeSettings, queue: QueueSettings) -> QueueSettings:
    """Return the settings that hold for a type in a queue: field by field what the type says, else the queue.

    So whoever resolves anything from (entry, settings) gets entry, type, queue, built-in in this order.
    """
    return QueueSettings(
        queue.paused,
        queue.max_running,
        kind.keepalive_ns or queue.keepalive_ns,
        kind.expires_in_ns or queue.expires_in_ns,
        _merge_retry(kind.retry, queue.retry),
        _merge_keep(kind.keep, queue.keep),
        _merge_dedupe(kind.dedupe, queue.dedupe),
        on_dead=queue.on_dead,
    )


def _merge_retry(first: RetryStrategy | None, second: RetryStrategy | None) -> RetryStrategy | None:
    if first is None or second is None:
        return first or second
    attempts = attempts_said(first) or attempts_said(second)
    return RetryStrategy(attempts, first.backoff or second.backoff, first.max_deliveries or second.max_deliveries)


def _merge_keep(first: Keep | None, second: Keep | None) -> Keep | None:
    if first is None or second is None:
        return first or second
    return Keep(
        second.succeeded_ns if first.succeeded_ns is None else first.succeeded_ns,
        second.dead_ns if first.dead_ns is None else first.dead_ns,
        second.cancelled_ns if first.cancelled_ns is None else first.cancelled_ns,
    )


def _merge_dedupe(first: Dedupe | None, second: Dedupe | None) -> Dedupe | None:
    """A ttl goes with its until, and how a duplicate overwrites with what becomes of it."""
    if first is None or second is None:
        return first or second
    until, ttl_ns = first.until, first.ttl_ns
    if until is None:
        until, ttl_ns = second.until, ttl_ns or second.ttl_ns
    said = second if first.on_duplicate is None and not first.overwrite and first.fold is None else first
    return Dedupe(
        "",
        second.scope if first.scope is None else first.scope,
        until,
        ttl_ns,
        said.on_duplicate,
        said.overwrite,
        said.fold,
        said.fold_max,
        first.max_wait_ns or second.max_wait_ns,
    )
