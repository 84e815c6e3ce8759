"""What every request passes through: access, errors as problems, and counting.

A handler raises; here, and only here, an error becomes a status. Whatever nobody expected is a 500 whose request id
stands in the log beside the traceback. Nothing of a request but its route, status and time is kept.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import hdrs, web

from lmdbq import errors, limits
from lmdbq.daemon.access import ADMIN, PRODUCE, Denied
from lmdbq.daemon.context import DAEMON
from lmdbq.daemon.replies import NDJSON_TYPES, HttpProblem, codec_in, content_type, detail_of, problem_reply

log = logging.getLogger("lmdbq.daemon")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ROLE_ATTRIBUTE: Final = "lmdbq_role"

_CODINGS: Final = ("identity", "gzip", "deflate", "br", "zstd")  # aiohttp takes a body in any other as it is
_RETRY: Final = {"Retry-After": "1"}
_STATUSES: Final[tuple[tuple[type[errors.LmdbqError], int], ...]] = (
    (errors.NotParseable, 400),
    (errors.StoreFull, 507),
    (errors.Draining, 503),
    (errors.StoreError, 503),
)


@web.middleware
async def shell(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Run one request."""
    daemon = request.app[DAEMON]
    begun = time.perf_counter()
    connection = request.protocol
    daemon.under_way.begin(connection)
    try:
        _check_access(request)
        _check_body_format(request)
        if daemon.draining.is_set():
            _check_draining(request)
        response = await handler(request)
    except Exception as raised:  # noqa: BLE001  (every error ends here, as a problem)
        request_id = secrets.token_hex(8)
        response = problem_reply(_problem(raised, request, request_id), request_id)
        if isinstance(raised, web.RequestPayloadError):  # nobody knows where the next request begins
            request.content.feed_eof()
            response.force_close()
    finally:
        daemon.under_way.end(connection)
    daemon.requests.count(_route_name(request), response.status, time.perf_counter() - begun)
    return response


def _route_name(request: web.Request) -> str:
    return request.match_info.route.name or "none"


def _check_access(request: web.Request) -> None:
    headers = request.headers
    try:
        request.app[DAEMON].access.check(
            getattr(request.match_info.handler, ROLE_ATTRIBUTE, ""),
            headers.get(hdrs.HOST, ""),
            headers.get(hdrs.AUTHORIZATION, ""),
            headers.get(hdrs.ORIGIN, ""),
            headers.get("Sec-Fetch-Site", ""),
        )
    except Denied as denied:
        said = {"WWW-Authenticate": 'Bearer realm="lmdbq"'} if denied.status == 401 else {}
        raise HttpProblem(denied.status, denied.code, denied.detail, headers=said) from None


def _check_body_format(request: web.Request) -> None:
    """Refuse a write in a format that no route takes, before anything else of it is looked at."""
    if request.method in (hdrs.METH_GET, hdrs.METH_HEAD) or not hasattr(request.match_info.handler, ROLE_ATTRIBUTE):
        return
    if content_type(request) not in NDJSON_TYPES:
        codec_in(request)
    coding = request.headers.get(hdrs.CONTENT_ENCODING, "identity")
    if coding.lower() not in _CODINGS:
        detail = f"the body may be compressed with {', '.join(_CODINGS[1:])}, not with {coding[:64]!r}"
        raise HttpProblem(415, "content_encoding", detail)


def _check_draining(request: web.Request) -> None:
    """Refuse what begins new work; workers may still report, people may look, dequeues say it in their own way."""
    role = getattr(request.match_info.handler, ROLE_ATTRIBUTE, "")
    if role in (PRODUCE, ADMIN):
        raise errors.Draining("the daemon is stopping; send this again when it is back")


def _problem(raised: Exception, request: web.Request, request_id: str) -> HttpProblem:
    """Return what an error answers."""
    if isinstance(raised, HttpProblem):
        return raised
    if isinstance(raised, errors.InvalidInput):
        first = raised.problems[0]
        return HttpProblem(422, first.code, raised.detail, raised.problems)
    if isinstance(raised, web.HTTPException):
        return _http_problem(raised, request)
    if isinstance(raised, web.RequestPayloadError):
        return HttpProblem(400, "bad_encoding", "the body is not in the Content-Encoding or Transfer-Encoding it names")
    for kind, status in _STATUSES:
        if isinstance(raised, kind):
            if status == 503:
                log.warning("%s %s: %s", request.method, request.path, raised.code)
            return HttpProblem(status, raised.code, detail_of(raised), headers=_RETRY if status == 503 else None)
    log.error("%s %s failed, request id %s", request.method, request.path, request_id, exc_info=raised)
    return HttpProblem(500, "internal", f"a bug in the daemon; its log has more under {request_id}")


def _http_problem(raised: web.HTTPException, request: web.Request) -> HttpProblem:
    if isinstance(raised, web.HTTPNotFound):
        return HttpProblem(
            404, "no_such_path", f"there is nothing at {request.path[:128]}; /openapi.json lists what is"
        )
    if isinstance(raised, web.HTTPMethodNotAllowed):
        allowed = ", ".join(sorted(raised.allowed_methods))
        return HttpProblem(
            405, "method", f"{request.method[:16]} is not for this path, but {allowed}", headers={"Allow": allowed}
        )
    if isinstance(raised, web.HTTPRequestEntityTooLarge):
        return HttpProblem(
            413,
            "body_too_large",
            f"a body has at most {limits.BODY_BYTES_MAX} bytes; send smaller batches, or NDJSON to /v1/enqueue",
        )
    return HttpProblem(raised.status, "bad_request", raised.reason or "the request cannot be read")
