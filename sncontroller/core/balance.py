"""How new flows are spread: the weight of every node of a group.

Owns the weights and the memory behind the ones that follow load. Weights become slots in
``slots.slot_table``; which nodes may serve at all is lifecycle's business and comes in as
``serving``. Existing flows are never touched by a weight.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, model_validator

RAMP_STEPS = 5
"""A slow start rises in this many steps: each is a new table on the switch."""

WEIGHT_SPAN = 16.0
"""Following load, no node gets more than this times, or less than a 16th of, an average share."""


class BalanceKind(StrEnum):
    """What the weights follow."""

    EVEN = "even"
    WEIGHTED = "weighted"
    LEAST_LOAD = "least-load"
    ROUND_ROBIN = "round-robin"
    LEAST_CONNECTIONS = "least-connections"


EXACT = frozenset({BalanceKind.ROUND_ROBIN, BalanceKind.LEAST_CONNECTIONS})
"""Kinds that choose flow by flow: somebody must be asked about each."""


class BalanceSpec(BaseModel):
    """How a group spreads its new flows."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    kind: BalanceKind = BalanceKind.EVEN
    weights: dict[Annotated[int, Field(ge=1, le=4095)], PositiveFloat] = Field(
        default_factory=dict,
        description="Weight of a node by its index; 1 for every other. For all kinds but even; "
        "for least-load it is where the weights start.",
    )
    ramp_s: float = Field(
        default=0.0, ge=0, description="Slow start: a new node's share rises over this time."
    )
    interval_s: PositiveFloat = Field(
        default=10.0, description="least-load: how often the weights follow the loads."
    )
    gain: float = Field(
        default=0.5, gt=0, le=1, description="least-load: share of the imbalance mended each time."
    )
    band: float = Field(
        default=0.1, ge=0, lt=1, description="least-load: imbalance that is left alone."
    )

    @model_validator(mode="after")
    def _weights_are_used(self) -> BalanceSpec:
        if self.weights and self.kind is BalanceKind.EVEN:
            kinds = ", ".join(kind.value for kind in BalanceKind if kind is not BalanceKind.EVEN)
            raise ValueError(f"weights need kind: one of {kinds}")
        return self


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as balance sees it."""

    index: int
    serving: bool
    """False gets no slot: booting, draining, failed."""
    since_s: float | None = None
    """When it began to serve; None for one that needs no slow start, as the primary at start."""


@dataclass(frozen=True, slots=True)
class BalanceMemory:
    """What least-load has learnt: each node's weight, and when it last followed the loads."""

    learnt: tuple[tuple[int, float], ...] = ()
    at_s: float | None = None


def learnt_from(spec: BalanceSpec, slots: Collection[int]) -> BalanceMemory:
    """What least-load had learnt, read back from the slot table that came of it."""
    if spec.kind is not BalanceKind.LEAST_LOAD:
        return BalanceMemory()
    owned = Counter(slots)
    return BalanceMemory(
        tuple((index, owned[index] * len(owned) / len(slots)) for index in sorted(owned))
    )


def weights(
    spec: BalanceSpec,
    nodes: Iterable[Candidate],
    loads: Mapping[int, float | None],
    memory: BalanceMemory,
    now: float,
) -> tuple[dict[int, float], BalanceMemory]:
    """Every node's weight by index (0: no new flows), and the memory for the next call.

    ``loads`` matters to least-load only: a node without a known load keeps its weight.
    """
    everyone = sorted(nodes, key=lambda node: node.index)
    if spec.kind is BalanceKind.LEAST_LOAD:
        memory = _followed(spec, everyone, loads, memory, now)
    learnt = dict(memory.learnt)
    result = {
        node.index: _base(spec, learnt, node.index) * _ramp(spec.ramp_s, node, now)
        for node in everyone
    }
    return result, memory


def _base(spec: BalanceSpec, learnt: Mapping[int, float], index: int) -> float:
    """A node's weight before slow start."""
    if spec.kind is BalanceKind.EVEN:
        return 1.0
    return learnt.get(index, spec.weights.get(index, 1.0))


def _ramp(ramp_s: float, node: Candidate, now: float) -> float:
    """The factor of slow start: a fifth at first, 1 after ``ramp_s``; 0 when not serving."""
    if not node.serving:
        return 0.0
    if node.since_s is None or now - node.since_s >= ramp_s:
        return 1.0
    step = int(max(0.0, now - node.since_s) / ramp_s * RAMP_STEPS)
    return (step + 1) / RAMP_STEPS


def _followed(
    spec: BalanceSpec,
    nodes: list[Candidate],
    loads: Mapping[int, float | None],
    memory: BalanceMemory,
    now: float,
) -> BalanceMemory:
    """The memory after following the loads, at most every ``interval_s``.

    A node's next weight is its weight times (mean load / its load) to the power ``gain``: gain 1
    would even out at once if load followed weight at once, less leaves time for flows to end.
    """
    if memory.at_s is not None and now - memory.at_s < spec.interval_s:
        return memory
    learnt = dict(memory.learnt)
    current = {node.index: _base(spec, learnt, node.index) for node in nodes}
    known = {
        node.index: load
        for node in nodes
        if (load := loads.get(node.index)) is not None and _ramp(spec.ramp_s, node, now) == 1.0
    }
    mean = sum(known.values()) / len(known) if known else 0.0
    if mean <= 0 or all(abs(load / mean - 1) <= spec.band for load in known.values()):
        return BalanceMemory(tuple(current.items()), now)
    for index, load in known.items():
        ratio = min(max(mean / load, 1 / WEIGHT_SPAN), WEIGHT_SPAN) if load > 0 else WEIGHT_SPAN
        current[index] *= ratio**spec.gain
    return BalanceMemory(_normalised(current), now)


def _normalised(current: Mapping[int, float]) -> tuple[tuple[int, float], ...]:
    """The weights scaled to mean 1 and kept within the span, so that they cannot drift away."""
    mean = sum(current.values()) / len(current)
    bounded = {
        index: min(max(weight / mean, 1 / WEIGHT_SPAN), WEIGHT_SPAN)
        for index, weight in current.items()
    }
    return tuple(bounded.items())
