"""core.scaling: demand's level, trend, jumps, climbs, ceiling and headroom; past days' patterns."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.scaling import headroom, pattern, trend
from sncontroller.core.scaling.demand import Demand, climb_per_s, jumped, observed, pinned
from sncontroller.core.scaling.headroom import FIRST, MOST, Headroom
from sncontroller.core.scaling.pattern import DAY_MINUTES, Pattern
from sncontroller.core.scaling.trend import TICK_S, Tick, Trend

START_S = 1_000_000_800.0
"""A full minute."""
NODES = 4.0
LEAD_S = 30.0


def watched(
    curve: Callable[[float], float],
    seconds: int,
    memory: Demand | None = None,
    start_s: float = 0.0,
    top: float = float("inf"),
) -> Demand:
    """Demand seen once a second, on four nodes that show no load above ``top``."""
    memory = memory or Demand()
    for second in range(seconds):
        load = min(curve(start_s + second) / NODES, top)
        memory = observed(memory, load * NODES, load, START_S + start_s + second, LEAD_S)
    return memory


def noisy(level: float, share: float, seed: int = 1) -> Callable[[float], float]:
    """A level that trembles evenly by plus and minus ``share``."""
    draw = random.Random(seed)
    return lambda _: level * (1 + share * (2 * draw.random() - 1))


def test_nothing_seen_is_no_demand() -> None:
    """An empty memory answers every question."""
    memory = Demand()
    assert memory.level == 0.0
    assert jumped(memory) is None
    assert climb_per_s(memory) == 0.0
    assert not pinned(memory)
    assert memory.trend.forecast(30) == 0.0


def test_the_level_is_there_from_the_first_sample() -> None:
    """Before a tick is full it is the mean of what was seen."""
    assert watched(lambda _: 2.0, 1).level == 2.0
    assert watched(lambda s: 2.0 + s, 3).level == 3.0


def test_the_level_averages_the_last_half_minute() -> None:
    """Noise of 5 % leaves the level within 1.5 %."""
    memory = watched(noisy(3.0, 0.05), 600)
    assert memory.level == pytest.approx(3.0, rel=0.015)
    assert memory.trend.slope_per_s == 0.0


@pytest.mark.parametrize("later_s", [0.0, 0.01, -5.0])
def test_a_repeated_or_older_sample_changes_nothing(later_s: float) -> None:
    """Time has to advance."""
    memory = watched(lambda _: 2.0, 30)
    assert memory.recent is not None
    assert observed(memory, 9.0, 1.0, memory.recent.at_s + later_s, LEAD_S) is memory


def test_a_clear_rise_is_a_slope_and_a_fall_is_none() -> None:
    """The slope looks up only: shrinking early would save little and risk much."""
    rising = watched(lambda s: 2.0 + 0.002 * s, 201)
    assert rising.trend.slope_per_s == pytest.approx(0.002)
    assert rising.trend.forecast(60) == pytest.approx(2.0 + 0.002 * (200 + 60), rel=0.001)
    assert watched(lambda s: 4.0 - 0.01 * s, 200).trend.slope_per_s == 0.0


def test_a_gap_starts_the_trend_anew() -> None:
    """Ticks from before a silence say nothing about now."""
    old = Trend((Tick(0.0, 1.0), Tick(TICK_S, 1.0)), 1.0, 0.5)
    assert trend.ticked(old, Tick(1000.0, 3.0)) == Trend((Tick(1000.0, 3.0),), 3.0, 0.0)


@given(st.integers(0, 10**6), st.floats(0.5, 20.0), st.floats(0.0, 0.05))
def test_noise_is_no_jump_and_no_ceiling(seed: int, level: float, share: float) -> None:
    """Bounded noise within the headroom is never taken for news, sample by sample."""
    curve, memory = noisy(level, share, seed), Demand()
    for second in range(200):
        demand = curve(second)
        memory = observed(memory, demand, 0.9 * demand / level, START_S + second, LEAD_S)
        assert jumped(memory) is None
        assert not pinned(memory)


def test_a_step_is_believed_after_three_samples() -> None:
    """Two samples above are an accident, three are a new level."""
    memory = watched(noisy(1.5, 0.05), 305)
    two = watched(lambda _: 5.5, 2, memory, 305)
    assert jumped(two) is None
    three = watched(lambda _: 5.5, 3, memory, 305)
    assert jumped(three) == three.level == 5.5
    assert climb_per_s(three) == 0.0


def test_after_a_step_nothing_is_extrapolated() -> None:
    """The trend begins at the new level: a step is no slope."""
    memory = watched(lambda s: 1.5 if s < 305 else 5.5, 305)
    for second in range(305, 500):
        memory = watched(lambda s: 1.5 if s < 305 else 5.5, 1, memory, second)
        assert memory.trend.forecast(LEAD_S) <= 5.5 + 1e-9
        assert climb_per_s(memory) == 0.0
    assert memory.level == 5.5


def test_a_climb_is_followed() -> None:
    """Eight nodes' worth within a minute show their speed within a dozen samples."""
    memory = watched(lambda s: 4.0 + max(0.0, s - 295) * 8 / 60, 309)
    assert jumped(memory) is not None
    assert climb_per_s(memory) == pytest.approx(8 / 60)


@pytest.mark.parametrize(
    "curve",
    [lambda s: 4.0, lambda s: 4.0 - 0.1 * (s % 12), lambda s: 4.0 if s % 12 < 6 else 8.0],
)
def test_what_is_no_climb(curve: Callable[[float], float]) -> None:
    """Flat, falling, and a step in the middle of the dozen."""
    assert climb_per_s(watched(curve, 12)) == 0.0


def test_flat_at_the_top_after_a_jump_is_a_ceiling() -> None:
    """Nodes that serve all they can show no more than 1.0, whatever is offered."""
    memory = watched(lambda _: 2.4, 302, top=1.0)
    assert not pinned(memory)
    memory = watched(lambda _: 9.0, 3, memory, 302, top=1.0)
    assert pinned(memory)


def test_flat_at_the_top_for_a_dozen_samples_is_a_ceiling() -> None:
    """Even where the level was close below it."""
    memory = watched(lambda _: 3.8, 305, top=1.0)
    assert not pinned(watched(lambda _: 9.0, 11, memory, 305, top=1.0))
    assert pinned(watched(lambda _: 9.0, 12, memory, 305, top=1.0))


def test_visible_overload_is_no_ceiling() -> None:
    """Where the offered load shows, it is known, however high."""
    assert not pinned(watched(lambda _: 9.0, 100))


def test_nothing_is_learnt_at_the_ceiling() -> None:
    """Neither the trend nor the headroom takes served load for demand."""
    before = watched(noisy(2.0, 0.05), 901)
    after = watched(lambda _: 9.0, 300, before, 901, top=1.0)
    assert after.trend == before.trend
    assert after.headroom.errors == before.headroom.errors
    assert after.headroom.expected is None


def test_headroom_is_the_first_guess_until_ten_minutes_were_seen() -> None:
    """Then it is what the noise is."""
    assert watched(noisy(4.0, 0.05), 600).headroom.share == FIRST
    assert watched(noisy(4.0, 0.05), 1000).headroom.share == pytest.approx(0.05, abs=0.015)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.1, 0.3])
def test_headroom_follows_the_noise(share: float) -> None:
    """An hour of noise teaches its size, whatever it is."""
    found = watched(noisy(3.0, share), 3600).headroom.share
    assert found == pytest.approx(share, abs=0.01 + share / 5)


def test_headroom_is_bounded() -> None:
    """Demand that explodes every minute is not chased to the end."""
    assert watched(lambda s: 40.0 if s % 60 == 30 else 2.0, 3600).headroom.share == MOST


def test_headroom_forgets_a_step() -> None:
    """A step is one error among sixty, and no headroom."""
    memory = watched(lambda s: 1.5 if s < 2000 else 5.5, 4000)
    assert memory.headroom.share == pytest.approx(0.0, abs=1e-9)
    assert max(memory.headroom.errors) > 1.0
    assert sum(error > 0.01 for error in memory.headroom.errors) == 1


def test_headroom_below_one_node_is_a_share_of_one_node() -> None:
    """A tenth of a node's worth that doubles now and then is no reason for headroom later."""
    assert watched(noisy(0.1, 0.9), 3600).headroom.share == pytest.approx(0.09, abs=0.02)


def test_a_minute_without_forecast_teaches_nothing() -> None:
    """The first minute, and one after the ceiling, have nothing to be compared with."""
    fresh = headroom.ticked(Headroom(), 0.0, 5.0, headroom.Forecast(40.0, 5.0))
    assert headroom.ticked(fresh, 60.0, 5.0, headroom.Forecast(100.0, 5.0)).errors == ()


# Patterns ----------------------------------------------------------------------------------------

MINUTE_S = pattern.MINUTE_S
TRUST = 0.15


def lived(days: float, curve: Callable[[int], float], past: Pattern | None = None) -> Pattern:
    """A pattern after some days, one sample a minute, of ``curve`` by minute from the epoch."""
    past = past or Pattern()
    begin = 0 if past.minute is None else past.minute + 1
    for minute in range(begin, begin + round(days * DAY_MINUTES)):
        past = pattern.observed(past, curve(minute), minute * MINUTE_S)
    return past


def saw(minute: int) -> float:
    """A rhythm of a day."""
    return 1.0 + minute % DAY_MINUTES / 100


def test_nothing_is_expected_without_a_day() -> None:
    """The first day has nothing before it."""
    past = lived(0.9, saw)
    assert past.fits == ()
    assert pattern.expected(past, 0.9 * 86400, 0.9 * 86400 + 600, TRUST) is None


def test_a_day_like_yesterday_is_expected_as_yesterday() -> None:
    """The highest minute of the time ahead."""
    past = lived(1.5, saw)
    now = 1.5 * 86400
    assert pattern.expected(past, now, now, TRUST) == pytest.approx(saw(720))
    assert pattern.expected(past, now, now + 3600, TRUST) == pytest.approx(saw(780))


def test_a_busier_day_of_the_same_shape_is_scaled() -> None:
    """A quarter more all day is expected to be a quarter more."""
    past = lived(0.5, lambda minute: 1.25 * saw(minute), lived(1, saw))
    now = 1.5 * 86400
    assert pattern.expected(past, now, now, TRUST) == pytest.approx(1.25 * saw(720), rel=0.01)


def test_another_kind_of_day_is_not_trusted() -> None:
    """A day that does not go as yesterday is left to measuring."""
    past = lived(0.5, lambda minute: 1.0 + minute * 7 % 10, lived(1, saw))
    assert pattern.expected(past, 1.5 * 86400, 1.5 * 86400, TRUST) is None


def test_the_same_weekday_is_believed_over_yesterday_when_it_fits_better() -> None:
    """Monday follows last Monday, not Sunday."""

    def week(minute: int) -> float:
        busy = minute // DAY_MINUTES % 7 < 5
        return saw(minute) if busy else 12.0 - saw(minute)

    past = lived(7.5, week)
    now = 7.5 * 86400
    assert {fit.back for fit in past.fits} == {1, 7}
    assert pattern.expected(past, now, now + 3600, TRUST) == pytest.approx(saw(780))
    assert len(past.days) == 8


def test_a_hole_in_the_past_is_not_bridged() -> None:
    """Minutes that were not seen cannot be expected."""
    past = lived(0.4, saw)
    for minute in range(round(0.6 * DAY_MINUTES), round(1.3 * DAY_MINUTES)):
        past = pattern.observed(past, saw(minute), minute * MINUTE_S)
    now = 1.3 * 86400
    assert pattern.expected(past, now, now + 600, TRUST) is not None
    assert pattern.expected(past, now, 1.5 * 86400, TRUST) is None
    assert pattern.expected(past, now, now + 86400, TRUST) is None


def test_days_without_demand_are_no_measure() -> None:
    """Nothing divided by nothing says nothing."""
    assert lived(1.5, lambda _: 0.0).fits == ()


def test_minutes_are_means_and_time_that_goes_back_is_dropped() -> None:
    """All samples of a minute count alike; a clock set back opens its minute anew."""
    past = Pattern()
    for at_s, demand in ((0.0, 1.0), (30.0, 3.0), (60.0, 9.0)):
        past = pattern.observed(past, demand, at_s)
    assert past.days[0].minutes == (2.0,)
    back = pattern.observed(past, 5.0, 0.0)
    assert (back.minute, back.total, back.count) == (0, 5.0, 1)
    assert pattern.observed(back, 5.0, 60.0).days[0].minutes == (5.0,)
