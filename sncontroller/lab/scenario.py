"""What happens in the demo, and when: the users' curve, the phases, the long-lived connections.

Owns the story as pure functions: a moment comes in, the progress and the clients' orders come out.
Phases end on what was seen (so many nodes serve, all secondaries are gone), so that a slow machine
takes longer and shows the same; each has a limit, after which the story goes on and the report
says what was missing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from sncontroller.lab.clients import Orders
from sncontroller.lab.samples import GroupSeen, Moment


class Phase(StrEnum):
    """The demo's phases, in order."""

    ALONE = "alone"
    """The primary as it was before: no controller; users come until it is saturated."""
    ATTACH = "attach"
    """The controller is started, in the middle of the traffic."""
    RISE = "rise"
    """More users; secondaries join."""
    KILLED = "killed"
    """The controller was killed; traffic goes on. Only with ``kill_controller``."""
    RESUME = "resume"
    """The controller is started again and takes up the group."""
    PEAK = "peak"
    """All nodes serve, saturated."""
    FALL = "fall"
    """Users leave; secondaries drain, wait for their long-lived connections and go."""
    QUIET = "quiet"
    """The primary alone again."""
    DETACHED = "detached"
    """The bridge is given back; traffic goes on a while, past us."""
    DONE = "done"
    """The connections end."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """The sizes of the story. A load of 1.0 is what one node can answer."""

    one_node_users: float
    """Users whose requests, answered at once, are one node's capacity."""
    max_nodes: int = 4
    kill_controller: bool = False
    load_alone: float = 3.0
    load_peak: float = 4.8
    load_quiet: float = 0.25
    ramp_alone_s: float = 6.0
    alone_s: float = 14.0
    ramp_rise_s: float = 18.0
    killed_s: float = 5.0
    peak_s: float = 14.0
    ramp_fall_s: float = 8.0
    drain_hold_s: float = 5.0
    """So long a draining node's long-lived connections are kept open."""
    quiet_s: float = 3.0
    detached_s: float = 3.0
    patience_s: float = 80.0
    """A phase that waits for something does so this long."""
    hold_per_node: int = 6
    hold_most: int = 60
    expected_nodes: int = 3
    """At least so many must serve at the peak."""
    expected_gain: float = 2.5
    """Throughput at the peak must be this many times that of the primary alone."""

    def limit_s(self, phase: Phase) -> float:
        """When a phase ends at the latest."""
        fixed = {
            Phase.ALONE: self.alone_s,
            Phase.KILLED: self.killed_s,
            Phase.PEAK: self.peak_s,
            Phase.QUIET: self.quiet_s,
            Phase.DETACHED: self.detached_s,
        }
        return fixed.get(phase, self.patience_s)


def quick(one_node_users: float, kill_controller: bool) -> Scenario:
    """The short form, for tests: 3 nodes, fewer users, short phases."""
    return Scenario(
        one_node_users,
        max_nodes=3,
        kill_controller=kill_controller,
        load_peak=3.9,
        ramp_alone_s=1.0,
        alone_s=4.5,
        ramp_rise_s=2.0,
        killed_s=2.0,
        peak_s=4.5,
        ramp_fall_s=1.0,
        drain_hold_s=2.0,
        quiet_s=1.0,
        detached_s=1.5,
        patience_s=60.0,
        hold_per_node=4,
        expected_gain=2.0,
    )


@dataclass(frozen=True, slots=True)
class Progress:
    """Where the story stands."""

    phase: Phase
    since_s: float
    hold_total: int = 0
    hold_since_s: float = 0.0
    draining: Mapping[str, float] = field(default_factory=dict)
    """Nodes that were seen draining, and since when."""
    release: tuple[str, ...] = ()
    late: tuple[str, ...] = ()
    """Phases that ended without what they waited for, in words."""


def advance(scenario: Scenario, progress: Progress, moment: Moment) -> Progress:
    """The progress after this moment."""
    progress = _held(scenario, progress, moment)
    elapsed_s = moment.time_s - progress.since_s
    missing = _missing(scenario, progress.phase, elapsed_s, moment.group)
    over = elapsed_s >= scenario.limit_s(progress.phase)
    if progress.phase is Phase.DONE or (missing is not None and not over):
        return progress
    if missing:
        text = f"phase {progress.phase.value} ended after {elapsed_s:.0f} s: {missing}"
        progress = replace(progress, late=(*progress.late, text))
    return replace(progress, phase=_next(scenario, progress.phase), since_s=moment.time_s)


def orders(scenario: Scenario, progress: Progress, now: float) -> Orders:
    """What the clients are to do now."""
    return Orders(
        users=users(scenario, progress.phase, now - progress.since_s),
        hold_total=progress.hold_total,
        release=progress.release,
        stop=progress.phase is Phase.DONE,
    )


def users(scenario: Scenario, phase: Phase, elapsed_s: float) -> int:
    """How many users there are to be, so long after the phase's begin."""
    quiet, alone, peak = scenario.load_quiet, scenario.load_alone, scenario.load_peak
    curve = {
        Phase.ALONE: (quiet, alone, scenario.ramp_alone_s),
        Phase.ATTACH: (alone, alone, 1.0),
        Phase.RISE: (alone, peak, scenario.ramp_rise_s),
        Phase.FALL: (peak, quiet, scenario.ramp_fall_s),
        Phase.QUIET: (quiet, quiet, 1.0),
        Phase.DETACHED: (quiet, quiet, 1.0),
        Phase.DONE: (0.0, 0.0, 1.0),
    }
    first, last, ramp_s = curve.get(phase, (peak, peak, 1.0))
    load = first + (last - first) * min(1.0, elapsed_s / ramp_s)
    return round(load * scenario.one_node_users)


def _next(scenario: Scenario, phase: Phase) -> Phase:
    order = list(Phase)
    following = order[order.index(phase) + 1]
    if following is Phase.KILLED and not scenario.kill_controller:
        return Phase.PEAK
    return following


def _missing(
    scenario: Scenario, phase: Phase, elapsed_s: float, group: GroupSeen | None
) -> str | None:
    """What the phase still waits for; "" for time alone, None when it may end."""
    if phase is Phase.ATTACH:
        return None if group and group.connected and group.serving else "no group on the switch"
    if phase is Phase.RISE or phase is Phase.RESUME:
        ramp_s = scenario.ramp_rise_s if phase is Phase.RISE else 0.0
        return _nodes_missing(scenario, group) or (None if elapsed_s >= ramp_s else "")
    if phase is Phase.FALL:
        left = [node.name for node in group.present if node.role != "primary"] if group else None
        return None if left == [] else f"still there: {', '.join(left or ['(no status)'])}"
    return ""


def _nodes_missing(scenario: Scenario, group: GroupSeen | None) -> str | None:
    serving = len(group.serving) if group and group.connected else 0
    return None if serving >= scenario.max_nodes else f"{serving} of {scenario.max_nodes} serve"


def _held(scenario: Scenario, progress: Progress, moment: Moment) -> Progress:
    """Long-lived connections come with every node, and go some time after its drain began."""
    now, group = moment.time_s, moment.group
    if progress.phase in (Phase.FALL, Phase.QUIET, Phase.DETACHED, Phase.DONE):
        return _released(scenario, progress, moment)
    serving = group.serving if group else ()
    wanted = scenario.hold_per_node * max(1, len(serving))
    total = max(progress.hold_total, wanted)
    held = moment.traffic.held if moment.traffic else None
    bare = held is not None and any(not held.get(node.name) for node in serving)
    if total == progress.hold_total and bare and now - progress.hold_since_s >= 2.0:
        total = min(total + 2, scenario.hold_most)
    if total == progress.hold_total:
        return progress
    return replace(progress, hold_total=total, hold_since_s=now)


def _released(scenario: Scenario, progress: Progress, moment: Moment) -> Progress:
    nodes = moment.group.nodes if moment.group else ()
    fresh = {node.name: moment.time_s for node in nodes if node.state == "draining"}
    draining = fresh | dict(progress.draining)
    due = [n for n, since in draining.items() if moment.time_s - since >= scenario.drain_hold_s]
    if draining == progress.draining and len(due) == len(progress.release):
        return progress
    return replace(progress, draining=draining, release=tuple(sorted(due)))
