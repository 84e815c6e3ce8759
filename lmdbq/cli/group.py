"""``lmdbq group …``: one group: show, set, pause, resume, delete; and rules for many."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.groups import rate_text
from lmdbq.limits import RATE_TOKENS_MAX, RUNNING_MAX, WEIGHT_MAX
from lmdbq.wire.group_shapes import GroupAnswer

key_argument = click.argument("key", metavar="KEY")


class RateType(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A rate: ``10/s``, ``100/5m``, ``600/1h``; or ``none``."""

    name = "rate"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        from lmdbq.cli.common import DURATION

        if value in ("none", None) or isinstance(value, dict):
            return value
        tokens, slash, period = value.partition("/")
        if not slash or not tokens.isascii() or not tokens.isdigit() or not 1 <= int(tokens) <= RATE_TOKENS_MAX:
            self.fail(f"{value!r} is no rate; say how many per how long: 10/s, 100/5m, none", param, ctx)
        span = DURATION.convert(period if period[:1].isdigit() else f"1{period}", param, ctx)
        return {"tokens": int(tokens), "period_in_seconds": span}


class CapType(click.ParamType):  # type: ignore[type-arg]  # generic only from click 8.2 on
    """A number of tasks that may run at once, or ``none``."""

    name = "cap"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if value in ("none", None):
            return value
        return click.IntRange(0, RUNNING_MAX).convert(value, param, ctx)


def settings_options(function: Any) -> Any:
    """Add the options that say what a group may do."""
    for option in (
        click.option("--weight", type=click.IntRange(1, WEIGHT_MAX), help="Its share of a fair queue."),
        click.option(
            "--burst", type=click.IntRange(1, RATE_TOKENS_MAX), help="How many may start at once, with --rate."
        ),
        click.option("--rate", type=RateType(), metavar="N/DURATION", help="How many may start: 10/s, 100/5m; none."),
        click.option(
            "--max-running", type=CapType(), metavar="N", help="How many may run at once; 0, or none for any."
        ),
    ):
        function = option(function)
    return function


@click.group("group", short_help="Show or change one group, and rules for many.")
def command() -> None:
    """Show or change one group: how many of its tasks may run, in all queues together, and how fast they may start."""


@command.command("show")
@key_argument
@with_session
def show(session: Session, key: str) -> int:
    """Show a group: what holds for it, what runs and waits, and what holds it up."""
    group = session.client.group(key)
    session.answer(group, lambda: _described(group))
    return Exit.OK


@command.command("set")
@key_argument
@settings_options
@with_session
def set_group(session: Session, key: str, **options: Any) -> int:
    """Give a group a cap, a rate or a weight of its own: `lmdbq group set acme --max-running 3 --rate 10/s`.

    What is not named stays as it is; `none` leaves it to the rules again.
    """
    session.may_create = True
    return _changed(session, session.client.patch_group(key, **_said(options)))


@command.command("pause")
@key_argument
@with_session
def pause(session: Session, key: str) -> int:
    """Start nothing more of a group; what runs goes on."""
    return _changed(session, session.client.pause_group(key))


@command.command("resume")
@key_argument
@with_session
def resume(session: Session, key: str) -> int:
    """Start tasks of a group again."""
    return _changed(session, session.client.resume_group(key))


@command.command("delete")
@key_argument
@with_session
def delete(session: Session, key: str) -> int:
    """Take a group's own settings away; its tasks stay, and rules hold for it again."""
    session.client.delete_group(key)
    session.answer({"group_key": key, "deleted": True}, lambda: f"{key}: deleted")
    return Exit.OK


@command.command("rules")
@with_session
def rules(session: Session) -> int:
    """Show the rules that hold for groups by their keys."""
    found = session.client.group_rules()
    rows = [
        (one.pattern, one.settings.max_running, rate_text(one.settings), one.settings.weight, one.priority)
        for one in found
    ]
    shown = [tuple("" if value is None else value for value in row) for row in rows]
    headers = ("pattern", "cap", "rate", "weight", "priority")
    session.answer({"rules": found}, lambda: render.table(headers, shown))
    return Exit.OK


@command.command("rule")
@click.argument("pattern", metavar="PATTERN")
@settings_options
@click.option("--priority", type=int, help="Of several rules that match the highest holds.  [default: 0]")
@with_session
def rule(session: Session, pattern: str, priority: int | None, **options: Any) -> int:
    """Let settings hold for all groups that PATTERN matches: `lmdbq group rule 'shop:*' --max-running 2`.

    * stands for any characters, ? for one. A group's own settings come first.
    """
    session.may_create = True
    said = {name: value for name, value in _said(options).items() if value is not None}
    made = session.client.put_group_rule(pattern, **said, **({} if priority is None else {"priority": priority}))
    session.answer(made, lambda: f"{pattern}: rule put")
    return Exit.OK


@command.command("unrule")
@click.argument("pattern", metavar="PATTERN")
@with_session
def unrule(session: Session, pattern: str) -> int:
    """Remove the rule with PATTERN."""
    session.client.delete_group_rule(pattern)
    session.answer({"pattern": pattern, "deleted": True}, lambda: f"{pattern}: deleted")
    return Exit.OK


def _said(options: dict[str, Any]) -> dict[str, Any]:
    said: dict[str, Any] = {
        name: None if value == "none" else value for name, value in options.items() if value is not None
    }
    burst = said.pop("burst", None)
    if burst is not None:
        rate = said.get("rate")
        if rate is None:
            raise click.UsageError("--burst goes with --rate: --rate 10/s --burst 50")
        said["rate"] = {**rate, "burst": burst}
    if not said:
        raise click.UsageError("name a setting: --max-running, --rate or --weight")
    return said


def _changed(session: Session, group: GroupAnswer) -> int:
    facts = [
        "paused" if group.limits.paused else "",
        "" if group.limits.max_running is None else f"at most {group.limits.max_running} at once",
        rate_text(group.limits),
    ]
    session.answer(group, lambda: f"{group.group_key}: {', '.join(filter(None, facts)) or 'no limit'}")
    return Exit.OK


def _described(group: GroupAnswer) -> str:
    own = group.settings
    return render.fields(
        [
            ("group", group.group_key),
            ("ready", group.ready),
            ("running", group.running),
            ("at most", "" if group.limits.max_running is None else group.limits.max_running),
            ("rate", rate_text(group.limits)),
            ("tokens", "" if group.tokens is None else group.tokens),
            ("next token", render.span(group.token_in_seconds) if group.token_in_seconds else ""),
            ("weight", group.limits.weight or ""),
            ("rule", group.rule),
            ("of its own", "" if own is None else "yes"),
            ("blocked by", group.blocked_by),
        ]
    )
