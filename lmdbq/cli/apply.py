"""``lmdbq apply``: make queues, groups and schedules what a file says."""

from __future__ import annotations

from pathlib import Path

import click

from lmdbq.cli.common import Session, with_session
from lmdbq.cli.exits import Exit


@click.command("apply", short_help="Make queues, groups and schedules what a file says.")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@click.option("--prune", is_flag=True, help="Also undo what the file does not name, of the tables it has.")
@with_session
def command(session: Session, file: Path, dry_run: bool, prune: bool) -> int:
    """Make queues, groups and schedules what FILE (TOML) says, and show what changes; a second time, nothing does.

    Its tables are [queues.NAME], [groups.KEY], [group_rules.PATTERN] and [schedules.NAME], with the fields of the API;
    `lmdbq config --toml` writes the file that says what there is. All of it is checked before anything is changed.
    What is paused stays so unless the file says it. No task is removed: --prune gives queues their default settings.
    """
    from lmdbq.cli.declared import carry_out, changes_of, read_file

    session.may_create = True
    declared = read_file(file)
    changes = changes_of(session.client, declared, prune=prune)
    if not dry_run:
        carry_out(session.client, declared, changes)
    shown = [{"kind": one.kind, "name": one.name, "action": one.action, "fields": one.fields} for one in changes]
    session.answer(
        {"dry_run": dry_run, "changes": shown}, lambda: "\n".join(line for one in changes for line in one.lines())
    )
    if not changes:
        session.note("nothing to change")
    elif dry_run:
        session.note(f"{len(changes)} changes would be made; without --dry-run they are")
    return Exit.OK
