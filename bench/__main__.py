"""``python -m bench [PART ...]``: measure, and write what was found.

Owns the command line, the order of the parts and the files: see docs/performance.md.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

import click

from bench import PARTS, RESULTS, SCRATCH, available, part, results
from bench.machine import load_average, machine
from bench.results import Results
from sncontroller.lab import guard
from sncontroller.lab.isolation import isolate
from sncontroller.lab.programs import LabError, MissingError, require_root

INTERRUPTED = 130


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(PARTS), metavar="[PART]...")
@click.option("--quick", is_flag=True, help="Two minutes: a try-out, whose figures are rough.")
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
        guard.listen()
        guard.mark()
        isolate()
        for name in parts or available():
            measure(name, quick, directory)
    except MissingError as error:
        fail(str(error), 2)
    except LabError as error:
        fail(str(error), 1)
    except KeyboardInterrupt:
        fail("interrupted", INTERRUPTED)
    say(f"written: {directory}")


def measure(name: str, quick: bool, directory: Path) -> Results:
    """Run one part and write the results with it; a later part's failure does not undo that."""
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
    say(f"{name}: took {ran['took_s']:.0f} s")
    say(results.block(found, name))
    return found


def say(line: str) -> None:
    """Show a line at once, also in a pipe."""
    print(line, flush=True)


def fail(reason: str, status: int) -> NoReturn:
    """End with one line of reason."""
    click.echo(f"bench: {reason}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
