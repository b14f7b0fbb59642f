"""The demo as one picture over time: load and throughput, latency, nodes, slots.

Owns ``demo.png``. It draws a ``Record`` and decides nothing; matplotlib is imported only here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.patches import Patch

from sncontroller.lab.report import Record, phases
from sncontroller.lab.samples import Moment, percentile_ms
from sncontroller.lab.scenario import Phase

STATE_COLOURS: Mapping[str, str] = {
    "requested": "#d9d9d9",
    "booting": "#bdbdbd",
    "probing": "#9ecae1",
    "standby": "#9e9ac8",
    "warming": "#a1d99b",
    "active": "#41ab5d",
    "draining": "#fec44f",
    "failed": "#de2d26",
}
NODE_COLOURS = ("#08519c", "#3182bd", "#6baed6", "#9ecae1", "#c6dbef", "#deebf7")
_OFFERED, _SERVED, _P50, _P99 = "#969696", "#08519c", "#3182bd", "#d94801"
_SLOTS = 256


def draw(record: Record, capacity_per_s: float, path: Path) -> None:
    """Draw the record to a PNG; ``capacity_per_s`` is what one node can answer."""
    style: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(
            4, 1, figsize=(12, 10), sharex=True, height_ratios=(3, 2, 1.6, 1.6)
        )
        _throughput(axes[0], record, capacity_per_s)
        _latency(axes[1], record)
        _nodes(axes[2], record)
        _slots(axes[3], record)
        _phases(axes, record)
        _marks(axes, record)
        axes[3].set_xlabel("seconds")
        figure.suptitle(
            "sncontroller: one saturated VM becomes an elastic group", fontsize=13, weight="bold"
        )
        figure.align_ylabels(axes)
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)


def _throughput(axis: Any, record: Record, capacity_per_s: float) -> None:
    per_user = capacity_per_s / record.scenario.one_node_users
    times = [moment.time_s - record.began_s for moment in record.moments]
    offered = [moment.offered_users * per_user for moment in record.moments]
    axis.fill_between(times, offered, color=_OFFERED, alpha=0.18, lw=0)
    axis.plot(times, offered, color=_OFFERED, lw=1.2, label="offered (if answered at once)")
    axis.plot(
        [sample.time_s - record.began_s - sample.span_s / 2 for sample in record.samples],
        [sample.rate for sample in record.samples],
        color=_SERVED,
        lw=1.6,
        label="served",
    )
    axis.axhline(capacity_per_s, color="#636363", lw=0.8, ls=":", label="one node's limit")
    axis.set_ylabel("requests per second")
    axis.set_ylim(0, max((*offered, capacity_per_s)) * 1.28)
    axis.legend(loc="upper right", frameon=False, ncols=3)


def _latency(axis: Any, record: Record) -> None:
    shares = ((0.5, "p50", _P50), (0.99, "p99", _P99))
    for share, label, colour in shares:
        points = [
            (sample.time_s - record.began_s - sample.span_s / 2, value)
            for sample in record.samples
            if (value := percentile_ms(sample.latency, share)) is not None
        ]
        times, values = zip(*points, strict=True) if points else ((), ())
        axis.plot(times, values, color=colour, lw=1.3, label=label)
    axis.set_yscale("log")
    axis.set_ylabel("latency, ms")
    axis.grid(axis="y", color="#eeeeee")
    axis.legend(loc="upper right", frameon=False, ncols=2)


def _nodes(axis: Any, record: Record) -> None:
    """One row per node, coloured by its state; blank while nobody can tell."""
    names = _names(record.moments)
    for before, after in pairwise(record.moments):
        start, length = before.time_s - record.began_s, after.time_s - before.time_s
        for node in before.group.present if before.group else ():
            colour = STATE_COLOURS.get(node.state, "#ffffff")
            span = (start, length * 1.02)
            axis.broken_barh([span], (names.index(node.name) - 0.4, 0.8), color=colour, lw=0)
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(-0.6, len(names) + 0.3)
    axis.set_ylabel("nodes")
    seen = {n.state for m in record.moments if m.group for n in m.group.present}
    patches = [Patch(color=c, label=state) for state, c in STATE_COLOURS.items() if state in seen]
    axis.legend(handles=patches, loc="upper right", frameon=False, ncols=4, fontsize=8)


def _slots(axis: Any, record: Record) -> None:
    """How the 256 slots of the group's table are shared out."""
    names = _names(record.moments)
    times = [moment.time_s - record.began_s for moment in record.moments]
    shares = [[_owned(moment, name) for moment in record.moments] for name in names]
    if names:
        colours = [NODE_COLOURS[i % len(NODE_COLOURS)] for i in range(len(names))]
        axis.stackplot(times, shares, labels=names, colors=colours, step="post", lw=0)
        axis.legend(loc="upper right", frameon=False, ncols=len(names), fontsize=8)
    axis.set_ylim(0, _SLOTS * 1.25)
    axis.set_yticks((0, 64, 128, 192, _SLOTS))
    axis.set_ylabel("slots")


def _phases(axes: Sequence[Any], record: Record) -> None:
    """The phases' names at the top, and their borders through all panels."""
    found = [(phase, start, end) for phase, start, end in phases(record) if phase is not Phase.DONE]
    for phase, start, end in found:
        for axis in axes:
            axis.axvline(start, color="#bbbbbb", lw=0.6, zorder=0)
        narrow = end - start < 0.035 * (found[-1][2] - found[0][1])
        axes[0].annotate(
            phase.value,
            ((start + end) / 2, 1.0),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="bottom",
            fontsize=8,
            rotation=60 if narrow else 0,
            color="#555555",
        )
    axes[0].set_xlim(0, found[-1][2] if found else 1)


def _marks(axes: Sequence[Any], record: Record) -> None:
    """When nodes began to serve, began to drain and were gone, on the throughput."""
    kinds = {"active": ("▲", "#238b45"), "draining": ("▼", "#d95f0e"), "stopped": ("✕", "#555555")}
    top = axes[0].get_ylim()[1]
    for event in record.events:
        symbol, colour = kinds.get(event.kind, ("", ""))
        at_s = event.time_s - record.began_s
        if not symbol or event.node is None or at_s < 0:
            continue
        number = event.node.rpartition("-")[2]
        height = {"▲": 0.90, "▼": 0.84, "✕": 0.78}[symbol] * top
        text = f"{symbol}{number}"
        axes[0].annotate(text, (at_s, height), ha="center", va="center", color=colour, fontsize=8)
        axes[0].axvline(at_s, ymax=height / top - 0.03, color=colour, lw=0.6, alpha=0.5)
    for mark in record.marks:
        at_s = mark.time_s - record.began_s
        style: dict[str, Any] = {"color": "#cb181d", "alpha": 0.8}
        axes[0].axvline(at_s, lw=1.0, ls="--", **style)
        text = mark.what.replace("_", " ")
        axes[0].annotate(
            text, (at_s, 0.03 * top), rotation=90, ha="right", va="bottom", fontsize=7, **style
        )


def _names(moments: Sequence[Moment]) -> list[str]:
    nodes = {node.name: node.index for m in moments if m.group for node in m.group.present}
    return sorted(nodes, key=lambda name: nodes[name])


def _owned(moment: Moment, name: str) -> int:
    nodes = moment.group.nodes if moment.group else ()
    return sum(node.slots for node in nodes if node.name == name)
