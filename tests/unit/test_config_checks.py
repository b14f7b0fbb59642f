"""Configurations that contradict themselves: the exact line for each rule."""

from __future__ import annotations

import zlib
from typing import Any

import pytest
import yaml

from sncontroller.config import parse
from tests.unit.configs import GROUP, OTHER, README, changed, problems, told, written

# Between sections -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"scaling": {"max": 3}},
            "hypervisor: is missing, and scaling.max is 3: name the plugin that makes the "
            "secondaries (hypervisor: {plugin: ...}), or set scaling.max to 1",
        ),
        (
            {"balance": {"kind": "least-load"}},
            "capacity: is missing: say what one node can do, as in capacity: "
            "{new_flows_per_s: 500}; balance least-load works on load",
        ),
        (
            {"capacity": {"active_flows": 10}},
            "capacity.active_flows: cannot be measured with pinning conntrack; use "
            "new_flows_per_s, packets_per_s or bits_per_s, or pinning learn or reactive",
        ),
        (
            {"balance": {"kind": "round-robin"}},
            "balance.kind: round-robin needs pinning: reactive, where the controller is asked "
            "about each new flow; with pinning conntrack the switch spreads them by itself: use "
            "even, weighted or least-load",
        ),
        (
            {"pool": {"warm": 2}},
            "pool.warm: is 2, but between scaling.min 1 and scaling.max 1, which counts the warm "
            "nodes too, there is room for 0; set scaling.max to 3",
        ),
        (
            {"match": {"ports": ["80", "70-90"]}},
            "match.ports: 80 and 70-90 overlap; merge them",
        ),
        ({"match": {"ingress": ["a", "b", "a"]}}, "match.ingress: names 'a' twice"),
        (
            {"match": {"ingress": ["vm1"]}},
            "match.ingress: names the primary's own port 'vm1'; name the clients' ports",
        ),
        (
            {"primary": {"mac": "01:00:5e:00:00:01"}},
            "primary.mac: 01:00:5e:00:00:01 is a multicast address; name the VM's own",
        ),
        (
            {"primary": {"mac": "02:53:00:00:00:01"}},
            "primary.mac: 02:53:00:00:00:01 is in the range 02:53:... that secondaries get",
        ),
        (
            {"primary": {"port": None, "mac": "52:54:00:00:00:01"}},
            "bridge: is missing: a primary that is named by its mac alone needs the bridge "
            "it is on",
        ),
        (
            {"arp": "switch", "primary": {"address": "10.0.0.10"}},
            "arp: is 'switch', but 10.0.0.10 is the primary's own address (primary.address), for "
            "which it answers itself; use arp: primary, or a separate address in match.address",
        ),
        (
            {"match": {"ports": []}},
            "health.port: is missing: match.ports names no port that a tcp probe could ask",
        ),
        (
            {"health": {"source": "10.0.0.10"}},
            "health.source: 10.0.0.10 is the address of group 'web'; probes need one of their own",
        ),
        (
            {"primary": {"address": "10.0.0.254"}},
            "health.source: 10.0.0.254 is the primary's address in group 'web'; "
            "probes need one of their own",
        ),
    ],
)
def test_sections_that_contradict_each_other(sections: dict[str, Any], line: str) -> None:
    """What no section can know alone, with what to do."""
    assert told(changed(**sections)) == [f"groups.web.{line} (line 2)"]


def test_policies_that_work_on_load_need_a_capacity() -> None:
    """With a fixed number of nodes none is needed."""
    growing = {"policy": "threshold", "max": 2}
    hypervisor = yaml.safe_load(README)["groups"]["web"]["hypervisor"]
    assert told({**GROUP, "scaling": growing, "hypervisor": hypervisor}) == [
        "groups.web.capacity: is missing: say what one node can do, as in capacity: "
        "{new_flows_per_s: 500}; scaling policy threshold works on load (line 2)"
    ]
    fixed = {"policy": "threshold", "min": 2, "max": 2}
    assert parse(written(web={**GROUP, "scaling": fixed, "hypervisor": hypervisor})).groups


def test_an_arp_probe_asks_for_the_nodes_own_address() -> None:
    """Secondaries do not answer for the group's."""
    assert told({**GROUP, "health": {"kind": "arp", "target": "10.0.0.10"}}) == [
        "groups.web.health.target: 10.0.0.10 is the group's address, for which secondaries do not "
        "answer ARP (line 2)"
    ]


@pytest.mark.parametrize(
    ("addresses", "lines"),
    [
        (
            "10.0.0.101-10.0.0.102",
            ["10.0.0.101-10.0.0.102 are 2, but scaling.max 4 needs 3: one for each secondary"],
        ),
        (
            "10.0.0.101-10.0.0.101",
            ["10.0.0.101-10.0.0.101 is 1, but scaling.max 4 needs 3: one for each secondary"],
        ),
        ("10.0.0.101-10.0.0.103", []),
        (
            "10.0.0.5-10.0.0.10",
            ["10.0.0.5-10.0.0.10 holds 10.0.0.10 (match.address), which a node must not get"],
        ),
        (
            "10.0.0.200-10.0.0.254",
            ["10.0.0.200-10.0.0.254 holds 10.0.0.254 (health.source), which a node must not get"],
        ),
    ],
)
def test_nodes_own_addresses(addresses: str, lines: list[str]) -> None:
    """One for each secondary that there may be, and none that is somebody's."""
    text = README.replace("10.0.0.101-10.0.0.120", addresses)
    if not lines:
        parse(text)
        return
    said = [line.partition(" (line")[0] for line in problems(text)]
    assert said == [f"groups.web.hypervisor.addresses: {line}" for line in lines]


# Between groups ---------------------------------------------------------------------------------


def test_numbers_must_differ() -> None:
    """Two groups with one number, given or derived, would share entries on the switch."""
    assert told({**GROUP, "id": 7}, dns={**OTHER, "id": 7}) == [
        "groups.dns.id: has the number 7 on the switch, as group 'web' has; give one of them "
        "another, as in id: 8 (line 3)"
    ]
    names = _names_with_one_number()
    assert problems(written(**{names[0]: GROUP, names[1]: OTHER})) == [
        f"groups.{names[1]}: has the number {_zone(names[0])} on the switch, as group "
        f"'{names[0]}' has; give one of them another, as in id: {_zone(names[0]) + 1} (line 3)"
    ]


def _zone(name: str) -> int:
    return parse(written(**{name: GROUP})).groups[0].zone


def _names_with_one_number() -> tuple[str, str]:

    seen: dict[int, str] = {}
    for number in range(100_000):
        name = f"g{number}"
        zone = zlib.crc32(name.encode()) % 0xFFFF + 1
        if zone in seen:
            return seen[zone], name
        seen[zone] = name
    raise AssertionError("no two names with one number")


@pytest.mark.parametrize(
    ("first", "second", "traffic"),
    [
        ({}, {}, "tcp 10.0.0.10 80"),
        ({"ports": "70-90"}, {"ports": [85, "88-99"]}, "tcp 10.0.0.10 85"),
        ({"ports": []}, {}, "tcp 10.0.0.10 80"),
        ({"ports": []}, {"ports": []}, "tcp 10.0.0.10 all ports"),
        ({"protocol": ["tcp", "udp"]}, {"protocol": "udp"}, "udp 10.0.0.10 80"),
        ({"vlan": 5}, {}, "tcp 10.0.0.10 80"),
        ({"ingress": ["a"]}, {"ingress": ["a", "b"]}, "tcp 10.0.0.10 80"),
        ({"ingress": ["a"]}, {"vlan": 5}, "tcp 10.0.0.10 80"),
    ],
)
def test_groups_must_not_take_the_same_traffic(
    first: dict[str, Any], second: dict[str, Any], traffic: str
) -> None:
    """Two groups with an address, protocol and port in common need something to tell them apart."""
    health = {"port": 80}
    one = changed(match=first, health=health)
    other = changed(match=second, health=health, primary={"port": "vm2"})
    assert told(one, other=other) == [
        f"groups.other.match: overlaps with group 'web': both take {traffic}; give them different "
        "ports, or tell them apart by match.ingress or match.vlan (line 3)"
    ]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"ports": 80}, {"ports": 81}),
        ({"protocol": "tcp"}, {"protocol": "udp"}),
        ({"vlan": 5}, {"vlan": 6}),
        ({"ingress": ["a"]}, {"ingress": ["b", "c"]}),
        ({"address": "10.0.0.10"}, {"address": "10.0.0.12"}),
    ],
)
def test_groups_that_are_told_apart(first: dict[str, Any], second: dict[str, Any]) -> None:
    """By port, protocol, VLAN, ingress or address."""
    other = changed(match=second, primary={"port": "vm2"})
    assert len(parse(written(web=changed(match=first), other=other)).groups) == 2


def test_groups_on_different_bridges_may_be_alike() -> None:
    """Tenants' addresses overlap."""
    other = {**changed(primary={"port": "vm2"}), "bridge": "br1"}
    assert len(parse(written(web={**GROUP, "bridge": "br0"}, other=other)).groups) == 2


def test_groups_that_share_a_primary() -> None:
    """They need a probe source each, and traffic whose replies can be told apart."""
    assert told(GROUP, other=changed(match={"ports": 81})) == [
        "groups.other.health.source: probes the same primary as group 'web' from 10.0.0.254 too, "
        "so that nobody could tell whose answer comes back; give each group a source of its own "
        "(line 3)"
    ]
    source = {"source": "10.0.0.253"}
    other = changed(match={"ingress": ["b"]}, health=source)
    assert told(changed(match={"ingress": ["a"]}), other=other) == [
        "groups.other.primary: is also the primary of group 'web', with tcp 10.0.0.10 80 in both: "
        "its replies could belong to either; make it one group (line 3)"
    ]
    assert parse(written(web=GROUP, other=changed(match={"ports": 81}, health=source))).groups


@pytest.mark.parametrize(
    "health",
    [
        {"kind": "none"},
        {"kind": "bfd"},
        {"kind": "arp", "target": "10.0.0.100+index"},
        {"kind": "tcp", "via": "controller", "port": 8080},
    ],
)
def test_groups_that_share_a_primary_and_probe_from_no_address(health: dict[str, Any]) -> None:
    """Where a kind takes no source, none is asked for."""
    one, other = changed(match={"ports": 80}), changed(match={"ports": 81})
    assert parse(written(web={**one, "health": health}, other={**other, "health": health})).groups


def test_the_switch_answers_for_one_group_only() -> None:
    """Two groups with an address in common cannot both have ``arp: switch``."""
    other = changed(match={"ports": 81}, primary={"port": "vm2"}, arp="switch")
    assert told(GROUP, other=other) == [
        "groups.other.match.address: 10.0.0.10 is also the address of group 'web', and the switch "
        "can answer for only one of them; use one group, another address, or arp: primary "
        "(line 3)"
    ]
