"""Which tasks a command means, and doing one thing to all of them. Shared by tasks, cancel, retry and delete.

Ids go one by one, so that each has its own outcome; a filter goes as one action, page after page, and with nothing to
restrict it needs ``--all``.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, Final

import click

from lmdbq.cli import render
from lmdbq.cli.common import Session, complain, complete_task, complete_type, queue_option, with_session
from lmdbq.cli.exits import OUTCOMES, Exit, exit_of
from lmdbq.errors import Refusal
from lmdbq.model import State

STATES: Final = tuple(state.word for state in State)


def filter_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that restrict which tasks are meant."""
    states = click.Choice(STATES)
    for option in (
        click.option("--key", "dedupe_key", metavar="KEY", help="Only those with this dedupe key."),
        click.option("--group", "group_key", metavar="KEY", help="Only those of this group."),
        click.option("--thread", "thread_id", metavar="ID", help="Only those of this thread."),
        click.option("--tag", metavar="TAG", help="Only those with this tag."),
        click.option("--state", multiple=True, type=states, help="Only those in this state; may be repeated."),
        click.option("--type", metavar="TYPE", shell_complete=complete_type, help="Only those of this type."),
        queue_option(help="Only those of this queue."),
    ):
        function = option(function)
    return function


def said(filters: dict[str, Any]) -> dict[str, Any]:
    """Return the filters that were given, as the API names them."""
    given = {name: value for name, value in filters.items() if value}
    return {**given, "state": list(given["state"])} if "state" in given else given


def action_command(action: str, short_help: str, doc: str, one: Callable[[Any, str], Any]) -> click.Command:
    """Return the command that does ``action`` to tasks. one: does it to a single id with a client."""

    @click.command(action, short_help=short_help, help=doc)
    @click.argument("task_ids", metavar="[ID]…", nargs=-1, shell_complete=complete_task)
    @filter_options
    @click.option("--all", "every", is_flag=True, help="Every task there is.")
    @click.option("--dry-run", is_flag=True, help="Only count them.")
    @with_session
    def command(session: Session, task_ids: tuple[str, ...], every: bool, dry_run: bool, **filters: Any) -> int:
        wanted = said(filters)
        if bool(task_ids) == bool(wanted or every):
            raise click.UsageError(
                "name tasks by their ids, or by a filter (-q, --type, --state …; --all for every one)"
            )
        if not task_ids:
            return _by_filter(session, action, wanted, every, dry_run)
        if dry_run:
            raise click.UsageError("--dry-run counts what a filter matches; ids are counted already")
        return _by_id(session, task_ids, one)

    return command


def _by_id(session: Session, task_ids: Sequence[str], one: Callable[[Any, str], Any]) -> int:
    """Do it to each id, also after a failure; the last failure's status is the command's."""
    status = Exit.OK
    for task_id in task_ids:
        try:
            change = one(session.client, task_id)
        except Refusal as refusal:
            complain(refusal, session.as_json)
            status = exit_of(refusal)
            continue
        outcome = change.outcome if change else "ok"
        session.answer(change or {"id": task_id, "outcome": "ok"}, functools.partial(str, f"{task_id}  {outcome}"))
        status = OUTCOMES[outcome] or status
    return status


def _by_filter(session: Session, action: str, wanted: dict[str, Any], every: bool, dry_run: bool) -> int:
    matched = changed = 0
    cursor = None
    while True:
        page = session.client.actions(action, every=every, dry_run=dry_run, cursor=cursor, **wanted)
        matched += page.matched
        changed += page.changed
        cursor = page.next or None
        if cursor is None:
            break
    totals = {"action": action, "dry_run": dry_run, "matched": matched, "changed": changed}
    session.answer(
        totals, lambda: render.fields([("matched", matched), ("would change" if dry_run else "changed", changed)])
    )
    return Exit.OK
