"""A picture of one trace: what was wanted of the group, and what each policy had.

matplotlib is imported only here; it belongs to the ``lab`` extra.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sncontroller.errors import OperatorError
from sncontroller.simulate.simulation import Result
from sncontroller.simulate.study import Cell

POINTS = 1440
"""Every point of a curve stands for a minute of a day."""


def draw(path: Path, trace: str, demand: Sequence[float], by_policy: Mapping[str, Cell]) -> None:
    """Write a PNG with a panel per policy. Raises ``OperatorError`` without matplotlib."""
    pyplot = _pyplot()
    figure, panels = pyplot.subplots(
        len(by_policy), 1, sharex=True, squeeze=False, figsize=(11, 0.8 + 2.4 * len(by_policy))
    )
    every = max(1, len(demand) // POINTS)
    hours = [second / 3600 for second in range(0, len(demand), every)]
    peaks = [max(demand[second : second + every]) for second in range(0, len(demand), every)]
    for panel, (policy, cell) in zip(panels[:, 0], by_policy.items(), strict=True):
        _panel(panel, policy, cell.first, hours, peaks, every)
    panels[-1, 0].set_xlabel("hours")
    figure.suptitle(f"{trace}: demand and nodes")
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def _panel(
    panel: Any, policy: str, result: Result, hours: list[float], peaks: list[float], every: int
) -> None:
    """One policy: serving and existing nodes above the demand's peaks."""
    panel.fill_between(hours, result.nodes[::every], step="post", color="#d9d9d9", label="existing")
    panel.step(hours, result.serving[::every], where="post", color="#1f6fb4", label="serving")
    panel.plot(hours, peaks, color="#d1495b", linewidth=0.9, label="demand, peak of each minute")
    panel.set_title(
        f"{policy}: {result.optimum_ratio:.3f} x optimum, "
        f"{result.slo_violation_share:.3%} of the seconds over load 1.0",
        fontsize=10,
        loc="left",
    )
    panel.set_ylabel("nodes")
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper left", fontsize=8, frameon=False)


def _pyplot() -> Any:
    """matplotlib's pyplot, drawing to files."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise OperatorError("a picture needs matplotlib: pip install 'sncontroller[lab]'") from None
    return pyplot
