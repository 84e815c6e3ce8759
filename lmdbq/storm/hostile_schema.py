"""What /openapi.json allows and what it forbids, as schemathesis draws it, against a real daemon.

Waits are cut short in the copy of the description that it is given, and the stream, which has no end, is left out.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any, Final

from lmdbq.storm.report import Report
from lmdbq.storm.served import Served
from lmdbq.storm.trace import Unclear

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
)
WAIT_SECONDS_MAX: Final = 0.05


def run(served: Served, report: Report, scratch: Path, examples: int) -> None:
    """Ask ``examples`` of each operation. Raises Unclear if schemathesis is not installed."""
    if importlib.util.find_spec("schemathesis") is None:
        raise Unclear("this needs schemathesis: `pip install schemathesis`, or say --examples 0")
    with served.caller() as caller:
        description = json.loads(caller.ask("GET", "/openapi.json")[1])
    path = scratch / "openapi.json"
    path.write_text(json.dumps(_bounded(description)), encoding="utf-8")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", str(path), "--url", f"http://127.0.0.1:{served.port}"),
        *("--seed", str(zlib.crc32(report.seed.encode()))),
        *("--max-examples", str(examples), "--checks", ",".join(CHECKS), "--phases", "coverage,fuzzing"),
        *("--request-timeout", "20", "--continue-on-failure", "--no-color", "--generation-database", "none"),
    ]
    asked_before = _requests(served)
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=scratch)
    report.figures["requests by the schema"] = _requests(served) - asked_before
    if ended.returncode:
        report.blame(f"schemathesis, seed {report.seed}", (ended.stdout[-6000:] + ended.stderr[-1000:]).splitlines())


def _requests(served: Served) -> int:
    """Return how many requests the daemon has answered, by its own count."""
    with served.caller() as caller:
        text = caller.ask("GET", "/metrics")[1].decode()
    return sum(int(float(count)) for count in re.findall(r"^lmdbq_http_requests_total{.*} (\S+)$", text, re.MULTILINE))


def _bounded(description: dict[str, Any]) -> dict[str, Any]:
    del description["paths"]["/v1/stream"]
    return _cut(description)  # type: ignore[no-any-return]


def _cut(value: Any, name: str = "") -> Any:
    if isinstance(value, dict):
        cut = {key: _cut(part, key) for key, part in value.items()}
        is_wait = name == "wait_in_seconds" or value.get("name") == "wait_in_seconds"
        schema = cut.get("schema", cut) if is_wait else {}
        if isinstance(schema, dict) and "maximum" in schema:
            schema["maximum"] = WAIT_SECONDS_MAX
        return cut
    return [_cut(part) for part in value] if isinstance(value, list) else value
