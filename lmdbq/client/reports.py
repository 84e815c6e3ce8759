"""How an attempt ended, as a worker reports it: from values and exceptions to the shapes of the API.

A report must not be lost for what it says: texts that JSON cannot carry are spelt out, and the queue cuts long ones.
"""

from __future__ import annotations

import base64
import traceback
from typing import Any, Final

import msgspec

from lmdbq.client.encoding import to_json
from lmdbq.errors import InvalidInput, NotParseable
from lmdbq.limits import PAYLOAD_DEPTH_MAX, RESULT_BYTES_MAX
from lmdbq.model import Problem
from lmdbq.wire.shapes import ErrorBody, ReportEntry

BACKTRACE_FRAMES_MAX: Final = 100


def succeeded(lease: str, result: Any = None) -> ReportEntry:
    """Return the report of an attempt that succeeded; bytes are a result, None is none.

    Raises InvalidInput if ``result`` is nothing that JSON can say, longer than limits.RESULT_BYTES_MAX, or nested
    deeper than limits.PAYLOAD_DEPTH_MAX.
    """
    if result is None:
        return ReportEntry(lease=lease, status="succeeded")
    plain = isinstance(result, (bytes, bytearray))
    data = bytes(result) if plain else to_json(result, "/result")
    if len(data) > RESULT_BYTES_MAX:
        detail = f"it has {len(data)} bytes; a result has at most {RESULT_BYTES_MAX}: store it elsewhere"
        raise InvalidInput([Problem("result_too_large", "/result", detail)])
    if plain:
        return ReportEntry(lease=lease, status="succeeded", result_base64=base64.b64encode(data).decode("ascii"))
    is_raw = isinstance(result, msgspec.Raw)  # nobody has looked yet whether it is JSON
    if is_raw or len(data) > 2 * PAYLOAD_DEPTH_MAX:  # else it cannot be too deep
        _check(data, is_raw=is_raw)
    return ReportEntry(lease=lease, status="succeeded", result=msgspec.Raw(data))


def _check(result: bytes, *, is_raw: bool) -> None:
    """Raise InvalidInput for what the queue would refuse, and with it all the reports beside it."""
    from lmdbq.wire.payloads import BodyText, Unreadable

    try:
        if is_raw:
            msgspec.json.decode(result, type=msgspec.Raw)
        BodyText(result).accept(result)
    except Unreadable as bad:
        raise InvalidInput([Problem(bad.code, "/result", bad.detail)]) from None
    except (msgspec.DecodeError, NotParseable, RecursionError) as bad:
        raise InvalidInput([Problem("not_json", "/result", str(bad))]) from None


def failed(
    lease: str,
    error: BaseException | str,
    *,
    kind: str = "",
    backtrace: str | None = None,
    delay: float | None = None,
    retry: bool = True,
) -> ReportEntry:
    """Return the report of an attempt that failed. kind, backtrace: instead of what the exception says itself."""
    if backtrace is None:
        backtrace = ""
        if isinstance(error, BaseException):
            backtrace = "".join(traceback.format_exception(error, limit=-BACKTRACE_FRAMES_MAX))
    name = kind or (type(error).__name__ if isinstance(error, BaseException) else "")
    said = ErrorBody(message=_text(error), type=_text(name), backtrace=_text(backtrace))
    return ReportEntry(lease=lease, status="failed", error=said, retry=retry, delay_in_seconds=delay)


def released(lease: str, delay: float | None = None) -> ReportEntry:
    """Return the report of an attempt that is handed back, uncounted."""
    return ReportEntry(lease=lease, status="released", delay_in_seconds=delay)


def _text(value: object) -> str:
    """Return ``value`` as text that JSON can carry: a lone surrogate (a file name's odd byte) is spelt out."""
    try:
        said = str(value)
    except Exception as odd:  # noqa: BLE001  (an exception of the program's own, whose __str__ has a fault)
        said = f"a {type(value).__name__} that cannot say what it is: its __str__ raised {type(odd).__name__}"
    return said.encode("utf-8", "backslashreplace").decode("utf-8")
