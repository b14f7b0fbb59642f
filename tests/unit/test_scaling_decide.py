"""core.scaling.decide: every policy, its reasons, and what holds for all of them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter

from sncontroller.core.scaling import (
    Decision,
    Memory,
    Observation,
    ScalingSpec,
    decide,
)

ADAPTER: TypeAdapter[ScalingSpec] = TypeAdapter(ScalingSpec)
START_S = 1_767_571_200.0
"""Monday, 5 January 2026, 00:00 UTC."""


def spec_of(policy: str, **section: Any) -> ScalingSpec:
    """A specification, as the configuration would give it."""
    return ADAPTER.validate_python({"policy": policy, **section})


@dataclass
class Group:
    """A group whose nodes boot in ``boot_s``, with the decisions made for it."""

    spec: ScalingSpec
    boot_s: float = 10.0
    serving: int = 1
    top: float = float("inf")
    """Highest load that can be seen."""
    now: float = START_S
    starting: list[float] = field(default_factory=list)
    memory: Memory = field(default_factory=Memory)
    poll_s: int = 1
    decision: Decision | None = None
    wanted: list[int] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)

    def live(self, seconds: int, demand: Callable[[float], float] | float, **seen: Any) -> Decision:
        """Let time pass, a poll per decision; ``demand`` is a number or one by the second."""
        for second in range(0, seconds, self.poll_s):
            worth = demand(second) if callable(demand) else demand
            self.decision = self.poll(worth, **seen)
        assert self.decision is not None
        return self.decision

    def poll(self, worth: float, **seen: Any) -> Decision:
        """One poll: nodes come up, one decision is made and carried out."""
        ready = [at_s for at_s in self.starting if at_s <= self.now]
        self.starting = [at_s for at_s in self.starting if at_s > self.now]
        self.serving += len(ready)
        load = min(worth / self.serving, self.top)
        loads = dict.fromkeys(range(1, self.serving + 1), load)
        observation = Observation(
            **{
                "loads": loads,
                "serving": self.serving,
                "starting": len(self.starting),
                "boot_s": self.boot_s,
                **seen,
            }
        )
        decision, self.memory = decide(self.spec, self.memory, observation, self.now)
        if decision != self.decision:
            self.reasons.append(decision.reason)
        self.wanted.append(decision.wanted)
        lacking = decision.wanted - self.serving - len(self.starting)
        self.starting += [self.now + self.boot_s] * max(0, lacking)
        for _ in range(-lacking):
            if self.starting:
                self.starting.pop()
            else:
                self.serving -= 1
        self.now += self.poll_s
        return decision


def noisy(level: float, share: float, seed: int = 1) -> Callable[[float], float]:
    """A level that trembles evenly by plus and minus ``share``."""
    draw = random.Random(seed)
    return lambda _: level * (1 + share * (2 * draw.random() - 1))


# Common ------------------------------------------------------------------------------------------


def test_the_first_decision_is_what_there_is() -> None:
    """A restarted controller takes the group as it finds it, nodes on their way included."""
    found, memory = decide(spec_of("target"), Memory(), Observation({1: 0.9, 2: 0.9}, 2, 1), 0.0)
    assert found == Decision(3, "found with 3 nodes")
    assert memory.wanted == 3


@pytest.mark.parametrize(
    ("serving", "wanted", "reason"),
    [
        (0, 2, "found with 0 nodes (min 2)"),
        (1, 2, "found with 1 node (min 2)"),
        (9, 4, "found with 9 nodes (max 4)"),
    ],
)
def test_what_is_found_is_brought_within_bounds(serving: int, wanted: int, reason: str) -> None:
    """Never below min, never above max, from the first decision on."""
    seen = Observation(dict.fromkeys(range(serving)), serving)
    decision, _ = decide(spec_of("threshold", min=2, max=4), Memory(), seen, 0.0)
    assert decision == Decision(wanted, reason)


def test_missing_data_changes_nothing() -> None:
    """No load known is not no load."""
    group = Group(spec_of("target"))
    group.live(60, 2.5)
    before = group.decision
    assert group.live(2000, 0.0, loads={1: None, 2: None, 3: None}) == before


def test_incomplete_data_grows_but_does_not_shrink() -> None:
    """A node that does not tell its load counts as the mean of the others, when it matters."""
    group = Group(spec_of("target"), serving=4)
    assert group.live(400, 0.0, loads={1: 0.1, 2: 0.1, 3: 0.1, 4: None}).wanted == 4
    assert group.live(10, 0.0, loads={1: 1.5, 2: None, 3: 1.5, 4: 1.5}).wanted == 7


def test_the_operators_word_goes_first_within_the_bounds() -> None:
    """An override is obeyed at once, bounded, and given up without a jump."""
    group = Group(spec_of("target", max=6))
    assert group.live(1, 0.5, override=4) == Decision(4, "asked for by the operator")
    assert group.live(1, 0.5, override=9) == Decision(6, "asked for by the operator (max 6)")
    assert group.live(5, 0.5).wanted == 6
    assert group.live(400, 0.5).wanted == 1


def test_manual_does_what_it_says() -> None:
    """Load does not matter; an override does."""
    group = Group(spec_of("manual", nodes=3))
    assert group.live(100, 50.0) == Decision(3, "set in the configuration")
    assert group.live(1, 0.0, override=1).wanted == 1
    assert group.live(1, 0.0).wanted == 3


def test_a_spec_with_other_bounds_takes_hold_at_once() -> None:
    """After a reload the number obeys the new bounds."""
    group = Group(spec_of("target"))
    group.live(60, 4.5)
    group.spec = spec_of("target", max=2)
    bounded = group.live(1, 4.5)
    assert bounded.wanted == 2
    assert "(max 2)" in bounded.reason


def test_without_a_measured_boot_half_a_minute_is_taken() -> None:
    """The first node cannot have been measured."""
    group = Group(spec_of("target", max=20))
    group.live(300, lambda s: 2.0 + 0.006 * s, boot_s=None)
    assert "in 30 s" in " ".join(group.reasons)


SPECS = st.sampled_from(
    [
        spec_of("threshold", min=1, max=6),
        spec_of("threshold", min=2, max=6, step_up=3, step_down=4, low=0.2),
        spec_of("target", min=1, max=6),
        spec_of("target", min=3, max=5, target=0.7),
        spec_of("predictive", min=1, max=6),
        spec_of("schedule", max=6, floors=[{"cron": "* * * * *", "for_s": 30, "nodes": 2}]),
        spec_of("manual", min=1, max=6, nodes=2),
    ]
)
LOADS = st.dictionaries(
    st.integers(1, 8), st.one_of(st.none(), st.floats(0, 50), st.just(1.0)), max_size=8
)


@given(
    SPECS,
    st.lists(
        st.tuples(
            LOADS,
            st.integers(0, 8),
            st.integers(0, 4),
            st.one_of(st.none(), st.integers(0, 99)),
            st.floats(-5, 400),
        ),
        max_size=40,
    ),
)
def test_always_within_bounds_and_always_with_a_reason(
    spec: ScalingSpec, seen: list[tuple[Any, ...]]
) -> None:
    """Whatever is observed, in whatever order of time, decide answers, in one line."""
    memory, now = Memory(), START_S
    for loads, serving, starting, override, gap_s in seen:
        now += gap_s
        observation = Observation(loads, serving, starting, 0, 5.0, override)
        decision, memory = decide(spec, memory, observation, now)
        assert spec.min <= decision.wanted <= spec.max
        assert decision.wanted == memory.wanted
        assert decision.reason == memory.reason
        assert decision.reason
        assert "\n" not in decision.reason


# Threshold ---------------------------------------------------------------------------------------


def test_threshold_grows_after_its_time_and_rests() -> None:
    """A step after high_for_s above the mark, the next after the cooldown."""
    group = Group(spec_of("threshold", high_for_s=5, up_cooldown_s=15), boot_s=1.0)
    group.live(60, 3.0)
    assert group.wanted.index(2) == 5
    assert group.wanted.index(3) == 20
    assert group.wanted.index(4) == 35
    assert max(group.wanted) == 4
    assert group.reasons[1] == "load 3.00 above 0.8 for 5 s"


def test_threshold_does_not_order_slow_nodes_twice() -> None:
    """Nodes on their way count as if they served."""
    group = Group(spec_of("threshold", step_up=2), boot_s=300.0)
    assert group.live(200, 1.5).wanted == 3


def test_threshold_shrinks_after_its_time() -> None:
    """low_for_s below the low mark, and no step below min."""
    group = Group(spec_of("threshold", low_for_s=60, down_cooldown_s=60), serving=4)
    assert group.live(60, 0.1).wanted == 4
    assert group.live(1, 0.1) == Decision(3, "load 0.03 below 0.3 for 60 s")
    assert group.live(59, 0.1).wanted == 3
    assert group.live(300, 0.1).wanted == 1


def test_threshold_is_not_fooled_by_nodes_that_never_come() -> None:
    """A full node beside many that are not there yet is not a low load."""
    group = Group(spec_of("threshold", step_up=4, max=8), boot_s=10**6)
    group.live(600, 0.95)
    assert min(group.wanted[10:]) == 5


@given(st.integers(0, 10**6), st.floats(0.35, 0.75), st.integers(1, 6))
@settings(max_examples=30)
def test_threshold_ignores_what_happens_between_the_marks(
    seed: int, load: float, nodes: int
) -> None:
    """Noise that stays between the marks changes nothing, ever."""
    group = Group(spec_of("threshold"), serving=nodes)
    group.live(400, noisy(load * nodes, 0.06, seed))
    assert set(group.wanted) == {nodes}


@given(st.integers(0, 10**6), st.integers(1, 3), st.floats(0.05, 7.0))
@settings(max_examples=30)
def test_threshold_never_undoes_a_step_at_a_constant_demand(
    seed: int, least: int, demand: float
) -> None:
    """At constant demand the number goes one way and stays."""
    group = Group(
        spec_of("threshold", min=least, low=0.8 * least / (least + 1) - 0.01), serving=1 + seed % 8
    )
    group.live(1500, demand)
    steps = [b - a for a, b in pairwise(group.wanted) if a != b]
    assert len({step > 0 for step in steps}) <= 1


# Target ------------------------------------------------------------------------------------------

AT_ONCE = {"scale_down": {"stabilization_window_s": 0}}


@pytest.mark.parametrize(
    ("load", "wanted"), [(0.5, 2), (0.54, 2), (0.46, 2), (0.56, 3), (1.0, 4), (0.44, 2), (0.2, 1)]
)
def test_a_numeric_target_is_the_rule_of_kubernetes(load: float, wanted: int) -> None:
    """Nodes times load over target, rounded up, unless within a tenth of the target."""
    group = Group(spec_of("target", target=0.5, behavior=AT_ONCE), serving=2)
    assert group.live(1, load * 2).wanted == wanted


def test_shrinking_waits_for_its_window() -> None:
    """The most that was wanted in five minutes is kept."""
    group = Group(spec_of("target", target=0.5), serving=4)
    group.live(30, 2.0)
    assert group.live(299, 0.4).wanted == 4
    assert group.live(40, 0.4).wanted == 1


def test_growth_may_wait_for_a_window_too() -> None:
    """The least that was wanted in the window."""
    behavior = {"scale_up": {"stabilization_window_s": 60}}
    group = Group(spec_of("target", target=0.5, behavior=behavior))
    group.live(100, 0.4)
    assert group.live(60, 1.4).wanted == 1
    assert group.live(15, 1.4).wanted == 3


def test_growth_is_limited_per_period() -> None:
    """Four nodes or a doubling in 15 s, whichever is more; the reason says so."""
    group = Group(spec_of("target", max=40), serving=2)
    group.live(20, 1.0)
    limited = group.live(4, 30.0)
    assert limited.wanted == 6
    assert limited.reason.endswith("(33 wanted, one step for now)")
    assert group.live(15, 30.0).wanted == 12
    assert group.live(15, 30.0).wanted == 24


def test_shrinking_is_limited_per_period() -> None:
    """One node in a minute, if that is what is asked for."""
    one = {"type": "nodes", "value": 1, "period_s": 60}
    behavior = {"scale_down": {"stabilization_window_s": 0, "policies": [one]}}
    group = Group(spec_of("target", behavior=behavior), serving=5)
    group.live(1, 0.2)
    assert group.live(59, 0.2).wanted == 4
    assert group.live(60, 0.2).wanted == 3


def test_cooldowns_hold_for_targets_too() -> None:
    """Growth after growth, shrinking after anything."""
    section = {"up_cooldown_s": 100, "down_cooldown_s": 200, "behavior": AT_ONCE}
    group = Group(spec_of("target", **section))
    group.live(30, 0.5)
    assert group.live(10, 1.5).wanted == 2
    assert group.live(80, 2.5).wanted == 2
    assert group.live(30, 2.5).wanted == 3
    assert group.live(150, 0.2).wanted == 3
    assert group.live(100, 0.2).wanted == 1


def test_auto_learns_to_fill_nodes_as_far_as_the_noise_allows() -> None:
    """5.5 nodes' worth with 5 % of noise fit on six nodes; with 15 % they need seven."""
    calm, rough = Group(spec_of("target"), serving=8), Group(spec_of("target"), serving=8)
    assert calm.live(4000, noisy(5.5, 0.05)).wanted == 6
    assert rough.live(4000, noisy(5.5, 0.15)).wanted == 7


def test_auto_orders_for_when_a_node_is_ready() -> None:
    """While demand climbs, a slow boot makes it order earlier."""
    quick, slow = (Group(spec_of("target", max=20), boot_s=b) for b in (5.0, 240.0))
    for group in (quick, slow):
        group.live(1200, lambda s: 0.5 + 0.003 * s)
    assert slow.wanted.index(2) < quick.wanted.index(2)
    assert "and heading for" in " ".join(slow.reasons)


@given(st.integers(0, 10**6), st.floats(0.3, 9.0), st.floats(0.0, 0.08))
@settings(max_examples=12)
def test_auto_does_not_oscillate_under_noise(seed: int, level: float, share: float) -> None:
    """Once it has learnt the noise, it may add one node in an hour and takes none back."""
    group = Group(spec_of("target", max=16), serving=12)
    group.live(4300, noisy(level, share, seed))
    settled = group.wanted[1500:]
    assert max(settled) - min(settled) <= 1
    assert sum(a != b for a, b in pairwise(settled)) <= 1


def test_a_ceiling_doubles_then_grows_further() -> None:
    """Nodes that show 1.0 and hide nine nodes' worth are not taken at their word."""
    group = Group(spec_of("target", max=30), boot_s=40.0, serving=2, top=1.0)
    group.live(60, 1.5)
    assert group.live(4, 9.0) == Decision(
        4, "2 nodes at the ceiling, so demand cannot be seen: 2 times that"
    )
    assert group.live(18, 9.0).wanted == 4
    assert group.live(2, 9.0).wanted == 6
    assert group.live(100, 9.0).wanted == 16
    assert group.live(600, 9.0).wanted == 11


def test_nodes_on_their_way_get_time_before_the_ceiling_is_raised_again() -> None:
    """When some of those ordered join, the others are waited for; the last one starts anew."""
    group = Group(spec_of("target", max=30), boot_s=5.0, serving=2, top=1.0)
    group.live(60, 1.5)
    assert group.live(4, 20.0).wanted == 4
    group.starting = [group.now + 12, group.now + 80]
    assert group.live(13, 20.0).wanted == 4
    assert group.serving == 3
    assert group.live(14, 20.0).wanted == 4
    assert group.live(1, 20.0).wanted == 6
    group.starting, group.serving = [], 4
    assert group.live(1, 20.0).wanted == 8


# Schedule ----------------------------------------------------------------------------------------


def test_a_floor_is_ready_when_it_begins_and_gone_when_it_ends() -> None:
    """Nodes are ordered a boot before the hour; afterwards load alone decides."""
    floors = [
        {"cron": "0 8 * * 1-5", "for_s": 3600, "nodes": 3},
        {"cron": "0 8 * * 1-5", "for_s": 3600, "nodes": 2},
    ]
    group = Group(spec_of("schedule", floors=floors), boot_s=60.0, now=START_S + 8 * 3600 - 100)
    assert group.live(40, 0.5).wanted == 1
    assert group.live(1, 0.5) == Decision(3, "floor of 3 by '0 8 * * 1-5'")
    assert group.live(60, 0.5).wanted == 3
    assert group.serving == 3
    assert group.live(3599, 0.5).wanted == 3
    assert group.live(301, 0.5).wanted == 1


def test_load_above_a_floor_counts() -> None:
    """A floor is no ceiling."""
    floors = [{"cron": "* * * * *", "for_s": 60, "nodes": 2}]
    group = Group(spec_of("schedule", floors=floors))
    decision = group.live(10, 3.0)
    assert decision.wanted == 4
    assert "demand is 3.00 nodes' worth" in decision.reason


# Predictive --------------------------------------------------------------------------------------


POLL_S = 5


def office(second: float) -> float:
    """Half a node's worth, but four from 08:00 to 18:00."""
    return 4.0 if 8 * 3600 <= second % 86400 < 18 * 3600 else 0.5


@pytest.fixture(scope="module")
def experienced() -> Memory:
    """What is remembered after a day at the office, at midnight."""
    group = Group(spec_of("predictive"), poll_s=POLL_S)
    group.live(86400, office)
    return group.memory


def next_day(memory: Memory, spec: ScalingSpec, from_s: float) -> Group:
    """The day after, from some time of it."""
    return Group(spec, memory=memory, now=START_S + 86400 + from_s, poll_s=POLL_S)


def test_yesterdays_morning_is_prepared_for(experienced: Memory) -> None:
    """Nodes serve when the load comes, not a boot later; the reason says why."""
    group = next_day(experienced, spec_of("predictive"), 0)
    group.live(8 * 3600, office)
    assert group.serving == 5
    assert group.reasons[-1].startswith("demand is 0.50 nodes' worth, and 4.00 at this time of")
    group.live(600, lambda _: 4.0)
    assert set(group.wanted[-600 // POLL_S :]) == {5}


def test_yesterdays_evening_saves_the_window(experienced: Memory) -> None:
    """When the past says that it stays low, a minute is enough to shrink."""
    group = next_day(experienced, spec_of("predictive"), 0)
    group.live(18 * 3600, office)
    assert group.live(120, 0.5).wanted == 1


def test_ahead_s_prepares_earlier(experienced: Memory) -> None:
    """Ten minutes more when asked for."""
    early = next_day(experienced, spec_of("predictive", ahead_s=600), 0)
    early.live(8 * 3600, office)
    late = next_day(experienced, spec_of("predictive"), 0)
    late.live(8 * 3600, office)
    sooner_s = (late.wanted.index(5) - early.wanted.index(5)) * POLL_S
    assert sooner_s == pytest.approx(600, abs=60)


def test_without_a_trusted_day_it_is_target(experienced: Memory) -> None:
    """No past, or one that explains nothing: the same decisions as target makes."""
    fresh, plain = Group(spec_of("predictive")), Group(spec_of("target"))
    for group in (fresh, plain):
        group.live(3000, noisy(2.0, 0.05))
    assert fresh.wanted == plain.wanted
    odd = next_day(experienced, spec_of("predictive"), 0)
    odd.live(8 * 3600, lambda s: 1.5 + s // 600 % 3)
    assert "at this time of a day" not in " ".join(odd.reasons)


def test_more_than_the_pattern_knows_is_served_all_the_same(experienced: Memory) -> None:
    """A surge on a quiet night grows the group as target would."""
    group = next_day(experienced, spec_of("predictive"), 0)
    group.live(3600, office)
    assert group.live(30, 3.0).wanted == 4


def test_a_numeric_target_may_be_predictive_too(experienced: Memory) -> None:
    """Four nodes' worth at a target of 0.5 are eight nodes, before they are needed."""
    group = next_day(experienced, spec_of("predictive", target=0.5), 0)
    group.live(8 * 3600, office)
    assert group.wanted[-1] == 8


def test_served_load_at_the_ceiling_is_not_remembered(experienced: Memory) -> None:
    """A day of saturation would teach the next one to saturate."""
    group = next_day(experienced, spec_of("predictive", max=2), 0)
    group.top = 1.0
    group.live(9 * 3600, office)
    today = group.memory.pattern.days[-1].minutes
    assert today[8 * 60 + 30] is None if len(today) > 8 * 60 + 30 else len(today) <= 8 * 60 + 1
