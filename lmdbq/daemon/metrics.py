"""/metrics: what Prometheus reads. Counts per queue come from the store when asked; only requests are counted here."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from lmdbq import limits
from lmdbq.model import State

if TYPE_CHECKING:
    from lmdbq.daemon.context import Daemon

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
SECONDS_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)


class RequestCounts:
    """How many requests each route answered, with what status, and how long they took."""

    def __init__(self) -> None:
        self.statuses: dict[tuple[str, int], int] = defaultdict(int)
        self.buckets: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = defaultdict(float)

    def count(self, route: str, status: int, seconds: float) -> None:
        self.statuses[route, status] += 1
        self.seconds[route] += seconds
        buckets = self.buckets.get(route)
        if buckets is None:
            buckets = self.buckets[route] = [0] * (len(SECONDS_BUCKETS) + 1)
        buckets[bisect_left(SECONDS_BUCKETS, seconds)] += 1


def exposition(daemon: Daemon) -> bytes:
    """Return the metrics in the text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(daemon))
    return generate_latest(registry)


class _Collector:
    """Reads everything at the moment of the scrape."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        yield from self._queues()
        yield from self._engine()
        yield from self._requests()

    def _queues(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        queues = self._daemon.store.queues()
        tasks = GaugeMetricFamily("lmdbq_tasks", "Stored tasks.", labels=["queue", "type", "state"])
        oldest = GaugeMetricFamily("lmdbq_oldest_ready_seconds", "Wait of the first ready task.", labels=["queue"])
        paused = GaugeMetricFamily("lmdbq_queue_paused", "1 for a paused queue.", labels=["queue"])
        totals = CounterMetricFamily(
            "lmdbq_task_events", "What happened to tasks since their queue was created.", labels=["queue", "event"]
        )
        now = self._daemon.clock.wall_ns()
        for queue in queues:
            for kind, counts in queue.counts.items():
                for state in State:
                    tasks.add_metric([queue.name, kind, state.word], counts.get(state.word, 0))
            waited = max(0, now - queue.oldest_ready_at) if queue.oldest_ready_at else 0
            oldest.add_metric([queue.name], waited / limits.SECOND_NS)
            paused.add_metric([queue.name], float(queue.settings.paused))
            for event in queue.totals.__struct_fields__:
                totals.add_metric([queue.name, event], getattr(queue.totals, event))
        yield from (tasks, oldest, paused, totals)

    def _engine(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        status, info = self._daemon.engine.status(), self._daemon.store.info()
        gauges = {
            "lmdbq_lock_wait_seconds": (
                "How long the file's write lock has been waited for.",
                status.lock_wait_seconds,
            ),
            "lmdbq_pending_calls": ("Calls not yet answered.", status.pending_calls),
            "lmdbq_parked_dequeues": ("Dequeues that wait for tasks.", status.parked),
            "lmdbq_last_commit_seconds": ("How long the last transaction took.", status.last_commit_seconds),
            "lmdbq_used_bytes": ("Bytes of the file in use.", info.used_bytes),
            "lmdbq_file_bytes": ("Bytes the file takes on disk.", info.file_bytes),
            "lmdbq_quarantined_records": ("Damaged records that were set aside.", info.quarantined),
            "lmdbq_draining": ("1 while the daemon is stopping.", float(status.draining)),
            "lmdbq_failed": ("1 when a commit failed and nothing more is written.", float(bool(status.failed))),
        }
        for name, (text, value) in gauges.items():
            yield GaugeMetricFamily(name, text, value=value)
        yield CounterMetricFamily("lmdbq_commits", "Transactions committed.", value=status.commits)
        yield CounterMetricFamily("lmdbq_calls", "Calls answered by the engine.", value=status.calls)

    def _requests(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        counts = self._daemon.requests
        answered = CounterMetricFamily("lmdbq_http_requests", "Requests answered.", labels=["operation", "status"])
        for (route, status), count in counts.statuses.items():
            answered.add_metric([route, str(status)], count)
        took = HistogramMetricFamily("lmdbq_http_request_seconds", "Time to answer.", labels=["operation"])
        for route, buckets in counts.buckets.items():
            rising, total = [], 0
            for bound, count in zip((*map(str, SECONDS_BUCKETS), "+Inf"), buckets, strict=True):
                total += count
                rising.append((bound, total))
            took.add_metric([route], rising, sum_value=counts.seconds[route])
        yield from (answered, took)
