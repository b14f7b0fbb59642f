"""The slot table: which node each of a group's 256 slots belongs to.

Owns the shares and the assignment, nothing else: where the weights come from is balance's business
and what a slot becomes in a switch is plan's. Draining, failing and re-weighting are all just "a
new table from the previous one".

A share is met *to one slot*: a node gets its exact share rounded down or rounded up, and which
nodes are rounded up is decided by the previous table first (fewest moves) and by the largest
remainder second. Letting the previous table decide means that a weight that trembles in its last
digits moves nothing.

Removing a node moves only that node's slots, with one exception that no method can avoid
(Balinski and Young 1982: an apportionment that always keeps to the rounded shares cannot always be
monotone): with very unequal weights a remaining node's share can shrink by one rounding step.
With equal weights it never happens.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache

SLOTS = 256
"""Buckets of a select group; with 256 equal buckets OVS maps hash value h to bucket h."""

SlotTable = tuple[int, ...]
"""Entry i is the index of the node that slot i belongs to; empty when nobody can serve."""


def quotas(weights: Mapping[int, float]) -> dict[int, int]:
    """How many slots each node of positive weight gets, by largest remainder; ties to low indexes.

    The values add up to ``SLOTS``, or the dictionary is empty. Raises ``ValueError`` on a negative
    or non-finite weight.
    """
    return _quotas_near(Counter(), weights)


def slot_table(previous: SlotTable | None, weights: Mapping[int, float]) -> SlotTable:
    """The table for ``weights`` that differs from ``previous`` in as few slots as possible.

    Nodes of weight 0 and owners that ``weights`` does not name hold no slot in it. Without any
    positive weight the table is empty. Raises ``ValueError`` on a negative or non-finite weight
    and on a previous table that is neither empty nor ``SLOTS`` long.
    """
    if previous and len(previous) != SLOTS:
        raise ValueError(f"a slot table has {SLOTS} entries, not {len(previous)}")
    return _table(previous, tuple(sorted(weights.items())))


@lru_cache(maxsize=256)
def _table(previous: SlotTable | None, weights: tuple[tuple[int, float], ...]) -> SlotTable:
    """The same; of many groups that begin alike only the first one is computed."""
    held = Counter(previous or ())
    wanted = _quotas_near(held, dict(weights))
    if not wanted:
        return ()
    return _filled(_kept(previous or (None,) * SLOTS, wanted), wanted)


def moves(previous: SlotTable | None, table: SlotTable) -> int:
    """In how many slots ``table`` differs from ``previous``; no table counts as all slots free."""
    old = previous or (None,) * SLOTS
    new = table or (None,) * SLOTS
    return sum(before != after for before, after in zip(old, new, strict=True))


def _quotas_near(held: Mapping[int, int], weights: Mapping[int, float]) -> dict[int, int]:
    """Shares rounded down or up such that the fewest of the slots ``held`` have to move."""
    shares = _exact_shares(weights)
    quota = {index: math.floor(share) for index, share in shares.items()}
    spare = SLOTS - sum(quota.values()) if quota else 0
    fractional = [index for index, share in shares.items() if share != quota[index]]
    fractional.sort(key=lambda i: (held.get(i, 0) <= quota[i], quota[i] - shares[i], i))
    for index in fractional[:spare]:
        quota[index] += 1
    return quota


def _exact_shares(weights: Mapping[int, float]) -> dict[int, Fraction]:
    """Each positive weight's share of the slots, exact, so that input order cannot matter."""
    wrong = {i: w for i, w in weights.items() if not (math.isfinite(w) and w >= 0)}
    if wrong:
        raise ValueError(f"weights must be finite and not negative: {wrong}")
    exact = {index: Fraction(weights[index]) for index in sorted(weights) if weights[index] > 0}
    total = sum(exact.values())
    return {index: weight * SLOTS / total for index, weight in exact.items()}


def _kept(previous: tuple[int | None, ...], wanted: Mapping[int, int]) -> list[int | None]:
    """The previous table with every slot beyond its owner's quota freed, the last ones first."""
    left = dict(wanted)
    kept: list[int | None] = []
    for owner in previous:
        keeps = owner is not None and left.get(owner, 0) > 0
        kept.append(owner if keeps else None)
        if owner is not None and keeps:
            left[owner] -= 1
    return kept


def _filled(kept: list[int | None], wanted: Mapping[int, int]) -> SlotTable:
    """The kept slots, with the free ones dealt in turn to the nodes that still lack some."""
    lacking = Counter(wanted)
    lacking.subtract(owner for owner in kept if owner is not None)
    takers = iter(_dealt({index: count for index, count in lacking.items() if count > 0}))
    return tuple(owner if owner is not None else next(takers) for owner in kept)


def _dealt(lacking: Mapping[int, int]) -> list[int]:
    """Indexes, each as often as it lacks slots, spread evenly over the sequence."""
    places = [
        ((2 * nth + 1) / (2 * count), index)
        for index, count in lacking.items()
        for nth in range(count)
    ]
    return [index for _, index in sorted(places)]
