"""A task handler that is any program: payload on its standard input, exit status as the verdict, output as the result.

The environment tells the program what it works on: LMDBQ_TASK_ID, LMDBQ_TYPE, LMDBQ_QUEUE, LMDBQ_ATTEMPT, LMDBQ_LEASE
and, for a member of a set, LMDBQ_SET, which ``lmdbq enqueue --set "$LMDBQ_SET"`` may add to.
Exit status 0 means done, and what it wrote is the result (as JSON if it is JSON, else as a string); any other ending is
a failure with the end of its standard error as the message. The trap is the terminal: Ctrl-C goes to the whole process
group, and would kill the very programs that are to finish, so each program leads a group of its own. When its job is
over (lease lost, cancelled, worker ending now) the whole group is killed.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
from typing import Any, Final

import msgspec

from lmdbq.client.directives import TaskFailed
from lmdbq.client.leases import Job
from lmdbq.limits import ERROR_MESSAGE_CHARS_MAX, RESULT_BYTES_MAX

SHELL: Final = ("/bin/sh", "-c")


class ExecHandler:
    """Runs ``command`` for each job. shell: hand it to /bin/sh as it is, instead of splitting it into words.

    Raises ValueError if the command has no words, or a quote without its partner.
    """

    def __init__(self, command: str, *, shell: bool = False) -> None:
        words = shlex.split(command)
        if not words:
            raise ValueError("the command is empty")
        self._words = (*SHELL, command) if shell else tuple(words)

    def __call__(self, job: Job) -> Any:
        """Run the program to its end and return its result. Raises TaskFailed if it says that it failed."""
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **_environment(job)},
                process_group=0,
            )
        except OSError as error:
            raise TaskFailed(f"cannot run {self._words[0]}: {error.strerror}", kind="exec") from error
        job.when_over(lambda: _kill_group(process))
        with process:
            output, errors = process.communicate(_input(job))
        if job.over.is_set():
            raise TaskFailed(job.why_over, kind="ended")
        if process.returncode:
            raise TaskFailed(_message(process.returncode, errors), kind=_kind(process.returncode))
        return _result(output)


def _environment(job: Job) -> dict[str, str]:
    return {
        "LMDBQ_TASK_ID": job.id,
        "LMDBQ_TYPE": job.type,
        "LMDBQ_QUEUE": job.queue_name,
        "LMDBQ_ATTEMPT": str(job.attempts),
        "LMDBQ_LEASE": job.lease,
        "LMDBQ_SET": job.task.set_id or "",
    }


def _input(job: Job) -> bytes:
    """Return the payload as the program reads it: bytes as they are, anything else as the JSON it was sent as."""
    return job.payload if isinstance(job.payload, bytes) else bytes(job.task.payload or b"null")


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    # Until it is waited for, an ended leader keeps its number, so this cannot hit a stranger.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)


def _kind(status: int) -> str:
    return f"exit_{status}" if status > 0 else f"signal_{-status}"


def _message(status: int, errors: bytes) -> str:
    tail = errors[-4 * ERROR_MESSAGE_CHARS_MAX :].decode("utf-8", "replace").strip()[-ERROR_MESSAGE_CHARS_MAX:]
    return tail or (
        f"exit status {status}" if status > 0 else f"killed by signal {-status} ({signal.strsignal(-status)})"
    )


def _result(output: bytes) -> Any:
    """Return what the program wrote: the JSON value, else text without its last line end, None if it wrote nothing."""
    if len(output) > RESULT_BYTES_MAX:
        raise TaskFailed(
            f"it wrote {len(output)} bytes; a result has at most {RESULT_BYTES_MAX}", kind="result", retry=False
        )
    if not output.strip():
        return None
    try:
        return msgspec.json.decode(output)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return output.decode("utf-8", "replace").removesuffix("\n")
