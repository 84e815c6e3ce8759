"""A live queue, as a transaction sees it."""

from __future__ import annotations

from lmdbq import lifecycle
from lmdbq.model import QueueSettings


class Queue:
    """A live queue: its number, name and settings, as this transaction sees them. Never changed: replaced."""

    __slots__ = ("_retry", "created_at", "name", "no", "settings")

    def __init__(self, no: int, name: str, created_at: int, settings: QueueSettings) -> None:
        self.no = no
        self.name = name
        self.created_at = created_at
        self.settings = settings
        self._retry: lifecycle.ResolvedRetry | None = None

    @property
    def retry(self) -> lifecycle.ResolvedRetry:
        """How tasks that say nothing about it are tried again."""
        if self._retry is None:
            self._retry = lifecycle.resolve_retry(self.settings.retry)
        return self._retry
