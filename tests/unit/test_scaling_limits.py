"""core.scaling.limits: windows, cooldowns and step limits, as Kubernetes' HPA has them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.scaling import (
    Behavior,
    Direction,
    Growth,
    LimitKind,
    Select,
    Shrinking,
    StepLimit,
)
from sncontroller.core.scaling.limits import (
    Change,
    PastWish,
    Wish,
    highest,
    kept,
    lowest,
    remembered,
    rested,
    steadied,
)

NOW = 1000.0


def direction(*policies: tuple[str, int, float], select: str = "max") -> Direction:
    """A direction with such step limits."""
    return Direction(
        policies=tuple(StepLimit(type=LimitKind(t), value=v, period_s=p) for t, v, p in policies),
        select_policy=Select(select),
    )


BOTH = (("percent", 10, 60.0), ("nodes", 4, 60.0))
"""The example of the Kubernetes documentation: at most 4 nodes or 10 % within a minute."""


@pytest.mark.parametrize(
    ("select", "current", "up", "down"),
    [
        ("max", 80, 88, 72),
        ("max", 10, 14, 6),
        ("min", 80, 84, 76),
        ("min", 10, 11, 9),
        ("max", 1, 5, -3),
        ("disabled", 10, 10, 10),
    ],
)
def test_the_widest_or_the_narrowest_limit_holds(
    select: str, current: int, up: int, down: int
) -> None:
    """Per cent are rounded away from standing still, as Kubernetes does."""
    limits = direction(*BOTH, select=select)
    assert highest(limits, (), current, NOW) == up
    assert lowest(limits, (), current, NOW) == down


def test_changes_within_the_period_count() -> None:
    """What was added or removed in a period is taken off what it allows; older ones are not."""
    limits = direction(("nodes", 4, 60.0))
    grown = (Change(NOW - 100, 7), Change(NOW - 30, 3))
    assert highest(limits, grown, 13, NOW) == 14
    assert lowest(limits, grown, 13, NOW) == 6
    assert highest(limits, (Change(NOW - 30, 6),), 16, NOW) == 16
    assert lowest(limits, (Change(NOW - 30, -6),), 10, NOW) == 10
    assert highest(limits, (Change(NOW - 60, 6),), 16, NOW) == 20


def test_no_limit_is_no_limit() -> None:
    """A direction without policies may go all the way, in either sense of the choice."""
    for select in ("max", "min"):
        assert highest(direction(select=select), (), 3, NOW) == math.inf
        assert lowest(direction(select=select), (), 3, NOW) == 0


WINDOWS = Behavior(
    scale_up=Growth(stabilization_window_s=30), scale_down=Shrinking(stabilization_window_s=300)
)
WISHES = st.lists(
    st.tuples(st.floats(0.1, 60.0), st.integers(1, 9), st.integers(0, 3)), min_size=1, max_size=60
)


@given(WISHES, st.booleans())
def test_a_window_takes_the_most_cautious_wish_in_it(
    wishes: list[tuple[float, int, int]], steady: bool
) -> None:
    """What is kept of the past is enough to tell the same as all of it."""
    past: tuple[PastWish, ...] = ()
    everything: list[tuple[float, int, int]] = []
    now = NOW
    for gap_s, up, wider in wishes:
        now += gap_s
        wish = Wish(up, up + wider)
        everything.append((now, wish.up, wish.down))
        past = remembered(past, wish, now, WINDOWS.longest_window_s)
        down_s = 60.0 if steady else 300.0
        up_then = min(u for at_s, u, _ in everything if at_s > now - 30 or at_s == now)
        down_then = max(d for at_s, _, d in everything if at_s > now - down_s or at_s == now)
        assert steadied(past, WINDOWS, now, steady) == Wish(up_then, max(up_then, down_then))
    assert len(past) <= 40


def test_only_the_newest_wish_is_kept_when_it_outdoes_the_others() -> None:
    """Memory does not grow with polling."""
    past: tuple[PastWish, ...] = ()
    for second in range(1000):
        past = remembered(past, Wish(3, 3), NOW + second, 300.0)
    assert past == (PastWish(NOW + 999, 3, 3),)


def test_a_clock_set_back_forgets_wishes_of_the_future() -> None:
    """They would hold the number for as long as the clock was wrong."""
    past = remembered((), Wish(9, 9), NOW + 10**6, 300.0)
    assert remembered(past, Wish(2, 2), NOW, 300.0) == (PastWish(NOW, 2, 2),)


def test_cooldowns() -> None:
    """Shrinking rests after any change, growth after growth alone."""
    shrunk, grown = (Change(NOW - 10, -1),), (Change(NOW - 10, 1),)
    assert not rested(shrunk, 11.0, NOW)
    assert not rested(grown, 11.0, NOW)
    assert rested(grown, 10.0, NOW)
    assert rested(shrunk, 11.0, NOW, grew=True)
    assert not rested(grown, 11.0, NOW, grew=True)
    assert rested((), 11.0, NOW)


def test_changes_are_forgotten_after_the_longest_period() -> None:
    """No limit looks back further than an hour."""
    old, recent, new = Change(NOW - 3600, 1), Change(NOW - 3599, 1), Change(NOW, 1)
    assert kept((old, recent), new) == (recent, new)
