"""Groups with an IPv6 address: their configuration, their entries, and whom they ask where."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import pytest

from sncontroller import installed
from sncontroller.bridge import Entries
from sncontroller.config import parse
from sncontroller.core import commands as cmd
from sncontroller.core import entries as e
from sncontroller.core import events as ev
from sncontroller.core import family, frames, neighbour, ofctl, plan, probing
from sncontroller.core.entries import Match, SetField
from sncontroller.core.health import HealthSpec
from sncontroller.core.layout import Index, Layout, node_mac
from sncontroller.core.lifecycle import State
from sncontroller.core.model import MatchSpec, PrimarySpec
from sncontroller.core.probe import Prober, Received, Result, Send, Target, Tick
from tests.openflow.tables import PRIMARY_MAC, ZONE, compiled, group_spec
from tests.unit.configs import GROUP, told, written
from tests.unit.world import World

ADDRESS, SOURCE = IPv6Address("fd00::10"), IPv6Address("fd00::250")
GROUP6: dict[str, Any] = {
    **GROUP,
    "match": {"address": "fd00::10", "ports": [80]},
    "health": {"kind": "tcp", "source": "fd00::250"},
}
MATCH = {"address": "fd00::10", "protocol": ["tcp", "udp"], "ports": [80]}
HEALTH = {"kind": "tcp", "source": "fd00::250"}
OUR_MAC, MAC = node_mac(ZONE, Index(0)), node_mac(ZONE, Index(2))


def table(**changes: Any) -> e.Table:
    """What the compiler makes of an IPv6 group with two nodes."""
    return compiled((1, 2), **{"match": MATCH, "health": HEALTH, **changes})


def found(table: e.Table, **where: Any) -> list[e.FlowEntry]:
    """The entries whose match has these fields."""
    flows = table.flows.values()
    return [f for f in flows if where.items() <= dict(f.match.fields).items()]


# Configuration -----------------------------------------------------------------------------------


def test_a_group_may_have_an_ipv6_address() -> None:
    """In its shortest spelling, however it is written."""
    match = {"address": "FD00:0::0010", "ports": [80]}
    (group,) = parse(written(web={**GROUP6, "match": match})).groups
    assert group.address == "fd00::10"
    assert group.family is family.IPV6


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"primary": {"port": "vm1", "address": "10.0.0.9"}},
            "primary.address: 10.0.0.9 is IPv4, but fd00::10 (match.address) is IPv6; a group's "
            "addresses are of one family",
        ),
        (
            {"health": {"kind": "tcp", "source": "10.0.0.250"}},
            "health.source: 10.0.0.250 is IPv4, but fd00::10 (match.address) is IPv6; a group's "
            "addresses are of one family",
        ),
        (
            {"health": {"kind": "nd", "target": "10.0.0.100+index"}},
            "health.target: 10.0.0.100+index is IPv4, but fd00::10 (match.address) is IPv6; a "
            "group's addresses are of one family",
        ),
        (
            {"health": {"kind": "arp", "target": "fd00::100+index"}},
            "health.kind: arp does not ask for IPv6 addresses, and fd00::10 (match.address) is "
            "IPv6; use nd",
        ),
        (
            {"health": {"kind": "nd", "target": "fd00::10"}},
            "health.target: fd00::10 is the group's address, for which secondaries do not answer "
            "ND",
        ),
        (
            {"match": {"address": "fe80::10"}},
            "match.address: fe80::10 is link-local, so nodes cannot hold it on their loopback",
        ),
        (
            {"match": {"address": "::ffff:10.0.0.10"}},
            "match.address: ::ffff:10.0.0.10 cannot be a host's address on a network",
        ),
        (
            {"match": {"address": "fd00::10%eth0"}},
            "match.address: fd00::10%eth0 cannot be a host's address on a network",
        ),
        (
            {
                "hypervisor": {
                    "plugin": "netns",
                    "bridge": "br0",
                    "subnet": "10.0.0.0/24",
                    "addresses": "10.0.0.20-10.0.0.30",
                    "command": ["true"],
                }
            },
            "hypervisor.subnet: 10.0.0.0/24 is IPv4, but fd00::10 (match.address) is IPv6: nodes "
            "could reply to nobody; name an IPv6 network",
        ),
    ],
)
def test_what_contradicts_an_ipv6_address(sections: dict[str, Any], line: str) -> None:
    """All of a group is of one family; some addresses cannot be a group's."""
    said = [text.replace("::ffff:a00:a", "::ffff:10.0.0.10") for text in told(GROUP6 | sections)]
    assert said == [f"groups.web.{line} (line 2)"]


def test_nd_does_not_ask_for_ipv4_addresses() -> None:
    """And the other way round, the mend is arp."""
    assert told({**GROUP, "health": {"kind": "nd", "target": "10.0.0.100"}}) == [
        "groups.web.health.kind: nd does not ask for IPv4 addresses, and 10.0.0.10 "
        "(match.address) is IPv4; use arp (line 2)"
    ]


def test_two_groups_of_one_address_overlap_by_ports() -> None:
    """As with IPv4; and the same address with other ports is another group's."""
    other = {**GROUP6, "primary": {"port": "vm2"}}
    (line,) = told(GROUP6, other=other)
    assert "both take tcp fd00::10 80" in line
    ports = {"address": "fd00::10", "ports": [81]}
    assert len(parse(written(web=GROUP6, other={**other, "match": ports})).groups) == 2


def test_a_service_with_both_families_is_two_groups() -> None:
    """On one primary; each probes it from an address of its own."""
    both = parse(written(web=GROUP, web6={**GROUP6, "primary": {"port": "vm1"}})).groups
    assert [group.family.name for group in both] == ["IPv4", "IPv6"]
    ports = {"address": "fd00::10", "ports": [81]}
    silent = {**GROUP6, "health": {"kind": "none"}}
    assert parse(written(web=silent, other={**silent, "match": ports})).groups


# Entries -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pinning", ["conntrack", "learn", "reactive"])
@pytest.mark.parametrize("arp", ["primary", "switch"])
def test_nothing_of_ipv4_is_in_the_entries(pinning: str, arp: str) -> None:
    """No entry of an IPv6 group looks at IPv4 or ARP, and its text has words for each."""
    made = table(pinning=pinning, arp=arp)
    lines = "\n".join(ofctl.lines(made))
    for word in (",ip,", ",tcp,", ",udp,", "arp", "nw_src", "NXM_OF_IP", "0x800"):
        assert word not in lines
    assert "tcp6" in lines


def test_icmp_errors_are_icmpv6_s() -> None:
    """Unreachable, too big, time exceeded and parameter problem (RFC 4443)."""
    kinds = {f.match.get("icmpv6_type") for f in found(table(), ip_proto=58, ipv6_dst="fd00::10")}
    assert {1, 2, 3, 4} <= kinds


def test_all_fragments_of_a_datagram_go_to_one_slot() -> None:
    """The later ones have another protocol in Open vSwitch, so that only addresses count."""
    every = table(match={"address": "fd00::10", "protocol": "udp"})
    unpinned = found(every, ip_frag=e.Masked(1, 1), ct_nw_proto=17)
    assert {f.match.get("ip_proto") for f in unpinned} == {17, 44}
    assert {f.actions[0] for f in unpinned} == {e.HashSlot(256, by_address=True)}
    taken = [f for f in found(every, ip_frag=e.Masked(1, 1)) if f.match.get("ipv6_dst")]
    assert [f.match.get("ip_proto") for f in taken] == [44]


@pytest.mark.parametrize(("protocol", "commits"), [("udp", True), ("tcp", False)])
def test_all_fragments_of_a_reply_pass_conntrack(protocol: str, commits: bool) -> None:
    """It would keep the first one for ever if it did not see the others."""
    every = table(match={"address": "fd00::10", "protocol": protocol})
    replies = found(every, ip_proto=44, ipv6_src="fd00::10")
    assert {f.match.get("in_port") for f in replies} == {1, 2}
    assert [a.commit for f in replies for a in f.actions if isinstance(a, e.Ct)] == [commits] * 2
    assert found(table(), ip_proto=44, ipv6_src="fd00::10") == []


def test_fragments_of_a_groups_ports_are_looked_at() -> None:
    """Of TCP, of UDP, and the later ones of either; without ports IPv4 needs nothing for it."""
    taken = [f for f in found(table(), ip_frag=e.Masked(1, 1)) if f.match.get("ipv6_dst")]
    assert sorted(str(f.match.get("ip_proto")) for f in taken) == ["17", "44", "6"]
    (port,) = found(table(), ct_nw_proto=17)
    assert (port.match.get("ct_tp_dst"), port.actions[0]) == (80, e.HashSlot(256))
    four = compiled((1, 2), match={"address": "10.0.0.10", "protocol": "udp"})
    assert found(four, ip_frag=e.Masked(1, 1)) == []


def test_a_pin_matches_the_flow() -> None:
    """The controller's entry for one flow."""
    spec = group_spec(match=MATCH, health=HEALTH, pinning="reactive")
    flow = ev.FiveTuple(6, "fd00::101", "fd00::10", 1000, 80)
    pinned = plan.pin(spec, flow, Index(2), Layout())
    fields = dict(pinned.match.fields)
    assert (fields["eth_type"], fields["ipv6_src"], fields["ipv6_dst"]) == (
        0x86DD,
        "fd00::101",
        "fd00::10",
    )


def test_the_switch_answers_in_two_steps() -> None:
    """Open vSwitch lets ``nd_tll`` be written only where the match says: an advertisement."""
    made = table(arp="switch")
    asked = found(made, icmpv6_type=135, ipv6_nd_target="fd00::10")
    (first,) = [flow for flow in asked if flow.match.get("ipv6_src") is None]
    (second,) = found(made, icmpv6_type=136, ipv6_nd_target="fd00::10", vlan_vid=0)
    assert first.actions[-1] == e.Resubmit(Layout().dispatch_table)
    assert second.actions == (SetField("ipv6_nd_tll", OUR_MAC), e.InPort())
    assert second.table == Layout().dispatch_table


def test_a_dump_tells_that_the_switch_answers() -> None:
    """For ``detach``, which must not leave an address without an answer."""
    for arp, answered in (("switch", {ZONE: OUR_MAC}), ("primary", {})):
        lines = ofctl.lines(table(arp=arp))
        flows = frozenset(line for line in lines if not line.startswith("group_id"))
        assert installed.answers(Entries(flows, frozenset())) == answered


def test_who_claims_the_address() -> None:
    """Is told that a separate one is taken, and not hindered where it may be the primary."""
    claims = {"icmpv6_type": 135, "ipv6_nd_target": "fd00::10", "ipv6_src": "::"}
    (taken,) = found(table(arp="switch"), **claims)
    assert taken.actions[-1] == e.InPort()
    assert SetField("ipv6_dst", "ff02::1") in taken.actions
    assert found(table(), **claims) == []
    spec = group_spec(match=MATCH, health=HEALTH)
    second = plan.PlanNode(Index(2), 2, MAC)
    dead = plan.View((second,), (Index(2),) * 256, Index(2), PRIMARY_MAC, 1, primary_serves=False)
    (free,) = found(plan.desired(spec, dead, Layout()), **claims)
    assert free.actions == (e.Normal(),)


def test_groups_of_one_primary_have_no_entry_in_common() -> None:
    """IPv4's and IPv6's on one primary, and two of one address, when it is dead."""
    specs = [
        group_spec(),
        group_spec(id=2, match=MATCH, health=HEALTH),
        group_spec(id=3, match={**MATCH, "ports": [81]}, health={"kind": "none"}),
    ]
    flows = []
    for spec in specs:
        second = plan.PlanNode(Index(2), 10 + spec.zone, node_mac(spec.zone, Index(2)))
        first = plan.PlanNode(Index(1), 1, PRIMARY_MAC, delivers=False)
        slots = (Index(2),) * 256
        view = plan.View((first, second), slots, Index(2), PRIMARY_MAC, 1, primary_serves=False)
        flows += plan.desired(spec, view, Layout()).flows
    assert len(set(flows)) == len(flows)


def test_a_node_cannot_teach_the_address() -> None:
    """Neither by an advertisement nor by a question in the address's name; the primary can."""
    for where in (
        {"icmpv6_type": 136, "ipv6_nd_target": "fd00::10"},
        {"icmpv6_type": 135, "ipv6_src": "fd00::10"},
    ):
        (guard,) = found(table(), **where)
        assert (guard.match.get("in_port"), guard.actions) == (2, ())


@pytest.mark.parametrize("source", [None, "fd00::250"])
def test_a_node_that_asks_for_the_probes_source_is_answered_first(source: str | None) -> None:
    """A question may be addressed to the source alone, as its replies are; it is no reply."""
    health = {"kind": "nd", "target": "fd00::100+index", "source": source}
    spec = group_spec(match=MATCH, health=health)
    assert str(spec.probe_source) == (source or "fe80::53:ff:fea1:0")
    made, ours = table(health=health), str(spec.probe_source)
    (asked,) = found(made, in_port=2, icmpv6_type=135, ipv6_nd_target=ours)
    replies = found(made, in_port=2, eth_type=0x86DD, ipv6_dst=ours)
    (reply,) = [flow for flow in replies if flow.match.get("ip_proto") is None]
    assert reply.actions == (e.ToController(),)
    assert reply.priority < asked.priority


def test_which_entries_ask_for_the_address() -> None:
    """Of either family; an entry for something else does not."""
    six, four = group_spec(match=MATCH, health=HEALTH), group_spec()
    asking = e.match(eth_type=0x86DD, ip_proto=58, icmpv6_type=135, ipv6_nd_target="fd00::10")
    arp = e.match(eth_type=0x0806, arp_op=1, arp_tpa="10.0.0.10", vlan_vid=0)
    assert [plan.asks_for(asking, spec) for spec in (six, four)] == [True, False]
    assert [plan.asks_for(arp, spec) for spec in (six, four)] == [False, True]
    assert not plan.asks_for(Match(()), six)


# Neighbours --------------------------------------------------------------------------------------


def test_addresses_on_the_wire() -> None:
    """RFC 4291's link-local and solicited-node addresses, RFC 2464's multicast."""
    assert str(family.link_local("02:53:00:a1:00:00")) == "fe80::53:ff:fea1:0"
    group = family.solicited_node(IPv6Address("fd00::12:3456"))
    assert str(group) == "ff02::1:ff12:3456"
    assert family.multicast_mac(group) == "33:33:ff:12:34:56"
    assert [family.family_of(a).name for a in ("fd00::1", "10.0.0.1")] == ["IPv6", "IPv4"]
    assert family.unnumbered(family.IPV4, MAC) == IPv4Address("0.0.0.0")


def test_a_question_goes_to_those_who_may_have_the_address() -> None:
    """Only to a group's question an answer must bear the hardware address (RFC 4861, 7.2.4)."""
    asked = neighbour.question_to_all(OUR_MAC, SOURCE, ADDRESS)
    assert asked.eth_dst == "33:33:ff:00:00:10"
    assert asked.packet == frames.Nd(
        frames.NdKind.SOLICITATION, SOURCE, IPv6Address("ff02::1:ff00:10"), ADDRESS, OUR_MAC
    )
    assert neighbour.answer(asked.packet) is None
    nameless = frames.Nd(frames.NdKind.ADVERTISEMENT, ADDRESS, SOURCE, ADDRESS)
    assert neighbour.answer(nameless) is None
    assert neighbour.answer(replace(nameless, mac=MAC)) == (ADDRESS, MAC)


def nd_prober() -> Prober:
    """Probes by neighbour discovery of node 2."""
    section = {"kind": "nd", "target": "fd00::100+index", "timeout_s": 0.5, "jitter": 0}
    target = Target(2, MAC, ADDRESS, 0, OUR_MAC)
    return Prober(HealthSpec.model_validate(section), target, seed=1)


@pytest.mark.parametrize(
    ("mac", "ok", "detail"),
    [
        (MAC, True, f"fd00::102 is at {MAC}"),
        (PRIMARY_MAC, False, f"fd00::102 is at {PRIMARY_MAC}, expected at {MAC}"),
    ],
)
def test_a_probe_by_neighbour_discovery(mac: str, ok: bool, detail: str) -> None:
    """Asked by a link-local address of ours, for the node's own."""
    probe = nd_prober()
    state, (sent,) = probe.step(probe.start(0), Tick(), 0.0)
    assert isinstance(sent, Send)
    asked = sent.frame.packet
    assert isinstance(asked, frames.Nd)
    ours = IPv6Address("fe80::53:ff:fea1:0")
    assert (asked.src, asked.target, sent.frame.eth_dst) == (ours, IPv6Address("fd00::102"), MAC)
    elsewhere = frames.Nd(frames.NdKind.ADVERTISEMENT, ADDRESS, ours, ADDRESS, MAC)
    assert probe.step(state, Received(elsewhere), 0.1) == (state, ())
    answer = replace(elsewhere, target=asked.target, mac=mac)
    _, actions = probe.step(state, Received(answer), 0.1)
    assert actions == (Result(2, ok, detail, 0.1),)


def test_the_host_of_a_request_is_in_brackets() -> None:
    """As a URL's authority has an IPv6 address (RFC 3986, 3.2.2)."""
    spec = HealthSpec.model_validate({"kind": "http", "source": "fd00::250", "jitter": 0})
    probe = Prober(spec, Target(2, MAC, ADDRESS, 8080, OUR_MAC), seed=1)
    state, (sent,) = probe.step(probe.start(0), Tick(), 0.0)
    assert isinstance(sent, Send)
    syn = sent.frame.packet
    assert isinstance(syn, frames.Tcp)
    both = frames.TcpFlag.SYN | frames.TcpFlag.ACK
    accepted = frames.Tcp(ADDRESS, SOURCE, 8080, syn.src_port, 9, syn.seq + 1, both)
    _, (request,) = probe.step(state, Received(accepted), 0.1)
    assert isinstance(request, Send)
    assert b"Host: [fd00::10]:8080\r\n" in request.frame.packet.payload


class Searching(World):
    """An IPv6 group whose primary's hardware address nobody knows yet."""

    def __init__(self) -> None:
        match = MatchSpec.model_validate({"address": "fd00::10", "ports": [80]})
        super().__init__(match=match, primary=PrimarySpec(port="vm1"))

    def asked(self) -> list[frames.Frame]:
        """Questions that were sent."""
        return [c.frame for c in self.sent if isinstance(c, cmd.Transmit)]

    def told(self, kind: frames.NdKind, target: str) -> Searching:
        """The primary's port says something of an address."""
        mine, ours = IPv6Address(target), self.spec.probe_source
        assert isinstance(ours, IPv6Address)
        packet = frames.Nd(kind, mine, ours, mine, "02:00:00:00:00:aa")
        frame = frames.Frame("02:00:00:00:00:aa", "02:53:00:00:00:00", packet)
        self.give(ev.Answer(7, self.spec.zone, 1, frame))
        return self


def test_the_primary_is_found_by_neighbour_discovery() -> None:
    """Another address's advertisement, or a question, is no answer."""
    world = Searching()
    world.connect()
    (asked,) = world.asked()
    assert isinstance(asked.packet, frames.Nd)
    assert asked.packet.target == ADDRESS
    world.told(frames.NdKind.ADVERTISEMENT, "fd00::11").told(frames.NdKind.SOLICITATION, "fd00::10")
    assert world.states() == {1: State.BOOTING}
    world.told(frames.NdKind.ADVERTISEMENT, "fd00::10")
    assert world.states() == {1: State.ACTIVE}
    assert world.group.nodes[Index(1)].mac == "02:00:00:00:00:aa"
    assert world.consistent()


def test_a_dead_primary_s_address_is_announced_and_taken_up_again() -> None:
    """To all nodes, unasked; and a controller that starts anew sees that the switch answers."""
    world = Searching()
    world.connect()
    world.told(frames.NdKind.ADVERTISEMENT, "fd00::10").scale(2).wait(5)
    world.sent.clear()
    world.link("vm1", up=False)
    (said,) = {c.frame for c in world.sent if isinstance(c, cmd.Transmit) and flooded(c)}
    assert said.eth_dst == "33:33:00:00:00:01"
    assert said.packet == frames.Nd(
        frames.NdKind.ADVERTISEMENT,
        ADDRESS,
        IPv6Address("ff02::1"),
        ADDRESS,
        "02:00:00:00:00:aa",
    )
    assert world.group.primary == 2
    assert [f for f in world.installed.flows.values() if plan.asks_for(f.match, world.spec)]


def flooded(command: cmd.Transmit) -> bool:
    """Whether it went to everybody."""
    return command.port == probing.FLOOD
