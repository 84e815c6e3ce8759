"""The sync client of a daemon: every verb of the API as a method; see ``verbs``.

How a request reaches the daemon, and when it is sent again, is in ``sending``.
"""

from __future__ import annotations

from lmdbq.client.sending import Sender
from lmdbq.client.verbs import Verbs


class HttpClient(Sender, Verbs):
    """A daemon's verbs. ``where``: http://…, https://… or unix:///…; None: $LMDBQ_URL, else http://127.0.0.1:7325.

    token: None = $LMDBQ_TOKEN, if set. timeout: seconds an answer may take, beside the wait that a call asks for.
    patience: seconds to go on trying while no daemon answers, or it says "not now" (429, 503); None = as timeout.
    Every method raises Unreachable, InvalidInput (a value is wrong) or Refusal (status and reason say why).
    """

    def __enter__(self) -> HttpClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
