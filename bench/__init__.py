"""What users would compare, measured side by side in one run on one machine.

``make bench`` runs every part in turn; ``python -m bench PART ...`` some of them. Each part keeps
the contract of :class:`Part`:

    dataplane      rates, latency, CPU and datapath work of each way to spread connections
    disruption     what a change of the nodes breaks and moves, for ours and for others
    controlplane   what the controller itself costs, by the number of groups

README.md in this directory says what is where; docs/performance.md and
docs/performance-control-plane.md say what is measured, and how. Nothing in the product knows of it.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast

Report: TypeAlias = Callable[[str], None]
"""Shows one line of progress."""
Section: TypeAlias = dict[str, Any]
"""What a part found, as JSON: its key in the results file is the part's name."""

LIMIT_S = {"dataplane": 600.0, "disruption": 360.0, "controlplane": 500.0}
"""A part that is not done by then hangs, and is ended. Before that each ends by itself, with what
it has: see their ``BUDGET_S``."""
PARTS = tuple(LIMIT_S)
"""In the order in which they run."""
REPOSITORY = Path(__file__).parents[1]
RESULTS = REPOSITORY / "bench" / "results"
SCRATCH = REPOSITORY / "build" / "bench"
"""Logs and configurations of a run, and the results of quick ones."""


class Part(Protocol):
    """A module of this package that measures something.

    It runs as root in the main thread of a process that is in network and mount namespaces of its
    own (``sncontroller.lab.isolate``), after parts before it have cleaned up; it leaves nothing
    behind, ends within its share of the run (all parts: 20 minutes; quick: a few), and raises
    ``LabError`` when it cannot measure at all. What it could not measure stands in its place as
    ``bench.attempts`` writes it.

    Besides these, a part may have ``plot(section, directory) -> list[Path]``, which draws its
    pictures as PNG, and ``readme(section) -> str``, which gives its rows of the README.
    """

    def run(self, quick: bool, report: Report) -> Section:
        """Measure.

        Its key ``targets``, where there is one, is a list of ``bench.targets.target``.
        """

    def table(self, section: Section) -> str:
        """The section as Markdown; headings from the third level on."""


def part(name: str) -> Part:
    """The part of that name. Raises ``ModuleNotFoundError`` when it is not there."""
    return cast(Part, import_module(f"bench.{name}"))
