"""What is sent and answered about groups, their rules, and threads: one Struct per body. Their meaning: ``groups``."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

from lmdbq import limits
from lmdbq.wire import shapes
from lmdbq.wire.answers import Count, TaskId


class GroupBody(shapes.Shape, frozen=True, kw_only=True):
    """Settings of a group: PUT replaces all of them, PATCH those it names (null: not said, so that a rule may say it).

    max_running: how many of its tasks may run at once, in all queues together; 0: none may start. weight: its share of
    a queue whose order is fair, default 1.
    """

    paused: bool | None = None
    max_running: Annotated[int, Meta(ge=0, le=limits.RUNNING_MAX)] | None = None
    rate: shapes.RateBody | None = None
    weight: Annotated[int, Meta(ge=1, le=limits.WEIGHT_MAX)] | None = None


class RuleBody(GroupBody, frozen=True, kw_only=True):
    """Settings for every group that a pattern matches. Of several the highest ``priority`` holds, then the longest."""

    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] | None = None


class GroupAnswer(Struct):
    """A group. settings: its own, null if it has none. rule: the pattern that holds beside them, "" for none.

    limits: what both give. tokens: what a dequeue could spend now, null without a rate. token_in_seconds: until the
    next one. blocked_by: paused, max_running, rate_limited or "".
    """

    group_key: str
    settings: GroupBody | None
    rule: str
    limits: GroupBody
    ready: Count
    running: Count
    tokens: Count | None
    token_in_seconds: float
    blocked_by: str


class GroupsAnswer(Struct):
    """Groups with settings of their own, or with ready or running tasks, by key. next: the cursor of the next page."""

    groups: list[GroupAnswer]
    next: str = ""


class RuleAnswer(Struct):
    """A rule for groups."""

    pattern: str
    settings: GroupBody
    priority: int


class RulesAnswer(Struct):
    """Every rule, by pattern."""

    rules: list[RuleAnswer]


class ThreadAnswer(Struct):
    """A thread with ready tasks or a task that holds it. holder: the task that runs or is to be tried again, or null.

    state: the holder's. head: the task that may start next, or null.
    """

    thread_id: str
    queue_name: str
    ready: Count
    holder: TaskId | None
    state: shapes.StateWord | None
    head: TaskId | None


class ThreadsAnswer(Struct):
    """Threads of a queue, by id. next: the cursor of the next page."""

    threads: list[ThreadAnswer]
    next: str = ""
