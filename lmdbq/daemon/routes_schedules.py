"""The routes of schedules; a part of the table in ``routes``."""

from __future__ import annotations

from typing import Final

from lmdbq.daemon import handlers_schedules as schedules
from lmdbq.daemon.access import ADMIN, PRODUCE, READ
from lmdbq.daemon.route import Parameter, Route
from lmdbq.wire.answers import TaskCreated
from lmdbq.wire.schedule_shapes import ScheduleAnswer, ScheduleBody, ScheduleNext, SchedulesAnswer

_ONE: Final = "/v1/schedules/{name}"

SCHEDULES: Final = (
    Route("GET", "/v1/schedules", schedules.list_schedules, "list_schedules", READ, {200: SchedulesAnswer}),
    Route("GET", _ONE, schedules.get_schedule, "get_schedule", READ, {200: ScheduleAnswer}, errors=(404,)),
    Route(
        "PUT",
        _ONE,
        schedules.put_schedule,
        "put_schedule",
        PRODUCE,
        {200: ScheduleAnswer, 201: ScheduleAnswer},
        ScheduleBody,
        (404, 507),
    ),
    Route(
        "PATCH",
        _ONE,
        schedules.patch_schedule,
        "patch_schedule",
        ADMIN,
        {200: ScheduleAnswer},
        ScheduleBody,
        (404, 507),
    ),
    Route("DELETE", _ONE, schedules.delete_schedule, "delete_schedule", ADMIN, {204: None}, errors=(404,)),
    Route(
        "POST",
        _ONE + "/pause",
        schedules.pause_schedule,
        "pause_schedule",
        ADMIN,
        {200: ScheduleAnswer},
        errors=(404, 507),
    ),
    Route(
        "POST",
        _ONE + "/resume",
        schedules.resume_schedule,
        "resume_schedule",
        ADMIN,
        {200: ScheduleAnswer},
        errors=(404, 507),
    ),
    Route(
        "POST",
        _ONE + "/run",
        schedules.run_schedule,
        "run_schedule",
        PRODUCE,
        {201: TaskCreated, 200: TaskCreated},
        errors=(404, 409, 507),
    ),
    Route(
        "GET",
        _ONE + "/next",
        schedules.next_instants,
        "next_instants",
        READ,
        {200: ScheduleNext},
        errors=(404,),
        parameters=(Parameter("count", int, "How many instants, 1 to 100; default 5."),),
    ),
)
