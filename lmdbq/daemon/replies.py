"""Requests in and replies out: bodies, codecs, outcomes that are errors, and the one shape of an error."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any, Final

from aiohttp import hdrs, web
from msgspec import Struct

from lmdbq import limits
from lmdbq.daemon.context import Daemon
from lmdbq.model import CallOutcome, Done, Memo, Problem, Refused
from lmdbq.wire.problems import JSON, JSON_CODEC, MSGPACK, MSGPACK_CODEC, Codec, problem_answer, status_of

BODY_SECONDS: Final = 60.0  # how long a body may take to arrive
NDJSON: Final = "application/x-ndjson"
PROBLEM: Final = "application/problem+json"
_CODECS: Final = {
    JSON: JSON_CODEC,
    MSGPACK: MSGPACK_CODEC,
    "application/x-msgpack": MSGPACK_CODEC,
    "application/vnd.msgpack": MSGPACK_CODEC,
}
_FORM_TYPES: Final = frozenset({"application/x-www-form-urlencoded", "multipart/form-data", "text/plain"})
NDJSON_TYPES: Final = frozenset({NDJSON, "application/ndjson", "application/jsonl"})


class HttpProblem(Exception):
    """An answer that is an error: its status, stable code and sentence; ``problems`` where there are several."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        problems: Sequence[Problem] = (),
        headers: dict[str, str] | None = None,
        pointer: str | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.code = code
        self.detail = detail
        self.problems = problems
        self.headers = headers or {}
        self.pointer = pointer


def content_type(request: web.Request) -> str:
    """Return the media type of the body, lower case, without parameters; "" if none was said."""
    return _media_type(request.headers.get(hdrs.CONTENT_TYPE, ""))


@functools.lru_cache(maxsize=64)  # asked four times per request, and most say the same
def _media_type(header: str) -> str:
    return header.partition(";")[0].strip().lower()


def codec_in(request: web.Request) -> Codec:
    """Return the codec of the request's body. Raises HttpProblem 415.

    No body counts as JSON, unless it has a type that a plain form can send.
    """
    said = content_type(request)
    codec = _CODECS.get(said)
    if codec is not None:
        return codec
    if said not in _FORM_TYPES and not request.body_exists:
        return JSON_CODEC
    raise HttpProblem(
        415,
        "content_type",
        f"send JSON or MessagePack, not {said or 'a body without a type'}: use curl --json, "
        "or -H 'content-type: application/json'",
    )


def codec_out(request: web.Request) -> Codec:
    """Return the codec of the answer: what Accept names, else that of the request."""
    accept = request.headers.get(hdrs.ACCEPT)
    if accept is not None:
        for media_type, codec in _CODECS.items():
            if media_type in accept:
                return codec
    return _CODECS.get(content_type(request), JSON_CODEC)


async def read_body(request: web.Request) -> bytes:
    """Return the whole body. Raises HttpProblem 408, and HTTPRequestEntityTooLarge above limits.BODY_BYTES_MAX.

    One that says it is longer is refused at once; one that does not say is, by aiohttp, when it has become so.
    """
    said = request.content_length or 0
    if said > limits.BODY_BYTES_MAX:
        raise web.HTTPRequestEntityTooLarge(limits.BODY_BYTES_MAX, said)
    if request.content.is_eof():  # it came with the head, as small ones do: a timer would cost 5 % of the request
        return await request.read()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            return await request.read()
    except TimeoutError:
        raise HttpProblem(408, "slow_body", f"the body did not arrive within {BODY_SECONDS:.0f} s") from None


def reply(request: web.Request, answer: Struct, status: int = 200) -> web.Response:
    """Return a Struct as the answer."""
    codec = codec_out(request)
    return reply_bytes(codec.encode(answer), codec, status)


def reply_bytes(body: bytes, codec: Codec, status: int = 200) -> web.Response:
    """Return a body that is already encoded; one of JSON ends with a newline, for who reads it in a terminal."""
    if codec.is_json and not body.endswith(b"\n"):
        body += b"\n"
    return web.Response(body=body, status=status, headers={hdrs.CONTENT_TYPE: codec.media_type})


def problem_reply(problem: HttpProblem, request_id: str) -> web.Response:
    """Return an error as RFC 9457 has it, with a newline at the end for who reads it in a terminal.

    A detail may repeat a header, which need not be UTF-8.
    """
    detail = problem.detail.encode("utf-8", "backslashreplace").decode("utf-8")
    answer = problem_answer(problem.status, problem.code, detail, request_id, problem.problems, problem.pointer)
    headers = {hdrs.CONTENT_TYPE: PROBLEM, "X-Request-Id": request_id, **problem.headers}
    return web.Response(body=JSON_CODEC.encode(answer) + b"\n", status=problem.status, headers=headers)


@contextlib.contextmanager
def broken_off(request: web.Request) -> Iterator[None]:
    """Break the connection off if the block fails, whose answer has begun: an error would be read as a part of it."""
    try:
        yield
    except Exception:
        if request.transport is not None:
            request.transport.abort()
        raise


_REFUSALS: Final = {
    "key_reused": "this Idempotency-Key came with another body before; use a new key for a new request",
    "full": "no room is left: free some disk (or raise --max-size); reports and deletes still work",
    "internal": "a bug in the daemon refused this call; nothing was changed, and its log says more",
}


def settled(outcome: CallOutcome, *, prefix: str = "") -> Done:
    """Return a call that was committed. Raises HttpProblem for a refused one; ``prefix`` is cut off its pointers."""
    if isinstance(outcome, Done):
        return outcome
    raise refusal(outcome, prefix)


def refusal(refused: Refused, prefix: str = "") -> HttpProblem:
    """Return the answer of a refused call."""
    problems = [Problem(one.code, one.pointer.removeprefix(prefix), one.detail, one.holder) for one in refused.problems]
    detail = _REFUSALS.get(refused.code) or (problems[0].detail if problems else f"refused: {refused.code}")
    if refused.code == "internal":
        problems = []
    return HttpProblem(status_of(refused), refused.code, detail, problems)


def memo_of(request: web.Request, daemon: Daemon, body: bytes) -> Memo | None:
    """Return the memo of a request with an Idempotency-Key: its hash covers the path, the format and the body."""
    key = request.headers.get("Idempotency-Key")
    if key is None:
        return None
    if (
        not key
        or len(key.encode("utf-8", "surrogateescape")) > limits.IDEMPOTENCY_KEY_BYTES_MAX
        or not key.isprintable()
    ):
        raise HttpProblem(
            422,
            "bad_idempotency_key",
            f"an Idempotency-Key is 1 to {limits.IDEMPOTENCY_KEY_BYTES_MAX} printable characters",
        )
    digest = hashlib.blake2b(body, digest_size=16, key=content_type(request).encode("utf-8", "surrogateescape")[:64])
    digest.update(b"\0" + request.path.encode("utf-8", "surrogateescape"))
    return Memo(key, digest.digest(), round(daemon.settings.idempotency_kept_seconds * limits.SECOND_NS))


def flag(request: web.Request, name: str) -> bool:
    """Return a query parameter that is true or false. Raises HttpProblem 422."""
    text = request.query.get(name, "false")
    if text not in ("true", "false", "1", "0", ""):
        raise bad_parameter(name, "it is true or false")
    return text in ("true", "1")


def number(request: web.Request, name: str, default: float, low: float, high: float) -> float:
    """Return a query parameter that is a number. Raises HttpProblem 422."""
    text = request.query.get(name)
    if text is None:
        return default
    try:
        value = float(text) if "_" not in text else low - 1
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise bad_parameter(name, f"it is a number from {low:g} to {high:g}")
    return value


def bad_parameter(name: str, detail: str) -> HttpProblem:
    """Return the answer for a query parameter that is wrong."""
    return HttpProblem(422, "bad_parameter", f"?{name}: {detail}", [Problem("bad_parameter", f"/{name}", detail)])


def only_parameters(request: web.Request, *names: str) -> None:
    """Raise HttpProblem 422 for a query parameter that is not one of ``names``, or (but for state) is
    said twice: a typing error widens no list."""
    for name in request.query:
        if name not in names:
            known = ", ".join(names) or "none"
            raise bad_parameter(name[:64], f"there is no such parameter here; there are: {known}")
        if name != "state" and len(request.query.getall(name)) > 1:
            raise bad_parameter(name, "say it once")


def detail_of(value: Any) -> str:
    """Return the sentence of an error of ours."""
    return str(getattr(value, "detail", value))
