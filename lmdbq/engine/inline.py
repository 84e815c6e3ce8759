"""A committer without a thread, for a store that waits for nobody: no write lock of others, no disk.

There the thread, the parking of the loop and the gathering of callers for one sync are all cost: two switches between
threads for each commit, of which a test that enqueues and drains makes a dozen. So the transaction runs on the event
loop, with the same outcomes. The trap is a store that does wait: the whole loop would wait with it. ``MemoryStore``
does not.
"""

from __future__ import annotations

from lmdbq.engine.committer import Commit, Committer
from lmdbq.engine.queue import Engine


class InlineCommitter(Committer):
    """A committer whose applies run on the loop."""

    def start(self) -> None:
        """Nothing to start."""

    def _end_thread(self) -> None:
        """Nothing to end."""

    def _begin_gathering(self) -> None:
        if not self._is_gathering:
            self._is_gathering = True
            self._seen_len = len(self._inbox)  # no round without news: there is no sync to share
            self._loop.call_soon(self._gather)

    def _hand_over(self, commit: Commit) -> None:
        if commit.units:
            self._given = commit
            self._baton.lend(through=True)  # nobody waits for it, and the gate finds it
            self._apply(commit)
            self._baton.end()
        self._deliver(commit)


class InlineEngine(Engine):
    """An engine without a thread."""

    committer_type = InlineCommitter
