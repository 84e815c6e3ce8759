"""How a command ends: the exit statuses, which error has which, and what to type next.

``STATUSES`` and ``HINTS`` are the only tables of their kind; the help text prints the first. A script may rely on the
numbers. 130 and 141 are what a shell reports for a program ended by Ctrl-C or by a closed pipe.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from lmdbq.errors import InvalidInput, LmdbqError, Refusal, Unreachable


class Exit(IntEnum):
    """The exit statuses of every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_FOUND = 4
    CONFLICT = 5
    INTERRUPTED = 130
    CLOSED_PIPE = 141


MEANINGS: Final = {
    Exit.OK: "it worked",
    Exit.FAILED: "the task, the check or the command failed",
    Exit.USAGE: "the command or a value in it is wrong",
    Exit.UNREACHABLE: "no daemon answered",
    Exit.NOT_FOUND: "no such task, queue or lease",
    Exit.CONFLICT: "its state, a duplicate, or who uses it does not allow it",
    Exit.INTERRUPTED: "Ctrl-C",
    Exit.CLOSED_PIPE: "the reader of the output went away",
}

# What `lmdbq serve`, and `dev` for it, ends with besides; the numbers are those of sysexits.h.
SERVE_MEANINGS: Final = {
    0: "it was asked to stop, and has drained",
    65: "the file cannot be used: not ours, damaged, or of another format; it was not touched",
    74: "a commit failed; the next start verifies the file first",
    75: "another daemon has the file, or another program the address",
    78: "a setting is wrong, or unsafe without being meant",
}

# HTTP status of a refusal -> exit status; any other refusal is FAILED.
STATUSES: Final = {
    400: Exit.USAGE,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    410: Exit.NOT_FOUND,
    413: Exit.USAGE,
    422: Exit.USAGE,
}

# Outcome of one task or lease -> exit status; `ok` and `cancel_requested` are OK.
OUTCOMES: Final = {
    "ok": Exit.OK,
    "cancel_requested": Exit.OK,
    "not_found": Exit.NOT_FOUND,
    "gone": Exit.NOT_FOUND,
    "not_running": Exit.CONFLICT,
    "stale_lease": Exit.CONFLICT,
    "conflict": Exit.CONFLICT,
    "dedupe_conflict": Exit.CONFLICT,
    "expired": Exit.CONFLICT,
    "quarantined": Exit.FAILED,
}

# Errors whose remedy is to end, or to leave alone, what is there already.
TAKEN: Final = frozenset({"in_use", "not_empty", "already_served"})

HINTS: Final = {
    "unreachable": "start a daemon with `lmdbq serve`, or name another one with --at http://HOST:PORT",
    "unauthorized": "set LMDBQ_TOKEN to the token the daemon was started with",
    "token_required": "set LMDBQ_TOKEN to the token the daemon was started with",
    "forbidden": "set LMDBQ_TOKEN to a token whose role allows this",
    "role_required": "set LMDBQ_TOKEN to a token whose role allows this",
    "not_found": "`lmdbq tasks` and `lmdbq queues` show what there is",
    "gone": "it has ended and its time of keeping is over; `lmdbq tasks` shows what is still stored",
    "queue_not_found": "`lmdbq queues` shows what there is; `lmdbq queue put NAME` creates one",
    "conflict": "`lmdbq task ID` shows its state and why",
    "duplicate": "`lmdbq tasks --key KEY` shows the task that has this key",
    "full": "make room on the disk, or `lmdbq queue purge NAME`; reports and deletes go on meanwhile",
    "draining": "the daemon is stopping; type it again when it is back",
    "busy": "another process holds the file's lock; type it again in a moment",
    "quarantined": "its bytes were damaged and are kept aside; `lmdbq check` names all such tasks",
    "already_served": "stop that daemon, or copy the file while it runs: `lmdbq backup FILE`",
    "commit_unknown": "start again: the file is verified first; `lmdbq check` does so, too",
    "corrupt_file": "`lmdbq check DIR` lists all that is damaged; `lmdbq restore BACKUP NEWDIR` makes another",
    "format_unknown": "`lmdbq version` says what is installed here",
    "invalid": "add --help for what there is to say",
    "not_committed": "nothing was changed: type it again",
    "not_empty": "name a new place; nothing is overwritten",
    "in_use": "stop the daemon and the workers on this directory; type it again then",
    "not_our_file": "name the data directory: `lmdbq check DIR`; `lmdbq config` shows the default one",
}


def epilog(meanings: Mapping[Exit, str] | Mapping[int, str]) -> str:
    """Return exit statuses and what they mean as the end of a help text."""
    lines = "\n".join(f"  {int(status):<4} {meaning}" for status, meaning in meanings.items())
    return f"\b\nExit status:\n{lines}"


def exit_of(error: LmdbqError) -> Exit:
    """Return the exit status of a command that ended with ``error``."""
    if error.code in TAKEN:
        return Exit.CONFLICT
    if isinstance(error, Unreachable):
        return Exit.UNREACHABLE
    if isinstance(error, InvalidInput):
        return Exit.USAGE
    if isinstance(error, Refusal):
        return STATUSES.get(error.status, Exit.FAILED)
    return Exit.FAILED


def code_of(error: LmdbqError) -> str:
    """Return the stable word for what happened: the daemon's, where it said one."""
    return error.reason if isinstance(error, Refusal) else error.code


def hint_of(error: LmdbqError) -> str:
    """Return what to type next, "" if nothing is known to help."""
    return HINTS.get(code_of(error), "")
