"""Probing where there is nobody to ask, nothing to say or no way to say it."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address

import pytest

from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core import frames
from sncontroller.core.health import BreakerState, adopted, fit, initial
from sncontroller.core.layout import Index
from sncontroller.core.lifecycle import State
from sncontroller.core.model import PrimarySpec
from tests.unit.test_probing import TCP, Probed
from tests.unit.world import configured


def arp_from(mac: str, op: frames.ArpOp, sender: str) -> ev.Answer:
    """ARP that came in by the primary's port."""
    arp = frames.Arp(op, mac, IPv4Address(sender), TCP.source or IPv4Address(0))
    frame = frames.Frame(mac, "ff:ff:ff:ff:ff:ff", arp)
    return ev.Answer(7, configured().groups[0].zone, 1, frame)


def is_syn(command: cmd.Command) -> bool:
    """Whether it sends the first packet of a TCP connection."""
    packet = command.frame.packet if isinstance(command, cmd.Transmit) else None
    return isinstance(packet, frames.Tcp) and packet.flags == frames.TcpFlag.SYN


@pytest.mark.parametrize(
    ("op", "sender"),
    [(frames.ArpOp.REQUEST, "10.0.0.10"), (frames.ArpOp.REPLY, "10.0.0.99")],
    ids=["a question", "of another address"],
)
def test_other_arp_does_not_name_the_primary(op: frames.ArpOp, sender: str) -> None:
    """Only an answer for the primary's address says who the primary is."""
    world = Probed(primary=PrimarySpec(port="vm1"))
    world.connect().give(arp_from("02:00:00:00:00:bb", op, sender))
    assert world.group.nodes[Index(1)].mac is None


def test_who_may_be_in_rotation() -> None:
    """Those that answer, and those that the breaker holds."""
    healths = {1: adopted(TCP, 0.0), 2: initial(TCP, 0.0)}
    assert fit(healths, BreakerState(frozenset(), "")) == {1}
    assert fit(healths, BreakerState(frozenset({2}), "held")) == {1, 2}


def test_packets_before_the_switch_is_known_are_nobodys() -> None:
    """There is no primary yet that an answer could be of."""
    world = Probed(primary=PrimarySpec(port="vm1"))
    world.give(arp_from("02:00:00:00:00:aa", frames.ArpOp.REPLY, "10.0.0.10"))
    assert world.group.nodes == {}


def test_an_answer_that_is_overtaken_by_the_switchs_end_is_not_acted_on() -> None:
    """Nothing can be sent any more, and nothing is."""
    world = Probed()
    world.dead = {1}
    world.connect().wait(2, every=0.2)
    question = next(c.frame for c in reversed(world.sent) if is_syn(c))
    world.give(ev.SwitchDown(7))
    world.sent.clear()
    syn = question.packet
    assert isinstance(syn, frames.Tcp)
    both = frames.TcpFlag.SYN | frames.TcpFlag.ACK
    ports = {"src_port": syn.dst_port, "dst_port": syn.src_port}
    answer = replace(syn, src=syn.dst, dst=syn.src, seq=1, ack=syn.seq + 1, flags=both, **ports)
    frame = frames.Frame(question.eth_dst, question.eth_src, answer)
    world.give(ev.Answer(7, world.spec.zone, 1, frame))
    assert not [c for c in world.sent if isinstance(c, cmd.Transmit)]


def test_an_address_whose_owner_is_not_known_is_not_announced() -> None:
    """A primary whose port was never seen has no hardware address to tell."""
    world = Probed(primary=PrimarySpec(port="vm1"), bridge="br0")
    world.ports = {"eth0": ev.Port(1, "eth0", "02:00:00:00:00:0e", True)}
    world.connect().scale(2).wait(5, every=0.2)
    assert world.states()[1] is State.BOOTING
    assert world.states()[2] is State.ACTIVE
    world.sent.clear()
    world.scale(3).wait(5, every=0.2)
    assert cmd.Apply in map(type, world.sent)
    packets = [c.frame.packet for c in world.sent if isinstance(c, cmd.Transmit)]
    assert not [p for p in packets if isinstance(p, frames.Arp) and p.sender == p.target]


def test_an_answer_to_nothing_changes_nothing() -> None:
    """Not even when the group was looked at, however little it is at rest."""
    world = Probed()
    world.connect().wait(2, every=0.2)
    world.link("vm1", up=True)
    echo = frames.Echo(IPv4Address("10.0.0.10"), IPv4Address("10.0.0.254"), 1, 1, reply=True)
    frame = frames.Frame("02:00:00:00:00:0a", "02:53:00:a1:00:00", echo)
    before = world.group
    world.now += 0.1
    world.give(ev.Answer(7, world.spec.zone, 1, frame))
    assert world.group is before
