"""core.scaling.spec: the section's defaults, bounds, and what must hold between its fields."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from sncontroller.core.scaling import (
    AUTO,
    Behavior,
    ManualSpec,
    PredictiveSpec,
    ScalingSpec,
    ScheduleSpec,
    TargetSpec,
    ThresholdSpec,
    policy_of,
)

ADAPTER: TypeAdapter[ScalingSpec] = TypeAdapter(ScalingSpec)
FLOOR = {"cron": "0 8 * * 1-5", "for_s": 3600, "nodes": 3}


@pytest.mark.parametrize(
    ("section", "kind"),
    [
        ({}, TargetSpec),
        ({"policy": "threshold"}, ThresholdSpec),
        ({"policy": "target", "target": 0.7}, TargetSpec),
        ({"policy": "predictive", "ahead_s": 60}, PredictiveSpec),
        ({"policy": "schedule", "floors": [FLOOR]}, ScheduleSpec),
        ({"policy": "manual"}, ManualSpec),
    ],
)
def test_the_policy_chooses_the_model(section: dict[str, Any], kind: type) -> None:
    """Without a policy it is target; a spec goes through its own dump unchanged."""
    spec = ADAPTER.validate_python(section)
    assert type(spec) is kind
    assert ADAPTER.validate_python(ADAPTER.dump_python(spec, mode="json")) == spec
    assert policy_of(spec) == spec.policy.value
    assert policy_of(section) == section.get("policy", "target")


def test_the_default_target_is_auto() -> None:
    """And its behaviour is the one that Kubernetes has by default."""
    spec = TargetSpec()
    assert spec.target == AUTO
    assert spec.behavior.scale_down.stabilization_window_s == 300
    assert spec.behavior.scale_up.stabilization_window_s == 0
    assert [(p.type.value, p.value) for p in spec.behavior.scale_up.policies] == [
        ("percent", 100),
        ("nodes", 4),
    ]


def test_what_a_behaviour_leaves_out_is_as_in_kubernetes() -> None:
    """A step limit does not end the window, nor a window the step limits."""
    limit = {"type": "nodes", "value": 1, "period_s": 60}
    down = Behavior.model_validate({"scale_down": {"policies": [limit]}}).scale_down
    assert down.stabilization_window_s == 300
    assert [(p.type.value, p.value, p.period_s) for p in down.policies] == [("nodes", 1, 60)]
    up = Behavior.model_validate({"scale_up": {"stabilization_window_s": 60}}).scale_up
    assert up.policies == Behavior().scale_up.policies
    assert Behavior.model_validate({"scale_up": {"policies": []}}).scale_up.policies == ()


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"policy": "magic"}, "policy must be threshold, target"),
        ({"policy": 7}, "policy must be threshold, target"),
        ({"min": 0}, "greater than 0"),
        ({"max": 257}, "less than or equal to 256"),
        ({"min": 5, "max": 4}, "min 5 is above max 4"),
        ({"target": 0}, "greater than 0"),
        ({"target": 1.0}, "less than or equal to 0.95"),
        ({"target": "fast"}, "auto"),
        ({"policy": "threshold", "high": 0.8, "low": 0.4}, "low must be under 0.40"),
        (
            {"policy": "threshold", "high": 0.9, "low": 0.7, "min": 4, "step_down": 2},
            "from 6 to 4 nodes at 0.7 makes 1.05; low must be under 0.60",
        ),
        ({"policy": "schedule"}, "Field required"),
        ({"policy": "schedule", "floors": []}, "at least 1"),
        ({"policy": "schedule", "floors": [FLOOR | {"cron": "x"}]}, "want 5 fields"),
        ({"policy": "schedule", "floors": [FLOOR | {"nodes": 9}]}, "9 nodes, but max 8"),
        ({"policy": "schedule", "floors": [FLOOR | {"timezone": "Mars/X"}]}, "no time zone"),
        ({"policy": "schedule", "floors": [FLOOR | {"timezone": "../x"}]}, "no time zone"),
        ({"policy": "manual", "nodes": 9}, "nodes 9 is not within 1 to 8"),
        ({"policy": "manual", "target": 0.5}, "not permitted"),
        ({"down_cooldown_s": 1e9}, "less than or equal to 3600"),
    ],
)
def test_wrong_sections(section: dict[str, Any], message: str) -> None:
    """Every complaint says what would be right."""
    with pytest.raises(ValidationError, match=message):
        ADAPTER.validate_python(section)


def test_marks_are_free_where_nothing_can_shrink() -> None:
    """With min equal to max the marks cannot make it bounce."""
    spec = ThresholdSpec(min=2, max=2, high=0.5, low=0.49)
    assert spec.low == 0.49


def test_known_time_zones() -> None:
    """A floor may follow the office's clock."""
    section = {"policy": "schedule", "floors": [FLOOR | {"timezone": "Europe/Berlin"}]}
    assert ADAPTER.validate_python(section).floors[0].timezone == "Europe/Berlin"
