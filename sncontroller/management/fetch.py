"""A node's report over HTTP: one request, bounded in bytes; the caller bounds it in time.

Neither proxies nor ``~/.netrc`` of the environment are used, and no redirect is followed: a node
must not send the controller anywhere.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import requests

from sncontroller.core.commands import FetchReport
from sncontroller.core.events import Reported
from sncontroller.core.report import Reading, ReportSpec
from sncontroller.management.parse import ReportError, readings

MAX_BYTES = {False: 4 * 2**20, True: 2**20}
"""Of an exporter's page, which is read in pieces, and of JSON, which is not."""
_PIECE = 2**16
_ACCEPT = {
    True: "application/json",
    False: "text/plain;version=0.0.4;q=1,*/*;q=0.1",
}


def report(command: FetchReport) -> Reported:
    """What came of fetching it; never raises for anything that a node can do."""
    try:
        body = _body(command.spec, command.url)
        return reported(command, readings(command.spec, body, _breathe), None)
    except (ReportError, requests.RequestException, OSError, ValueError) as error:
        return reported(command, {}, _why(error))


def reported(command: FetchReport, read: Mapping[str, Reading], error: str | None) -> Reported:
    """The event that says what came of the command now."""
    key = (command.zone, command.index, command.source, command.asked_s)
    return Reported(*key, time.time(), read, error)


def _body(spec: ReportSpec, url: str) -> bytes:
    headers = {"Accept": _ACCEPT[spec.is_json], "User-Agent": "sncontroller"}
    if spec.token_file is not None:
        headers["Authorization"] = f"Bearer {Path(spec.token_file).read_text().strip()}"
    with requests.Session() as session:
        session.trust_env = False
        with session.get(
            url,
            headers=headers,
            timeout=spec.fetch_timeout_s,
            verify=spec.ca_file or True,
            allow_redirects=False,
            stream=True,
        ) as answer:
            if answer.status_code != requests.codes.ok:
                raise ReportError(f"HTTP {answer.status_code}")
            return _bounded(answer, MAX_BYTES[spec.is_json])


def _breathe() -> None:
    """Let other green threads go on."""
    time.sleep(0)


def _bounded(answer: requests.Response, most: int) -> bytes:
    body = b""
    for piece in answer.iter_content(_PIECE):
        body += piece
        if len(body) > most:
            raise ReportError(f"is larger than {most} bytes")
    return body


def _why(error: Exception) -> str:
    """One line of what requests and urllib3 have wrapped in many."""
    if isinstance(error, requests.Timeout):
        return "no answer in time"
    innermost: BaseException = error
    for _ in range(10):
        reason = getattr(innermost, "reason", None) or next(iter(innermost.args), None)
        if not isinstance(reason, BaseException):
            break
        innermost = reason
    said = str(innermost).rpartition(">: ")[2] or type(innermost).__name__
    return said.splitlines()[0][:200]
