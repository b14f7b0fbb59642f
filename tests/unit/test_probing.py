"""Probes of a group's nodes, answered by simulated nodes: who is in rotation, and who is held."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core import frames, probing
from sncontroller.core.group import due_s
from sncontroller.core.health import HealthSpec
from sncontroller.core.layout import Index, port_name
from sncontroller.core.lifecycle import State
from sncontroller.core.load import CapacitySpec
from sncontroller.core.model import PrimarySpec
from sncontroller.core.report import ManagementSpec
from sncontroller.core.scaling import ManualSpec
from sncontroller.northbound import views
from tests.unit.world import World

TCP = HealthSpec.model_validate({"kind": "tcp", "source": "10.0.0.250", "interval_s": 1})


class Probed(World):
    """A world whose nodes answer probes, except those that are ``dead``."""

    def __init__(self, health: HealthSpec = TCP, **changes: object) -> None:
        super().__init__(health=health, **changes)
        self.dead: set[int] = set()
        self.arp: str | None = None
        """The hardware address that answers for the primary's address."""

    def _carry_out(self, command: cmd.Command) -> None:
        if isinstance(command, cmd.Transmit):
            self._answer(command)
        super()._carry_out(command)

    def _answer(self, sent: cmd.Transmit) -> None:
        packet = sent.frame.packet
        reply: frames.Packet | None = None
        if isinstance(packet, frames.Arp) and self.arp is not None:
            reply = frames.Arp(frames.ArpOp.REPLY, self.arp, packet.target, packet.sender)
        if isinstance(packet, frames.Tcp) and packet.flags == frames.TcpFlag.SYN:
            reply = replace(
                packet,
                src=packet.dst,
                dst=packet.src,
                src_port=packet.dst_port,
                dst_port=packet.src_port,
                seq=1,
                ack=packet.seq + 1,
                flags=frames.TcpFlag.SYN | frames.TcpFlag.ACK,
            )
        if reply is not None and sent.port not in self.dead:
            frame = frames.Frame(sent.frame.eth_dst, sent.frame.eth_src, reply)
            self.give(ev.Answer(7, self.spec.zone, sent.port, frame))

    def silence(self, *indexes: int) -> None:
        """These nodes answer no more; no others do not."""
        names = {i: "vm1" if i == 1 else port_name(self.spec.zone, Index(i)) for i in indexes}
        self.dead = {self.ports[name].number for name in names.values()}


def test_a_node_serves_only_after_its_service_answered() -> None:
    """A silent secondary stays out; once it answers often enough it is in."""
    world = Probed()
    world.connect()
    world.dead = {2}
    world.scale(2).wait(5, every=0.2)
    assert world.states()[2] is State.PROBING
    world.dead = set()
    world.wait(5, every=0.2)
    assert world.states()[2] is State.ACTIVE
    assert world.group.nodes[Index(2)].latency_s is not None
    assert world.group.boot_s is not None


def test_a_silent_node_is_taken_out_and_comes_back() -> None:
    """One of three stops answering: its slots move within the promised time."""
    world = Probed()
    world.connect().scale(3).wait(5, every=0.2)
    world.silence(3)
    world.wait(TCP.interval_s * TCP.fall + 0.2, every=0.1)
    assert world.states()[3] is State.FAILED
    assert 3 not in world.owners()
    world.dead = set()
    world.wait(5, every=0.2)
    assert 3 in world.owners()
    assert world.consistent()


def test_when_all_look_dead_nothing_is_taken_out() -> None:
    """A broken probe must not empty a group; the log says so loudly."""
    world = Probed()
    world.connect().scale(3).wait(5, every=0.2)
    slots = world.group.slots
    world.silence(1, 2, 3)
    world.wait(10, every=0.2)
    assert world.group.slots == slots
    assert cmd.Kind.BREAKER in world.kinds()
    shown = views.group_status(world.group)
    assert shown["held"] == ["web-1", "web-2", "web-3"]
    assert shown["held_reason"].startswith("held in rotation: 1, 2, 3; 3 of 3 nodes look dead")
    world.dead = set()
    world.wait(10, every=0.2)
    assert world.group.slots == slots
    shown = views.group_status(world.group)
    assert (shown["held"], shown["held_reason"]) == ([], "")
    assert "over" in [e for e in world.log if e.kind is cmd.Kind.BREAKER][-1].reason


def test_when_all_look_dead_a_draining_node_keeps_its_flows() -> None:
    """The doubt about the probes goes for draining nodes, too."""
    world = Probed()
    world.connect().scale(3).wait(5, every=0.2)
    world.scale(2)
    world.silence(1, 2, 3)
    for packets in range(1, 60):
        world.wait(0.2, every=0.2).poll({3: packets})
    assert world.states()[3] is State.DRAINING


def test_a_node_that_an_operator_failed_is_no_reason_to_empty_the_group() -> None:
    """It answers, but it may not serve: the last one that may is held."""
    world = Probed(hypervisor=None)
    world.connect().ask("web-1", ev.Verb.FAIL)
    assert world.states() == {1: State.FAILED}
    world.wait(10, every=0.2)
    assert world.states() == {1: State.FAILED}


def test_a_starting_node_that_never_answers_is_given_up() -> None:
    """A boot has a deadline; the node is destroyed and another is asked for."""
    world = Probed()
    world.connect()
    world.dead = {2}
    world.scale(2).wait(320)
    assert any("no service" in entry.reason for entry in world.log)
    assert "web-2" not in {n.name for n in world.group.having(State.PROBING)} or world.nodes


def test_the_primarys_hardware_address_is_asked_for() -> None:
    """Named by its port alone, the primary is found by ARP; before that, nothing is steered."""
    world = Probed(primary=PrimarySpec(port="vm1"))
    world.connect()
    assert world.states() == {1: State.BOOTING}
    assert not world.installed.groups
    world.arp = "02:00:00:00:00:aa"
    world.wait(3)
    assert world.states() == {1: State.ACTIVE}
    assert world.group.nodes[Index(1)].mac == "02:00:00:00:00:aa"
    assert world.consistent()


@pytest.mark.parametrize("how", ["port", "link", "service", "operator"])
def test_a_dead_primary_is_so_for_the_next_controller(how: str) -> None:
    """Its address lives on at the hardware address that it had; it serves when it has answered."""
    world = Probed(primary=PrimarySpec(port="vm1"))
    world.arp = mac = "02:00:00:00:00:aa"
    world.connect().wait(3, every=0.2).scale(3).wait(5, every=0.2)
    if how == "port":
        world.give(ev.PortGone(7, world.ports.pop("vm1")))
    elif how == "link":
        world.link("vm1", up=False)
    elif how == "service":
        world.silence(1)
    else:
        world.ask("web-1", ev.Verb.FAIL)
    world.arp = None
    world.wait(10, every=0.2)
    before = world.installed
    world.restarted()
    assert world.owners() == {2, 3, 4}
    for _ in range(50):
        assert world.wait(0.2, every=0.2).installed == before
    assert world.group.primary == 2
    world.ports["vm1"] = ev.Port(1, "vm1", mac, True)
    world.silence()
    world.link("vm1", up=True).ask("web-1", ev.Verb.UNDRAIN).wait(10, every=0.2)
    assert world.group.primary == 1
    assert world.states()[1] is State.ACTIVE
    assert world.consistent()


def test_a_separate_address_says_nothing_of_the_primarys() -> None:
    """The switch answers for it with another hardware address: the primary's own is asked for."""
    world = Probed(primary=PrimarySpec(port="vm1"), arp="switch")
    world.arp = "02:00:00:00:00:aa"
    world.connect().wait(3, every=0.2).scale(2).wait(5, every=0.2)
    world.arp = None
    world.link("vm1", up=False).wait(5, every=0.2)
    world.restarted()
    assert world.group.nodes[Index(1)].mac is None
    assert 2 in world.owners()
    world.arp = "02:00:00:00:00:aa"
    world.link("vm1", up=True).wait(10, every=0.2)
    assert world.states()[1] is State.ACTIVE
    assert world.consistent()


def test_the_primarys_port_is_asked_for() -> None:
    """Named by its hardware address alone, the primary is found where its answer comes in."""
    mac = "02:00:00:00:00:aa"
    world = Probed(primary=PrimarySpec(mac=mac), bridge="br0")
    world.connect()
    assert world.states() == {1: State.BOOTING}
    (asked,) = [c for c in world.sent if isinstance(c, cmd.Transmit)]
    assert asked.port == probing.FLOOD
    arp = frames.Arp(frames.ArpOp.REPLY, mac, IPv4Address("10.0.0.10"), TCP.source)
    world.give(ev.Answer(7, world.spec.zone, 1, frames.Frame(mac, "ff:ff:ff:ff:ff:ff", arp)))
    assert world.states() == {1: State.ACTIVE}
    assert world.group.nodes[Index(1)].port_name == "vm1"
    assert world.consistent()


def test_an_answer_from_a_strange_port_is_nobodys() -> None:
    """Frames that belong to no node change nothing."""
    world = Probed()
    world.connect()
    before = world.group
    arp = frames.Arp(frames.ArpOp.REPLY, "02:00:00:00:00:bb", IPv4Address("10.0.0.10"), TCP.source)
    frame = frames.Frame("02:00:00:00:00:bb", "ff:ff:ff:ff:ff:ff", arp)
    world.give(ev.Answer(7, world.spec.zone, 99, frame))
    assert world.group.nodes == before.nodes


def test_nothing_is_probed_while_the_switch_is_away() -> None:
    """Without a switch there is nobody to ask, and nobody to judge."""
    world = Probed()
    world.connect().wait(2, every=0.2)
    world.give(ev.SwitchDown(7))
    world.sent.clear()
    world.wait(10)
    assert not any(isinstance(command, cmd.Transmit) for command in world.sent)
    assert world.states() == {1: State.ACTIVE}


def test_time_goes_on_for_a_node_that_is_not_asked_any_more() -> None:
    """What is due for a node that is going, or whose switch is away, is due never."""
    world = Probed()
    world.connect().scale(2).wait(5, every=0.2)
    world.silent = True  # the hypervisor takes its time to destroy it
    world.ask("web-2", ev.Verb.FAIL)
    assert world.states()[2] is State.GONE
    world.wait(3 * TCP.interval_s, every=0.1)
    assert probing.wake_s(world.group) > world.now
    assert due_s(world.group, world.now) > world.now
    world.give(ev.SwitchDown(7))
    world.now += 3 * TCP.interval_s
    assert probing.wake_s(world.group) > world.now
    assert due_s(world.group, world.now) > world.now


def test_the_first_that_looks_dead_waits_for_the_next_probe_of_the_others() -> None:
    """Lost probes are not noticed at one time: nobody is taken out, not even for a moment."""
    world = Probed()
    world.connect().scale(3).wait(5, every=0.05)
    world.silence(1, 2, 3)
    world.wait(10, every=0.01)
    assert cmd.Kind.FAILED not in world.kinds()
    assert cmd.Kind.BREAKER in world.kinds()
    world.dead = set()
    world.wait(10, every=0.01)
    assert cmd.Kind.FAILED not in world.kinds()


def test_one_that_flaps_says_why_it_stays_out() -> None:
    """It answers and is out: the status has the reason."""
    world = Probed()
    world.connect().scale(3).wait(5, every=0.2)
    for _ in range(3):
        world.silence(3)
        world.wait(TCP.interval_s * TCP.fall + 0.5, every=0.1)
        world.dead = set()
        world.wait(3 * TCP.interval_s, every=0.1)
    node = world.group.nodes[Index(3)]
    assert node.state is State.FAILED
    assert node.reason.startswith("answers, but fell 3 times: held back for")


def test_the_switch_announces_the_address_of_a_dead_primary() -> None:
    """Once it answers for it: a client that asked just before need not wait to ask again."""
    world = Probed()
    world.connect().scale(2).wait(5, every=0.2)
    world.sent.clear()
    world.link("vm1", up=False)
    kinds = [type(command) for command in world.sent]
    floods = [c for c in world.sent if isinstance(c, cmd.Transmit) and c.port == probing.FLOOD]
    assert floods
    assert kinds.index(cmd.Apply) < world.sent.index(floods[0])
    said = floods[0].frame.packet
    assert isinstance(said, frames.Arp)
    assert said.sender == said.target == IPv4Address("10.0.0.10")
    assert said.sender_mac == world.group.nodes[Index(1)].mac
    world.wait(4, every=0.2)
    world.sent.clear()
    world.scale(3).wait(5, every=0.2)
    assert not [c for c in world.sent if isinstance(c, cmd.Transmit) and c.port == probing.FLOOD]


# Over a management network ------------------------------------------------------------------------

CALLED = HealthSpec.model_validate({"kind": "tcp", "via": "controller", "interval_s": 1})
ADDRESSES = ManagementSpec.model_validate({"address": "192.168.9.0+index"})


class Called(World):
    """A world whose nodes answer the controller over a management network."""

    def __init__(self, health: HealthSpec = CALLED, **changes: object) -> None:
        super().__init__(**{"health": health, "management": ADDRESSES, **changes})
        self.says: dict[int, tuple[bool, str] | None] = {}
        """What nodes answer; ``None`` for nothing."""

    def _carry_out(self, command: cmd.Command) -> None:
        super()._carry_out(command)
        if isinstance(command, cmd.AskNode):
            said = self.says.get(int(command.index), (True, "port 80 accepts"))
            if said is not None:
                key = (command.zone, command.index, command.asked_s)
                self.give(ev.Heard(*key, *said, 0.02))


def test_the_controller_asks_the_nodes_themselves() -> None:
    """At their management addresses and the service's port; no packet goes out of a port."""
    world = Called(scaling=ManualSpec(max=6, nodes=2))
    world.connect().poll().wait(5, every=0.2)
    asked = {(c.address, c.port) for c in world.sent if isinstance(c, cmd.AskNode)}
    assert asked == {("192.168.9.1", 80), ("192.168.9.2", 80)}
    assert not [c for c in world.sent if isinstance(c, cmd.Transmit)]
    assert world.states() == {1: State.ACTIVE, 2: State.ACTIVE}
    assert world.group.nodes[Index(2)].latency_s == 0.02


@pytest.mark.parametrize(
    ("said", "why"), [(None, "no answer within 0.7 s"), ((False, "port 80 refuses"), "refuses")]
)
def test_a_node_that_does_not_answer_the_controller_is_taken_out(
    said: tuple[bool, str] | None, why: str
) -> None:
    """Within the same time as one that is probed through the switch; and it comes back."""
    world = Called(scaling=ManualSpec(max=6, nodes=3))
    world.connect().poll().wait(5, every=0.2)
    world.says = {3: said}
    world.wait(CALLED.interval_s * CALLED.fall + 0.2, every=0.05)
    assert world.states()[3] is State.FAILED
    assert why in world.group.nodes[Index(3)].reason
    world.says = {}
    world.wait(5, every=0.2)
    assert world.states()[3] is State.ACTIVE


def test_without_a_management_address_a_node_does_not_serve() -> None:
    """Its probes fail, and say why."""
    world = Called(management=ManagementSpec(), scaling=ManualSpec(max=6, nodes=2))
    world.connect().poll().wait(5, every=0.2)
    assert world.states() == {1: State.ACTIVE, 2: State.PROBING}
    assert world.group.nodes[Index(2)].health.detail == "its management address is not known"


def test_answers_for_nobody_and_late_ones_change_nothing() -> None:
    """A node that is gone, a question that was given up."""
    world = Called()
    world.connect().wait(3, every=0.2)
    asked = [c for c in world.sent if isinstance(c, cmd.AskNode)]
    before = world.group.nodes[Index(1)].health
    for index, at in ((Index(9), asked[-1].asked_s), (Index(1), asked[0].asked_s)):
        world.give(ev.Heard(world.spec.zone, index, at, False, "late", 1.0))
    assert world.group.nodes[Index(1)].health.bad == before.bad == 0


# Latency as load ----------------------------------------------------------------------------------


def test_probe_latency_is_load() -> None:
    """A node that answers late is loaded; one that answers in time is not."""
    world = Called(capacity=CapacitySpec(probe_latency_s=0.04))
    world.connect()
    for _ in range(10):
        world.wait(1, every=0.2).poll()
    load = world.group.nodes[Index(1)].load
    assert load is not None
    assert (load.signal, round(load.value, 3)) == ("probe_latency_s", 0.5)
    world.says = {1: None}
    for _ in range(10):
        world.wait(1, every=0.2).poll()
    load = world.group.nodes[Index(1)].load
    assert load is not None
    assert load.value > 5


def test_latency_that_nobody_measured_is_unknown() -> None:
    """A refusal is quick and says nothing about load; what was measured is forgotten in time."""
    world = Called(capacity=CapacitySpec(probe_latency_s=0.04, bits_per_s=1000))
    world.connect()
    for _ in range(5):
        world.wait(1, every=0.2).poll()
    world.says = {1: (False, "port 80 refuses")}
    for _ in range(10):
        world.wait(1, every=0.2).poll()
    load = world.group.nodes[Index(1)].load
    assert load is not None
    assert (load.signal, load.unknown) == ("bits_per_s", ("probe_latency_s",))
