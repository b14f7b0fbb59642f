"""Waiting for what others do: until it holds, or until patience ends."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Callable
from typing import Any

from sncontroller.lab.programs import LabError

PATIENCE_S = 30.0
_LOOK_EVERY_S = 0.02


def until(
    holds: Callable[[], object],
    otherwise: str | Callable[[], str],
    patience_s: float = PATIENCE_S,
) -> None:
    """Wait until it holds. Raises ``LabError`` with what ``otherwise`` says, at the end."""
    deadline = time.monotonic() + patience_s
    while not holds():
        if time.monotonic() > deadline:
            raise LabError(otherwise if isinstance(otherwise, str) else otherwise())
        time.sleep(_LOOK_EVERY_S)


def fetched(url: str, body: object = None) -> Any:
    """The JSON at a URL; a POST when there is a body. Raises ``OSError``."""
    data = None if body is None else json.dumps(body).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(urllib.request.Request(url, data), timeout=5) as answer:
        return json.load(answer)
