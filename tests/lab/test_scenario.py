"""The demo's story as pure functions: which phase follows when, and what the clients are told."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from sncontroller.lab.samples import GroupSeen, Moment, NodeSeen, Traffic
from sncontroller.lab.scenario import Phase, Progress, Scenario, advance, orders, users

SCENARIO = Scenario(one_node_users=20)


def group(*states: str, connected: bool = True) -> GroupSeen:
    """A group whose nodes have these states; the active ones have slots, the first is primary."""
    nodes = tuple(
        NodeSeen.model_validate(
            {
                "name": f"web-{index}",
                "index": index,
                "role": "primary" if index == 1 else "secondary",
                "state": state,
                "slots": 64 if state == "active" else 0,
            }
        )
        for index, state in enumerate(states, 1)
    )
    return GroupSeen(name="web", connected=connected, nodes=nodes)


def moment(
    time_s: float, seen: GroupSeen | None = None, held: dict[str, int] | None = None
) -> Moment:
    """A moment at which the clients' samples said that these connections are held."""
    traffic = Traffic(time_s=time_s, span_s=0.5, users=1, requests=1, held=held or {})
    return Moment(time_s, "", 0, None if held is None else traffic, seen)


def test_a_phase_of_fixed_length_ends_by_time_alone() -> None:
    """The primary's own phase ends after its length, not before, and nothing is late."""
    alone = Progress(Phase.ALONE, 100.0)
    assert advance(SCENARIO, alone, moment(113.9)).phase is Phase.ALONE
    following = advance(SCENARIO, alone, moment(114.0))
    assert (following.phase, following.since_s, following.late) == (Phase.ATTACH, 114.0, ())


def test_rising_waits_for_all_nodes_and_for_its_ramp() -> None:
    """The rise ends when all nodes serve and all users came, whichever is later."""
    rise = Progress(Phase.RISE, 0.0)
    three, four = group(*["active"] * 3, "probing"), group(*["active"] * 4)
    assert advance(SCENARIO, rise, moment(30.0, three)).phase is Phase.RISE
    assert advance(SCENARIO, rise, moment(5.0, four)).phase is Phase.RISE
    assert advance(SCENARIO, rise, moment(30.0, four)).phase is Phase.PEAK


def test_a_phase_that_waits_too_long_ends_and_says_what_was_missing() -> None:
    """After its patience the story goes on; the report gets a line."""
    rise = Progress(Phase.RISE, 0.0)
    following = advance(SCENARIO, rise, moment(80.0, group("active", "active")))
    assert following.phase is Phase.PEAK
    assert following.late == ("phase rise ended after 80 s: 2 of 4 serve",)


def test_falling_waits_until_every_secondary_is_gone() -> None:
    """A draining node still counts, a gone one does not, and no answer is no proof."""
    fall = Progress(Phase.FALL, 0.0)
    assert advance(SCENARIO, fall, moment(20.0, group("active", "draining"))).phase is Phase.FALL
    assert advance(SCENARIO, fall, moment(20.0, None)).phase is Phase.FALL
    assert advance(SCENARIO, fall, moment(20.0, group("active", "gone"))).phase is Phase.QUIET


def test_the_controller_is_killed_only_on_demand() -> None:
    """Between the rise and the peak it is killed and started again, or neither."""
    full = moment(30.0, group(*["active"] * 4))
    killing = replace(SCENARIO, kill_controller=True)
    assert advance(SCENARIO, Progress(Phase.RISE, 0.0), full).phase is Phase.PEAK
    assert advance(killing, Progress(Phase.RISE, 0.0), full).phase is Phase.KILLED
    assert advance(killing, Progress(Phase.KILLED, 0.0), full).phase is Phase.RESUME
    assert advance(killing, Progress(Phase.RESUME, 29.0), full).phase is Phase.PEAK
    nobody = moment(30.0, group(*["active"] * 4, connected=False))
    assert advance(killing, Progress(Phase.RESUME, 29.0), nobody).phase is Phase.RESUME


def test_every_node_gets_long_lived_connections() -> None:
    """More are opened with each node that serves, and again while one still has none."""
    progress = advance(SCENARIO, Progress(Phase.RISE, 0.0), moment(1.0, group("active")))
    assert progress.hold_total == SCENARIO.hold_per_node
    two = group("active", "active")
    progress = advance(SCENARIO, progress, moment(2.0, two, {"web-1": 6}))
    assert progress.hold_total == 2 * SCENARIO.hold_per_node
    progress = advance(SCENARIO, progress, moment(9.0, two, {"web-1": 12}))
    assert progress.hold_total == 2 * SCENARIO.hold_per_node + 2
    progress = advance(SCENARIO, progress, moment(19.0, two, {"web-1": 12, "web-2": 2}))
    assert progress.hold_total == 2 * SCENARIO.hold_per_node + 2


def test_a_draining_nodes_connections_are_held_a_while_then_released() -> None:
    """The release comes ``drain_hold_s`` after the drain was seen, for that node alone."""
    progress = Progress(Phase.FALL, 0.0, hold_total=12)
    draining = group("active", "active", "draining")
    progress = advance(SCENARIO, progress, moment(10.0, draining))
    progress = advance(SCENARIO, progress, moment(14.9, draining))
    assert orders(SCENARIO, progress, 14.9).release == ()
    progress = advance(SCENARIO, progress, moment(15.0, draining))
    assert orders(SCENARIO, progress, 15.0).release == ("web-3",)
    assert orders(SCENARIO, progress, 15.0).hold_total == 12


def test_the_users_curve_has_no_jump_upwards() -> None:
    """Each phase begins with as many users as the one before ended with; only DONE has none."""
    played = [phase for phase in Phase if phase is not Phase.DONE]
    for before, after in pairwise(played):
        assert users(SCENARIO, before, 1000.0) == users(SCENARIO, after, 0.0)
    assert users(SCENARIO, Phase.DONE, 0.0) == 0


def test_the_end_tells_the_clients_to_stop() -> None:
    """DONE is the order to stop, and stays."""
    done = advance(SCENARIO, Progress(Phase.DETACHED, 0.0), moment(100.0))
    assert done.phase is Phase.DONE
    assert orders(SCENARIO, done, 100.0).stop
    assert advance(SCENARIO, done, moment(999.0)).phase is Phase.DONE
