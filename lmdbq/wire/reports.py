"""What workers say: dequeue, report, extend and the stream's subscription, from bodies to ops."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import msgspec
from msgspec import UNSET, Raw, UnsetType

from lmdbq import limits
from lmdbq.ids import parse_leases
from lmdbq.model import Claim, Completion, Encoding, ErrorInfo, Extend, Extension, Report, Status
from lmdbq.wire import payloads, shapes, values
from lmdbq.wire.fields import Incoming
from lmdbq.wire.problems import Codec, Problems, decode_as

# What a claim's tasks may hold, so that its answer stays within limits.CLAIM_BYTES_MAX: a quarter is left for base64,
# and a kilobyte per task for everything but its payload.
_TASK_OVERHEAD_BYTES: Final = 1024


def claim_of(wanted: shapes.Subscription, pointer: str, problems: Problems, claim_id: str = "") -> Claim:
    """Return the op for a dequeue; what is wrong with it goes to ``problems``."""
    queues = tuple(dict.fromkeys(wanted.queue_names or ("default",)))
    for index, name in enumerate(queues):
        values.check_queue_name(name, f"{pointer}/queue_names/{index}", problems)
    for index, name in enumerate(wanted.types or ()):
        values.check_type_name(name, f"{pointer}/types/{index}", problems)
    values.check_text(claim_id, f"{pointer}/claim_id", problems, limits.CLAIM_ID_BYTES_MAX)
    return Claim(
        queues,
        tuple(dict.fromkeys(wanted.types or ())),
        wanted.limit,
        values.keepalive_ns(wanted.keepalive_timeout_in_seconds, f"{pointer}/keepalive_timeout_in_seconds", problems),
        claim_id,
        (limits.CLAIM_BYTES_MAX - wanted.limit * _TASK_OVERHEAD_BYTES) * 3 // 4,
    )


class Dequeue(NamedTuple):
    """A decoded /v1/dequeue."""

    claim: Claim
    wait_seconds: float


def _dequeue(request: shapes.DequeueRequest, pointer: str, problems: Problems) -> Dequeue:
    return Dequeue(claim_of(request, pointer, problems, request.claim_id or ""), request.wait_in_seconds)


def read_dequeue(body: bytes, codec: Codec) -> Dequeue:
    """Return the claim of a /v1/dequeue body. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.DequeueRequest, body, codec)
    problems = Problems()
    wanted = _dequeue(request, "", problems)
    problems.raise_if_any()
    return wanted


def read_subscription(body: bytes, codec: Codec) -> Claim:
    """Return the claim that the first frame of a stream asks for. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.Subscription, body, codec)
    problems = Problems()
    claim = claim_of(request, "", problems)
    problems.raise_if_any()
    return claim


class Reports(NamedTuple):
    """A decoded /v1/report. leases: as they came, for the answer."""

    leases: list[str]
    op: Report
    dequeue: Dequeue | None


def read_report(body: bytes, codec: Codec) -> Reports:
    """Return the completions of a /v1/report body. Raises NotParseable or InvalidInput."""
    plain = _plain_reports(body, codec)
    if plain is not None:
        return plain
    accept = Incoming(body, codec)
    request = decode_as(shapes.ReportRequest, body, codec)
    problems = Problems()
    completions = [
        _completion(entry.lease, entry.status, entry, f"/reports/{index}", problems, accept)
        for index, entry in enumerate(request.reports)
    ]
    dequeue = _dequeue(request.dequeue, "/dequeue", problems) if request.dequeue else None
    if not completions and dequeue is None:
        problems.add("missing_field", "/reports", "report at least one lease")
    problems.raise_if_any()
    return Reports([entry.lease for entry in request.reports], Report(completions), dequeue)


def _plain_reports(body: bytes, codec: Codec) -> Reports | None:
    """Return reports that say nothing but success; None if there are others, or something is wrong."""
    try:
        request = codec.decoder(shapes.PlainReportRequest).decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    leases = [report.lease for report in request.reports]
    found = parse_leases(leases)
    problems = Problems()
    dequeue = _dequeue(request.dequeue, "/dequeue", problems) if request.dequeue else None
    if found is None or problems.found:
        return None
    succeeded = Status.SUCCEEDED
    return Reports(leases, Report([Completion(number, delivery, succeeded) for number, delivery in found]), dequeue)


def read_completion(lease: str, status: str, body: bytes, codec: Codec) -> Report:
    """Return the op for POST /v1/leases/{lease}/succeed, fail or release. Raises NotParseable or InvalidInput."""
    shape = {
        "succeeded": shapes.SucceedRequest,
        "failed": shapes.FailRequest,
        "released": shapes.ReleaseRequest,
    }[status]
    accept = Incoming(body, codec)
    request = decode_as(shape, body, codec) if body else shape()
    problems = Problems()
    completion = _completion(lease, status, request, "", problems, accept)
    problems.raise_if_any()
    return Report((completion,))


_STATUS: Final = {status.name.lower(): status for status in Status}


def _completion(lease: str, status: str, said: Any, pointer: str, problems: Problems, accept: Incoming) -> Completion:
    """Return one completion; ``said`` is a ReportEntry or the body of a singular report, which has fewer fields."""
    number, delivery = values.lease(lease, f"{pointer}/lease", problems)
    delay = getattr(said, "delay_in_seconds", None)
    error: shapes.ErrorBody | None = getattr(said, "error", None)
    result, encoding = _result(said, pointer, problems, accept)
    return Completion(
        number,
        delivery,
        _STATUS[status],
        result,
        encoding,
        None if error is None else error_info(error.message, error.type, error.backtrace),
        None if delay is None else values.duration_ns(delay, f"{pointer}/delay_in_seconds", problems),
        getattr(said, "retry", True),
    )


def error_info(message: str, kind: str = "", backtrace: str = "") -> ErrorInfo:
    """Return an error cut to the limits; of a long backtrace the end is kept, where the cause stands."""
    return ErrorInfo(
        message[: limits.ERROR_MESSAGE_CHARS_MAX],
        kind[: limits.NAME_BYTES_MAX],
        backtrace[-limits.ERROR_BACKTRACE_CHARS_MAX :],
    )


def _result(said: Any, pointer: str, problems: Problems, accept: Incoming) -> tuple[bytes | None, Encoding]:
    raw: Raw | UnsetType = getattr(said, "result", UNSET)
    text: str | None = getattr(said, "result_base64", None)
    try:
        if text is not None:
            if raw is not UNSET:
                problems.add("both_given", f"{pointer}/result_base64", "give result or result_base64, not both")
            kept, encoding = payloads.accept_base64(text), Encoding.BYTES
        elif raw is not UNSET:
            if len(raw) > limits.RESULT_BYTES_MAX + payloads.BIN_HEAD_BYTES:
                return _too_large(pointer, problems)
            kept, encoding = accept.accept(raw)
        else:
            return None, Encoding.JSON
    except payloads.Unreadable as bad:
        problems.add(bad.code, f"{pointer}/{'result' if text is None else 'result_base64'}", bad.detail)
        return None, Encoding.JSON
    if len(kept) > limits.RESULT_BYTES_MAX:
        return _too_large(pointer, problems)
    return (
        (None, Encoding.JSON)
        if kept == payloads.NULL[encoding] and encoding is not Encoding.BYTES
        else (kept, encoding)
    )


def _too_large(pointer: str, problems: Problems) -> tuple[None, Encoding]:
    problems.add("result_too_large", f"{pointer}/result", f"a result has at most {limits.RESULT_BYTES_MAX} bytes")
    return None, Encoding.JSON


class Extensions(NamedTuple):
    """A decoded /v1/extend. leases: as they came, for the answer."""

    leases: list[str]
    op: Extend


def read_extend(body: bytes, codec: Codec) -> Extensions:
    """Return the extensions of a /v1/extend body. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.ExtendRequest, body, codec)
    problems = Problems()
    found = [_extension(one.lease, one, f"/leases/{index}", problems) for index, one in enumerate(request.leases)]
    problems.raise_if_any()
    return Extensions([one.lease for one in request.leases], Extend(tuple(found)))


def read_extension(lease: str, body: bytes, codec: Codec) -> Extend:
    """Return the op for POST /v1/leases/{lease}/extend. Raises NotParseable or InvalidInput."""
    request = decode_as(shapes.ExtendOne, body, codec) if body else shapes.ExtendOne()
    problems = Problems()
    found = _extension(lease, request, "", problems)
    problems.raise_if_any()
    return Extend((found,))


def _extension(lease: str, one: shapes.ExtendOne, pointer: str, problems: Problems) -> Extension:
    number, delivery = values.lease(lease, f"{pointer}/lease", problems)
    keepalive = values.keepalive_ns(
        one.keepalive_timeout_in_seconds, f"{pointer}/keepalive_timeout_in_seconds", problems
    )
    return Extension(number, delivery, keepalive, one.progress)
