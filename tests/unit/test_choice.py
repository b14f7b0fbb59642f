"""core.choice: exact round robin and least connections; a first packet that comes twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.balance import BalanceKind
from sncontroller.core.choice import KEEP_S, Choices, Given, choose
from sncontroller.core.events import FiveTuple
from sncontroller.core.layout import Index
from sncontroller.core.slots import slot_table

RR, LC = BalanceKind.ROUND_ROBIN, BalanceKind.LEAST_CONNECTIONS
NODES = st.sets(st.integers(1, 12), min_size=1, max_size=8)
WEIGHTS = st.dictionaries(st.integers(1, 12), st.integers(1, 20), min_size=1, max_size=6)


def flow(nth: int) -> FiveTuple:
    """The n-th flow."""
    return FiveTuple(6, f"10.{nth >> 14}.0.1", "10.0.0.10", 1024 + nth % 16384, 80)


class Group:
    """Choices in a row, and the flows that are open."""

    def __init__(self, kind: BalanceKind) -> None:
        self.kind, self.choices, self.nth = kind, Choices(), 0
        self.open: Counter[int] = Counter()

    def take(self, weights: Mapping[int, float], count: int = 1) -> list[int]:
        """So many new flows; which nodes they went to."""
        typed = {Index(i): float(w) for i, w in weights.items()}
        went = []
        for _ in range(count):
            one = flow(self.nth)
            node = choose(self.kind, self.choices, typed, (), one)
            self.choices = self.choices.chosen(one, Given(node, None, 0.0), typed)
            self.nth += 1
            self.open[node] += 1
            went.append(int(node))
        return went

    def poll(self) -> None:
        """The switch tells how many flows are open."""
        for node in {*self.open, *self.choices.given}:
            given = self.choices.given.get(Index(node), 0)
            self.choices = self.choices.counted(Index(node), self.open[node], given)


def even(nodes: set[int]) -> dict[int, float]:
    """The same weight for all."""
    return dict.fromkeys(nodes, 1.0)


@given(st.lists(st.tuples(NODES, st.integers(1, 40)), min_size=1, max_size=8))
def test_round_robin_is_exact_in_every_window(history: list[tuple[set[int], int]]) -> None:
    """However nodes came and went before: in no stretch do two nodes differ by more than 1."""
    group = Group(RR)
    for nodes, count in history:
        went = group.take(even(nodes), count)
        for start in range(len(went)):
            seen = Counter(went[start:])
            assert max(seen.values()) - min(seen[node] for node in nodes) <= 1
            seen = Counter(went[:start])
            assert max(seen[node] for node in nodes) - min(seen[node] for node in nodes) <= 1


@given(WEIGHTS, st.integers(1, 4))
def test_weighted_round_robin_is_exact_in_every_cycle(weights: dict[int, int], cycles: int) -> None:
    """After as many flows as the weights add up to, each node had as many as it weighs."""
    group = Group(RR)
    for _ in range(cycles):
        assert Counter(group.take(weights, sum(weights.values()))) == weights


@given(WEIGHTS, st.integers(1, 200))
def test_weighted_round_robin_never_lets_a_node_wait(weights: dict[int, int], count: int) -> None:
    """At any time two nodes are at most one of their own turns apart."""
    seen = Counter(Group(RR).take(weights, count))
    turns = [seen[node] / weight for node, weight in weights.items()]
    slowest = min(weights.values())
    assert max(turns) - min(turns) <= 1 / slowest + 1e-9


def test_a_weight_that_rises_is_followed_at_once() -> None:
    """A node in slow start gets a fifth of a turn, then two: what it missed is not made good."""
    group = Group(RR)
    assert Counter(group.take({1: 1.0, 2: 0.2}, 60)) == {1: 50, 2: 10}
    assert Counter(group.take({1: 1.0, 2: 1.0}, 60)) == {1: 30, 2: 30}


def test_a_node_that_comes_back_makes_nothing_good() -> None:
    """It had no turns while it was away, and gets no more than the others now."""
    group = Group(RR)
    group.take(even({1, 2}), 10)
    group.take(even({1}), 100)
    assert Counter(group.take(even({1, 2}), 10)) == {1: 5, 2: 5}


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("open"), st.integers(1, 12)),
            st.tuples(st.just("close"), st.integers(1, 12)),
            st.tuples(st.just("poll"), st.just(0)),
        ),
        max_size=60,
    ),
    st.dictionaries(st.integers(1, 6), st.sampled_from([0.2, 1.0, 2.0, 3.0]), min_size=1),
)
def test_least_connections_takes_the_least_of_what_it_knows(
    history: list[tuple[str, int]], weights: dict[int, float]
) -> None:
    """Every flow goes where, with it, flows per weight are fewest; ends are known by the poll."""
    group, known = Group(LC), Counter[int]()
    for what, number in history:
        if what == "open":
            for _ in range(number):
                least = min((known[node] + 1) / weight for node, weight in weights.items())
                (node,) = group.take(weights)
                assert (known[node] + 1) / weights[node] == least
                known[node] += 1
        elif what == "close":
            group.open.subtract({node: min(number, group.open[node]) for node in group.open})
        else:
            group.poll()
            known = Counter(group.open)
        assert all(group.choices.flows(Index(node)) == known[node] for node in weights)


def test_least_connections_fills_up_a_new_node_as_far_as_its_weight() -> None:
    """With a fifth of the weight it gets a fifth of the others' flows, not the same number."""
    group = Group(LC)
    group.take(even({1, 2}), 100)
    group.poll()
    assert set(group.take({1: 1.0, 2: 1.0, 3: 0.2}, 10)) == {3}
    assert Counter(group.take({1: 1.0, 2: 1.0, 3: 0.2}, 22)) == {1: 10, 2: 10, 3: 2}


def test_least_connections_takes_turns_among_equals() -> None:
    """Flows that end at once do not all go to the first node."""
    group = Group(LC)
    went = []
    for _ in range(9):
        went += group.take(even({1, 2, 3}))
        group.open.clear()
        group.poll()
    assert went == [1, 2, 3] * 3


def test_flows_given_away_while_the_switch_counted_are_not_lost() -> None:
    """A poll says how many flows it knows of; those that were given later are added."""
    choices = Choices()
    one = {Index(1): 1.0}
    for nth in range(5):
        choices = choices.chosen(flow(nth), Given(Index(1), None, 0.0), one)
    assert choices.counted(Index(1), 2, 3).flows(Index(1)) == 4
    assert choices.counted(Index(1), 2, None).flows(Index(1)) == 2
    assert choices.counted(Index(1), 0, 9).flows(Index(1)) == 0
    assert choices.flows(Index(2)) == 0


@pytest.mark.parametrize("kind", [BalanceKind.EVEN, BalanceKind.WEIGHTED, BalanceKind.LEAST_LOAD])
def test_other_kinds_follow_the_slots(kind: BalanceKind) -> None:
    """A flow's slot is a function of the flow alone."""
    weights = {Index(1): 1.0, Index(2): 3.0}
    table = slot_table(None, {1: 1.0, 2: 3.0})
    went = [choose(kind, Choices(), weights, table, flow(nth)) for nth in range(2000)]
    assert went == [choose(kind, Choices(), weights, table, flow(nth)) for nth in range(2000)]
    assert 400 < Counter(went)[Index(1)] < 600


@given(st.lists(st.tuples(st.integers(0, 300), st.floats(0, 3)), max_size=80))
def test_recent_flows_are_known_and_old_ones_are_not(taken: list[tuple[int, float]]) -> None:
    """For KEEP_S after it was given away, and not longer, a flow is known by its node."""
    choices, now, model = Choices(), 0.0, {}
    for nth, (number, pause_s) in enumerate(taken):
        now += pause_s
        node = Index(nth % 9 + 1)
        choices = choices.chosen(flow(number), Given(node, 5, now), {node: 1.0})
        model[number] = (node, now)
        for known in range(301):
            given, at_s = model.get(known, (None, 0.0))
            there = given if now - at_s <= KEEP_S else None
            assert choices.recent.node(flow(known), 5, now) == there
            assert choices.recent.node(flow(known), None, now) == there
            assert choices.recent.node(flow(known), 6, now) is None
    kept = sum(len(bucket) for bucket in choices.recent.buckets)
    assert kept <= len(model)


def test_what_is_kept_is_bounded_by_time() -> None:
    """A million flows do not stay: old ones go when their bucket is used again."""
    choices, one = Choices(), {Index(1): 1.0}
    for nth in range(20_000):
        choices = choices.chosen(flow(nth), Given(Index(1), None, nth / 100), one)
    assert sum(len(bucket) for bucket in choices.recent.buckets) < 5_000


def test_a_node_without_a_weight_takes_no_turn() -> None:
    """A flow that began before us goes to the primary, even where that drains."""
    after = Choices().chosen(flow(1), Given(Index(1), None, 0.0), {Index(2): 1.0})
    assert after.given == {Index(1): 1}
    assert not after.turns.last
