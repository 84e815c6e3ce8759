"""The asyncio engine between a daemon, or an embedded client, and a store: group commit, waiters, timers."""

from lmdbq.engine.groups import Consumers
from lmdbq.engine.queue import Engine, EngineStatus
from lmdbq.errors import Busy, Draining

__all__ = ["Busy", "Consumers", "Draining", "Engine", "EngineStatus"]
