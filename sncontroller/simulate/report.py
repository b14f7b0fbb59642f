"""What a study found, as JSON, as a table and as Markdown. Nothing is computed here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sncontroller.core.scaling import Policy
from sncontroller.simulate.simulation import Result
from sncontroller.simulate.study import TRACKER, Cell
from sncontroller.simulate.traces import DAY_S

if TYPE_CHECKING:
    from rich.table import Table

Study = Mapping[str, Mapping[str, Cell]]
"""Cells by trace and policy."""

COLUMNS = ("trace", "policy", "x optimum", "over load 1.0", "changes", "flows moved", "node-hours")
WORST = ("worst x optimum", "worst over load 1.0")
_TITLES = {
    TRACKER: "25-line tracker",
    Policy.TARGET.value: "target (default)",
}


def row_json(cell: Cell) -> dict[str, Any]:
    """A cell's numbers; ``slo_violation_share`` is a share of the seconds, not per cent."""
    first = cell.first
    return {
        "trace": first.trace,
        "policy": first.policy,
        "days_seen_before": round(first.history_s / DAY_S, 3),
        "slo_violation_share": round(first.slo_violation_share, 7),
        "slo_violation_s": first.violation_s,
        "node_hours": round(first.node_hours, 3),
        "optimum_node_hours": round(first.optimum_node_hours, 3),
        "optimum_ratio": round(first.optimum_ratio, 5),
        "flows_moved": round(first.flows_moved),
        "slots_moved": first.slots_moved,
        "scale_events": len(first.events),
        "events": [asdict(event) for event in first.events],
        "runs": len(cell.runs),
        "worst": {
            "optimum_ratio": round(cell.worst_ratio, 5),
            "slo_violation_share": round(cell.worst_violation_share, 7),
        },
    }


def study_json(study: Study) -> dict[str, dict[str, Any]]:
    """All rows by trace and policy."""
    return {
        trace: {policy: row_json(cell) for policy, cell in by_policy.items()}
        for trace, by_policy in study.items()
    }


def table(study: Study) -> Table:
    """The study for a terminal."""
    from rich.table import Table

    shown = Table(box=None, pad_edge=False)
    for number, title in enumerate(_columns(study)):
        shown.add_column(title, justify="left" if number < 2 else "right", no_wrap=True)
    for row in _rows(study):
        shown.add_row(*row)
    return shown


def markdown(study: Study) -> str:
    """The study as a Markdown table."""
    columns = _columns(study)
    rule = ["---", "---", *("---:" for _ in columns[2:])]
    lines = [columns, rule, *_rows(study)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _columns(study: Study) -> list[str]:
    """The titles; those of the worst run only where there are several."""
    return [*COLUMNS, *(WORST if _several(study) else ())]


def _several(study: Study) -> bool:
    return any(len(cell.runs) > 1 for by_policy in study.values() for cell in by_policy.values())


def _title(policy: str, first: Result) -> str:
    """What a row is called."""
    seen = f", {first.history_s / DAY_S:g} day seen" if first.history_s else ""
    return f"{_TITLES.get(policy, policy)}{seen}"


def _rows(study: Study) -> list[list[str]]:
    """One row per cell."""
    several = _several(study)
    rows = []
    for trace, by_policy in study.items():
        for policy, cell in by_policy.items():
            first = cell.first
            row = [
                trace,
                _title(policy, first),
                f"{first.optimum_ratio:.3f}",
                f"{first.slo_violation_share:.3%}",
                f"{len(first.events)}",
                f"{first.flows_moved:.0f}",
                f"{first.node_hours:.1f}",
            ]
            if several:
                row += [f"{cell.worst_ratio:.3f}", f"{cell.worst_violation_share:.3%}"]
            rows.append(row)
    return rows
