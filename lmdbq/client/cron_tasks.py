"""The schedules of functions: what ``@tasks.task(cron=…)`` says, a worker puts when it starts.

The schedule of a function is ``cron:`` and its name; putting it twice changes nothing, so any number of workers may. A
schedule whose function is gone stays until somebody deletes it: another program may still run that type, or an older
version of this one, and a queue says so when nobody does (``no consumer for type X``). A paused one stays paused.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Any, Final

from lmdbq.client import core_schedules
from lmdbq.client.leases import log
from lmdbq.client.places import Transport
from lmdbq.client.schedule_info import cron_fields, task_field
from lmdbq.client.tasks import Task
from lmdbq.errors import LmdbqError, NotNow, Unreachable

PREFIX: Final = "cron:"
RETRY_SECONDS: Final = 0.5


def put_schedules(transport: Transport, tasks: Iterable[Task[..., Any]], stop: threading.Event | None = None) -> None:
    """Put the schedule of each task that has a cron; what is refused is logged.

    A daemon that does not answer is waited for until ``stop``; without one Unreachable or NotNow is raised.
    """
    for task in dict.fromkeys(tasks):
        if task.cron is None:
            continue
        name = PREFIX + task.name
        request = core_schedules.put_schedule(name, {"task": task_field(task.entry()), **cron_fields(task.cron)})
        while stop is None or not stop.is_set():
            try:
                transport.call(request, stop)
                break
            except (Unreachable, NotNow) as error:
                if stop is None:
                    raise
                log.warning("putting schedule %s: %s", name, error)
                stop.wait(RETRY_SECONDS)
            except LmdbqError as error:
                log.error("schedule %s was refused, and is not what the code says: %s", name, error)
                break
