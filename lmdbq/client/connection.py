"""Connections to a daemon: kept alive, one for each thread, never shared with a forked child.

``http.client`` does the protocol; this module decides which connection a thread may use. A connection that the daemon
has closed meanwhile looks usable until it is used, so it is looked at before each request: a request is never written
into a socket that is known to be dead. After a fork the child forgets the parent's connections without a word on them.
"""

from __future__ import annotations

import http.client
import os
import socket
import ssl
import threading
import weakref

from lmdbq.client.address import Address


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.settimeout(self.timeout)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            raise
        self.sock = sock


class Pool:
    """Hands each thread its own connection to one address. Thread-safe; usable again after ``close``."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._forget()

    def _forget(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._all: weakref.WeakSet[http.client.HTTPConnection] = weakref.WeakSet()

    def acquire(self, timeout: float) -> http.client.HTTPConnection:
        """Return this thread's connection, connected. timeout: seconds for connecting and for each answer.

        Raises OSError if nobody listens; then certainly nothing was sent.
        """
        if self._pid != os.getpid():
            self._forget()
        connection: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if connection is not None and connection.sock is not None:
            if _is_alive(connection.sock):
                connection.sock.settimeout(timeout)
                return connection
            connection.close()
        connection = self._open(timeout)
        self._local.connection = connection
        with self._lock:
            self._all.add(connection)
        return connection

    def _open(self, timeout: float) -> http.client.HTTPConnection:
        scheme, host, port, base = self._address
        connection: http.client.HTTPConnection
        if scheme == "unix":
            connection = _UnixConnection(base, timeout)
        elif scheme == "https":
            connection = http.client.HTTPSConnection(host, port, timeout=timeout)
        else:
            connection = http.client.HTTPConnection(host, port, timeout=timeout)
        connection.connect()
        return connection

    def break_off_all(self) -> None:
        """End the connections of all threads under them; each opens another when it needs one."""
        with self._lock:
            connections = list(self._all)
        for connection in connections:
            break_off(connection)

    def close(self) -> None:
        """Close the connections of all threads; a thread in the middle of a call sees its connection break."""
        if self._pid != os.getpid():
            self._forget()
        with self._lock:
            connections = list(self._all)
            self._all.clear()
        for connection in connections:
            break_off(connection)
            connection.close()


def break_off(connection: http.client.HTTPConnection) -> None:
    """End a connection under a thread that waits for its answer; closing alone would leave that thread waiting."""
    sock = connection.sock
    if sock is not None:
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # the other side has ended it already, which is what was wanted


def _is_alive(sock: socket.socket) -> bool:
    """Whether an idle socket is still open: one that has something to read has been closed, or is out of step."""
    sock.settimeout(0)
    try:
        sock.recv(1)  # not MSG_PEEK, which TLS does not have; what comes unasked for ends the connection anyhow
    except (BlockingIOError, ssl.SSLWantReadError):
        return True
    except OSError:
        return False
    return False
