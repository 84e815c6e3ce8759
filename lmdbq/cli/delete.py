"""``lmdbq delete``: remove tasks, whatever their state."""

from lmdbq.cli.filters import action_command

command = action_command(
    "delete",
    "Remove tasks.",
    "Remove tasks in any state, by id or by a filter. The worker of a running one finds its lease gone.",
)
