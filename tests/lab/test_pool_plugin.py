"""The ``pool`` plugin with real hosts on a real switch: the contract, and what is its own."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sncontroller.hypervisors.base import (
    Hypervisor,
    NodeInfo,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
    load,
)
from sncontroller.hypervisors.contract import (
    OWNER,
    SAME_CONTROLLER,
    SAME_GROUP,
    HypervisorContract,
    Subject,
    node_request,
)
from sncontroller.hypervisors.pool import NODE, PREFIX, READY, Pool, PoolConfig
from sncontroller.lab.net import Host, Link, isolate
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "sntbr0"
SIZE = 5


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """A running switch with one bridge."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        yield running


@pytest.fixture
def hosts(ovs: PrivateOvs) -> Iterator[tuple[Host, ...]]:
    """The machines of the pool."""
    made: list[Host] = []
    try:
        for number in range(1, SIZE + 1):
            link = Link(f"10.99.0.{number}/24", mac=f"02:00:00:00:00:0{number}")
            made.append(Host(ovs, BRIDGE, f"vm{number}", link).start())
        yield tuple(made)
    finally:
        for host in made:
            host.stop()


@pytest.fixture
def config(ovs: PrivateOvs, hosts: tuple[Host, ...]) -> dict[str, Any]:
    """A section that works."""
    nodes = [{"port": each.name, "mac": each.link.mac, "address": each.ip} for each in hosts]
    return {"ovsdb": ovs.db, "nodes": nodes}


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> Pool:
    """An instance with this section."""
    return Pool(PoolConfig.model_validate(config), owner)


def tags(ovs: PrivateOvs, port: str) -> str:
    """What is written on a port."""
    return ovs.vsctl("get", "interface", port, "external_ids").strip()


def unplug(ovs: PrivateOvs, port: str) -> None:
    """Delete a port's interface, as when its VM ends; return when the switch has seen it."""
    subprocess.run(["ip", "link", "delete", port], check=True)
    ovs.vsctl("--timeout=10", "wait-until", "interface", port, "link_state=down")


class PoolSubject(Subject):
    """Allocations of hosts: all that this plugin makes."""

    def __init__(self, ovs: PrivateOvs, config: Mapping[str, Any], notes: Path) -> None:
        """Use this pool; ``notes`` holds a file for each node that was prepared."""
        self._ovs = ovs
        self._config = {
            **config,
            "on_allocate": ["sh", "-c", "sleep 0.05; echo on >$0/$1", str(notes), "{port}"],
            "on_release": ["sh", "-c", "sleep 0.05; rm -f $0/$1", str(notes), "{port}"],
        }
        self._notes = notes

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """A pool of one."""
        return plugin_of({**self._config, "nodes": self._config["nodes"][:1]}, owner)

    def objects(self) -> Collection[str]:
        """What is written on ports, and what the commands did."""
        listed = self._ovs.vsctl("--columns=external_ids", "list", "interface").splitlines()
        return [
            *(line for line in listed if PREFIX in line),
            *(f"prepared {path.name}" for path in self._notes.iterdir()),
        ]

    def create_foreign(self) -> str:
        """A port that somebody else says is in use, under the same node's name."""
        ids = f"external_ids:{PREFIX}controller=somebody", f"external_ids:{NODE}=web-2"
        self._ovs.vsctl("set", "interface", "vm1", *ids)
        return next(line for line in self.objects() if "somebody" in line)

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """A port that is gone under the switch's feet, and a record cut short."""

        def unplugged(info: NodeInfo) -> None:
            unplug(self._ovs, info.port)

        def unfinished(info: NodeInfo) -> None:
            self._ovs.vsctl("remove", "interface", info.port, "external_ids", READY)

        return {"interface gone": unplugged, "never finished": unfinished}


class TestContract(HypervisorContract):
    """The contract of all plugins; a node's port and hardware address are its own here."""

    as_requested = False

    @pytest.fixture
    def subject(self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path) -> Subject:
        """The plugin and its pool."""
        return PoolSubject(ovs, config, tmp_path)


class TestAllocation:
    """Which node is whose."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``pool`` names this plugin."""
        assert load("pool") is Pool

    def test_node_has_its_own_port_and_address(
        self, ovs: PrivateOvs, config: dict[str, Any], hosts: tuple[Host, ...]
    ) -> None:
        """What is returned is what the machine has, whatever was asked for."""
        info = plugin_of(config).start_node(node_request(2))
        assert (info.port, info.mac, info.index) == ("vm1", hosts[0].mac, 2)
        assert f"{NODE}=web-2" in tags(ovs, "vm1")

    def test_groups_and_controllers_share_a_pool(self, config: dict[str, Any]) -> None:
        """Nobody gets a node that another has, however many ask at once."""
        owners = (OWNER, SAME_CONTROLLER, SAME_GROUP)
        plugins = [plugin_of(config, owner) for owner in owners]
        with ThreadPoolExecutor(len(owners)) as threads:
            asked = [
                threads.submit(plugin.start_node, node_request(index, owner))
                for index in (2, 3)
                for plugin, owner in zip(plugins, owners, strict=True)
            ]
        taken = [each.result().port for each in asked if each.exception() is None]
        assert sorted(taken) == [f"vm{number}" for number in range(1, SIZE + 1)]
        (refused,) = (each.exception() for each in asked if each.exception() is not None)
        assert isinstance(refused, TransientError)
        assert "5 of 5 are in use" in str(refused)

    def test_exhausted_pool_says_why(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """Used, absent and unplugged nodes are told apart; one given back can be had again."""
        first, second = config["nodes"][:2]
        nodes = [first, second, {"port": "nowhere", "mac": "02:00:00:00:00:99"}]
        plugin = plugin_of({**config, "nodes": nodes})
        plugin.start_node(node_request(2))
        unplug(ovs, "vm2")
        with pytest.raises(TransientError) as caught:
            plugin.start_node(node_request(3))
        for part in ("1 of 3 are in use", "link of port vm2 is down", "there is no port nowhere"):
            assert part in str(caught.value)
        plugin.stop_node("web-2")
        assert plugin.start_node(node_request(3)).port == "vm1"

    def test_node_given_back_is_taken_last(self, config: dict[str, Any]) -> None:
        """A bad node is not handed out again and again while there are others."""
        plugin, ports = plugin_of(config), []
        for _ in range(SIZE + 1):
            ports.append(plugin.start_node(node_request(2)).port)
            plugin.stop_node("web-2")
        assert ports == [*(f"vm{number}" for number in range(1, SIZE + 1)), "vm1"]

    def test_node_no_longer_in_the_section_can_be_given_back(
        self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """All that releasing needs is in the record, and what others wrote there stays."""
        ovs.vsctl("set", "interface", "vm1", "external_ids:vm-id=17")
        plugin_of(config).start_node(node_request(2))
        note = ["sh", "-c", 'echo "$@" >$0', str(tmp_path / "said")]
        words = ["{name}", "{index}", "{port}", "{mac}", "{address}", "{group_addresses}"]
        other = {**config, "nodes": config["nodes"][1:], "on_release": [*note, *words]}
        plugin = plugin_of(other)
        assert [info.port for info in plugin.list_nodes()] == ["vm1"]
        plugin.stop_node("web-2")
        said = (tmp_path / "said").read_text().split()
        assert said == ["web-2", "2", "vm1", "02:00:00:00:00:01", "10.99.0.1", "10.99.0.10"]
        assert tags(ovs, "vm1") == '{vm-id="17"}'

    def test_survives_the_switch_daemon(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """Killed and started again, the switch still knows whose the node is."""
        plugin_of(config).start_node(node_request(2))
        ovs.restart_vswitchd()
        (info,) = plugin_of(config).list_nodes()
        assert (info.name, info.status) == ("web-2", NodeStatus.RUNNING)


class TestCommands:
    """What the operator's commands do to an allocation."""

    def test_prepared_host_serves(self, config: dict[str, Any], hosts: tuple[Host, ...]) -> None:
        """``on_allocate`` gives the machine the group's address, ``on_release`` takes it away."""
        inside = ["ip", "-n", "{port}", "address"]
        plugin = plugin_of(
            {
                **config,
                "on_allocate": [*inside, "replace", "{group_addresses}/32", "dev", "lo"],
                "on_release": [*inside, "flush", "dev", "lo", "scope", "global"],
            }
        )
        plugin.start_node(node_request(2))
        assert "10.99.0.10/32" in hosts[0].run("ip", "address").stdout
        plugin.stop_node("web-2")
        assert "10.99.0.10/32" not in hosts[0].run("ip", "address").stdout

    def test_failed_preparation_gives_the_node_back(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """The error has the command's words, and nothing is allocated."""
        script = "echo disk full >&2; exit 3"
        plugin = plugin_of({**config, "on_allocate": ["sh", "-c", script]})
        with pytest.raises(TransientError, match="on_allocate for web-2: status 3: disk full"):
            plugin.start_node(node_request(2))
        assert plugin.list_nodes() == ()
        assert tags(ovs, "vm1") == "{}"

    def test_node_that_cannot_be_released_is_kept_as_broken(self, config: dict[str, Any]) -> None:
        """Nobody else gets it until ``on_release`` has worked."""
        plugin = plugin_of({**config, "on_release": ["false"]})
        plugin.start_node(node_request(2))
        with pytest.raises(TransientError, match="on_release for web-2: status 1: no output"):
            plugin.stop_node("web-2")
        (info,) = plugin.list_nodes()
        assert (info.status, "not finished" in info.detail) == (NodeStatus.BROKEN, True)
        assert plugin_of(config).start_node(node_request(3)).port == "vm2"
        plugin_of(config).stop_node("web-2")
        assert [info.name for info in plugin.list_nodes()] == ["web-3"]

    def test_slow_command_is_ended(self, config: dict[str, Any]) -> None:
        """After ``timeout_s`` it is over."""
        plugin = plugin_of({**config, "on_allocate": ["sleep", "1000"], "timeout_s": 0.1})
        with pytest.raises(TransientError, match=r"not done in 0\.1 s"):
            plugin.start_node(node_request(2))
        assert plugin.list_nodes() == ()

    @pytest.mark.parametrize("what", ["on_allocate", "on_release"])
    def test_missing_program_is_permanent(self, config: dict[str, Any], what: str) -> None:
        """It is found before anything is allocated."""
        plugin = plugin_of({**config, what: ["no-such-program"]})
        with pytest.raises(PermanentError, match=f"{what}: no program 'no-such-program'"):
            plugin.start_node(node_request(2))
        assert plugin.list_nodes() == ()


class TestTrouble:
    """Errors, and sections that are refused."""

    def test_absent_database_is_transient(self, config: dict[str, Any]) -> None:
        """All three calls say that the switch cannot be reached."""
        plugin = plugin_of({**config, "ovsdb": "unix:/nowhere.sock"})
        for call in (plugin.list_nodes, lambda: plugin.start_node(node_request(2))):
            with pytest.raises(TransientError, match="cannot be reached"):
                call()
        with pytest.raises(TransientError, match="cannot be reached"):
            plugin.stop_node("web-2")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"nodes": []}, "nodes"),
            ({"nodes": [{"port": "vm1"}]}, "mac"),
            ({"nodes": [{"port": "a" * 16, "mac": "02:00:00:00:00:01"}]}, "port"),
            ({"nodes": [{"port": "vm1", "mac": "02:00"}]}, "mac"),
            ({"nodes": [{"port": "vm1", "mac": "02:00:00:00:00:01"}] * 2}, "port vm1 stands"),
            (
                {"nodes": [{"port": p, "mac": m} for p, m in (("a", "0A:" * 5), ("b", "0a:" * 5))]},
                "mac",
            ),
            ({"ovsdb": "/run/db.sock"}, "ovsdb"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"image": "web"}, "image"),
        ],
    )
    def test_bad_section_is_refused(self, change: dict[str, Any], message: str) -> None:
        """Every bad value is named by the model."""
        good = {"nodes": [{"port": "vm1", "mac": "02:00:00:00:00:01"}]}
        with pytest.raises(ValidationError, match=message):
            PoolConfig.model_validate({**good, **change})

    def test_section_survives_the_way_to_the_plugin_process(self) -> None:
        """As JSON and back it is the same."""
        nodes = [{"port": "vm1", "mac": "0A:00:00:00:00:01", "address": "fd00::1"}]
        config = PoolConfig.model_validate({"nodes": nodes, "on_release": ["x", "{port}"]})
        assert PoolConfig.model_validate(config.model_dump(mode="json")) == config
        assert config.nodes[0].mac == "0a:00:00:00:00:01"
