"""How much of the hash space moves when a node comes or goes, and how even the shares are.

Pure computation, no switch: each method is the function that its users' traffic would go through.
Compared are our slot table, Open vSwitch's native select group (one bucket per node), Maglev's
lookup table and rendezvous hashing, against the least that any method can move: a newcomer's even
share, a leaver's own share.

A method is a function of the nodes, and where it keeps state of its previous table, to an array of
``KEYS`` owners, one per key of the hash space. That makes tables of different sizes comparable.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from copy import copy
from functools import cache
from pathlib import Path
from statistics import mean
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from bench import Section
from bench.attempts import NOT_MEASURED
from sncontroller.core.slots import SLOTS, SlotTable, slot_table

Owners: TypeAlias = NDArray[np.int64]

KEYS = 1 << 16
"""Keys that stand for the hash space."""
MOST_NODES = 64
MAGLEV_SIZE = 6553
"""A prime, more than 100 times the nodes, as the Maglev paper (NSDI 2016) asks for."""
LEAVERS = 3
"""How many different nodes leave, one at a time, per number of nodes."""
SHOWN = (1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 48, 63, 64)
"""Rows of the table; the results have all."""


class Method(Protocol):
    """One way from a flow's hash to a node, remembering what it has to."""

    def owners(self, nodes: Sequence[int]) -> Owners:
        """The owner of each key once these are the nodes."""


class SlotTables:
    """Ours: 256 slots, quotas met to one slot, the fewest moves from the table before."""

    def __init__(self) -> None:
        self._table: SlotTable | None = None

    def owners(self, nodes: Sequence[int]) -> Owners:
        """The owner of each key; keys are spread over the slots as ``dp_hash`` does: low bits."""
        self._table = slot_table(self._table, dict.fromkeys(nodes, 1.0))
        return np.array(self._table, dtype=np.int64)[np.arange(KEYS) % SLOTS]


class NativeGroup:
    """Open vSwitch's select group with ``dp_hash`` and one bucket of equal weight per node.

    The hash has 16 values, or the next power of two from the number of buckets on, and they are
    dealt to the buckets by Webster's method (``ofproto-dpif.c``, ``group_setup_dp_hash_table``,
    OVS 2.10 to 3.x). For buckets of equal weight that is: in turn.
    """

    def owners(self, nodes: Sequence[int]) -> Owners:
        """The owner of each key; a newcomer's bucket is the last."""
        values = max(16, 1 << (len(nodes) - 1).bit_length())
        return np.array(nodes, dtype=np.int64)[np.arange(KEYS) % values % len(nodes)]


class Maglev:
    """Google's Maglev: each node in turn takes the next free entry of its own permutation."""

    def __init__(self, size: int = MAGLEV_SIZE) -> None:
        self._size = size

    def owners(self, nodes: Sequence[int]) -> Owners:
        """The owner of each key."""
        size, table, taken = self._size, [-1] * self._size, 0
        preferred = {node: self._permutation(node) for node in nodes}
        while taken < size:
            for node, order in preferred.items():
                entry = next(entry for entry in order if table[entry] < 0)
                table[entry] = node
                taken += 1
                if taken == size:
                    break
        return np.array(table, dtype=np.int64)[np.arange(KEYS) % size]

    def _permutation(self, node: int) -> Iterator[int]:
        dice = random.Random(node)
        offset, skip = dice.randrange(self._size), dice.randrange(1, self._size)
        return ((offset + nth * skip) % self._size for nth in range(self._size))


class Rendezvous:
    """Highest random weight: every key goes to the node that scores highest for it."""

    def owners(self, nodes: Sequence[int]) -> Owners:
        """The owner of each key."""
        best, owners = np.zeros(KEYS, dtype=np.uint64), np.zeros(KEYS, dtype=np.int64)
        for node in nodes:
            scores = _scores(node)
            owners[scores > best] = node
            np.maximum(best, scores, out=best)
        return owners


@cache
def _scores(node: int) -> NDArray[np.uint64]:
    """A 64-bit mix (splitmix64) of each key and the node."""
    seed = np.uint64((node * 0x9E3779B97F4A7C15) & 0xFFFF_FFFF_FFFF_FFFF)
    mixed = np.arange(KEYS, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03) + seed
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        mixed = (mixed ^ (mixed >> np.uint64(shift))) * np.uint64(factor)
    return mixed


METHODS: dict[str, Callable[[], Method]] = {
    "ours": SlotTables,
    "native": NativeGroup,
    "maglev": Maglev,
    "rendezvous": Rendezvous,
}
TITLES = {
    "ours": "ours, 256 slots",
    "native": "OVS select group",
    "maglev": f"Maglev, {MAGLEV_SIZE} entries",
    "rendezvous": "rendezvous",
}


def run(quick: bool) -> Section:
    """By method: the shares moved when a node is added to, or leaves, ``n`` nodes; evenness."""
    counts = SHOWN if quick else tuple(range(1, MOST_NODES + 1))
    methods = {name: [_measured(make, count) for count in counts] for name, make in METHODS.items()}
    least = [{"nodes": n, "moved_by_add": 1 / (n + 1), "moved_by_remove": 1 / n} for n in counts]
    return {"keys": KEYS, "methods": methods, "least": least, "mixed": _mixed_history()}


def _measured(make: Callable[[], Method], count: int) -> dict[str, float]:
    """One more than ``count`` nodes, and one fewer (of two or more)."""
    method, nodes = make(), list(range(1, count + 1))
    before = method.owners(nodes)

    def moved(now: list[int]) -> float:
        """From the same table, whatever was tried before."""
        return float((before != copy(method).owners(now)).mean())

    leavers = random.Random(count).sample(nodes, min(LEAVERS, count)) if count > 1 else []
    removed = [moved([node for node in nodes if node != leaver]) for leaver in leavers]
    return {
        "nodes": count,
        "moved_by_add": moved([*nodes, count + 1]),
        "moved_by_remove": mean(removed or [1.0]),
        "evenness": _evenness(before, count),
    }


def _evenness(owners: Owners, count: int) -> float:
    """The largest share as a multiple of the mean: 1.0 is even, 2.0 works one node twice."""
    return float(np.unique(owners, return_counts=True)[1].max() * count / KEYS)


def _mixed_history(steps: int = 200, seed: int = 1) -> dict[str, float]:
    """Our table has a memory: it is as even, and moves as little, after many changes."""
    dice, method = random.Random(seed), SlotTables()
    nodes, following = [1, 2, 3, 4], 5
    owners = method.owners(nodes)
    excess, worst = [], 0.0
    for _ in range(steps):
        leaves = len(nodes) > 1 and (dice.random() < 0.5 or len(nodes) == MOST_NODES)
        share = 1 / len(nodes) if leaves else 1 / (len(nodes) + 1)
        if leaves:
            nodes.remove(dice.choice(nodes))
        else:
            nodes.append(following)
            following += 1
        after = method.owners(nodes)
        excess.append(float((owners != after).mean()) - share)
        quota = -(-SLOTS // len(nodes)) * len(nodes) / SLOTS
        worst = max(worst, _evenness(after, len(nodes)) / quota)
        owners = after
    return {"steps": steps, "worst_excess": max(excess), "worst_evenness_over_one_slot": worst}


def table(section: Section) -> str:
    """The comparison in Markdown."""
    if NOT_MEASURED in section:
        return f"Not measured: {section[NOT_MEASURED]}."
    methods = section["methods"]
    names = [name for name in METHODS if name in methods]
    lines = ["Share of new flows that go to another node when one of N nodes leaves:", ""]
    lines += _rows(section, names, "moved_by_remove", "{:.1%}", least=True)
    lines += ["", "... and when one is added to N:", ""]
    lines += _rows(section, names, "moved_by_add", "{:.1%}", least=True)
    lines += ["", "The busiest node's share as a multiple of the mean (1.00 is even):", ""]
    lines += _rows(section, names, "evenness", "{:.2f}", least=False)
    mixed = section["mixed"]
    lines += [
        "",
        f"After {mixed['steps']} mixed changes ours never moved more than "
        f"{mixed['worst_excess'] * SLOTS:.1f} slots beyond the least, and was as even as whole "
        "slots can be.",
    ]
    return "\n".join(lines)


def _rows(
    section: Section, names: Sequence[str], field: str, form: str, *, least: bool
) -> list[str]:
    heads = ["N", *(TITLES[name] for name in names), *(["least possible"] if least else [])]
    rows = [f"| {' | '.join(heads)} |", "|" + "---:|" * len(heads)]
    for nth, floor in enumerate(section["least"]):
        count = floor["nodes"]
        if count in SHOWN and not (field == "moved_by_remove" and count == 1):
            cells = [section["methods"][name][nth][field] for name in names]
            cells += [floor[field]] if least else []
            rows.append(f"| {count} | {' | '.join(form.format(cell) for cell in cells)} |")
    return rows


def plot(section: Section, path: Path) -> None:
    """The same over all numbers of nodes, as a picture."""
    from bench.plots import pair

    with pair(path) as (moved, even):
        for name, rows in section["methods"].items():
            moved.plot(*_line(rows, "moved_by_remove"), label=TITLES[name])
            even.plot(*_line(rows, "evenness"), label=TITLES[name])
        moved.plot(*_line(section["least"], "moved_by_remove"), "k:", label="least possible")
        moved.set(title="moved when one node leaves", xlabel="nodes", ylabel="share", yscale="log")
        even.set(title="busiest node / mean", xlabel="nodes", ylim=(0.95, None))
        for axes in (moved, even):
            axes.grid(alpha=0.3)
            axes.legend()


def _line(rows: Sequence[dict[str, float]], field: str) -> tuple[list[float], list[float]]:
    later = [row for row in rows if row["nodes"] > 1]
    return [row["nodes"] for row in later], [row[field] for row in later]
