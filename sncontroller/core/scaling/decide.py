"""The way through: measure, ask the policy, hold back, bound, give the reason."""

from __future__ import annotations

from typing import NamedTuple

from sncontroller.core.scaling import demand as demands
from sncontroller.core.scaling import limits, pattern, policies
from sncontroller.core.scaling.limits import Change, PastWish, Wish
from sncontroller.core.scaling.policies import Marks, Proposal, Reason, Situation
from sncontroller.core.scaling.spec import (
    Behavior,
    Growth,
    ManualSpec,
    PredictiveSpec,
    ScalingSpec,
    ScheduleSpec,
    Shrinking,
    TargetSpec,
    ThresholdSpec,
)
from sncontroller.core.scaling.values import Ceiling, Decision, Memory, Observation

DEFAULT_BOOT_S = 30.0
"""How long a node is taken to need until the first one was measured."""
CEILING_STEP_S = 15.0
CEILING_MOST = 4

UNLIMITED = Behavior(
    scale_up=Growth(policies=()), scale_down=Shrinking(stabilization_window_s=0, policies=())
)


class _Measured(NamedTuple):
    """The loads of an observation in two numbers."""

    demand: float
    """In nodes' worth; a node without a known load counts as the mean of the others."""
    load: float
    complete: bool


def decide(
    spec: ScalingSpec, memory: Memory, observation: Observation, now: float
) -> tuple[Decision, Memory]:
    """How many nodes to have at ``now``, and the memory for the next call.

    Call it at every poll, with loads of that poll. Without any known load the number stays; with
    some unknown, or known in part, it does not shrink. The result is always within the spec's
    ``min`` and ``max``.
    """
    measured = _measured(observation)
    if measured is not None:
        memory = _observed(spec, memory, observation, measured, now)
    if memory.wanted is None:
        found = observation.serving + observation.starting
        memory = _begun(memory._replace(wanted=found, reason=f"found with {_nodes(found)}"), now)
    if observation.override is not None:
        memory = _begun(memory, now, observation.override)
        return _settled(
            spec, memory, observation.override, lambda: "asked for by the operator", now
        )
    if isinstance(spec, ManualSpec):
        memory = _begun(memory, now, spec.nodes)
        return _settled(spec, memory, spec.nodes, lambda: "set in the configuration", now)
    if measured is None:
        return _settled(spec, memory, memory.wanted or 0, lambda: memory.reason, now)
    proposal, marks = _proposed(spec, memory, observation, measured, now)
    number, reason, memory = _held_back(spec, memory, proposal, marks, measured.complete, now)
    return _settled(spec, memory, number, reason, now)


def _begun(memory: Memory, now: float, number: int | None = None) -> Memory:
    """The memory as if a policy had wished for the number now: windows and marks begin here."""
    wished = memory.wanted or 0 if number is None else number
    return memory.wishing((PastWish(now, wished, wished),), Marks())


def _measured(observation: Observation) -> _Measured | None:
    """The loads in two numbers; None when no load is known."""
    known = [load for load in observation.loads.values() if load is not None]
    if not known:
        return None
    mean = sum(known) / len(known)
    nodes = max(observation.serving, len(known))
    return _Measured(mean * nodes, mean, len(known) == nodes and observation.complete)


def _observed(
    spec: ScalingSpec, memory: Memory, observation: Observation, measured: _Measured, now: float
) -> Memory:
    """The memory with one more sample of demand in it."""
    demand = demands.observed(
        memory.demand, measured.demand, measured.load, now, _lead_s(observation)
    )
    ceiling = _ceiling(memory.ceiling, demands.pinned(demand), observation, now)
    past = memory.pattern
    if isinstance(spec, PredictiveSpec) and ceiling is None:
        past = pattern.observed(past, measured.demand, now)
    return Memory(
        memory.wanted,
        memory.reason,
        memory.changes,
        memory.wishes,
        memory.marks,
        ceiling,
        demand,
        past,
    )


def _ceiling(
    ceiling: Ceiling | None, pinned: bool, observation: Observation, now: float
) -> Ceiling | None:
    """Since when these serving nodes have been at their ceiling.

    When ordered nodes join and it is still so, those yet to come get time to show what they do.
    """
    if not pinned:
        return None
    if ceiling is None:
        return Ceiling(now, observation.serving)
    if observation.serving == ceiling.serving:
        return ceiling
    grace_s = CEILING_STEP_S if observation.starting else 0.0
    return Ceiling(now + grace_s, observation.serving)


def _proposed(
    spec: ThresholdSpec | TargetSpec,
    memory: Memory,
    observation: Observation,
    measured: _Measured,
    now: float,
) -> tuple[Proposal, Marks]:
    """What the policy would like, and its marks.

    Marks have durations of their own, so ``threshold`` looks at the load as it is now.
    """
    seen = Situation(
        current=memory.wanted or 1,
        serving=max(1, observation.serving),
        demand=memory.demand,
        level=measured.demand if isinstance(spec, ThresholdSpec) else memory.demand.level,
        lead_s=_lead_s(observation),
        now=now,
    )
    if isinstance(spec, ThresholdSpec):
        return policies.threshold(spec, seen, memory.marks)
    if isinstance(spec, PredictiveSpec):
        proposal = policies.predictive(spec, seen, memory.pattern)
    elif isinstance(spec, ScheduleSpec):
        proposal = policies.schedule(spec, seen)
    else:
        proposal = policies.target(spec, seen)
    return _raised(proposal, memory.ceiling, seen), memory.marks


def _raised(proposal: Proposal, ceiling: Ceiling | None, seen: Situation) -> Proposal:
    """The proposal, or more when the nodes are at their ceiling and hide how much is offered.

    Twice the serving nodes at first; once more in the middle of a boot, and so on up to four times.
    """
    if ceiling is None or seen.now < ceiling.since_s:
        return proposal
    step_s = max(CEILING_STEP_S, seen.lead_s / 2)
    times = min(CEILING_MOST, 2 + int((seen.now - ceiling.since_s) / step_s))
    nodes = times * ceiling.serving
    if nodes <= proposal.wish.up:
        return proposal
    return Proposal(
        Wish(nodes, max(nodes, proposal.wish.down)),
        lambda: (
            f"{_nodes(ceiling.serving)} at the ceiling, so demand cannot be seen: "
            f"{times} times that"
        ),
    )


def _held_back(
    spec: ThresholdSpec | TargetSpec,
    memory: Memory,
    proposal: Proposal,
    marks: Marks,
    complete: bool,
    now: float,
) -> tuple[int, Reason, Memory]:
    """The number after windows, cooldowns and step limits, why, and the memory of the wish."""
    current = memory.wanted or 0
    behavior = spec.behavior if isinstance(spec, TargetSpec) else UNLIMITED
    wish = proposal.wish
    if not complete:
        wish = Wish(wish.up, max(current, wish.down))
    wishes = limits.remembered(memory.wishes, wish, now, behavior.longest_window_s)
    memory = memory.wishing(wishes, marks)
    if wish.up <= current <= wish.down:  # no window, which is more cautious, makes that a change
        return current, proposal.reason, memory
    steadied = limits.steadied(wishes, behavior, now, proposal.steady)
    if steadied.up > current and limits.rested(memory.changes, spec.up_cooldown_s, now, grew=True):
        bound = limits.highest(behavior.scale_up, memory.changes, current, now)
        number, wished = int(min(steadied.up, bound)), steadied.up
    elif steadied.down < current and limits.rested(memory.changes, spec.down_cooldown_s, now):
        bound = limits.lowest(behavior.scale_down, memory.changes, current, now)
        number, wished = int(max(steadied.down, bound)), steadied.down
    else:
        number = wished = current
    held = "" if number == wished else f" ({wished} wanted, one step for now)"
    return number, lambda: f"{proposal.reason()}{held}", memory


def _settled(
    spec: ScalingSpec, memory: Memory, number: int, reason: Reason, now: float
) -> tuple[Decision, Memory]:
    """The decision within the spec's bounds, and the memory that knows of a change."""
    wanted = min(max(number, spec.min), spec.max)
    if wanted == memory.wanted:
        return Decision(wanted, memory.reason), memory
    text = reason()
    if wanted != number:
        bound = f"min {spec.min}" if wanted > number else f"max {spec.max}"
        text = f"{text} ({bound})"
    change = Change(now, wanted - (memory.wanted or 0))
    changes = limits.kept(memory.changes, change)
    return Decision(wanted, text), memory._replace(wanted=wanted, reason=text, changes=changes)


def _lead_s(observation: Observation) -> float:
    """How long a node ordered now will take."""
    return DEFAULT_BOOT_S if observation.boot_s is None else observation.boot_s


def _nodes(count: int) -> str:
    return f"{count} node{'' if count == 1 else 's'}"
