"""Measurements that may fail, or find no time left, without taking others with them.

What was not measured stands in the section as ``{"not_measured": REASON}`` in its own place, so
that tables, targets and the end of the run can say so.
"""

from __future__ import annotations

import subprocess
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from bench import Report, Section
from sncontroller.lab.programs import LabError

NOT_MEASURED = "not_measured"


class Attempts:
    """The measurements of one part, which together have so many seconds."""

    def __init__(self, budget_s: float, report: Report) -> None:
        """``report`` hears what is measured, and what could not be."""
        self._ends = time.monotonic() + budget_s
        self._report = report

    def made(self, what: str, measure: Callable[[], Section]) -> Section:
        """What was found; or why not, when it failed or its turn came too late."""
        if time.monotonic() >= self._ends:
            return self._failed(what, "no time was left")
        self._report(what)
        try:
            return measure()
        except (LabError, OSError, subprocess.SubprocessError) as error:
            return self._failed(what, str(error) or type(error).__name__)
        except Exception as error:  # a mistake of ours: it must be seen, and cost no other figures
            self._report(traceback.format_exc())
            return self._failed(what, repr(error))

    def _failed(self, what: str, why: str) -> Section:
        self._report(f"{what}: not measured: {why}")
        return {NOT_MEASURED: why.splitlines()[0][:300]}


def missing(found: Any, place: str = "") -> Iterator[str]:
    """Each place in a section that was not measured, and why."""
    if isinstance(found, dict) and NOT_MEASURED in found:
        yield f"{place}: {found[NOT_MEASURED]}"
    elif isinstance(found, dict | list):
        items = found.items() if isinstance(found, dict) else enumerate(found, start=1)
        for name, each in items:
            yield from missing(each, f"{place}, {name}" if place else str(name))
