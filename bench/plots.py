"""How pictures are drawn: their common style, and matplotlib, which is imported only here."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 8,
}


@contextmanager
def pair(path: Path) -> Iterator[tuple[Any, Any]]:
    """Two diagrams side by side, to be drawn in; written to ``path`` as PNG at the end."""
    with pyplot.rc_context(_STYLE):
        figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4), layout="constrained")
        try:
            yield left, right
            figure.savefig(path, dpi=110)
        finally:
            pyplot.close(figure)
