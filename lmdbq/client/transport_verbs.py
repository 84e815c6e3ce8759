"""The API's verbs over any transport: of a directory, say, for those who speak the API's words and not Python's."""

from __future__ import annotations

import threading

from lmdbq.client.core import Request, T
from lmdbq.client.places import Transport
from lmdbq.client.verbs import Verbs


class TransportVerbs(Verbs):
    """The verbs over a transport: that of a directory, say."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def call(self, request: Request[T], stop: threading.Event | None = None) -> T:
        return self._transport.call(request, stop)

    def close(self) -> None:
        self._transport.close()
