"""Groups, their rules, and threads: from the wire to engine units and back."""

from __future__ import annotations

from typing import Any, Final, cast

from msgspec import Raw

from lmdbq.ids import format_id
from lmdbq.model import GroupRule, GroupSettings, GroupView, Problem, ThreadView
from lmdbq.wire import values
from lmdbq.wire.group_shapes import (
    GroupAnswer,
    GroupBody,
    GroupsAnswer,
    RuleAnswer,
    RuleBody,
    RulesAnswer,
    ThreadAnswer,
    ThreadsAnswer,
)
from lmdbq.wire.policies import rate_answer, rate_of
from lmdbq.wire.problems import Codec, Problems, decode_as

PAGE_DEFAULT: Final = 100


def read_group(body: bytes, codec: Codec) -> tuple[GroupSettings, tuple[str, ...]]:
    """Return (settings, the fields that were named) of a group's body. Raises NotParseable or InvalidInput."""
    if not body:
        return GroupSettings(), ()
    said = decode_as(GroupBody, body, codec)
    named = codec.decoder(dict[str, Raw]).decode(body)
    return _settings(said), tuple(named)


def read_rule(pattern: str, body: bytes, codec: Codec) -> GroupRule:
    """Return a rule. Raises NotParseable or InvalidInput."""
    said = decode_as(RuleBody, body or codec.encode({}), codec)
    check_group_key(pattern, "/pattern")
    return GroupRule(pattern, _settings(said), said.priority or 0)


def _settings(said: GroupBody) -> GroupSettings:
    problems = Problems()
    rate = rate_of(said.rate, "/rate", problems)
    problems.raise_if_any()
    return GroupSettings(bool(said.paused), said.max_running, rate, said.weight or 0)


def check_group_key(key: str, pointer: str = "/name") -> None:
    """Raise InvalidInput for what is no name of a group, or no pattern."""
    problems = Problems()
    values.check_lane_name(key, pointer, problems)
    problems.raise_if_any()


def unknown_group(key: str) -> Problem:
    """Return the problem of a group that is not there."""
    detail = f"there is no group {key[:128]!r}; it comes with its first task, or with PUT /v1/groups/KEY"
    return Problem("group_not_found", "", detail)


# --- and back ---


def settings_body(settings: GroupSettings) -> GroupBody:
    """Return settings as they travel; what is left out is not said."""
    rate = settings.rate
    return GroupBody(
        paused=settings.paused or None,
        max_running=settings.max_running,
        rate=None if rate is None else rate_answer(rate),
        weight=settings.weight or None,
    )


def group_answer(view: GroupView) -> GroupAnswer:
    """Return a group as people see it."""
    return GroupAnswer(
        view.name,
        None if view.settings is None else settings_body(view.settings),
        view.rule,
        settings_body(view.limits),
        view.ready,
        view.running,
        view.tokens,
        values.seconds(view.token_in_ns),
        view.blocked_by,
    )


def unset_group(key: str) -> GroupAnswer:
    """Return a group that has neither settings nor tasks any more."""
    return group_answer(GroupView(key, None, "", GroupSettings(), 0, 0))


def groups_answer(views: list[GroupView], limit: int) -> GroupsAnswer:
    """Return a page of groups."""
    return GroupsAnswer([group_answer(view) for view in views], views[-1].name if len(views) == limit else "")


def rule_answer(rule: GroupRule) -> RuleAnswer:
    """Return a rule as people see it."""
    return RuleAnswer(rule.pattern, settings_body(rule.settings), rule.priority)


def rules_answer(rules: list[GroupRule]) -> RulesAnswer:
    """Return every rule."""
    return RulesAnswer([rule_answer(rule) for rule in rules])


def threads_answer(views: list[ThreadView], limit: int) -> ThreadsAnswer:
    """Return a page of threads."""
    return ThreadsAnswer([_thread(view) for view in views], views[-1].name if len(views) == limit else "")


def _thread(view: ThreadView) -> ThreadAnswer:
    return ThreadAnswer(
        view.name,
        view.queue,
        view.ready,
        format_id(view.holder) if view.holder else None,
        None if view.state is None else cast("Any", view.state.word),
        format_id(view.head) if view.head else None,
    )
