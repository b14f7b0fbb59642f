"""``plan`` and ``diff`` on a real bridge: what is planned can be loaded, and is then no news."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sncontroller.cli import main
from sncontroller.core.layout import PRIMARY_INDEX, Kind, Zone, cookie, port_name
from sncontroller.core.model import GroupSpec
from tests.dataplane.configured import text
from tests.dataplane.world import BRIDGE, World, eventually, group_spec

Cli = Callable[..., Result]
HEALTH = {"kind": "tcp", "source": "10.0.0.254"}


@pytest.fixture
def cli(world: World) -> Cli:
    """The command, on the world's switch."""
    runner = CliRunner(env={"OVS_DB": world.ovs.db, "OVS_RUNDIR": None})

    def invoke(*arguments: str) -> Result:
        return runner.invoke(main, list(arguments), prog_name="sncontroller")

    return invoke


def written(directory: Path, *specs: GroupSpec) -> str:
    """The path of a configuration with these groups."""
    file = directory / "sn.yaml"
    file.write_text(text(*specs))
    return str(file)


SHAPES: list[dict[str, Any]] = [
    {},
    {"pinning": "learn"},
    {"pinning": "reactive"},
    {"arp": "switch"},
    {"match": {"address": "10.0.0.10", "protocol": ["tcp", "udp"], "ports": ["80", "8000-8010"]}},
    {"match": {"address": "10.0.0.10", "ports": ["80"], "ingress": ["cli1"]}, "health": HEALTH},
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    "changes", [{}, {"draining": {3}}, {"failed": {2}}, {"slots": [1] * 200 + [3] * 56}]
)
def test_what_the_controller_installed_is_no_difference(
    world: World, cli: Cli, tmp_path: Path, shape: dict[str, Any], changes: dict[str, Any]
) -> None:
    """Three nodes, one draining or failed, or slots unevenly shared: the configuration agrees."""
    spec = group_spec(**shape)
    ingress = {name: world.host(name, "10.0.0.101").ofport for name in spec.match.ingress}
    add_silent_nodes(world, spec, 3)
    port = world.nodes[PRIMARY_INDEX].host.ofport
    world.install(spec, **changes, ingress=tuple(ingress.values()), primary_port=port)

    result = cli("diff", written(tmp_path, spec), BRIDGE)

    assert (result.exit_code, result.output.splitlines()) == (0, [])


def add_silent_nodes(world: World, spec: GroupSpec, count: int) -> None:
    """Nodes as far as the switch can tell: ports and hardware addresses."""
    from tests.dataplane.world import Node

    for index in range(1, count + 1):
        node = Node(world, spec, index, ())
        world.stack.callback(node.host.stop)
        node.host.start()
        world.nodes[node.index] = node


def test_an_empty_bridge_lacks_everything(world: World, cli: Cli, tmp_path: Path) -> None:
    """Before the first start the diff is the whole plan; the primary's address was learned."""
    spec = group_spec(health=HEALTH)
    add_silent_nodes(world, spec, 1)
    client = world.host("cli1", "10.0.0.101")
    client.run("ping", "-c", "1", "-W", "2", "10.0.0.10")
    file = written(tmp_path, spec)

    result = cli("diff", file, BRIDGE, "--json")
    number, mac = world.nodes[1].host.ofport, world.nodes[1].mac
    plan = cli("plan", file, "--port", f"vm1={number}", "--mac", f"vm1={mac}", "--json")

    (planned,) = json.loads(plan.stdout)
    assert result.exit_code == 1
    assert json.loads(result.stdout) == {
        "missing": sorted(planned["groups"] + planned["flows"]),
        "surplus": [],
    }


@pytest.mark.parametrize("shape", SHAPES)
def test_a_plan_can_be_loaded(
    world: World, cli: Cli, tmp_path: Path, shape: dict[str, Any]
) -> None:
    """ovs-ofctl takes the plan as it is printed, and then nothing differs."""
    spec = group_spec(**{**shape, "primary": {"port": "vm1", "mac": "02:00:00:00:01:01"}})
    names = ["vm1", port_name(spec.zone, 2), *spec.match.ingress]
    for name in names:
        world.ovs.add_port(BRIDGE, name, type="dummy")
    ports = [word for name in names for word in ("--port", f"{name}={world.ovs.ofport(name)}")]
    plan = ("plan", written(tmp_path, spec), "--nodes", "2", *ports)

    for part, load in (("--groups-only", "add-groups"), ("--flows-only", "add-flows")):
        lines = cli(*plan, part).stdout
        world.ovs.ofctl("-O", "OpenFlow13", load, BRIDGE, "-", stdin=lines)

    result = cli("diff", written(tmp_path, spec), BRIDGE)
    assert (result.exit_code, result.output.splitlines()) == (0, [])
    assert "assumed" not in cli(*plan).stdout


def test_differences_are_shown_side_by_side(world: World, cli: Cli, tmp_path: Path) -> None:
    """What changed in the file, and what somebody else did to our entries; foreign ones never."""
    spec = group_spec(health=HEALTH)
    add_silent_nodes(world, spec, 1)
    world.install(spec, primary_port=world.nodes[PRIMARY_INDEX].host.ofport)
    stray = cookie(Kind.CLASSIFY, Zone(77))
    world.ovs.ofctl("add-flow", BRIDGE, f"cookie={stray:#x},priority=4,actions=drop")
    world.ovs.ofctl("add-flow", BRIDGE, "cookie=0x77,priority=4,tcp,actions=drop")
    changed = group_spec(health=HEALTH, match={"address": "10.0.0.10", "ports": ["81"]})

    result = cli("diff", written(tmp_path, changed), BRIDGE)

    lines = result.stdout.splitlines()
    assert result.exit_code == 1
    assert lines[0] == f"- cookie={stray:#x}, priority=4 actions=drop"
    assert sorted(line[0] for line in lines[1:]) == ["+", "+", "-", "-"]
    assert all(",tp_" in line for line in lines[1:])
    assert "0x77," not in result.stdout


def test_a_node_whose_port_is_gone(world: World, cli: Cli, tmp_path: Path) -> None:
    """Its entries are surplus, and the slots it had go to the others."""
    spec = group_spec()
    add_silent_nodes(world, spec, 2)
    world.install(spec)
    world.nodes[2].host.stop()

    result = cli("diff", written(tmp_path, spec), BRIDGE)

    assert result.exit_code == 1
    signs = {line[0] for line in result.stdout.splitlines() if "0a10002" in line}
    assert signs == {"-"}


def failing(result: Result) -> tuple[int, str]:
    """Exit code and the line on standard error."""
    assert result.stdout == ""
    return result.exit_code, result.stderr


def test_what_it_says_when_it_cannot(world: World, cli: Cli, tmp_path: Path) -> None:
    """One line for each thing that is missing, with what is there instead."""
    spec = group_spec(bridge=BRIDGE, match={"address": "10.0.0.10", "ports": ["80"]})
    world.ovs.add_port(BRIDGE, "vm2", type="dummy")
    file = written(tmp_path, spec)

    assert failing(cli("diff", file, BRIDGE)) == (
        2,
        "sncontroller: groups.web.primary.port: no port vm1 on br0; there are: vm2\n",
    )
    world.ovs.add_port(BRIDGE, "vm1", type="dummy")
    assert failing(cli("diff", file, BRIDGE)) == (
        2,
        "sncontroller: groups.web.primary: nothing was heard from port vm1 yet, so its hardware "
        "address is not known; give it: --mac vm1=52:54:00:12:34:56\n",
    )
    assert failing(cli("diff", file, "br9")) == (
        2,
        f"sncontroller: no bridge br9; Open vSwitch at {world.ovs.db} has: br0\n",
    )
    world.ovs.del_port("vm1")
    assert failing(cli("diff", written(tmp_path, group_spec()), BRIDGE)) == (
        2,
        "sncontroller: no group of this configuration lives on br0; groups: web (port vm1); "
        "ports of br0: vm2\n",
    )
    missing = group_spec(
        primary={"port": "vm2"}, match={"address": "10.0.0.10", "ingress": ["up0"]}
    )
    assert failing(cli("diff", written(tmp_path, missing), BRIDGE)) == (
        2,
        "sncontroller: groups.web.match.ingress: no port up0 on br0; there are: vm2\n",
    )


def test_a_switch_that_died(world: World, cli: Cli, tmp_path: Path) -> None:
    """The database answers, the daemon does not: the line says which."""
    spec = group_spec()
    world.ovs.add_port(BRIDGE, "vm1", type="dummy")
    _, daemon = world.ovs.pids
    subprocess.run(["kill", "-KILL", str(daemon)], check=True)
    eventually(lambda: " Z " in Path(f"/proc/{daemon}/stat").read_text())

    code, line = failing(cli("diff", written(tmp_path, spec), BRIDGE))

    assert code == 2
    assert line == (
        f"sncontroller: Open vSwitch at {world.ovs.db} is not running: ovs-vswitchd does not "
        "answer; start it (systemctl start openvswitch-switch), or name its socket with --ovsdb\n"
    )
