"""Wrong values in a configuration: the exact line, with the mend, for each of them."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from sncontroller.config import ConfigError, parse
from tests.unit.configs import GROUP, OTHER, README, changed, problems, told, written


@pytest.mark.parametrize(
    ("sections", "line"),
    [
        (
            {"match": {"address": "10.0.0.300"}},
            "match.address: must be an IPv4 address such as 10.0.0.10 or an IPv6 address such as "
            "fd00::10, not '10.0.0.300'",
        ),
        (
            {"match": {"address": "10.0.0.0/24"}},
            "match.address: must be an IPv4 address such as 10.0.0.10 or an IPv6 address such as "
            "fd00::10, not '10.0.0.0/24'",
        ),
        (
            {"match": {"ports": ["80-x"]}},
            "match.ports[0]: must be a port (80) or a range of ports (8000-8010) within 1-65535, "
            "not '80-x'",
        ),
        (
            {"match": {"ports": 0}},
            "match.ports: must be a port (80) or a range of ports (8000-8010) within 1-65535, "
            "not 0",
        ),
        ({"match": {"ports": "90-80"}}, "match.ports: the range 90-80 is upside down"),
        ({"match": {"ports": True}}, "match.ports: must not be true"),
        ({"match": {"vlan": 5000}}, "match.vlan: must be at most 4094, not 5000"),
        ({"match": {"vlan": "x"}}, "match.vlan: must be a whole number, not 'x'"),
        ({"match": {"port": 80}}, "match.port: unknown key; did you mean 'ports'?"),
        (
            {"match": {"protocol": "sctp"}},
            "match.protocol: must be tcp or udp, not 'sctp'",
        ),
        (
            {"match": {"protocol": ["tcp", "tcp"]}},
            "match.protocol: name each protocol once: tcp, udp or [tcp, udp]",
        ),
        ({"match": 5}, "match: must be a mapping ('key: value'), not 5"),
        ({"match": None}, "match: must be a mapping ('key: value'), not empty"),
        (
            {"primary": {"mac": "52:54:00:12:34"}},
            "primary.mac: must be a hardware address such as 52:54:00:12:34:56, "
            "not '52:54:00:12:34'",
        ),
        (
            {"primary": {"mac": 525400}},
            "primary.mac: must be a hardware address such as 52:54:00:12:34:56, not 525400",
        ),
        (
            {"primary": {"port": "a-name-that-is-too-long"}},
            "primary.port: must be the name of an OVS port, 1 to 15 characters, "
            "not 'a-name-that-is-too-long'",
        ),
        (
            {"primary": {"port": None}},
            "primary: name the primary by its OVS port (port:) or hardware address (mac:)",
        ),
        (
            {"pinning": "contrack"},
            "pinning: must be conntrack, learn or reactive, not 'contrack'; "
            "did you mean 'conntrack'?",
        ),
        (
            {"scaling": {"policy": "treshold"}},
            "scaling.policy: must be threshold, target, predictive, schedule or manual, "
            "not 'treshold'; did you mean 'threshold'?",
        ),
        ({"scaling": {"max": 0}}, "scaling.max: must be above 0, not 0"),
        (
            {"scaling": {"high": 1}},
            "scaling.high: unknown key; known here: max, min, nodes, policy",
        ),
        (
            {"scaling": {"policy": "target", "target": 3}},
            "scaling.target: must be a load such as 0.7, or 'auto', not 3",
        ),
        (
            {"health": {"source": None}},
            "health.source: is required for kind tcp: an address in the nodes' subnet "
            "that nobody uses",
        ),
        (
            {"health": {"kind": "udp"}},
            "health.payload: is required for kind udp: text, or bytes as in 'hex:0102ff'",
        ),
        (
            {"health": {"kind": "arp"}},
            "health.target: is required for kind arp: an address, perhaps with the "
            "node's index: 10.0.0.100+index, fd00::100+index",
        ),
        (
            {"scaling": {"policy": "schedule", "floors": []}},
            "scaling.floors: must be a list of at least 1, not an empty one",
        ),
        (
            {
                "scaling": {
                    "policy": "schedule",
                    "floors": [{"cron": "0 25 * * *", "for_s": 60, "nodes": 1}],
                }
            },
            "scaling.floors[0].cron: cron hour '25': want 0 to 23",
        ),
        (
            {"health": {"kind": "tpc"}},
            "health.kind: must be none, arp, nd, icmp, tcp, udp, http or bfd, not 'tpc'; "
            "did you mean 'tcp'?",
        ),
        (
            {"health": {"kind": "udp", "payload": "hex:zz"}},
            "health.payload: must be text, or bytes as in 'hex:0102ff', not 'hex:zz'",
        ),
        ({"health": {"path": "/"}}, "health.path: does not belong to kind tcp"),
        ({"drain": {"idle": 5}}, "drain.idle: unknown key; did you mean 'idle_s'?"),
        ({"drain": {"idle_s": "x"}}, "drain.idle_s: must be a number, not 'x'"),
        ({"drain": {"deadline_s": -1}}, "drain.deadline_s: must be above 0, not -1"),
        ({"capacity": {"bits": 5}}, None),
        (
            {"capacity": {}},
            "capacity: name at least one capacity: new_flows_per_s, packets_per_s, bits_per_s, "
            "active_flows, port_drops_per_s, probe_latency_s or reports",
        ),
        (
            {"balance": {"kind": "weighted", "weights": {"x": 1}}},
            "balance.weights.x: its keys must be a whole number, not 'x'",
        ),
        ({"max": 4}, "max: unknown key; 'max' belongs in 'scaling'"),
        ({"name": "web"}, "name: unknown key; a group's name is the key it stands under"),
        ({"id": 70000}, "id: must be at most 65535, not 70000"),
        (
            {"hypervisor": "netns"},
            "hypervisor: must be a mapping with the plugin's name, {plugin: ...}, not 'netns'",
        ),
    ],
)
def test_what_is_wrong_in_a_group(sections: dict[str, Any], line: str | None) -> None:
    """The full path, what must be there, what is there, and the line."""
    found = told(changed(**sections))
    if line is None:
        assert found[0].startswith("groups.web.capacity.bits: unknown key; known here: active_")
    else:
        assert found == [f"groups.web.{line} (line 2)"]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("controler: a\n", "controler: unknown key; did you mean 'controller'? (line 1)"),
        (
            "controller: lab 1\n",
            "controller: must be 1 to 63 letters, digits, dots, hyphens or underscores, "
            "not 'lab 1' (line 1)",
        ),
        ("controller: 5\n", None),
        (
            "state_dir: var/lib\n",
            "state_dir: must be an absolute path, as /var/lib/sncontroller, not 'var/lib' (line 1)",
        ),
        ("poll_interval_s: 0\n", "poll_interval_s: must be at least 0.1, not 0 (line 1)"),
        ("switch: {priority: true}\n", "switch.priority: must not be true (line 1)"),
        (
            "switch: {first_table: 300}\n",
            "switch.first_table: must be at most 250, not 300 (line 1)",
        ),
        (
            "switch: {onward: drp}\n",
            "switch.onward: must be 'normal' or the number of a table, not 'drp' (line 1)",
        ),
        (
            "switch: {entry_table: 200}\n",
            "switch: entry_table and onward must lie outside our tables 200-203 (line 1)",
        ),
        (
            "switch: {entry_table: 7, onward: 7}\n",
            "switch: onward must be a table after entry_table, 254 at most (line 1)",
        ),
    ],
)
def test_what_is_wrong_outside_the_groups(text: str, line: str | None) -> None:
    """The same for settings of the whole."""
    found = problems(text + written(web=GROUP))
    assert len(found) == 1
    assert line is None or found == [line]


@pytest.mark.parametrize("name", ["Web", "a b", "-web", "w" * 33, "web_1"])
def test_names_of_groups(name: str) -> None:
    """What a name may be."""
    assert problems(written(**{name: GROUP})) == [
        f"groups.{name}: a group's name is 1 to 32 lower-case letters, digits and hyphens, "
        "as in 'web-1' (line 2)"
    ]


def test_names_that_are_no_text() -> None:
    """Quotes make a number a name."""
    assert problems("groups:\n  80: {}\n  web: 5\n") == [
        "groups.80: must be text; put the name in quotes: '80' (line 2)",
        "groups.web: must be a mapping with match, primary, scaling and health, not '5' (line 3)",
    ]


def test_what_is_missing_is_explained() -> None:
    """Every missing section with what it is for."""
    assert told({}) == [
        "groups.web.match: is missing: which traffic is the group's (line 2)",
        "groups.web.primary: is missing: the VM that offers the service today (line 2)",
        "groups.web.scaling: is missing: how many nodes there shall be (line 2)",
        "groups.web.health: is missing: how a node is asked whether it serves; "
        "kind: none asks nothing (line 2)",
    ]


def test_every_problem_is_told_at_once() -> None:
    """Of values, of sections and between groups, in the order of the file."""
    web = changed(match={"address": "x"}, pin={"limit": 0})
    dns = changed(OTHER, scaling={"max": 3})
    mail = changed(OTHER, primary={"port": "vm3"})
    found = problems("poll_interval_s: x\n" + written(web=web, dns=dns, mail=mail))
    assert [line.partition(":")[0] for line in found] == [
        "poll_interval_s",
        "groups.web.match.address",
        "groups.web.pin.limit",
        "groups.dns.hypervisor",
        "groups.mail.match",
    ]


def test_lines_are_those_of_the_value() -> None:
    """In a file with one thing per line, each problem has its own."""
    text = yaml.safe_dump({"groups": {"web": changed(drain={"idle_s": "x"}, pinning="x")}})
    with pytest.raises(ConfigError) as caught:
        parse(text)
    lines = text.splitlines()
    assert all(
        problem.line is not None
        and lines[problem.line - 1].strip().startswith(problem.path.rpartition(".")[2])
        for problem in caught.value.problems
    )


# Plugins ----------------------------------------------------------------------------------------


def with_hypervisor(section: str) -> str:
    """The README's file with this hypervisor section, in line 8."""
    head, _, _ = README.partition("    hypervisor:")
    return f"{head}    hypervisor: {section}\n"


def test_a_plugins_section_is_checked_by_its_model() -> None:
    """With the full path, in the same words."""
    section = (
        "{plugin: netns, brige: br0, subnet: 10.0.0.0/33, addresses: 10.0.0.1-10.0.0.9, "
        "command: ls, vlan: true}"
    )
    found = problems(with_hypervisor(section))
    assert [line.removeprefix("groups.web.hypervisor.") for line in found] == [
        "vlan: must not be true (line 8)",
        "bridge: is missing: bridge that the nodes are plugged into (line 8)",
        "subnet: must be an IPv4 network such as 10.0.0.0/24 or an IPv6 network such as fd00::/64, "
        "not '10.0.0.0/33' (line 8)",
        "command: must be a list, not 'ls' (line 8)",
        "brige: unknown key; did you mean 'bridge'? (line 8)",
    ]


def test_a_list_is_as_long_as_it_was_written() -> None:
    """An element that is wrong is the only problem, not also that the list were too short."""
    nodes = "[{port: vm2, mac: '02:00:00:00:00:02'}, {port: vm3}]"
    (line,) = problems(with_hypervisor(f"{{plugin: pool, nodes: {nodes}}}"))
    assert line.startswith("groups.web.hypervisor.nodes[1].mac: is missing")
    (line,) = problems(with_hypervisor("{plugin: pool, nodes: [{port: vm3}]}"))
    assert line.startswith("groups.web.hypervisor.nodes[0].mac: is missing")
    (line,) = problems(with_hypervisor("{plugin: pool, nodes: []}"))
    assert line.startswith("groups.web.hypervisor.nodes: must be a list of at least 1")


@pytest.mark.parametrize(
    ("section", "start"),
    [
        ("{plugin: vmware}", "no hypervisor plugin named 'vmware'; installed: "),
        ("{}", "is missing: name the hypervisor plugin; installed: "),
        ("{plugin: [netns]}", "must be text: name the hypervisor plugin; installed: "),
    ],
)
def test_plugins_that_are_not_there(section: str, start: str) -> None:
    """The line names those that are."""
    (line,) = problems(with_hypervisor(section))
    assert line.startswith(f"groups.web.hypervisor.plugin: {start}")
    assert "netns" in line
    assert line.endswith("(line 8)")


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("orphans: keep", "orphans: must be adopt or destroy, not 'keep' (line 8)"),
        ("boot_deadline_s: 0", "boot_deadline_s: must be above 0, not 0 (line 8)"),
        ("call_deadline_s: -1", "call_deadline_s: must be above 0, not -1 (line 8)"),
    ],
)
def test_keys_that_every_hypervisor_section_has(written: str, told: str) -> None:
    """They are the controller's, whatever the plugin."""
    section = (
        "{plugin: netns, bridge: br0, subnet: 10.0.0.0/24,"
        f" addresses: 10.0.0.100-10.0.0.109, command: [web], {written}}}"
    )
    assert problems(with_hypervisor(section)) == [f"groups.web.hypervisor.{told}"]
