"""core.slots: quotas, fewest moves, and what a change of membership leaves alone."""

from __future__ import annotations

import math
from collections import Counter
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.slots import SLOTS, moves, quotas, slot_table

WEIGHT = st.one_of(
    st.just(1.0),
    st.floats(min_value=0.001, max_value=1000, allow_subnormal=False),
    st.integers(min_value=1, max_value=20).map(float),
)
WEIGHTS = st.dictionaries(st.integers(1, 4095), WEIGHT, max_size=12)
SOME = st.dictionaries(st.integers(1, 12), WEIGHT, min_size=1, max_size=12)
TABLE = st.lists(st.integers(1, 14), min_size=SLOTS, max_size=SLOTS).map(tuple)


def shares(weights: dict[int, float]) -> dict[int, Fraction]:
    """The exact share of each node, by the book."""
    total = sum(Fraction(weight) for weight in weights.values())
    return {index: SLOTS * Fraction(weight) / total for index, weight in weights.items()}


def most_kept(previous: tuple[int, ...], weights: dict[int, float]) -> int:
    """The most slots that any table of rounded shares can leave as they are, by trying them all.

    ``best[n]`` is the most that can be kept when the nodes looked at so far hold n slots.
    """
    held = Counter(previous)
    best = {0: 0}
    for index, share in shares(weights).items():
        grown: dict[int, int] = {}
        for used, kept in best.items():
            for quota in {math.floor(share), math.ceil(share)}:
                total = kept + min(held[index], quota)
                grown[used + quota] = max(grown.get(used + quota, 0), total)
        best = grown
    return best[SLOTS]


def largest_remainder(weights: dict[int, float]) -> dict[int, int]:
    """An independent model of the quotas: whole shares, then one more for the largest rests."""
    exact = shares(weights)
    quota = {index: int(share) for index, share in exact.items()}
    rests = sorted((-(exact[index] - quota[index]), index) for index in exact)
    for _, index in rests[: SLOTS - sum(quota.values())]:
        quota[index] += 1
    return quota


@given(SOME)
def test_quotas_are_those_of_the_largest_remainder(weights: dict[int, float]) -> None:
    """A fresh table has exactly the quotas of the independent model."""
    assert quotas(weights) == largest_remainder(weights)
    table = slot_table(None, weights)
    assert {i: n for i, n in quotas(weights).items() if n} == dict(Counter(table))


@given(TABLE, SOME)
def test_quotas_are_met_to_one_slot(previous: tuple[int, ...], weights: dict[int, float]) -> None:
    """Whatever was there before, every node holds its share rounded down or up."""
    held = Counter(slot_table(previous, weights))
    assert held.total() == SLOTS
    for index, share in shares(weights).items():
        assert math.floor(share) <= held[index] <= math.ceil(share)


@given(TABLE, SOME)
def test_no_table_moves_fewer_slots(previous: tuple[int, ...], weights: dict[int, float]) -> None:
    """The moves are the fewest that any table with rounded shares needs."""
    table = slot_table(previous, weights)
    assert moves(previous, table) == SLOTS - most_kept(previous, weights)


@given(st.one_of(st.none(), TABLE), SOME, st.randoms(use_true_random=False))
def test_order_of_input_is_irrelevant(
    previous: tuple[int, ...] | None, weights: dict[int, float], random: object
) -> None:
    """The same weights in another order make the same table."""
    items = list(weights.items())
    random.shuffle(items)  # type: ignore[attr-defined]
    assert slot_table(previous, dict(items)) == slot_table(previous, weights)


@given(st.one_of(st.none(), TABLE), SOME)
def test_the_same_weights_again_move_nothing(
    previous: tuple[int, ...] | None, weights: dict[int, float]
) -> None:
    """A table is its own successor."""
    table = slot_table(previous, weights)
    assert slot_table(table, weights) == table


@given(st.integers(2, 64), st.data())
def test_removing_a_node_moves_only_its_slots(count: int, data: st.DataObject) -> None:
    """With equal weights, no other node's slot changes its owner, removal after removal."""
    weights = dict.fromkeys(range(1, count + 1), 1.0)
    table = slot_table(None, weights)
    for _ in range(data.draw(st.integers(1, count - 1))):
        gone = data.draw(st.sampled_from(sorted(weights)))
        del weights[gone]
        after = slot_table(table, weights)
        assert all(old in (new, gone) for old, new in zip(table, after, strict=True))
        table = after


@given(st.integers(1, 63), st.integers(1, 4095))
def test_adding_a_node_moves_slots_to_it_alone(count: int, new: int) -> None:
    """With equal weights, a slot either stays or goes to the new node."""
    weights = dict.fromkeys(range(100, 100 + count), 1.0)
    table = slot_table(None, weights)
    after = slot_table(table, weights | {new: 1.0})
    assert all(owner in (old, new) for old, owner in zip(table, after, strict=True))


@given(SOME, st.data())
def test_removing_any_node_takes_no_more_than_rounding_asks(
    weights: dict[int, float], data: st.DataObject
) -> None:
    """With any weights, others lose slots only as far as keeping to rounded shares needs it."""
    table = slot_table(None, weights)
    gone = data.draw(st.sampled_from(sorted(weights)))
    rest = {index: weight for index, weight in weights.items() if index != gone}
    after = slot_table(table, rest)
    if not rest:
        assert after == ()
        return
    lost = sum(o not in (a, gone) for o, a in zip(table, after, strict=True))
    assert lost == SLOTS - Counter(table)[gone] - most_kept(table, rest)


@given(TABLE, WEIGHTS)
def test_only_nodes_with_weight_hold_slots(
    previous: tuple[int, ...], weights: dict[int, float]
) -> None:
    """Unknown owners and weights of 0 hold nothing; without any weight the table is empty."""
    padded = dict.fromkeys(range(1, 15), 0.0) | weights
    table = slot_table(previous, padded)
    assert table == slot_table(previous, weights)
    assert set(table) <= set(weights)
    assert len(table) == (SLOTS if weights else 0)


def test_a_weight_that_trembles_in_its_last_digits_moves_nothing() -> None:
    """Who is rounded up is decided by who holds the slot already."""
    table = slot_table(None, {1: 1.0, 2: 1.0, 3: 1.0})
    for weights in ({1: 1.0, 2: 1.0 + 1e-9, 3: 1.0}, {1: 1.0 - 1e-9, 2: 1.0, 3: 1.0 + 1e-12}):
        assert slot_table(table, weights) == table


def test_more_nodes_than_slots() -> None:
    """The nodes with the lowest indexes get a slot each, the others none."""
    table = slot_table(None, dict.fromkeys(range(1, 301), 1.0))
    assert sorted(table) == list(range(1, SLOTS + 1))


def test_empty_tables() -> None:
    """No node, no table; from nothing to something is no slot kept."""
    assert slot_table(None, {}) == () == slot_table((), {1: 0.0})
    assert quotas({}) == {}
    one = slot_table((), {7: 2.0})
    assert one == (7,) * SLOTS
    assert moves(None, one) == moves(one, ()) == SLOTS
    assert moves((), ()) == moves(one, one) == 0


@pytest.mark.parametrize("weight", [-1.0, math.inf, math.nan])
def test_wrong_weights_are_refused(weight: float) -> None:
    """A negative or non-finite weight is an error that names the node."""
    with pytest.raises(ValueError, match=r"not negative: \{2: "):
        slot_table(None, {1: 1.0, 2: weight})


def test_a_table_of_another_length_is_refused() -> None:
    """A previous table is empty or has 256 entries."""
    with pytest.raises(ValueError, match="256 entries, not 3"):
        slot_table((1, 1, 1), {1: 1.0})
