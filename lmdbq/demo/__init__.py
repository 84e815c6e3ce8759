"""The demo's parts: its data set, the work on an item, the worker and producer, the run, and the independent count.

``lmdbq demo`` (``cli/demo.py``) is ``run.py``. Nothing else imports this package, and ``count.py`` imports nothing of
lmdbq: it judges the queue from files that the producer and the workers wrote themselves.
"""
