"""``lmdbq cancel``: end tasks that wait, and ask those that run to stop."""

from lmdbq.cli.filters import action_command

command = action_command(
    "cancel",
    "Cancel tasks.",
    "Cancel tasks, by id or by a filter. A running one is asked to stop: its worker's next heartbeat tells.",
)
