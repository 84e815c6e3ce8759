"""Histories of tasks, as a transaction reads and writes them.

Most tasks never have one, and many files hold none at all: then nobody looks for one. The trap: whoever writes one must
say so here, or it is not found in the same transaction.
"""

from __future__ import annotations

import lmdb

from lmdbq.store import keyspace as ks
from lmdbq.store import records as rec
from lmdbq.store.lmdb_counts import Counts


class Histories(Counts):
    """The histories of a transaction, and all that ``Counts`` has."""

    def __init__(self, databases: dict[str, lmdb._Database], txn: lmdb.Transaction, *, writing: bool) -> None:
        super().__init__(databases, txn, writing=writing)
        self._has_history = bool(txn.stat(self.db["history"])["entries"])

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

    def delete_history(self, task_id: int) -> None:
        """Remove a task's history, if it has one."""
        if self._has_history:
            self.delete("history", ks.history(task_id))

    def put_histories(self, histories: list[tuple[bytes, bytes]]) -> None:
        """Write histories as bytes, by rising key."""
        self._has_history = True
        self.put_each("history", histories)
