"""How many nodes a group wants, and why.

``decide(spec, memory, observation, now)`` is the whole interface: what was seen goes in, the wanted
number of nodes with a one-line reason comes out, with the memory for the next call. Nothing here
starts or drains a node, and nothing here knows where loads come from.

    values      what goes in and comes out
    spec        the ``scaling:`` section of a group
    demand      how much work there is, where it is heading, and how much it trembles
    pattern     what the same minute was like yesterday and a week ago
    cron        when a schedule's floor holds
    policies    one function per policy: what it would like
    limits      what keeps a policy in bounds: windows, step limits, cooldowns, minimum, maximum
    decide      the way through all of these

What every decision makes anew is a ``NamedTuple``: a frozen dataclass of eight fields takes four
times as long to make, which was a third of a decision. What changes seldom is a frozen dataclass.
"""

from sncontroller.core.scaling.decide import decide
from sncontroller.core.scaling.demand import Demand
from sncontroller.core.scaling.headroom import Headroom
from sncontroller.core.scaling.pattern import Pattern
from sncontroller.core.scaling.spec import (
    AUTO,
    Behavior,
    Direction,
    Floor,
    Growth,
    LimitKind,
    ManualSpec,
    Policy,
    PredictiveSpec,
    ScalingSpec,
    ScheduleSpec,
    Select,
    Shrinking,
    StepLimit,
    TargetSpec,
    ThresholdSpec,
    policy_of,
)
from sncontroller.core.scaling.values import Decision, Memory, Observation

__all__ = [
    "AUTO",
    "Behavior",
    "Decision",
    "Demand",
    "Direction",
    "Floor",
    "Growth",
    "Headroom",
    "LimitKind",
    "ManualSpec",
    "Memory",
    "Observation",
    "Pattern",
    "Policy",
    "PredictiveSpec",
    "ScalingSpec",
    "ScheduleSpec",
    "Select",
    "Shrinking",
    "StepLimit",
    "TargetSpec",
    "ThresholdSpec",
    "decide",
    "policy_of",
]
