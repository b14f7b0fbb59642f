"""The ``scaling:`` section of a group, one model per policy.

Owns names, bounds, defaults and what must hold between fields. What the fields do is said in
``docs/scaling.md`` and done in the other modules.
"""

from __future__ import annotations

from enum import StrEnum
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    Tag,
    field_validator,
    model_validator,
)

from sncontroller.core.scaling import cron
from sncontroller.core.slots import SLOTS

AUTO: Literal["auto"] = "auto"
"""A target that is as high as the measured tremble of the demand allows."""

LONGEST_PERIOD_S = 3600.0
"""The longest window, step limit's period or cooldown."""


class Policy(StrEnum):
    """The policies by their names in the configuration."""

    THRESHOLD = "threshold"
    TARGET = "target"
    PREDICTIVE = "predictive"
    SCHEDULE = "schedule"
    MANUAL = "manual"


class LimitKind(StrEnum):
    """What a step limit counts in."""

    NODES = "nodes"
    PERCENT = "percent"


class Select(StrEnum):
    """Which of several step limits holds: the widest, the narrowest, or no step at all."""

    MAX = "max"
    MIN = "min"
    DISABLED = "disabled"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class StepLimit(_Model):
    """At most ``value`` nodes, or per cent of them, within ``period_s``."""

    type: LimitKind
    value: PositiveInt
    period_s: PositiveFloat = Field(default=15.0, le=LONGEST_PERIOD_S)


class Direction(_Model):
    """How fast one direction may go."""

    stabilization_window_s: NonNegativeFloat = Field(
        default=0.0,
        le=LONGEST_PERIOD_S,
        description="Act on the most cautious wish of this window: going up on the lowest, going "
        "down on the highest.",
    )
    policies: tuple[StepLimit, ...] = Field(default=(), description="An empty list: no limit.")
    select_policy: Select = Select.MAX


class Growth(Direction):
    """How fast a group may grow; each key that is left out is as HPA has it."""

    policies: tuple[StepLimit, ...] = (
        StepLimit(type=LimitKind.PERCENT, value=100),
        StepLimit(type=LimitKind.NODES, value=4),
    )


class Shrinking(Direction):
    """How fast a group may shrink; each key that is left out is as HPA has it."""

    stabilization_window_s: NonNegativeFloat = Field(default=300.0, le=LONGEST_PERIOD_S)
    policies: tuple[StepLimit, ...] = (StepLimit(type=LimitKind.PERCENT, value=100),)


class Behavior(_Model):
    """How fast a group may grow and shrink: the semantics of Kubernetes' HPA v2 ``behavior``."""

    scale_up: Growth = Growth()
    scale_down: Shrinking = Shrinking()

    @cached_property
    def longest_window_s(self) -> float:
        """How far back wishes matter."""
        windows = (self.scale_up.stabilization_window_s, self.scale_down.stabilization_window_s)
        return max(windows)


class _Bounded(_Model):
    """What all policies share. Counts include the primary."""

    min: PositiveInt = Field(default=1, le=SLOTS, description="Never fewer nodes than this.")
    max: PositiveInt = Field(default=8, le=SLOTS, description="Never more nodes than this.")

    @model_validator(mode="after")
    def _min_not_above_max(self) -> _Bounded:
        if self.min > self.max:
            raise ValueError(f"min {self.min} is above max {self.max}")
        return self


class _Automatic(_Bounded):
    """What all policies that follow load share."""

    up_cooldown_s: NonNegativeFloat = Field(
        default=0.0,
        le=LONGEST_PERIOD_S,
        description="No second growth sooner than this after the first.",
    )
    down_cooldown_s: NonNegativeFloat = Field(
        default=0.0,
        le=LONGEST_PERIOD_S,
        description="No shrinking sooner than this after any change.",
    )


class ThresholdSpec(_Automatic):
    """Add nodes when the load stays above a mark, remove them when it stays below another."""

    policy: Literal[Policy.THRESHOLD] = Policy.THRESHOLD
    high: float = Field(default=0.8, gt=0, le=1)
    low: float = Field(default=0.3, ge=0, lt=1)
    high_for_s: NonNegativeFloat = 5.0
    low_for_s: NonNegativeFloat = 60.0
    step_up: PositiveInt = 1
    step_down: PositiveInt = 1
    up_cooldown_s: NonNegativeFloat = Field(default=15.0, le=LONGEST_PERIOD_S)
    down_cooldown_s: NonNegativeFloat = Field(default=60.0, le=LONGEST_PERIOD_S)

    @model_validator(mode="after")
    def _low_cannot_bounce(self) -> ThresholdSpec:
        """Shrinking at ``low`` to ``min`` nodes must leave a load under ``high``.

        ``min + step_down`` nodes at ``low`` is where one removal raises the load the most.
        """
        if self.min >= self.max:
            return self
        step = min(self.step_down, self.max - self.min)
        after = self.low * (self.min + step) / self.min
        if after >= self.high:
            raise ValueError(
                f"low {self.low:g} is too close to high {self.high:g}: going from "
                f"{self.min + step} to {self.min} nodes at {self.low:g} makes {after:.2f}; "
                f"low must be under {self.high * self.min / (self.min + step):.2f}"
            )
        return self


class TargetSpec(_Automatic):
    """Keep the mean load near a target: n nodes at load l want n x l / target nodes."""

    policy: Literal[Policy.TARGET] = Policy.TARGET
    target: Annotated[float, Field(gt=0, le=0.95)] | Literal["auto"] = Field(
        default=AUTO,
        description="A load up to 0.95, as in Kubernetes, or auto: as high as the demand's "
        "tremble, measured over the last hour, allows without load 1.0 being passed.",
    )
    tolerance: float = Field(
        default=0.1, ge=0, lt=1, description="Relative distance from a numeric target left alone."
    )
    behavior: Behavior = Behavior()


class PredictiveSpec(TargetSpec):
    """As target, plus what the same minutes were like yesterday and a week ago."""

    policy: Literal[Policy.PREDICTIVE] = Policy.PREDICTIVE  # type: ignore[assignment]
    ahead_s: NonNegativeFloat = Field(
        default=0.0, le=3600, description="Look this much further ahead than a boot takes."
    )
    trust_error: float = Field(
        default=0.15,
        gt=0,
        le=1,
        description="Mean relative error of the last half hour above which a pattern is not used.",
    )


class Floor(_Model):
    """At least ``nodes`` nodes for ``for_s`` seconds from each time ``cron`` fires."""

    cron: str
    for_s: PositiveFloat = Field(le=7 * 86400)
    nodes: PositiveInt = Field(le=SLOTS)
    timezone: str = "UTC"

    @field_validator("cron")
    @classmethod
    def _parses(cls, value: str) -> str:
        cron.parsed(value)
        return value

    @field_validator("timezone")
    @classmethod
    def _known(cls, value: str) -> str:
        cron.zone_of(value)
        return value


class ScheduleSpec(TargetSpec):
    """As target, above a floor that a calendar sets."""

    policy: Literal[Policy.SCHEDULE] = Policy.SCHEDULE  # type: ignore[assignment]
    floors: tuple[Floor, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _floors_within_max(self) -> ScheduleSpec:
        for floor in self.floors:
            if floor.nodes > self.max:
                raise ValueError(f"floor {floor.cron!r}: {floor.nodes} nodes, but max {self.max}")
        return self


class ManualSpec(_Bounded):
    """As many nodes as an operator says."""

    policy: Literal[Policy.MANUAL] = Policy.MANUAL
    nodes: PositiveInt = 1

    @model_validator(mode="after")
    def _nodes_in_bounds(self) -> ManualSpec:
        if not self.min <= self.nodes <= self.max:
            raise ValueError(f"nodes {self.nodes} is not within {self.min} to {self.max}")
        return self


def policy_of(raw: Any) -> str:
    """The policy that a raw section or a spec names; ``target`` when it names none."""
    named = raw.get("policy") if isinstance(raw, dict) else getattr(raw, "policy", None)
    return Policy.TARGET.value if named is None else str(getattr(named, "value", named))


ScalingSpec = Annotated[
    Annotated[ThresholdSpec, Tag("threshold")]
    | Annotated[TargetSpec, Tag("target")]
    | Annotated[PredictiveSpec, Tag("predictive")]
    | Annotated[ScheduleSpec, Tag("schedule")]
    | Annotated[ManualSpec, Tag("manual")],
    Discriminator(
        policy_of,
        custom_error_type="policy",
        custom_error_message="policy must be threshold, target, predictive, schedule or manual",
    ),
]
