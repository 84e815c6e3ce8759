"""What happened to tasks since they were accepted, and how far heartbeats have moved their leases, in a transaction.

Most tasks have neither, so whether there are any at all is asked once. Extensions stand in a file of their own
(``side``): those of a transaction are gathered here, and written when it ends. The trap: whoever writes a history must
say so here, or it is not found in the same transaction.
"""

from __future__ import annotations

import lmdb

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_counts import Counts
from lmdbq.store.side import Side


class Histories(Counts):
    """The histories and lease extensions of a transaction."""

    def __init__(
        self, databases: dict[str, lmdb._Database], txn: lmdb.Transaction, side: Side, *, writing: bool
    ) -> None:
        super().__init__(databases, txn, writing=writing)
        self.side = side
        self._has_history = bool(txn.stat(self.db["history"])["entries"])
        self._has_extensions = not side.is_empty()
        self.extensions: dict[int, rec.Extension | None] = {}  # to be written to the side file; None removes

    def get_history(self, task_id: int) -> rec.History | None:
        """Return a task's history, None if it has none. Raises Damaged."""
        if not self._has_history:
            return None
        value = self.get("history", ks.history(task_id))
        return None if value is None else rec.read_history(value)

    def any_history(self, first_id: int, last_id: int) -> bool:
        """Whether any task of ``first_id`` .. ``last_id`` has a history."""
        found = self.first_from("history", ks.history(first_id)) if self._has_history else None
        return found is not None and ks.read_id(found[0]) <= last_id

    def put_history(self, task_id: int, history: rec.History) -> None:
        """Write a task's history."""
        self._has_history = True
        self.put("history", ks.history(task_id), rec.write_history(history))

    def put_histories(self, histories: list[tuple[bytes, bytes]]) -> None:
        """Write histories as bytes, by rising key."""
        self._has_history = True
        self.put_each("history", histories)

    def delete_history(self, task_id: int) -> None:
        """Remove a task's history, if it has one."""
        if self._has_history:
            self.delete("history", ks.history(task_id))

    def get_extension(self, task_id: int, delivery: int, boot_no: int) -> rec.Extension | None:
        """Return where heartbeats moved the lease of one delivery to, None if nowhere in this boot."""
        if task_id in self.extensions:
            extension = self.extensions[task_id]
        elif self._has_extensions:
            extension = self.side.get(task_id)
        else:
            return None
        if extension is None or (extension.delivery, extension.boot_no) != (delivery, boot_no):
            return None
        return extension

    def forget_extension(self, task_id: int) -> None:
        """Remove a task's extension, if it has one."""
        if self._has_extensions or task_id in self.extensions:
            self.extensions[task_id] = None

    @property
    def has_extensions(self) -> bool:
        """Whether any lease may have been extended."""
        return self._has_extensions or bool(self.extensions)
