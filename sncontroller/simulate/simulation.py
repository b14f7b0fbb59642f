"""A trace through a policy: the loop, and what comes out of it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat, PositiveInt

from sncontroller.core.scaling import Memory, Observation, ScalingSpec, decide
from sncontroller.simulate.fleet import Fleet
from sncontroller.simulate.traces import DAY_S, Trace
from sncontroller.simulate.tracker import Tracker

MONDAY_S = 20_454 * DAY_S
"""Second 0 of a simulation is a Monday's midnight, UTC, so that schedules make sense."""
START_TARGET = 0.85


class Setting(BaseModel):
    """What the simulated nodes are like."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    boot_s: NonNegativeFloat = Field(
        30.0, allow_inf_nan=False, description="From request to rotation."
    )
    poll_s: PositiveInt = Field(1, description="Seconds between two decisions.")
    visible_load: PositiveFloat = Field(
        default=math.inf,
        description="Highest load that can be measured: inf where the offered load is seen "
        "(new flows at the switch), 1 where only the served one is (bits through the node).",
    )
    drain_deadline_s: NonNegativeFloat = 300.0
    flow_life_s: PositiveFloat = Field(5.0, description="Mean length of a flow.")
    flows_per_node: PositiveFloat = Field(1000.0, description="Flows on a node at load 1.0.")


@dataclass(frozen=True, slots=True)
class ScaleEvent:
    """One change of the wanted number."""

    second: int
    before: int
    after: int
    reason: str


@dataclass(frozen=True, slots=True)
class Result:
    """What a policy did with a trace, and what that cost."""

    trace: str
    policy: str
    seconds: int
    history_s: int
    """Seconds lived through before."""
    violation_s: int
    node_hours: float
    optimum_node_hours: float
    flows_moved: float
    slots_moved: int
    events: tuple[ScaleEvent, ...]
    serving: tuple[int, ...]
    """Serving nodes, second by second."""
    nodes: tuple[int, ...]
    """Existing nodes, second by second: those that cost."""

    @property
    def slo_violation_share(self) -> float:
        """The share of the seconds in which load was above 1.0."""
        return self.violation_s / self.seconds

    @property
    def optimum_ratio(self) -> float:
        """Node-hours over those of one who knows each second's demand and needs no boot."""
        return self.node_hours / self.optimum_node_hours


@dataclass(slots=True)
class _Policy:
    """The core's policy, with its memory."""

    spec: ScalingSpec
    memory: Memory = field(default_factory=Memory)

    def wanted(self, fleet: Fleet, load: float, boot_s: float, now: float) -> tuple[int, str]:
        seen = Observation(
            loads=dict.fromkeys(fleet.serving, load),
            serving=len(fleet.serving),
            starting=len(fleet.starting),
            draining=len(fleet.draining),
            boot_s=boot_s,
        )
        decision, self.memory = decide(self.spec, self.memory, seen, now)
        return decision.wanted, decision.reason


@dataclass(slots=True)
class _Baseline:
    """The 25-line tracker in a policy's place; it sees the true demand."""

    tracker: Tracker = field(default_factory=Tracker)

    def wanted(self, fleet: Fleet, load: float, boot_s: float, now: float) -> tuple[int, str]:
        wanted = self.tracker.wanted(load * len(fleet.serving), now)
        return wanted, "25-line tracker"


def run(
    trace: Trace,
    spec: ScalingSpec | None,
    setting: Setting | None = None,
    *,
    name: str | None = None,
    history: Sequence[Trace] = (),
) -> Result:
    """What ``spec`` does with ``trace``; None is the 25-line tracker.

    ``history`` are the traces of the days before: they are lived through, and not counted.
    """
    setting = setting or Setting()
    policy = _Baseline() if spec is None else _Policy(spec)
    second = first = -sum(len(before.demand) for before in history)
    fleet = _fleet((*history, trace)[0], setting)
    for before in history:
        _lived(before, policy, fleet, setting, second)
        second += len(before.demand)
    fleet.slots_moved, fleet.flows_moved = 0, 0.0
    serving, nodes, violation_s, events = _lived(trace, policy, fleet, setting, second)
    return Result(
        trace=trace.name,
        policy=name or ("tracker" if spec is None else spec.policy.value),
        seconds=len(trace.demand),
        history_s=-first,
        violation_s=violation_s,
        node_hours=sum(nodes) / 3600,
        optimum_node_hours=sum(max(1, math.ceil(d)) for d in trace.demand) / 3600,
        flows_moved=fleet.flows_moved,
        slots_moved=fleet.slots_moved,
        events=tuple(events),
        serving=tuple(serving),
        nodes=tuple(nodes),
    )


def _fleet(trace: Trace, setting: Setting) -> Fleet:
    """A fleet that is right for the trace's first minute."""
    first = trace.demand[:60]
    count = max(1, math.ceil(sum(first) / len(first) / START_TARGET))
    return Fleet(
        setting.boot_s,
        setting.drain_deadline_s,
        setting.flow_life_s,
        setting.flows_per_node,
        list(range(1, count + 1)),
    )


def _lived(
    trace: Trace, policy: _Policy | _Baseline, fleet: Fleet, setting: Setting, start: int
) -> tuple[list[int], list[int], int, list[ScaleEvent]]:
    """A trace lived through: serving and existing nodes per second, violations, events."""
    serving, nodes, events = [], [], []
    violation_s, before = 0, len(fleet.serving) + len(fleet.starting)
    for second, demand in enumerate(trace.demand):
        now = MONDAY_S + start + second
        fleet.advance(now)
        load = demand / len(fleet.serving)
        violation_s += load > 1.0
        if second % setting.poll_s == 0:
            measured = min(load, setting.visible_load)
            wanted, reason = policy.wanted(fleet, measured, setting.boot_s, now)
            if wanted != before:
                events.append(ScaleEvent(second, before, wanted, reason))
                fleet.ensure(wanted, load, now)
                before = wanted
        serving.append(len(fleet.serving))
        nodes.append(fleet.cost)
    return serving, nodes, violation_s, events
