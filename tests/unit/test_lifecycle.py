"""The transition table: complete, consistent, and drawn in the documentation."""

from __future__ import annotations

from pathlib import Path

from sncontroller.core.lifecycle import (
    DELIVERABLE,
    SERVING,
    STARTING,
    TRANSITIONS,
    State,
    Trigger,
    diagram,
    follows,
)

PAGE = Path(__file__).parents[2] / "docs" / "lifecycle.md"


def test_every_state_is_in_the_table_and_every_trigger_leads_somewhere() -> None:
    """No state is forgotten, no trigger is dead."""
    assert set(TRANSITIONS) == set(State)
    assert {trigger for ways in TRANSITIONS.values() for trigger in ways} == set(Trigger)


def test_every_state_can_be_reached_and_every_life_can_end() -> None:
    """From ``requested`` every state is reachable, and from every state ``gone`` is."""
    reached = closure(State.REQUESTED)
    assert reached == set(State)
    assert all(State.GONE in closure(state) for state in State)


def test_a_dead_node_never_delivers() -> None:
    """Whatever gets packets can die, and what died gets none."""
    assert all(follows(state, Trigger.DIE) is State.FAILED for state in DELIVERABLE)
    assert not {State.FAILED, State.GONE} & DELIVERABLE
    assert not SERVING & STARTING


def test_nothing_follows_where_the_table_is_silent() -> None:
    """A trigger that a state does not know changes nothing."""
    assert follows(State.GONE, Trigger.LINKED) is None


def test_the_documentation_shows_the_table() -> None:
    """The picture in the documentation is the table of now; ``print(diagram())`` mends it."""
    assert diagram() in PAGE.read_text()


def closure(start: State) -> set[State]:
    """All states that can come after ``start``, itself included."""
    seen, waiting = {start}, [start]
    while waiting:
        for after in TRANSITIONS[waiting.pop()].values():
            if after not in seen:
                seen.add(after)
                waiting.append(after)
    return seen
