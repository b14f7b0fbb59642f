"""Nodes' reports in a group: when they are fetched, what they do to load, and what silence does."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.group import due_s
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import State
from sncontroller.core.load import CapacitySpec
from sncontroller.core.model import PrimarySpec
from sncontroller.core.report import ManagementSpec, Reading, ReportSpec
from sncontroller.core.scaling import ManualSpec, TargetSpec
from tests.unit.world import World

CPU = ReportSpec.model_validate(
    {"url": "http://{address}:9100/metrics", "interval_s": 2, "signals": {"cpu": "node_load1"}}
)
JOBS = ReportSpec.model_validate(
    {
        "url": "http://{name}.example/status",
        "interval_s": 2,
        "signals": {"jobs": {"pointer": "/jobs", "kind": "counter"}, "queue": "/queue"},
    }
)
CAPACITY = CapacitySpec(bits_per_s=1000, reports={"cpu": 2.0, "jobs": 10.0, "queue": 100.0})
ADDRESSES = ManagementSpec.model_validate({"address": "192.168.9.0+index"})


class Reporting(World):
    """A world whose nodes answer at once with what ``says`` has for the source, unless silent."""

    def __init__(self, reports: tuple[ReportSpec, ...] = (CPU,), **changes: Any) -> None:
        usual = {"capacity": CAPACITY, "management": ADDRESSES}
        super().__init__(reports=reports, **{**usual, **changes})
        self.asked: list[cmd.FetchReport] = []
        self.says: dict[int, Mapping[str, Reading] | str | None] = {0: {"cpu": Reading(1.0)}}
        """By source: the readings, an error, or nothing at all."""
        self.mute: set[int] = set()
        """Nodes that do not answer."""

    def _carry_out(self, command: cmd.Command) -> None:
        super()._carry_out(command)
        if isinstance(command, cmd.FetchReport):
            self.asked.append(command)
            said = self.says.get(command.source)
            if said is not None and command.index not in self.mute:
                self.answer(command, said)

    def answer(
        self, command: cmd.FetchReport, said: Mapping[str, Reading] | str, late_s: float = 0
    ) -> World:
        """The answer to a fetch."""
        key = (command.zone, command.index, command.source, command.asked_s)
        readings, error = ({}, said) if isinstance(said, str) else (said, None)
        return self.give(ev.Reported(*key, self.now + late_s, readings, error))

    def polls(self, seconds: float) -> World:
        """Time passes, with ticks and empty polls."""
        end = self.now + seconds
        while self.now < end:
            self.wait(0.5, every=0.5)
            self.poll()
        return self

    def load(self, index: int = 1) -> tuple[float, str, tuple[str, ...]] | None:
        """A node's load in its parts."""
        load = self.group.nodes[Index(index)].load
        return None if load is None else (load.value, load.signal, load.unknown)

    def told(self) -> list[str]:
        """What the log says of reports."""
        return [f"{e.node}: {e.reason}" for e in self.log if e.kind is cmd.Kind.REPORT]


def test_a_report_is_load() -> None:
    """Its most loaded signal against its capacity, beside what the switch counts."""
    world = Reporting()
    world.connect()
    assert world.asked[0].url == "http://192.168.9.1:9100/metrics"
    assert world.load() == (0.5, "cpu", ())
    assert world.group.nodes[Index(1)].signals["cpu"] == 1.0
    assert world.group.load == 0.5


def test_reports_are_fetched_at_their_interval() -> None:
    """Never more than once an interval, hardly less, and the group says when it is due."""
    world = Reporting()
    world.connect()
    for _ in range(200):
        due = due_s(world.group, world.now)
        world.wait(max(0.01, due - world.now), every=10)
    times = [command.asked_s for command in world.asked]
    gaps = [b - a for a, b in pairwise(times)]
    assert len(times) > 5
    assert min(gaps) >= 2 * 0.9
    assert max(gaps) <= 2.05


def test_a_late_report_is_not_zero_load() -> None:
    """The last value counts for as long as it is kept; then the signal is unknown, and named."""
    world = Reporting()
    world.connect().poll()
    world.says = {0: "connection refused"}
    world.polls(4)
    assert world.load() == (0.5, "cpu", ())
    world.polls(6)
    assert world.load() == (0.0, "bits_per_s", ("cpu",))
    assert world.group.nodes[Index(1)].signals["cpu"] is None
    (line,) = world.told()
    assert line.startswith("web-1: no report for")
    assert line.endswith("cpu unknown: connection refused")
    world.says = {0: {"cpu": Reading(3.0)}}
    world.polls(3)
    assert world.load() == (1.5, "cpu", ())
    assert world.told()[1:] == ["web-1: reports again"]


def test_silence_is_given_up_and_asked_again() -> None:
    """A fetch that never ends is not waited for, and its answer is void when it comes after all."""
    world = Reporting()
    world.connect()
    world.mute = {1}
    world.polls(4)
    old = world.asked[-1]
    world.polls(4)
    assert world.asked[-1].asked_s > old.asked_s
    assert "no answer within 2 s" in world.group.nodes[Index(1)].sources[0].trouble
    world.answer(old, {"cpu": Reading(9.0)})
    assert world.group.nodes[Index(1)].signals["cpu"] != 9.0
    last = world.asked[-1]
    world.answer(last, {"cpu": Reading(1.5)})
    assert world.load() == (0.75, "cpu", ())


def test_answers_to_nobody_change_nothing() -> None:
    """A node that has gone, a source that is no more."""
    world = Reporting()
    world.connect()
    asked, before = world.asked[0], world.group
    for index, source in ((9, 0), (1, 1)):
        key = (asked.zone, Index(index), source, asked.asked_s)
        world.give(ev.Reported(*key, world.now, {}, None))
    assert world.group.nodes == before.nodes


def test_one_late_node_delays_no_other() -> None:
    """While one does not answer, the others are asked as ever."""
    world = Reporting(scaling=ManualSpec(max=6, nodes=3))
    world.connect().wait(3)
    world.mute = {2}
    world.asked.clear()
    world.polls(10)
    asked = [int(command.index) for command in world.asked]
    assert asked.count(1) >= 4
    assert asked.count(3) >= 4
    assert world.load(2) == (0.0, "bits_per_s", ("cpu",))
    assert world.load(3) == (0.5, "cpu", ())


def test_counters_and_several_reports() -> None:
    """A rate needs two reports; a signal that is not in one keeps its value, and that is said."""
    world = Reporting(reports=(CPU, JOBS))
    world.says[1] = {"jobs": Reading(100.0), "queue": Reading(10.0)}
    world.connect()
    assert world.asked[1].url == "http://web-1.example/status"
    assert world.group.nodes[Index(1)].signals["jobs"] is None
    assert world.load() == (0.5, "cpu", ("jobs",))
    world.says[1] = {"jobs": Reading(160.0), "queue": Reading(10.0)}
    world.wait(2.0, every=0.1)
    value = world.group.nodes[Index(1)].signals["jobs"]
    assert value == pytest.approx(30.0, rel=0.1)
    world.says[1] = {"jobs": Reading(220.0)}
    world.polls(4)
    assert world.group.nodes[Index(1)].sources[1].trouble == "queue not in it"
    assert world.group.nodes[Index(1)].signals["queue"] == 10.0
    world.polls(8)
    assert world.group.nodes[Index(1)].signals["queue"] is None
    assert world.told()[0].endswith("jobs, queue unknown: queue not in it")


def test_booting_nodes_are_no_news() -> None:
    """What is not there yet is not complained of; a node's state does not depend on its reports."""
    world = Reporting(scaling=ManualSpec(max=6, nodes=2))
    world.says = {0: "connection refused"}
    world.connect()
    world.polls(3)
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}
    world.polls(4)
    assert world.told() == []


def test_without_an_address_nobody_is_asked() -> None:
    """It is said why, and the signal stays unknown; the primary is found by its own address."""
    world = Reporting(
        management=ManagementSpec(),
        primary=PrimarySpec(port="vm1", mac="02:00:00:00:00:01"),
        arp="switch",
    )
    world.connect().polls(10)
    assert world.asked == []
    assert world.told()[0].endswith("cpu unknown: its management address is not known")
    known = Reporting(management=ManagementSpec())
    known.connect()
    assert known.asked[0].url == "http://10.0.0.10:9100/metrics"
    own = PrimarySpec.model_validate(
        {"port": "vm1", "mac": "02:00:00:00:00:01", "address": "10.0.0.9"}
    )
    known = Reporting(management=ManagementSpec(), primary=own)
    known.connect()
    assert known.asked[0].url == "http://10.0.0.9:9100/metrics"


def test_the_plugin_says_where_a_node_is() -> None:
    """Its address comes with the start, and with the list after a restart."""
    world = Reporting(management=ManagementSpec(), scaling=ManualSpec(max=6, nodes=2))
    world.address = "172.16.0.2"
    world.connect()
    world.polls(3)
    assert {c.url for c in world.asked if c.index == 2} == {"http://172.16.0.2:9100/metrics"}
    world.asked.clear()
    world.restarted().wait(5)
    assert {c.url for c in world.asked if c.index == 2} == {"http://172.16.0.2:9100/metrics"}


def test_a_group_does_not_shrink_on_what_it_does_not_know() -> None:
    """With one signal unknown the rest may ask for more nodes, but not for fewer."""
    target = TargetSpec.model_validate(
        {"policy": "target", "min": 1, "max": 6, "target": 0.5}
        | {"behavior": {"scale_down": {"stabilization_window_s": 0}}}
    )
    world = Reporting(scaling=target)
    world.says = {0: {"cpu": Reading(2.0)}}
    world.connect().polls(10)
    many = world.group.wanted
    assert many >= 2
    world.says = {0: "connection refused"}
    world.polls(30)
    assert world.group.wanted >= many
    assert world.load() == (0.0, "bits_per_s", ("cpu",))
    world.says = {0: {"cpu": Reading(0.1)}}
    world.polls(30)
    assert world.group.wanted == 1


def test_a_changed_configuration_begins_anew() -> None:
    """Reports that are no more leave nothing; new ones are fetched at once."""
    world = Reporting()
    world.connect()
    world.says = {0: {"jobs": Reading(1.0), "queue": Reading(50.0)}}
    world.give(ev.Respecified(world.spec.model_copy(update={"reports": (JOBS,)})))
    assert world.load() == (0.5, "queue", ("jobs",))
    assert "cpu" not in world.group.nodes[Index(1)].signals
    world.give(ev.Respecified(world.spec.model_copy(update={"reports": ()})))
    assert world.group.nodes[Index(1)].sources == ()
