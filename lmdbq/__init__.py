"""lmdbq: a durable task queue that is one file. ``lmdbq serve`` starts it; "ok" means on disk."""

__version__ = "0.1.0"
