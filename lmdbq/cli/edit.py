"""``lmdbq edit``: change a task that has not started."""

from __future__ import annotations

from typing import Any

import click

from lmdbq.cli.common import DURATION, JSON_VALUE, Session, complete_task, complete_type, with_session
from lmdbq.cli.exits import Exit
from lmdbq.cli.filters import act
from lmdbq.limits import PRIORITY_MAX, PRIORITY_MIN


@click.command("edit", short_help="Change a task that waits.")
@click.argument("task_id", metavar="[ID]", default="", shell_complete=complete_task)
@click.option("--payload", type=JSON_VALUE, metavar="JSON", help="Its payload.")
@click.option("--type", "type_name", metavar="TYPE", shell_complete=complete_type, help="Its type.")
@click.option("--priority", type=click.IntRange(PRIORITY_MIN, PRIORITY_MAX), metavar="N", help="Lower runs sooner.")
@click.option("--in", "delay", type=DURATION, metavar="DURATION", help="Start so long from now.")
@click.option("--at-time", metavar="RFC3339", help="Start then.")
@click.option("--lease", type=DURATION, metavar="DURATION", help="How long a worker may be silent about it.")
@click.option("--set", "more", type=JSON_VALUE, metavar="JSON", help='Other fields by their names: {"tags": ["a"]}.')
@click.option("--where", type=JSON_VALUE, metavar="JSON", help='All that match: {"queue_name": "mail", "tag": "a"}.')
@click.option("--dry-run", is_flag=True, help="With --where: only count them.")
@with_session
def command(session: Session, task_id: str, more: Any, where: Any, dry_run: bool, **options: Any) -> int:
    """Overwrite what is named of a scheduled or ready task, or of all that match; all else stays."""
    if bool(task_id) == (where is not None):
        raise click.UsageError("name one task by its id, or those that match with --where '{\"queue_name\": …}'")
    names = {
        "payload": "payload",
        "type": "type_name",
        "priority": "priority",
        "delay_in_seconds": "delay",
        "scheduled_at": "at_time",
        "keepalive_timeout_in_seconds": "lease",
    }
    context = click.get_current_context()
    # A payload of null is one: what counts is whether the option was there, not its value.
    given = {name: option for name, option in names.items() if context.get_parameter_source(option) != _DEFAULT}
    fields = {**{name: options[option] for name, option in given.items()}, **(more or {})}
    if not fields:
        raise click.UsageError("say what to change: --payload, --type, --priority, --in, --at-time, --lease or --set")
    if where is not None:
        return act(session, "edit", where, not where, dry_run, fields=fields)
    task = session.client.edit(task_id, **fields)
    session.answer(task, lambda: f"{task.id}  {task.state}")
    return Exit.OK


_DEFAULT = click.core.ParameterSource.DEFAULT
