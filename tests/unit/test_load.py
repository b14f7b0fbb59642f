"""core.load: counters to rates without false load, rates to the load of a node."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sncontroller.core.load import (
    COUNTER_MODULUS,
    NOT_COUNTED,
    CapacitySpec,
    Counters,
    Load,
    Rates,
    Sample,
    Tracker,
    load_of,
    loads_by_signal,
    rates,
    update,
)


def sample(at_s: float, **counters: int) -> Sample:
    """Counters at a time."""
    return Sample(Counters(**counters), at_s)


def tracked(*samples: Sample, window_s: float = 5.0) -> Tracker:
    """A tracker that has seen these."""
    tracker = Tracker(window_s)
    for each in samples:
        tracker = update(tracker, each)
    return tracker


ALL = {"new_flows": 10, "packets": 100, "bytes": 1000, "drops": 1, "active_flows": 7}


def test_rates_of_two_samples() -> None:
    """Differences over time; bytes become bits; the gauge is the newest."""
    later = {"new_flows": 30, "packets": 300, "bytes": 3000, "drops": 5, "active_flows": 9}
    found = rates(sample(10, **ALL), sample(12, **later))
    assert found == Rates(10.0, 100.0, 8000.0, 9, 2.0)
    assert found.signals() == {
        "new_flows_per_s": 10.0,
        "packets_per_s": 100.0,
        "bits_per_s": 8000.0,
        "active_flows": 9,
        "port_drops_per_s": 2.0,
    }


@pytest.mark.parametrize("at_s", [9.0, 10.0, 10.01])
def test_time_that_does_not_advance_tells_no_rate(at_s: float) -> None:
    """An old, repeated or bunched reply is unknown, not infinitely fast."""
    assert rates(sample(10, **ALL), sample(at_s, packets=10**9, active_flows=3)) == Rates(
        active_flows=3
    )


def test_the_first_sample_tells_the_gauge_alone() -> None:
    """Without a previous sample nothing is known of any counter."""
    assert rates(None, sample(1, **ALL)) == Rates(active_flows=7)
    assert tracked(sample(1, **ALL)).rates == Rates()


@pytest.mark.parametrize(
    ("old", "new", "per_s"),
    [
        (5, 5, 0.0),
        (1000, 10, None),
        (COUNTER_MODULUS - 10, 20, 30.0),
        (COUNTER_MODULUS // 2, 20, None),
        (NOT_COUNTED, 20, None),
        (20, NOT_COUNTED, None),
        (None, 20, None),
        (20, None, None),
    ],
)
def test_a_counter_that_is_no_plain_counter(
    old: int | None, new: int | None, per_s: float | None
) -> None:
    """Resets, absent counters and counters a switch does not keep are unknown; a wrap is not."""
    before, after = Sample(Counters(packets=old), 0.0), Sample(Counters(packets=new), 1.0)
    assert rates(before, after).packets_per_s == per_s


def test_a_reset_does_not_disturb_the_window() -> None:
    """The intervals around a reset tell the rate; its own interval is left out."""
    samples = [sample(t, packets=100 * t) for t in range(5)]
    samples += [sample(5, packets=13), sample(6, packets=113)]
    assert tracked(*samples).rates.packets_per_s == pytest.approx(100.0)


def test_a_late_reply_does_not_look_like_a_burst() -> None:
    """Over the window, a reply held up by most of a second changes little; a bunch nothing."""
    on_time = [sample(t, packets=100 * t) for t in range(5)]
    late = tracked(*on_time, sample(5.9, packets=500), sample(6.0, packets=600))
    assert late.rates.packets_per_s == pytest.approx(100.0, rel=0.01)
    bunched = tracked(*on_time, sample(5.99, packets=500), sample(6.0, packets=600))
    assert bunched.rates.packets_per_s == pytest.approx(100.0, rel=0.2)


def test_missing_replies_bridge_the_gap_and_then_say_unknown() -> None:
    """What was counted meanwhile counts later; after a window of silence nothing is known."""
    tracker = tracked(sample(0, packets=0), sample(1, packets=100))
    for at_s in range(2, 6):
        tracker = update(tracker, sample(at_s))
        assert tracker.rates.packets_per_s == 100.0
    tracker = update(tracker, sample(6))
    assert tracker.rates == Rates()
    assert update(tracker, sample(7, packets=700)).rates.packets_per_s == 100.0
    assert tracked(sample(0)) == Tracker()


@given(
    st.lists(st.integers(0, 10**6), min_size=2, max_size=40),
    st.lists(st.floats(0.0, 3.0), min_size=40, max_size=40),
    st.sets(st.integers(0, 40)),
)
def test_no_sequence_of_replies_gives_more_than_was_counted(
    grown: list[int], gaps: list[float], resets: set[int]
) -> None:
    """With resets, bunches and gaps in any order, a rate is unknown or within what was real."""
    tracker, at_s, shown = Tracker(), 0.0, 0
    fastest = 0.0
    since_s = None
    pending = 0
    for nth, (count, gap) in enumerate(zip(grown, gaps, strict=False)):
        at_s += gap
        shown = 0 if nth in resets else shown + count
        pending += count
        last = tracker.last
        tracker = update(tracker, sample(at_s, packets=shown))
        if tracker.last is not last:
            if since_s is not None:
                fastest = max(fastest, pending / (at_s - since_s))
            since_s, pending = at_s, 0
        rate = tracker.rates.packets_per_s
        assert rate is None or 0 <= rate <= fastest * (1 + 1e-9)


def test_the_window_is_configurable() -> None:
    """A short window follows at once, a long one smooths."""
    samples = [sample(0, bytes=0), sample(1, bytes=0), sample(2, bytes=1000)]
    assert tracked(*samples, window_s=1.0).rates.bits_per_s == 8000.0
    assert tracked(*samples, window_s=60.0).rates.bits_per_s == 4000.0


CAPACITY = CapacitySpec(new_flows_per_s=100, bits_per_s=1000, reports={"cpu": 0.8, "queue": 50})


@pytest.mark.parametrize(
    ("measured", "reports", "load"),
    [
        (Rates(new_flows_per_s=50, bits_per_s=900), None, Load(0.9, "bits_per_s")),
        (Rates(new_flows_per_s=50), {"cpu": 0.6}, Load(0.6 / 0.8, "cpu")),
        (
            Rates(new_flows_per_s=300),
            {"cpu": None, "queue": 10},
            Load(3.0, "new_flows_per_s", ("cpu",)),
        ),
        (Rates(new_flows_per_s=0.0), {}, Load(0.0, "new_flows_per_s")),
        (Rates(packets_per_s=10**9), {"disk": 1.0}, None),
        (Rates(), {"cpu": None}, None),
    ],
)
def test_load_is_the_most_loaded_known_signal(
    measured: Rates, reports: dict[str, float | None] | None, load: Load | None
) -> None:
    """Limited signals alone count, unknown ones are not zero, and nothing is capped."""
    assert load_of(measured, CAPACITY, reports) == load


def test_all_loads_by_signal() -> None:
    """What a view shows: every known limited signal."""
    capacity = CapacitySpec(active_flows=10, port_drops_per_s=4, packets_per_s=1)
    found = loads_by_signal(Rates(active_flows=5, drops_per_s=8), capacity)
    assert found == {"active_flows": 0.5, "port_drops_per_s": 2.0}


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({}, "name at least one capacity"),
        ({"bits_per_s": 0}, "greater than 0"),
        ({"bits_per_s": float("inf")}, "finite"),
        ({"reports": {"cpu": -1}}, "greater than 0"),
        ({"reports": {"bits_per_s": 5}}, "bits_per_s is measured by the switch"),
        ({"bps": 5}, "not permitted"),
    ],
)
def test_wrong_capacities(section: dict[str, Any], message: str) -> None:
    """A capacity names at least one signal, each with a positive finite value."""
    with pytest.raises(ValidationError, match=message):
        CapacitySpec.model_validate(section)


@given(
    st.lists(st.sampled_from([0, 0, 0, 0, 0, 1, 40]), max_size=40),
    st.sampled_from([1.0, 0.5, 2.5, 7.0]),
)
def test_samples_that_tell_nothing_may_be_left_out(grown: list[int], every_s: float) -> None:
    """A node whose counters stand still for a while has the same rates as if each had been read."""
    whole = sparse = Tracker()
    now, counted = 0.0, 0
    for growth in grown:
        still_s, now, counted = now, now + every_s, counted + growth
        read = Counters(counted, counted, counted, None, counted)
        whole = update(whole, Sample(read, now))
        if not sparse.stays(read):
            sparse = update(sparse, Sample(read, now), still_s)
        assert sparse.rates._asdict() == pytest.approx(whole.rates._asdict())


def test_a_still_node_is_left_alone() -> None:
    """From the second equal sample on; and not while one that grew is within the window."""
    tracker = tracked(sample(10, **ALL), sample(11, **ALL))
    assert tracker.stays(Counters(**ALL))
    assert not tracker.stays(Counters(**{**ALL, "packets": 101}))
    busy = tracked(sample(9, **{**ALL, "packets": 1}), sample(10, **ALL), sample(11, **ALL))
    assert not busy.stays(Counters(**ALL))
