"""BFD in a group: which ports are told, whose verdict counts, and what a failure does."""

from __future__ import annotations

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core.bfd import AGAIN_S
from sncontroller.core.health import HealthSpec
from sncontroller.core.layout import Index, port_name
from sncontroller.core.lifecycle import State
from sncontroller.core.scaling import ManualSpec
from tests.unit.configs import GROUP, told
from tests.unit.world import World

OVSDB = "unix:/run/db.sock"
ON = HealthSpec.model_validate({"kind": "bfd", "bfd": {"ovsdb": OVSDB, "min_rx_ms": 100}})
BY_OTHERS = HealthSpec.model_validate({"kind": "bfd"})


class Sessions(World):
    """A world whose ports are silent from when BFD is turned on until ``hears``."""

    def __init__(self, health: HealthSpec = ON, **changes: object) -> None:
        super().__init__(health=health, **changes)
        self.settings: list[cmd.SetBfd] = []
        self.error: str | None = None

    def _carry_out(self, command: cmd.Command) -> None:
        super()._carry_out(command)
        if isinstance(command, cmd.SetBfd):
            self.settings.append(command)
            if self.error is None and command.port in self.ports:
                self.hears(command.port, not command.on)
            self.give(ev.BfdSet(command.zone, command.port, self.error))

    def hears(self, name: str, live: bool) -> World:
        """The session of the port comes up or goes down; its link stays."""
        old = self.ports[name]
        port = ev.Port(old.number, name, old.mac, old.up, live)
        self.ports[name] = port
        return self.give(ev.PortSeen(7, port))


def port(world: World, index: int) -> str:
    """The port of a secondary."""
    return port_name(world.spec.zone, Index(index))


def test_a_node_serves_once_its_session_is_up() -> None:
    """A port is told once; that it was live before BFD began is no proof of anything."""
    world = Sessions()
    world.connect().wait(3)
    (setting,) = world.settings
    assert (setting.port, setting.ovsdb, setting.on) == ("vm1", OVSDB, True)
    assert dict(setting.column)["min_rx"] == "100"
    assert dict(setting.column)["enable"] == "true"
    assert world.states() == {1: State.PROBING}
    assert not world.installed.groups
    world.hears("vm1", True).wait(1, every=0.1)
    assert world.states() == {1: State.ACTIVE}
    assert len(world.settings) == 1
    assert world.consistent()


def test_a_session_that_goes_down_is_a_dead_node() -> None:
    """At once and whatever the link says; it comes back with the session."""
    world = Sessions(scaling=ManualSpec(max=6, nodes=2))
    world.connect().hears("vm1", True).wait(2).poll()
    name = port(world, 2)
    world.hears(name, True).wait(2)
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}
    world.hears(name, False)
    assert world.states()[2] is State.FAILED
    assert world.group.nodes[Index(2)].reason == "BFD: the switch hears nothing from it"
    assert world.owners() == {1}
    world.hears(name, True)
    assert world.states()[2] is State.ACTIVE
    world.link(name, up=False)
    assert world.group.nodes[Index(2)].reason == "its link is down"


def test_a_port_that_is_ours_no_longer_is_given_back() -> None:
    """That of a node that leaves, in case it stays; and all, when the section has gone."""
    world = Sessions(scaling=ManualSpec(max=6, nodes=2))
    world.connect().hears("vm1", True).wait(2).poll()
    name = port(world, 2)
    world.hears(name, True).wait(2)
    world.scale(1).poll().wait(30).poll()
    assert world.states() == {1: State.ACTIVE}
    assert [s.on for s in world.settings if s.port == name] == [True, False]
    without = world.spec.model_copy(update={"health": BY_OTHERS})
    world.give(ev.Respecified(without))
    assert [s.on for s in world.settings if s.port == "vm1"] == [True, False]
    assert world.states() == {1: State.ACTIVE}


def test_a_failure_is_said_and_tried_again() -> None:
    """The node does not serve before the port was told."""
    world = Sessions()
    world.error = "database connection failed"
    world.connect().wait(AGAIN_S / 2)
    assert world.states() == {1: State.PROBING}
    assert len(world.settings) == 1
    (line,) = [e.reason for e in world.log if e.kind is cmd.Kind.BFD]
    assert line == "cannot set it on port vm1: database connection failed"
    world.error = None
    world.wait(AGAIN_S)
    assert len(world.settings) == 2
    world.hears("vm1", True).wait(1)
    assert world.states() == {1: State.ACTIVE}
    world.give(ev.BfdSet(world.spec.zone, "nobody", None))  # whose setting was withdrawn meanwhile
    assert set(world.group.bfd) == {"vm1"}


def test_a_port_that_is_gone_is_not_told_anything() -> None:
    """Its setting went with it; when it comes again it is told again."""
    world = Sessions(scaling=ManualSpec(max=6, nodes=2))
    world.connect().hears("vm1", True).wait(2).poll().wait(2)
    name = port(world, 2)
    gone = world.ports.pop(name)
    world.give(ev.PortGone(7, gone)).wait(2)
    assert name not in world.group.bfd
    assert [s.on for s in world.settings if s.port == name] == [True]
    world.ports[name] = gone
    world.give(ev.PortSeen(7, gone)).wait(2)
    assert [s.on for s in world.settings if s.port == name] == [True, True]


def test_where_others_set_it_liveness_counts_all_the_same() -> None:
    """A port without BFD is live while its link is up."""
    world = Sessions(BY_OTHERS)
    world.connect()
    assert world.settings == []
    assert world.states() == {1: State.ACTIVE}
    world.hears("vm1", False)
    assert world.states()[1] is State.FAILED


def test_without_bfd_liveness_means_nothing() -> None:
    """Other switches than Open vSwitch never set the bit."""
    world = Sessions(HealthSpec())
    world.connect().hears("vm1", False)
    assert world.states() == {1: State.ACTIVE}


@pytest.mark.parametrize(
    ("section", "line"),
    [
        (
            {"min_rx_ms": 100, "options": {"bfd_dst_ip": "10.0.0.1"}},
            "health.bfd: min_rx_ms, options: only with ovsdb; without it you set BFD at the ports",
        ),
        (
            {"ovsdb": "/run/db.sock"},
            "health.bfd.ovsdb: must be text of the form ^(unix|tcp|ssl):, not '/run/db.sock'",
        ),
        ({"ovsdb": OVSDB, "min_tx_ms": 1}, "health.bfd.min_tx_ms: must be at least 10, not 1"),
    ],
)
def test_wrong_sections(section: dict[str, object], line: str) -> None:
    """What nobody would set is not accepted in silence."""
    group = {**GROUP, "health": {"kind": "bfd", "bfd": section}}
    assert told(group) == [f"groups.web.{line} (line 2)"]
