"""Where a daemon is: the one place that reads ``http://HOST:PORT`` and ``unix:///PATH``.

An address is a value and no connection: nothing is looked up or opened here.
"""

from __future__ import annotations

from typing import Final, NamedTuple
from urllib.parse import unquote, urlsplit

from lmdbq.errors import InvalidInput, wrong_value
from lmdbq.limits import LISTEN_DEFAULT

WHERE_DEFAULT: Final = f"http://{LISTEN_DEFAULT}"
_PORTS: Final = {"http": 80, "https": 443}


class Address(NamedTuple):
    """Where a daemon listens. scheme: http, https or unix. base: the socket's path, or a prefix of every path."""

    scheme: str
    host: str
    port: int
    base: str


def parse_where(where: str) -> Address:
    """Return the address that ``where`` names. Raises InvalidInput for anything but http(s):// and unix://.

    >>> parse_where("http://127.0.0.1:7325")
    Address(scheme='http', host='127.0.0.1', port=7325, base='')
    >>> parse_where("unix:///run/lmdbq.sock").base
    '/run/lmdbq.sock'
    """
    try:
        parts = urlsplit(where)
        port = parts.port
    except ValueError as error:
        raise _bad_where(where, str(error)) from None
    if parts.scheme == "unix" and parts.path and not parts.netloc:
        return Address("unix", "localhost", 0, unquote(parts.path))
    if parts.scheme in _PORTS and parts.hostname:
        return Address(parts.scheme, parts.hostname, port or _PORTS[parts.scheme], parts.path.rstrip("/"))
    raise _bad_where(where, "an address is http://HOST:PORT or unix:///PATH")


def _bad_where(where: str, why: str) -> InvalidInput:
    return wrong_value("bad_address", "where", f"{where!r}: {why}; for example {WHERE_DEFAULT}")
