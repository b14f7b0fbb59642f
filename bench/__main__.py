"""``python -m bench [PART ...]``: measure, and write what was found.

Owns the command line, the order of the parts, their time and the files: see docs/performance.md.
Ends with 0 when everything was measured, 1 when something was not, 2 when it could not begin.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from bench import LIMIT_S, PARTS, RESULTS, SCRATCH, part, results
from bench.attempts import missing
from bench.machine import described, load_average, machine, require_programs
from bench.results import Results
from sncontroller.lab import guard
from sncontroller.lab.isolation import isolate
from sncontroller.lab.programs import LabError, MissingError, require_root

INCOMPLETE, REFUSED, INTERRUPTED = 1, 2, 130
_BEGAN = time.monotonic()


class Overtime(BaseException):
    """A part has had all the time that it may have; like an interruption, nothing holds it up."""


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option("--quick", is_flag=True, help="A few minutes: a try-out, whose figures are rough.")
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    help="Where results, table and plots go.  [default: bench/results, quick: build/bench]",
)
def main(parts: tuple[str, ...], quick: bool, output: Path | None) -> None:
    """Measure all parts, or the named ones: dataplane, disruption, controlplane."""
    directory = output or (SCRATCH if quick else RESULTS)
    try:
        require_root("the benchmark")
        require_programs()
        guard.listen()
        guard.mark()
        isolate()
    except MissingError as error:
        fail(str(error), REFUSED)
    except LabError as error:
        fail(str(error), INCOMPLETE)
    say(described(machine()))
    try:
        troubles = [
            trouble
            for name in dict.fromkeys(parts or PARTS)
            for trouble in measured(name, quick, directory)
        ]
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    say(f"written: {directory}")
    if troubles:
        fail("\n  ".join(["not everything was measured:", *troubles]), INCOMPLETE)


def measured(name: str, quick: bool, directory: Path) -> list[str]:
    """Run one part and write the results with it; what could not be measured.

    Whatever becomes of it, the results of others stay as they are.
    """
    try:
        with limited(LIMIT_S[name]):
            found = measure(name, quick, directory)
    except LabError as error:
        return [f"{name}: {error}"]
    except Overtime:
        return [f"{name}: not done after {LIMIT_S[name]:.0f} s"]
    except Exception:
        return [f"{name}: {traceback.format_exc()}"]
    return [f"{name}, {trouble}" for trouble in missing(found[name])]


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raises ``Overtime`` in what is not done after so many seconds."""

    def end(_number: int, _frame: FrameType | None) -> NoReturn:
        raise Overtime

    signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def measure(name: str, quick: bool, directory: Path) -> Results:
    """Run one part and write the results with it. Raises ``LabError``."""
    SCRATCH.mkdir(parents=True, exist_ok=True)
    os.environ.setdefault("MPLCONFIGDIR", str(SCRATCH / "matplotlib"))
    measuring = part(name)
    ran = {
        "began": datetime.now(UTC).isoformat(timespec="seconds"),
        "quick": quick,
        "machine": machine(),
        "load_average_before": load_average(),
    }
    began = time.monotonic()
    section = measuring.run(quick, lambda line: say(f"{name}: {line}"))
    ran["took_s"] = round(time.monotonic() - began, 1)
    found = results.with_part(results.load(directory), name, section, ran)
    results.save(found, directory)
    if hasattr(measuring, "plot"):
        measuring.plot(section, directory)
    say(f"{name}: took {ran['took_s']:.0f} s\n\n{results.block(found, name)}\n")
    return found


def say(line: str) -> None:
    """Show a line at once, also in a pipe, and how long the run has taken."""
    print(f"{time.monotonic() - _BEGAN:5.0f} s  {line}", flush=True)


def fail(reason: str, status: int) -> NoReturn:
    """End with the reason."""
    click.echo(f"bench: {reason}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
