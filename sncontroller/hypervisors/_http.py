"""Why a request had no answer, in the words of the system instead of those of the libraries."""

from __future__ import annotations

import requests


def reason(error: Exception) -> str:
    """``Connection refused`` for what ``requests`` wraps into four exceptions, each with a text."""
    if isinstance(error, requests.Timeout):
        connected = not isinstance(error, requests.ConnectTimeout)
        return "Read timed out" if connected else "Connection timed out"
    first: BaseException | None = error
    while first is not None:
        if isinstance(first, OSError) and first.strerror:
            return str(first.strerror)
        first = first.__cause__ or first.__context__
    return str(error)
