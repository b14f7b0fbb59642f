"""core.balance: weights even, given, following load; slow start."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from sncontroller.core.balance import (
    WEIGHT_SPAN,
    BalanceMemory,
    BalanceSpec,
    Candidate,
    learnt_from,
    weights,
)
from sncontroller.core.slots import moves, slot_table

NONE = BalanceMemory()


def spec_of(**section: Any) -> BalanceSpec:
    """A specification, as the configuration would give it."""
    return BalanceSpec.model_validate(section)


def serving(*indexes: int) -> list[Candidate]:
    """Nodes that have long been serving."""
    return [Candidate(index, serving=True) for index in indexes]


def test_even_is_even_and_only_for_those_that_serve() -> None:
    """Every serving node weighs 1, all others 0."""
    nodes = [*serving(1, 2), Candidate(3, serving=False)]
    assert weights(spec_of(), nodes, {}, NONE, 0.0) == ({1: 1.0, 2: 1.0, 3: 0.0}, NONE)


def test_weighted_takes_the_given_weights() -> None:
    """Nodes that are not named weigh 1."""
    spec = spec_of(kind="weighted", weights={1: 4, 3: 0.5})
    assert weights(spec, serving(3, 2, 1), {}, NONE, 0.0)[0] == {1: 4.0, 2: 1.0, 3: 0.5}


@pytest.mark.parametrize(
    ("age_s", "factor"),
    [(-1.0, 0.2), (0.0, 0.2), (1.9, 0.2), (2.0, 0.4), (9.9, 1.0), (10.0, 1.0), (99.0, 1.0)],
)
def test_slow_start_rises_in_five_steps(age_s: float, factor: float) -> None:
    """A fifth at first, and everything after ramp_s."""
    spec = spec_of(kind="weighted", weights={2: 3}, ramp_s=10)
    nodes = [*serving(1), Candidate(2, serving=True, since_s=100.0)]
    found, _ = weights(spec, nodes, {}, NONE, 100.0 + age_s)
    assert found == pytest.approx({1: 1.0, 2: 3 * factor})


def test_without_a_ramp_there_is_no_slow_start() -> None:
    """ramp_s 0 gives a new node its whole share at once."""
    nodes = [*serving(1), Candidate(2, serving=True, since_s=100.0)]
    assert weights(spec_of(), nodes, {}, NONE, 100.0)[0] == {1: 1.0, 2: 1.0}


def settle(spec: BalanceSpec, power: dict[int, float], rounds: int) -> dict[int, float]:
    """The weights after some rounds in which load is a node's share over its power."""
    memory, found = NONE, dict.fromkeys(power, 1.0)
    for nth in range(rounds):
        total = sum(found.values())
        loads: dict[int, float | None] = {i: found[i] / total / power[i] for i in power}
        found, memory = weights(spec, serving(*power), loads, memory, nth * spec.interval_s)
    return found


@given(st.dictionaries(st.integers(1, 9), st.floats(0.5, 4.0), min_size=2, max_size=6))
def test_least_load_evens_out_unequal_nodes(power: dict[int, float]) -> None:
    """Whatever the nodes' powers, their loads end within the band of each other."""
    spec = spec_of(kind="least-load")
    found = settle(spec, power, 40)
    total = sum(found.values())
    loads = [found[i] / total / power[i] for i in power]
    mean = sum(loads) / len(loads)
    assert all(abs(load / mean - 1) <= spec.band + 1e-9 for load in loads)


@given(st.lists(st.floats(0.56, 0.64), min_size=3, max_size=3))
def test_noise_inside_the_band_changes_no_weight(loads: list[float]) -> None:
    """Loads that differ by less than the band leave the weights alone."""
    known: dict[int, float | None] = dict(zip((1, 2, 3), loads, strict=True))
    spec = spec_of(kind="least-load", weights={1: 2})
    found, memory = weights(spec, serving(1, 2, 3), known, NONE, 0.0)
    assert found == {1: 2.0, 2: 1.0, 3: 1.0} == dict(memory.learnt)


def test_least_load_follows_at_most_every_interval() -> None:
    """Between two looks at the loads the weights stay."""
    spec = spec_of(kind="least-load", interval_s=10)
    loads: dict[int, float | None] = {1: 0.9, 2: 0.3}
    first, memory = weights(spec, serving(1, 2), loads, NONE, 0.0)
    assert first[1] < first[2]
    assert weights(spec, serving(1, 2), loads, memory, 9.9) == (first, memory)
    later, _ = weights(spec, serving(1, 2), loads, memory, 10.0)
    assert later[1] / later[2] < first[1] / first[2]


def test_least_load_without_knowledge_keeps_the_weights() -> None:
    """Unknown loads, zero loads and a node that still ramps up teach nothing."""
    spec = spec_of(kind="least-load", ramp_s=10)
    new = Candidate(2, serving=True, since_s=0.0)
    for loads in ({}, {1: None, 2: None}, {1: 0.0, 2: 0.0}, {1: 0.9, 2: 0.01}):
        found, memory = weights(spec, [*serving(1), new], dict(loads), NONE, 5.0)
        assert found == pytest.approx({1: 1.0, 2: 0.6})
        assert dict(memory.learnt) == {1: 1.0, 2: 1.0}


def test_an_unknown_load_keeps_that_nodes_weight_relative_to_the_others() -> None:
    """Only the nodes with a load move; all are then scaled to a mean of 1."""
    spec = spec_of(kind="least-load")
    loads: dict[int, float | None] = {1: 0.9, 2: 0.1, 3: None}
    found, _ = weights(spec, serving(1, 2, 3), loads, NONE, 0.0)
    assert found[1] < found[3] < found[2]
    assert sum(found.values()) == pytest.approx(3.0)


@given(
    st.lists(
        st.dictionaries(
            st.integers(1, 4), st.one_of(st.none(), st.floats(0, 100)), min_size=4, max_size=4
        ),
        max_size=30,
    )
)
def test_weights_never_run_away(rounds: list[dict[int, float | None]]) -> None:
    """Whatever the loads, a weight stays positive and within the span."""
    spec, memory = spec_of(kind="least-load", gain=1.0), NONE
    for nth, loads in enumerate(rounds):
        found, memory = weights(spec, serving(1, 2, 3, 4), loads, memory, nth * 10.0)
        assert all(1 / WEIGHT_SPAN <= weight <= WEIGHT_SPAN for weight in found.values())


def test_weights_need_a_kind_that_uses_them() -> None:
    """Weights with kind even would be ignored in silence."""
    with pytest.raises(ValidationError, match="weights need kind"):
        spec_of(weights={1: 2})


@given(st.dictionaries(st.integers(1, 9), st.floats(1 / WEIGHT_SPAN, WEIGHT_SPAN), min_size=1))
def test_what_was_learnt_is_in_the_slot_table(learnt: dict[int, float]) -> None:
    """A controller that starts anew takes the weights from the table and moves no slot."""
    spec, table = spec_of(kind="least-load"), slot_table(None, learnt)
    nodes = [Candidate(index, serving=index in table) for index in learnt]
    found, _ = weights(spec, nodes, {}, learnt_from(spec, table), 0.0)
    assert moves(table, slot_table(table, found)) == 0
    assert learnt_from(spec_of(), table) == NONE


def test_a_restart_keeps_what_was_learnt() -> None:
    """Three quarters of the slots are a weight three times the other's."""
    learnt = learnt_from(spec_of(kind="least-load"), (1,) * 192 + (2,) * 64)
    assert dict(learnt.learnt) == {1: 1.5, 2: 0.5}
    assert learnt.at_s is None
    assert learnt_from(spec_of(kind="least-load"), ()) == NONE
