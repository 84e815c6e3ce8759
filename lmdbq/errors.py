"""The one tree of errors.

Each class is one situation; its docstring says what happened and what the caller may do, and ``code`` is the stable
word for it on the wire, in Python and in the CLI. A raised error carries ``detail``, a sentence for a person.
A refusal of one call (a duplicate, a bad value) is not an exception inside the engine: it is ``model.Refused``; the
client side turns it into ``Refusal``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lmdbq.model import Problem


class LmdbqError(Exception):
    """Any error of lmdbq. ``detail`` is one sentence that says what to do, ``code`` the stable word for it."""

    code = "error"

    def __init__(self, detail: str) -> None:
        super().__init__(detail)
        self.detail = detail


class InvalidInput(LmdbqError):
    """A value is wrong. Nothing was changed; mend what ``problems`` names and call again."""

    code = "invalid"

    def __init__(self, problems: Sequence[Problem]) -> None:
        first = problems[0]
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        super().__init__(f"{first.pointer or 'the request'}: {first.detail}{more}")
        self.problems = tuple(problems)


def wrong_value(code: str, pointer: str, detail: str) -> InvalidInput:
    """Return the error of one wrong value. The model is imported only then: who sends what is right needs none."""
    from lmdbq.model import Problem

    return InvalidInput([Problem(code, pointer, detail)])


class NotParseable(LmdbqError):
    """The bytes are not JSON or MessagePack at all. Nothing was read; mend the encoding and call again."""

    code = "not_parseable"


class StoreError(LmdbqError):
    """The file cannot be used as asked."""

    code = "store_error"


class NotCommitted(StoreError):
    """The transaction did not happen, and nothing was changed. Calling again is safe."""

    code = "not_committed"


class CommitUnknown(StoreError):
    """The commit failed in the middle: it may or may not be on disk. This process writes nothing more to the file.

    Restart the process; the next opener verifies the file first.
    """

    code = "commit_unknown"


class StoreFull(StoreError):
    """No room on the disk or under ``--max-size``. Reports and deletes go on; enqueue again when space is free."""

    code = "full"


class FormatUnknown(StoreError):
    """The file was written in a format, or by an LMDB engine, that this version does not read. It was not touched."""

    code = "format_unknown"


class NotOurFile(StoreError):
    """The path is no lmdbq store, is on a network file system, or cannot be locked. It was not touched."""

    code = "not_our_file"


class InUse(StoreError):
    """Somebody has the file open, and what was asked for needs it alone. End who uses it, and call again."""

    code = "in_use"


class NotEmpty(StoreError):
    """There is something already where a new file or directory was to be made. It was not touched; name another."""

    code = "not_empty"


class CorruptFile(StoreError):
    """The file is damaged beyond a single record. Copy it away, then restore a backup."""

    code = "corrupt_file"


class StoreClosed(StoreError):
    """The store was closed, or belongs to the parent of this forked process. Open it again here."""

    code = "store_closed"


class TransactionUnusable(StoreError):
    """Nothing can be enqueued within this transaction: it is no open write transaction of the client's own file.

    Nothing was changed, and the transaction is what it was. Begin it with ``client.environment().begin(write=True)``.
    """

    code = "transaction_unusable"


class Busy(StoreError):
    """Another process holds the store's write lock, and has for longer than limits.LOCK_WAIT_BUSY_SECONDS.

    Nothing was changed. Call again later; end the process that holds the lock if it hangs.
    """

    code = "busy"


class Draining(LmdbqError):
    """The engine is stopping and takes no new calls. Nothing was changed; call again when it is back."""

    code = "draining"


class ClientError(LmdbqError):
    """A call to a daemon failed."""

    code = "client_error"


class Unreachable(ClientError):
    """No daemon answered at the address: start one with ``lmdbq serve``, or name another with ``--at``. Of a directory:
    the file's write lock was not to be had in time."""

    code = "unreachable"


class Refusal(ClientError):
    """The call was refused: ``status`` (as HTTP has it) and ``code`` say why, ``problems`` where. Nothing was changed.

    ``reason`` is the same word as ``code``.
    """

    code = "refused"

    def __init__(self, status: int, code: str, detail: str, problems: Sequence[Problem] = ()) -> None:
        super().__init__(detail)
        self.status = status
        self.code = self.reason = code
        self.problems = tuple(problems)


class AccessDenied(Refusal):
    """The daemon wants a token, or one whose role allows this. Set LMDBQ_TOKEN, or ``Client(token=...)``."""

    code = "unauthorized"


class NotFound(Refusal):
    """There is no such task or queue."""

    code = "not_found"


class TaskGone(Refusal):
    """The task has ended and is no longer stored: it was not kept (``keep``), expired, or was deleted."""

    code = "gone"


class Conflict(Refusal):
    """The state of the task does not allow this; its ``info()`` shows it."""

    code = "conflict"


class Duplicate(Conflict):
    """A task with this dedupe key stands in the way, and the entry asked to be rejected then."""

    code = "duplicate"


class Full(Refusal):
    """No room is left for new tasks. Reports and deletes go on; enqueue again when space is free."""

    code = "full"


class NotNow(Refusal):
    """The daemon is stopping or busy, and was for as long as the client has patience. Call again later."""

    code = "not_now"


_REFUSALS = {
    401: AccessDenied,
    403: AccessDenied,
    404: NotFound,
    409: Conflict,
    410: TaskGone,
    429: NotNow,
    503: NotNow,
    507: Full,
}


def refusal(status: int, code: str, detail: str, problems: Sequence[Problem] = ()) -> Refusal:
    """Return the error of a refused call: the class that its status has, ``Refusal`` for any other.

    >>> type(refusal(409, "duplicate", "a task has this key")).__name__
    'Duplicate'
    """
    kind = Duplicate if code == Duplicate.code else _REFUSALS.get(status, Refusal)
    return kind(status, code, detail, problems)


class LeaseLost(ClientError):
    """The lease no longer holds: it lapsed, was reported before, or its task was deleted. Drop what was done for it.

    ``code`` says which: stale_lease (somebody else has the task), not_running or not_found.
    """

    code = "stale_lease"

    def __init__(self, detail: str, code: str) -> None:
        super().__init__(detail)
        self.code = code


class ResultTimeout(ClientError, TimeoutError):
    """The task had not ended in time. It goes on; ask again, or ``cancel()`` it."""

    code = "timeout"


class TaskError(ClientError):
    """A task whose result was asked for has ended without one. ``task`` is its ``TaskInfo``, with its errors."""

    code = "task_error"

    def __init__(self, detail: str, task: Any) -> None:
        super().__init__(detail)
        self.task = task


class TaskDead(TaskError):
    """Its last attempt failed. ``retry()`` gives it all its attempts again."""

    code = "dead"


class TaskCancelled(TaskError):
    """It was cancelled. ``retry()`` makes it ready again."""

    code = "cancelled"
