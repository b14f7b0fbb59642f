"""Why a request had no answer, in the words of the system instead of those of the libraries."""

from __future__ import annotations

import requests


def reason(error: Exception) -> str:
    """``Connection refused`` for what ``requests`` wraps into four exceptions, each with a text."""
    if isinstance(error, requests.ReadTimeout):
        return "Read timed out"
    first: BaseException = error
    while (inner := first.__cause__ or first.__context__) is not None:
        first = inner
    known = first.strerror if isinstance(first, OSError) else None
    return str(known or error)
