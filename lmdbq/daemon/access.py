"""Who may do what: tokens and their roles, and what protects a daemon that asks for none.

With tokens, a caller sends one as a bearer and may do what its role allows. Without, the daemon serves this machine
only, and must not be usable by a web page that happens to be open on it: Host must be local (against DNS rebinding), a
write must have a content type that a plain form cannot send, and browsers' cross-site requests are refused.
Each refusal says the line that would make it right.
"""

from __future__ import annotations

import functools
import hmac
import ipaddress
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from lmdbq.daemon.settings import Settings
from lmdbq.errors import LmdbqError

OPEN: Final = ""  # needs nothing: health, the description of the API
READ: Final = "reader"
PRODUCE: Final = "producer"
WORK: Final = "worker"
ADMIN: Final = "admin"

ROLES: Final = {
    READ: frozenset({READ}),
    PRODUCE: frozenset({READ, PRODUCE}),
    WORK: frozenset({READ, PRODUCE, WORK}),
    ADMIN: frozenset({READ, PRODUCE, WORK, ADMIN}),
}


PORT_MAX: Final = 65_535


class BadSetting(LmdbqError):
    """The daemon was not started, because it would be unsafe or cannot work so. ``detail`` has the line to paste."""

    code = "bad_setting"


class Denied(Exception):
    """A request that is refused: 401 or 403, with a stable code and what to do."""

    def __init__(self, status: int, code: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail


class Token(NamedTuple):
    """A secret and what it allows."""

    secret: bytes
    allows: frozenset[str]


def read_tokens(text: str) -> tuple[Token, ...]:
    """Return the tokens of LMDBQ_TOKEN. Raises BadSetting, never repeating the text.

    >>> [sorted(token.allows) for token in read_tokens("reader:aaaaaaaa,bbbbbbbb")]
    [['reader'], ['admin', 'producer', 'reader', 'worker']]
    """
    tokens = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        role, colon, secret = part.partition(":")
        if not colon:
            role, secret = ADMIN, part
        if role not in ROLES:
            raise BadSetting("LMDBQ_TOKEN is role:token,role:token; the roles are reader, producer, worker and admin")
        if len(secret) < 8:
            raise BadSetting("a token of LMDBQ_TOKEN is too short to be one; make it with: openssl rand -hex 16")
        tokens.append(Token(secret.encode("utf-8"), ROLES[role]))
    if text and not tokens:  # "$ONE,$TWO", and neither was set: without this, nobody would be asked for one
        raise BadSetting("LMDBQ_TOKEN has no token in it; make one with: openssl rand -hex 16, or leave it out")
    return tuple(tokens)


class Listen(NamedTuple):
    """A parsed address: a path for a unix socket, else host and port."""

    path: str
    host: str
    port: int

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach it."""
        return bool(self.path) or is_local_name(self.host)

    @property
    def url(self) -> str:
        """What a client is told."""
        if self.path:
            return f"unix://{self.path}"
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"


def read_listen(text: str) -> Listen:
    """Return an address. Raises BadSetting.

    >>> read_listen("[::1]:80").host, read_listen("unix:/run/q.sock").path, read_listen(":7325").host
    ('::1', '/run/q.sock', '0.0.0.0')
    """
    path = text.removeprefix("unix:").removeprefix("//")
    if text.startswith("unix:") and path:
        return Listen(path, "", 0)
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdecimal() or int(port) > PORT_MAX:
        raise BadSetting(
            f"--listen (or LMDBQ_LISTEN) is {text!r}; it is HOST:PORT, port 0 to {PORT_MAX}, or unix:/PATH"
        )
    return Listen("", host or "0.0.0.0", int(port))  # noqa: S104  (refused below unless it is meant)


@functools.lru_cache(maxsize=256)  # callers say the same few names, and an address is looked at for 3 us
def is_local_name(host: str) -> bool:
    """Whether a name or address means this machine, whatever DNS says."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


class Access:
    """The rules of one daemon. Raises BadSetting if it would serve other machines without being told so."""

    def __init__(self, settings: Settings) -> None:
        self.listen = read_listen(settings.listen)
        self._tokens = read_tokens(settings.token)
        self._open = not self._tokens and not self.listen.is_local
        if self._open and settings.auth != "none":
            raise BadSetting(
                f"{settings.listen} can be reached by other machines, so callers need a token. Paste one of:\n"
                f"    LMDBQ_TOKEN=$(openssl rand -hex 16) lmdbq serve --listen {settings.listen}\n"
                f"    lmdbq serve --listen {settings.listen} --auth none      # anybody who can connect may do anything"
            )
        self._hosts = frozenset(host.lower() for host in settings.allow_hosts)

    def check(self, needed: str, host: str, authorization: str, origin: str, fetch_site: str) -> None:
        """Raise Denied unless a request with these headers ("": not sent) may do what needs the role ``needed``."""
        if self._tokens:
            if needed:
                self._check_token(needed, authorization)
            return
        if not self.listen.path:
            self._check_host(host)
        self._check_site(host, origin, fetch_site)

    def _check_token(self, needed: str, authorization: str) -> None:
        scheme, _, secret = authorization.partition(" ")
        given = secret.strip().encode("utf-8", "surrogateescape") if scheme.lower() == "bearer" else b""
        allows: frozenset[str] = frozenset()
        for token in self._tokens:  # all of them, so that the time says nothing
            if hmac.compare_digest(token.secret, given):
                allows |= token.allows
        if not allows:
            wrong = "this token is not the daemon's; " if given else ""
            how = "send its token: -H 'Authorization: Bearer TOKEN' (LMDBQ_TOKEN, for Python and the command line)"
            raise Denied(401, "token_required", wrong + how)
        if needed not in allows:
            raise Denied(403, "role_required", f"this needs a token with the role {needed}")

    def _check_host(self, host: str) -> None:
        name = _host_name(host)
        if is_local_name(name) or name in self._hosts or (self._open and _address(name) is not None):
            return
        raise Denied(
            403,
            "foreign_host",
            f"the Host {name[:128]!r} is not this machine; if it should be, start with: "
            f"lmdbq serve --allow-host {name[:128]}  (or set LMDBQ_TOKEN)",
        )

    def _check_site(self, host: str, origin: str, fetch_site: str) -> None:
        if fetch_site not in ("", "same-origin", "none") or (origin and _place(origin) != host.lower()):
            raise Denied(403, "cross_site", "a page of another site may not ask a daemon that needs no token")


def _place(origin: str) -> str | None:
    """Return the host and port of an Origin header, lower case; None for what is none."""
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:  # a bracket too many or too few
        return None


def _host_name(host: str) -> str:
    """Return the name in a Host header, lower case, without port and brackets.

    >>> _host_name("[::1]:7325"), _host_name("LocalHost:1"), _host_name("a")
    ('::1', 'localhost', 'a')
    """
    if host.startswith("["):
        return host[1:].partition("]")[0].lower()
    return host.partition(":")[0].lower()
