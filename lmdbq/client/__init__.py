"""Talking to a daemon: ``core`` (what is said, no I/O), ``http`` (the sync client), ``worker`` and ``exec`` (the work).

Nothing here imports aiohttp, lmdb or the daemon, so a script that enqueues starts fast.
"""
