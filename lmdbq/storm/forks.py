"""Processes that are forked from one that has everything imported, and neither threads nor an open file: ``FORKS``.

A storm that needs thousands of processes would else spend half of its time importing. The one they are forked from
(Python's fork server) starts with the first of them and ends with the process that wanted them.

The trap: what is loaded there is settled when it starts. So what any storm runs in such a process is listed here.
"""

from __future__ import annotations

import multiprocessing
from typing import Final

FORKS: Final = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["__main__", "lmdbq.storm.workers", "lmdbq.storm.child"])
