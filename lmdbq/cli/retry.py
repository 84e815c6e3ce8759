"""``lmdbq retry``: let dead and cancelled tasks run again."""

from lmdbq.cli.filters import action_command

command = action_command(
    "retry",
    "Run dead or cancelled tasks again.",
    "Make dead or cancelled tasks ready again, by id or by a filter, with all their attempts before them.",
    moves=True,
)
