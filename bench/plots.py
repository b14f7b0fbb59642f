"""Pictures of the data plane's figures; matplotlib is imported only here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

_OURS = ("conntrack", "learn", "reactive")
_COLOURS = {True: "#08519c", False: "#9ecae1"}


def draw_rates(contenders: Mapping[str, Mapping[str, Any]], path: Path) -> Path:
    """Both rates of each contender as bars, the spread as whiskers; ours are dark."""
    style: dict[Any, Any] = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    whats = ("new_connections_per_s", "keepalive_requests_per_s")
    with pyplot.rc_context(style):
        figure, axes = pyplot.subplots(1, 2, figsize=(11, 3.6))
        for axis, what in zip(axes, whats, strict=True):
            names = list(contenders)[::-1]
            values = [contenders[name][what] for name in names]
            spreads = [contenders[name][f"{what}_spread"] for name in names]
            below = [value - low for value, (low, _) in zip(values, spreads, strict=True)]
            above = [high - value for value, (_, high) in zip(values, spreads, strict=True)]
            colours = [_COLOURS[name in _OURS] for name in names]
            axis.barh(names, values, xerr=(below, above), color=colours, ecolor="#636363")
            axis.set_xlabel(what.replace("_per_s", " per second").replace("_", " "))
        figure.tight_layout()
        figure.savefig(path, dpi=110)
        pyplot.close(figure)
    return path
