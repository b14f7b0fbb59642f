"""The ``netns`` plugin against a real switch: the contract, and what is its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sncontroller.hypervisors import _ovsdb
from sncontroller.hypervisors.base import (
    Hypervisor,
    NodeInfo,
    NodeRequest,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
    load,
)
from sncontroller.hypervisors.contract import (
    OWNER,
    ZONES,
    HypervisorContract,
    Subject,
    node_request,
    until_running,
)
from sncontroller.hypervisors.netns import ENVIRONMENT_MARK, Netns, NetnsConfig
from sncontroller.lab.leftovers import Scope, leftovers, snapshot
from sncontroller.lab.namespaces import end_processes, links, namespace_pids, namespaces
from sncontroller.lab.net import Host, Link, isolate
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "sntbr0"
GROUP_ADDRESS = "10.99.0.10"
MARKS = tuple(f"{ENVIRONMENT_MARK}={owner.controller}/" for owner in ZONES)
WEB_SERVER = (sys.executable, "-m", "http.server", "--bind", "{address}", "80")


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """A running switch with one bridge that switches like any other."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        running.ofctl("add-flow", BRIDGE, "actions=normal")
        yield running


@pytest.fixture
def config(ovs: PrivateOvs, tmp_path: Path) -> dict[str, Any]:
    """A section that works."""
    return {
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "subnet": "10.99.0.0/24",
        "addresses": "10.99.0.100-10.99.0.109",
        "command": ["sleep", "1000"],
        "workdir": tmp_path / "nodes",
    }


@pytest.fixture(autouse=True)
def _nothing_is_left(ovs: PrivateOvs, tmp_path: Path) -> Iterator[None]:
    before = snapshot(Scope(directories=(tmp_path / "nodes",), marks=MARKS))
    yield
    assert leftovers(before) == ()
    assert ovs.vsctl("list-ports", BRIDGE).split() == []


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> Netns:
    """An instance with this section."""
    return Netns(NetnsConfig.model_validate(config), owner)


class NetnsSubject(Subject):
    """Namespaces, interfaces, ports, directories and processes of one machine."""

    def __init__(self, ovs: PrivateOvs, config: Mapping[str, Any]) -> None:
        """Use this switch and this section."""
        self._ovs = ovs
        self._config = config
        self.foreign: list[Host] = []

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance for this owner, with a directory that no other controller uses."""
        workdir = self._config["workdir"] / owner.controller
        return plugin_of({**self._config, "workdir": workdir}, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address pool of one."""
        return plugin_of({**self._config, "addresses": "10.99.0.100-10.99.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        workdir = Path(self._config["workdir"])
        yield_from = [
            *(f"namespace {name}" for name in namespaces()),
            *(f"interface {name}" for name in links()),
            *(f"port {name}" for name in self._ovs.vsctl("list-ports", BRIDGE).split()),
            *(f"process {pid}" for pid in namespace_pids(*namespaces())),
        ]
        return [*yield_from, *(f"directory {path}" for path in workdir.glob("*/*"))]

    def create_foreign(self) -> str:
        """A host of the lab's with a process in it."""
        host = Host(self._ovs, BRIDGE, "sntforeign", Link("10.99.0.200/24")).start()
        host.popen("sleep", "1000")
        self.foreign.append(host)
        return "namespace sntforeign"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """Everything that a node has, taken away one at a time."""

        def end_service(info: NodeInfo) -> None:
            end_processes(lambda: namespace_pids(info.port))

        def run(*command: str) -> Callable[[NodeInfo], None]:
            def damage(info: NodeInfo) -> None:
                subprocess.run([word.format(info.port) for word in command], check=True)

            return damage

        return {
            "service ended": end_service,
            "port deleted": run("ovs-vsctl", f"--db={self._ovs.db}", "del-port", "{}"),
            "namespace's name deleted": run("ip", "netns", "delete", "{}"),
            "interface deleted": run("ip", "link", "delete", "{}"),
        }


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    @pytest.fixture
    def subject(self, ovs: PrivateOvs, config: dict[str, Any]) -> Iterator[Subject]:
        """The plugin on the real switch."""
        made = NetnsSubject(ovs, config)
        yield made
        for host in made.foreign:
            host.stop()


class TestNode:
    """What a node is."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``netns`` names this plugin."""
        assert load("netns") is Netns

    def test_service_answers_at_its_own_address(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """A client on the bridge gets the service's answer, and no ARP for the group's address."""
        plugin = plugin_of({**config, "command": WEB_SERVER})
        with Host(ovs, BRIDGE, "sntclient", Link("10.99.0.1/24")) as client:
            plugin.start_node(node_request(2))
            script = "curl=urllib.request.urlopen('http://10.99.0.100/', timeout=20).status"
            fetch = f"import urllib.request; {script}; print(curl)"
            until_listening("sn" + "ffa1-2")
            assert client.run(sys.executable, "-c", fetch).stdout.strip() == "200"
            client.run("ping", "-c1", "-W1", GROUP_ADDRESS, check=False)
            assert f"{GROUP_ADDRESS} dev eth0 lladdr" not in client.run("ip", "neigh").stdout
            plugin.stop_node(node_request(2).name)

    def test_interface_is_as_requested(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """Hardware address, own and group's addresses, gateway, VLAN and rate are all there."""
        plugin = plugin_of({**config, "gateway": "10.99.0.1", "vlan": 7, "rate_bps": 8_000_000})
        request = node_request(3)
        plugin.start_node(request)
        inside = inside_of(
            request, "ip addr; ip route; tc qdisc; cat /proc/sys/net/ipv4/conf/*/arp_*"
        )
        assert f"link/ether {request.mac}" in inside
        assert "inet 10.99.0.101/24" in inside
        assert f"inet {GROUP_ADDRESS}/32 scope global lo" in inside
        assert "default via 10.99.0.1" in inside
        assert "rate 8Mbit" in inside
        assert ovs.vsctl("get", "port", request.port, "tag").strip() == "7"
        plugin.stop_node(request.name)

    def test_switch_port_tells_whose_it_is(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """The interface's record carries the owner, the node and the usual attached-mac."""
        plugin, request = plugin_of(config), node_request(2)
        plugin.start_node(request)
        ids = ovs.vsctl("get", "interface", request.port, "external_ids")
        for expected in (f'attached-mac="{request.mac}"', "sn-controller=contract", "sn-group=web"):
            assert expected in ids
        plugin.stop_node(request.name)

    def test_command_gets_the_nodes_values(self, config: dict[str, Any], tmp_path: Path) -> None:
        """Placeholders, environment and directory reach the service, and braces of its own stay."""
        script = "echo $0 $@ $MORE $PWD {}; exec sleep 1000"
        words = ["{name}", "{index}", "{address}", "{port}", "{directory}"]
        command = ["sh", "-c", script, *words]
        plugin = plugin_of({**config, "command": command, "environment": {"MORE": "more"}})
        plugin.start_node(node_request(2))
        directory = tmp_path / "nodes" / "web-2"
        said = (directory / "service.log").read_text().split()
        values = ["web-2", "2", "10.99.0.100", "snffa1-2", str(directory)]
        assert said == [*values, "more", str(directory), "{}"]
        plugin.stop_node("web-2")

    def test_booting_node_is_starting_then_running(self, config: dict[str, Any]) -> None:
        """With a boot delay the port is there at once and the service comes later."""
        plugin = plugin_of({**config, "boot_s": 0.5})
        assert plugin.start_node(node_request(2)).status is NodeStatus.STARTING
        until_running(plugin, "web-2")
        plugin.stop_node("web-2")

    def test_service_outlives_whoever_started_it(self, config: dict[str, Any]) -> None:
        """The same process runs when the one that started the node is gone."""
        child = os.fork()
        if child == 0:
            plugin_of(config).start_node(node_request(2))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        pids = namespace_pids(node_request(2).port)
        plugin = plugin_of(config)
        assert plugin.start_node(node_request(2)).status is NodeStatus.RUNNING
        assert namespace_pids(node_request(2).port) == pids
        plugin.stop_node("web-2")

    def test_node_outlives_the_switch_daemon(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """After the daemon was killed and started again the node is still RUNNING."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        ovs.restart_vswitchd()
        assert until_running(plugin, "web-2").port == node_request(2).port
        plugin.stop_node("web-2")

    def test_changed_request_makes_the_node_anew(self, config: dict[str, Any]) -> None:
        """The same name with another port and address is one node, the new one."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        changed = NodeRequest("web-2", 2, "snffa1-new", "02:00:00:00:00:99", ())
        assert plugin.start_node(changed).mac == changed.mac
        assert [info.port for info in plugin.list_nodes()] == ["snffa1-new"]
        plugin.stop_node("web-2")

    def test_node_on_another_bridge_is_broken(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """When the section's bridge changes, the node says so and is made again there."""
        plugin_of(config).start_node(node_request(2))
        ovs.add_bridge("sntother")
        plugin = plugin_of({**config, "bridge": "sntother"})
        (info,) = plugin.list_nodes()
        assert (info.status, "sntother" in info.detail) == (NodeStatus.BROKEN, True)
        plugin.start_node(node_request(2))
        assert ovs.vsctl("list-ports", "sntother").split() == [node_request(2).port]
        plugin.stop_node("web-2")
        ovs.del_bridge("sntother")

    def test_runs_under_eventlet(self, config: dict[str, Any]) -> None:
        """Start, list and stop work in a green thread and in eventlet's native ones."""
        script = (
            "import eventlet; eventlet.monkey_patch()\n"
            "import sys; from eventlet import tpool\n"
            "from sncontroller.hypervisors.contract import OWNER, node_request\n"
            "from sncontroller.hypervisors.netns import ENVIRONMENT_MARK, Netns, NetnsConfig\n"
            "plugin = Netns(NetnsConfig.model_validate_json(sys.argv[1]), OWNER)\n"
            "for call in (lambda f, *a: f(*a), tpool.execute):\n"
            "    print(call(plugin.start_node, node_request(2)).status.value)\n"
            "    print(len(call(plugin.list_nodes)))\n"
            "    call(plugin.stop_node, 'web-2')\n"
        )
        section = NetnsConfig.model_validate(config).model_dump_json()
        command = [sys.executable, "-c", script, section]
        said = subprocess.check_output(command, text=True, timeout=60)
        assert said.split() == ["running", "1"] * 2


class TestTaken:
    """Names that someone else has."""

    def test_taken_names_are_refused_and_left_alone(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """A port, namespace or interface of the node's name that is not ours stays as it is."""
        port, db = node_request(2).port, f"--db={ovs.db}"
        takers: Mapping[str, tuple[list[str], list[str]]] = {
            "switch port": (
                [
                    *("ovs-vsctl", db, "add-port", BRIDGE, port),
                    *("--", "set", "interface", port, "type=internal"),
                ],
                ["ovs-vsctl", db, "del-port", port],
            ),
            "network namespace": (["ip", "netns", "add", port], ["ip", "netns", "delete", port]),
            "interface": (
                ["ip", "link", "add", port, "type", "veth", "peer", "name", "sntpeer"],
                ["ip", "link", "delete", port],
            ),
        }
        plugin, subject = plugin_of(config), NetnsSubject(ovs, config)
        for what, (take, give_back) in takers.items():
            subprocess.run(take, check=True)
            taken = set(subject.objects())
            with pytest.raises(PermanentError, match=f"{what} {port} exists and is not ours"):
                plugin.start_node(node_request(2))
            plugin.stop_node("web-2")
            assert (what, set(subject.objects())) == (what, taken)
            subprocess.run(give_back, check=True)

    def test_port_of_another_node_is_refused(self, config: dict[str, Any]) -> None:
        """Two nodes cannot have one port: the second is refused, the first lives on."""
        plugin, first = plugin_of(config), node_request(2)
        plugin.start_node(first)
        second = NodeRequest("web-3", 3, first.port, "02:00:00:00:00:03", ())
        with pytest.raises(PermanentError, match="is node web-2's"):
            plugin.start_node(second)
        until_running(plugin, "web-2")
        plugin.stop_node("web-2")

    def test_foreign_directory_is_refused_and_left_alone(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """A directory of the node's name that holds something else stays as it is."""
        held = tmp_path / "nodes" / "web-2" / "thesis.tex"
        held.parent.mkdir(parents=True)
        held.write_text("ten years of work")
        plugin = plugin_of(config)
        with pytest.raises(PermanentError, match="exists and is not ours"):
            plugin.start_node(node_request(2))
        plugin.stop_node("web-2")
        assert held.read_text() == "ten years of work"


class TestTrouble:
    """Errors, their kind, and that nothing is left."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"bridge": "nobridge"}, PermanentError, "no bridge named nobridge"),
            ({"ovsdb": "unix:/nowhere.sock"}, TransientError, "cannot be reached, is it running"),
            ({"command": ["no-such-program"]}, PermanentError, "no program 'no-such-program'"),
            ({"command": ["sh", "-c", "echo bad port; exit 3"]}, TransientError, "bad port"),
            ({"environment": {"PATH": "/nowhere"}}, PermanentError, "no program 'sleep'"),
            ({"addresses": "10.99.0.1-10.99.0.1"}, None, ""),
        ],
        ids=["bridge", "database", "program", "ends at once", "path", "fine"],
    )
    def test_start_says_what_is_wrong(
        self,
        config: dict[str, Any],
        change: dict[str, Any],
        error: type[Exception] | None,
        message: str,
    ) -> None:
        """Each trouble is of the right kind and named; what needs no mending works."""
        plugin = plugin_of({**config, **change})
        if error is None:
            plugin.start_node(node_request(2))
            plugin.stop_node("web-2")
            return
        with pytest.raises(error, match=message):
            plugin.start_node(node_request(2))

    def test_primary_has_no_address_in_the_pool(self, config: dict[str, Any]) -> None:
        """Index 1 is the primary's: nobody starts it here."""
        with pytest.raises(PermanentError, match="none for index 1"):
            plugin_of(config).start_node(node_request(1))

    def test_without_root_every_call_says_so(self, config: dict[str, Any]) -> None:
        """All three calls are refused for good."""
        plugin = plugin_of(config)
        os.seteuid(65534)
        try:
            for call in (lambda: plugin.start_node(node_request(2)), plugin.list_nodes):
                with pytest.raises(PermanentError, match="needs root"):
                    call()
            with pytest.raises(PermanentError, match="needs root"):
                plugin.stop_node("web-2")
        finally:
            os.seteuid(0)

    def test_dead_switch_daemon_is_transient(
        self, config: dict[str, Any], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """With the database alive and the daemon not, start gives up in time and clears away."""
        monkeypatch.setattr(_ovsdb, "TIMEOUT_S", 1)
        with PrivateOvs() as other:
            other.add_bridge("sntdead", datapath_type="dummy")
            os.kill(other.pids[1], 9)
            plugin = plugin_of({**config, "bridge": "sntdead", "ovsdb": other.db})
            with pytest.raises(TransientError, match="is ovs-vswitchd running"):
                plugin.start_node(node_request(2))
            assert plugin.list_nodes() == ()
            assert other.vsctl("--no-wait", "list-ports", "sntdead").split() == []

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"addresses": "10.99.0.9"}, "addresses"),
            ({"addresses": "10.99.0.9-10.99.0.8"}, "FIRST-LAST"),
            ({"addresses": "10.99.0.9-fd00::1"}, "FIRST-LAST"),
            ({"addresses": "10.99.0.9-web"}, "does not appear to be an IPv4 or IPv6 address"),
            ({"addresses": "10.98.0.1-10.98.0.2"}, "10.98.0.1 is not in subnet"),
            ({"gateway": "10.98.0.1"}, "10.98.0.1 is not in subnet"),
            ({"subnet": "10.99.0.1/24"}, "subnet"),
            ({"vlan": 4095}, "vlan"),
            ({"rate_bps": 1}, "rate_bps"),
            ({"command": []}, "command"),
            ({"ovsdb": "/run/db.sock"}, "ovsdb"),
            ({"boot_s": -1}, "boot_s"),
            ({"memory": 512}, "memory"),
        ],
    )
    def test_bad_section_is_refused(
        self, config: dict[str, Any], change: dict[str, Any], message: str
    ) -> None:
        """Every bad value is named by the model."""
        with pytest.raises(ValidationError, match=message):
            NetnsConfig.model_validate({**config, **change})


def inside_of(request: NodeRequest, script: str) -> str:
    """Output of a shell script in the node's namespace."""
    return subprocess.check_output(
        ["ip", "netns", "exec", request.port, "sh", "-c", script], text=True
    )


def until_listening(namespace: str) -> None:
    """Wait until something listens on port 80 in the namespace."""
    deadline = time.monotonic() + 30
    command = ["ip", "netns", "exec", namespace, "ss", "-Hltn"]
    while ":80 " not in subprocess.check_output(command, text=True):
        assert time.monotonic() < deadline
        time.sleep(0.05)
