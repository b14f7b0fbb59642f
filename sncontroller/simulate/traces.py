"""Demand, second by second, in nodes' worth: generated from a seed, or read from CSV."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

DAY_S = 86400
HOUR_S = 3600

Shape = Callable[[float], float]
"""Demand without noise at a second of the day."""


class Noise(StrEnum):
    """How demand trembles around its shape."""

    UNIFORM = "uniform"
    """Evenly within plus and minus the share."""
    GAUSSIAN = "gaussian"
    """Normal, the share being one standard deviation."""


@dataclass(frozen=True, slots=True)
class Trace:
    """A name and the demand of each second, in nodes' worth."""

    name: str
    demand: tuple[float, ...]


def step(second: float) -> float:
    """1.5 and 5.5 nodes' worth in turn, two hours each."""
    return 1.5 if second // (2 * HOUR_S) % 2 == 0 else 5.5


def ramp(second: float) -> float:
    """From 0.8 to 8 over twelve hours, and back."""
    half = DAY_S / 2
    return 0.8 + 7.2 * (1 - abs(second % DAY_S / half - 1))


def daily(second: float) -> float:
    """Between 1.2 and 7.2 in a day, lowest at midnight."""
    return 4.2 - 3.0 * math.cos(2 * math.pi * second / DAY_S)


def flash(second: float, start_s: float = 14.6 * HOUR_S) -> float:
    """The daily shape, and 8 nodes' worth more within a minute, which is gone an hour later."""
    since_s = second - start_s
    rise = min(1.0, max(0.0, since_s / 60))
    fall = min(1.0, max(0.0, (since_s - 20 * 60) / (40 * 60)))
    return daily(second) + 8.0 * (rise - fall)


def noise(_: float) -> float:
    """Three nodes' worth, all day."""
    return 3.0


SHAPES: dict[str, Shape] = {
    "step": step,
    "ramp": ramp,
    "daily": daily,
    "flash": flash,
    "noise": noise,
}


def generated(
    name: str,
    seed: int,
    *,
    days: int = 1,
    noise_share: float = 0.05,
    kind: Noise = Noise.UNIFORM,
    shift_s: float = 0.0,
) -> Trace:
    """A trace of ``days`` days that begins ``shift_s`` into its shape's day.

    Raises ``ValueError`` when there is no such shape.
    """
    if name not in SHAPES:
        raise ValueError(f"no trace {name!r}; there are {', '.join(SHAPES)}")
    shape, draw = SHAPES[name], random.Random(seed)
    if kind is Noise.UNIFORM:
        factors = (1 + noise_share * (2 * draw.random() - 1) for _ in range(days * DAY_S))
    else:
        factors = (max(0.0, draw.gauss(1, noise_share)) for _ in range(days * DAY_S))
    demand = (shape((second + shift_s) % DAY_S) * factor for second, factor in enumerate(factors))
    return Trace(name, tuple(demand))


def from_csv(name: str, lines: Iterable[str]) -> Trace:
    """A trace from rows ``second,demand``; a value holds until the next row's second.

    A header and empty rows are skipped. Raises ``ValueError`` naming the row at fault.
    """
    rows: list[tuple[int, float]] = []
    for number, row in enumerate(csv.reader(lines), start=1):
        if not row or (number == 1 and not _is_number(row[0])):
            continue
        if len(row) != 2 or not all(_is_number(cell) for cell in row):
            raise ValueError(f"{name} row {number}: want second,demand, not {','.join(row)!r}")
        rows.append((int(float(row[0])), float(row[1])))
        if rows[-1][1] < 0 or (len(rows) > 1 and rows[-1][0] <= rows[-2][0]):
            raise ValueError(f"{name} row {number}: seconds must rise and demand not be negative")
    if not rows:
        raise ValueError(f"{name}: no rows")
    demand: list[float] = []
    for (second, value), (after, _) in pairwise([*rows, (rows[-1][0] + 1, 0.0)]):
        demand.extend([value] * (after - second))
    return Trace(name, tuple(demand))


def _is_number(text: str) -> bool:
    """Whether a cell is a finite number."""
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False
