"""The ``mininet`` plugin with a real Mininet on a real switch."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from sncontroller.cli import main
from sncontroller.hypervisors._ovsdb import Ovsdb
from sncontroller.hypervisors._tags import tags_of
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
    HypervisorContract,
    Subject,
    node_request,
    until_running,
)
from sncontroller.hypervisors.mininet import MininetConfig, MininetHosts
from sncontroller.lab.leftovers import leftovers, snapshot
from sncontroller.lab.namespaces import links
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import dies_with_parent

BRIDGE = "s1"
TOPOLOGY = {"vm1", "c1", "c2"}
SYSTEM_PYTHON = "/usr/bin/python3"
DRIVER = Path(__file__).with_name("mininet_elastic_driver.py")
SERVICE = "echo {name} >index.html && exec busybox httpd -f -p 80"


class Mininet:
    """A Mininet in a process of its own, under the Python that Debian's Mininet is for."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        """Start it, with its control socket and its temporary files in this directory."""
        self.directory = directory
        self.control = directory / "mininet.sock"
        self._environment = {**environment, "TMPDIR": str(directory)}
        self.start()

    def start(self) -> None:
        """Start it, again after :meth:`kill`."""
        log = self.directory / "mininet.log"
        with log.open("w") as errors:
            self.process = subprocess.Popen(
                [*dies_with_parent(), SYSTEM_PYTHON, str(DRIVER), str(self.control)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=self._environment,
                text=True,
            )
        assert self._answer() == "ready", log.read_text()

    def kill(self) -> None:
        """Let it end as in a crash."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.kill()
        self.process.wait(30)
        self.process.stdin.close()
        self.process.stdout.close()

    def run(self, host: str, command: str = "") -> Any:
        """What a host's shell command printed; for ``hosts``, the processes in each."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{host} {command}\n")
        self.process.stdin.flush()
        return self._answer()

    def hosts(self) -> dict[str, list[int]]:
        """Each host's shell, and then the other processes in it."""
        said: dict[str, list[int]] = self.run("hosts")
        return said

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        return json.loads(said) if said else ""

    def close(self) -> int:
        """Take the network down."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        status = self.process.wait(60)
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """A switch daemon that Mininet finds instead of the machine's own."""
    isolate()
    with PrivateOvs() as running:
        yield running


@pytest.fixture(scope="module")
def mininet(ovs: PrivateOvs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mininet]:
    """A running Mininet of one switch."""
    before = snapshot()
    running = Mininet(tmp_path_factory.mktemp("mininet"), {**os.environ, **ovs.environment})
    yield running
    assert running.close() == 0
    assert [left for left in leftovers(before) if not left.startswith("directory")] == []
    assert list(running.directory.glob("sn-mininet-*")) == []
    assert not running.control.exists()


@pytest.fixture
def config(ovs: PrivateOvs, mininet: Mininet) -> dict[str, Any]:
    """A section that works."""
    return {
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "control": mininet.control,
        "subnet": "10.0.0.0/24",
        "addresses": "10.0.0.100-10.0.0.109",
        "command": ["sh", "-c", SERVICE],
    }


@pytest.fixture(autouse=True)
def _nothing_is_left(ovs: PrivateOvs, mininet: Mininet) -> Iterator[None]:
    hosts, ports = list(mininet.hosts()), ovs.vsctl("list-ports", BRIDGE).split()
    before = snapshot()
    yield
    # directories of a lab elsewhere on the machine, which was killed, are not ours
    assert [left for left in leftovers(before) if not left.startswith("directory")] == []
    if mininet.process.poll() is None:
        assert list(mininet.hosts()) == hosts
        assert ovs.vsctl("list-ports", BRIDGE).split() == ports


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> MininetHosts:
    """An instance with this section."""
    return MininetHosts(MininetConfig.model_validate(config), owner)


class MininetSubject(Subject):
    """Hosts, their processes and directories, interfaces and ports."""

    def __init__(self, ovs: PrivateOvs, mininet: Mininet, config: Mapping[str, Any]) -> None:
        """Use this Mininet and this section."""
        self._ovs = ovs
        self._mininet = mininet
        self._config = config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address pool of one."""
        return plugin_of({**self._config, "addresses": "10.0.0.100-10.0.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        hosts = self._mininet.hosts()
        return [
            *(f"host {name}" for name in hosts),
            *(f"process {pid}" for host in hosts.keys() - TOPOLOGY for pid in hosts[host]),
            *(f"directory {path.name}" for path in self._mininet.directory.glob("sn-mininet-*")),
            *(f"interface {name}" for name in links()),
            *(f"port {name}" for name in self._ovs.vsctl("list-ports", BRIDGE).split()),
        ]

    def create_foreign(self) -> str:
        """A host of the topology."""
        return "host c1"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """Everything that a node has, taken away one at a time."""

        def service(info: NodeInfo) -> None:
            _, *pids = self._mininet.hosts()[host_of(info)]
            end(*pids)

        def shell(info: NodeInfo) -> None:
            end(self._mininet.hosts()[host_of(info)][0])

        def run(*command: str) -> Callable[[NodeInfo], None]:
            def damage(info: NodeInfo) -> None:
                subprocess.run([word.format(info.port) for word in command], check=True)

            return damage

        return {
            "service ended": service,
            "host's shell ended": shell,
            "port deleted": run("ovs-vsctl", f"--db={self._ovs.db}", "del-port", "{}"),
            "interface deleted": run("ip", "link", "delete", "{}"),
        }


def host_of(info: NodeInfo) -> str:
    """The name of a node's host in Mininet."""
    return info.detail.removeprefix("host ")


def end(*pids: int) -> None:
    """Kill these processes; they are Mininet's children, which waits for them when it looks."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + 30
    while any(state_of(pid) not in "ZX" for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def until_gone(*interfaces: str) -> None:
    """Wait until the kernel has taken them down with their namespaces."""
    deadline = time.monotonic() + 30
    while set(interfaces) & set(links()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state_of(pid: int) -> str:
    """The letter of a process's state, X when there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "X"


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    crash_moments = 6
    settle_s = 0.02  # what was asked for is done before the next call is heard

    @pytest.fixture
    def subject(self, ovs: PrivateOvs, mininet: Mininet, config: dict[str, Any]) -> Subject:
        """The plugin with a real Mininet."""
        return MininetSubject(ovs, mininet, config)


class TestNode:
    """What a node is."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``mininet`` names this plugin."""
        assert load("mininet") is MininetHosts

    def test_service_answers_at_its_own_address(
        self, mininet: Mininet, config: dict[str, Any]
    ) -> None:
        """Another host gets the service's answer, and no ARP for the group's address."""
        plugin = plugin_of(config)
        info = plugin.start_node(node_request(2))
        fetch = "curl -s --retry 20 --retry-connrefused --retry-delay 1 -m 20 http://10.0.0.100/"
        assert mininet.run("c1", fetch).strip() == "web-2"
        mininet.run("c1", "ip route add 10.99.0.0/24 dev c1-eth0; ping -c1 -W1 10.99.0.10")
        neighbours = mininet.run("c1", "ip neigh; ip route del 10.99.0.0/24")
        assert f"10.0.0.100 dev c1-eth0 lladdr {info.mac}" in neighbours
        assert "10.99.0.10 dev c1-eth0 lladdr" not in neighbours
        plugin.stop_node("web-2")

    def test_host_is_one_like_the_others(self, mininet: Mininet, config: dict[str, Any]) -> None:
        """It has a name that Mininet's command line takes, and its commands run inside."""
        plugin = plugin_of({**config, "gateway": "10.0.0.1", "rate_bps": 8_000_000})
        info = plugin.start_node(node_request(3))
        assert host_of(info) == "web_3"
        assert list(mininet.hosts())[-1] == "web_3"
        inside = mininet.run("web_3", "ip addr; ip route; tc qdisc")
        for expected in (
            f"link/ether {info.mac}",
            "inet 10.0.0.101/24",
            "inet 10.99.0.10/32 scope global lo",
            "default via 10.0.0.1",
            "rate 8Mbit",
        ):
            assert expected in inside
        plugin.stop_node("web-3")

    def test_command_gets_the_nodes_values(self, config: dict[str, Any], tmp_path: Path) -> None:
        """Placeholders reach the service, which runs in a directory of its own."""
        script = f"echo $0 $@ $PWD {{}} >{tmp_path}/said; exec sleep 1000"
        words = ["{name}", "{index}", "{address}", "{port}", "{directory}"]
        plugin = plugin_of({**config, "command": ["sh", "-c", script, *words]})
        plugin.start_node(node_request(2))
        deadline = time.monotonic() + 30
        while not (tmp_path / "said").exists() or not (tmp_path / "said").read_text():
            assert time.monotonic() < deadline
        *said, directory, here, braces = (tmp_path / "said").read_text().split()
        assert said == ["web-2", "2", "10.0.0.100", node_request(2).port]
        assert (directory == here, braces) == (True, "{}")
        plugin.stop_node("web-2")
        assert not Path(directory).exists()

    def test_two_controllers_nodes_of_one_name(
        self, mininet: Mininet, config: dict[str, Any]
    ) -> None:
        """The second host is called by its port."""
        another = Owner("another", "web")
        first, second = plugin_of(config), plugin_of({**config}, another)
        assert host_of(first.start_node(node_request(2))) == "web_2"
        assert host_of(second.start_node(node_request(2, another))) == "snffa3_2"
        first.stop_node("web-2")
        assert mininet.hosts().keys() - TOPOLOGY == {"snffa3_2"}
        second.stop_node("web-2")

    def test_switch_port_tells_whose_it_is(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """The interface's record carries the owner, and the port its VLAN."""
        plugin = plugin_of({**config, "vlan": 7})
        info = plugin.start_node(node_request(2))
        ids = ovs.vsctl("get", "interface", info.port, "external_ids")
        for expected in (f'attached-mac="{info.mac}"', "sn-controller=contract", "sn-group=web"):
            assert expected in ids
        assert ovs.vsctl("get", "port", info.port, "tag").strip() == "7"
        plugin.stop_node("web-2")

    def test_changed_request_makes_the_node_anew(self, config: dict[str, Any]) -> None:
        """The same name with another port and address is one node, the new one."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        changed = NodeRequest("web-2", 2, "snffa1-new", "02:00:00:00:00:99", ())
        assert plugin.start_node(changed).mac == changed.mac
        assert [info.port for info in plugin.list_nodes()] == ["snffa1-new"]
        plugin.stop_node("web-2")

    def test_hypervisor_check_passes(self, config: dict[str, Any], tmp_path: Path) -> None:
        """The operator's command starts and stops one node."""
        section = {**config, "plugin": "mininet", "control": str(config["control"])}
        group = {
            "match": {"address": "10.99.0.10", "ports": [80]},
            "primary": {"port": "s1-eth1"},
            "scaling": {"policy": "manual", "min": 1, "max": 3},
            "health": {"kind": "none"},
            "hypervisor": section,
        }
        file = tmp_path / "sn.yaml"
        file.write_text(yaml.safe_dump({"controller": "lab", "groups": {"web": group}}))
        result = CliRunner().invoke(main, ["hypervisor", "check", str(file)])
        assert (result.exit_code, "host web_check" in result.output) == (0, True), result.output


class TestMininetGone:
    """Mininet is somebody else's program: it may end, hang, or not be there."""

    def test_every_call_is_transient_until_it_is_back(
        self, ovs: PrivateOvs, mininet: Mininet, config: dict[str, Any]
    ) -> None:
        """Killed, it takes hosts and services along; the next one starts without them."""
        plugin = plugin_of(config)
        info = plugin.start_node(node_request(2))
        hosts = mininet.hosts()
        pids = hosts.pop(host_of(info))
        mininet.kill()
        for call in (
            lambda: plugin.start_node(node_request(3)),
            lambda: plugin.stop_node("web-2"),
            plugin.list_nodes,
        ):
            with pytest.raises(TransientError, match=r"no Mininet answers at .*is it running"):
                call()
        deadline = time.monotonic() + 30
        while any(state_of(pid) not in "ZX" for pid in pids):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        for rest in hosts.values():  # what mn -c does
            end(*(pid for pid in rest if state_of(pid) != "X"))
        until_gone(*(name for name in links() if name.startswith("s1-")))
        for directory in mininet.directory.glob("sn-mininet-*"):
            shutil.rmtree(directory)
        mininet.start()
        assert plugin.list_nodes() == ()
        plugin.start_node(node_request(2))
        until_running(plugin, "web-2")
        plugin.stop_node("web-2")

    def test_second_one_on_the_same_socket_is_refused(
        self, mininet: Mininet, config: dict[str, Any]
    ) -> None:
        """It ends before it makes anything, and the first one answers on."""
        second = subprocess.run(
            [SYSTEM_PYTHON, str(DRIVER), str(mininet.control)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert second.returncode != 0
        assert f"another Mininet answers at {mininet.control}" in second.stderr
        assert plugin_of(config).list_nodes() == ()

    @pytest.mark.parametrize(
        ("answer", "error", "message"),
        [
            (None, TransientError, "does not answer in 0.2 s"),
            (b"", TransientError, "ended before it answered"),
            (b"HTTP/1.1 400\r\n", PermanentError, "is no elastic.py"),
            (b'{"error": "busy", "permanent": false}\n', TransientError, "sock: busy"),
            (b'{"error": "never", "permanent": true}\n', PermanentError, "sock: never"),
        ],
        ids=["silent", "closed", "something else", "transient", "permanent"],
    )
    def test_wrong_answers_are_named(
        self,
        config: dict[str, Any],
        tmp_path: Path,
        answer: bytes | None,
        error: type[Exception],
        message: str,
    ) -> None:
        """A socket that hangs, closes or speaks something else is an error of the right kind."""
        path = tmp_path / "other.sock"
        plugin = plugin_of({**config, "control": path, "timeout_s": 0.2})
        with socket.socket(socket.AF_UNIX) as listener, ThreadPoolExecutor(1) as server:
            listener.bind(str(path))
            listener.listen()

            def serve() -> None:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(1000)
                    connection.sendall(answer or b"")
                    if answer is None:
                        connection.recv(1)  # until the other side has had enough

            served = server.submit(serve)
            with pytest.raises(error, match=message):
                plugin.list_nodes()
            served.result()


class TestTrouble:
    """Errors, their kind, and that nothing is left."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"bridge": "nobridge"}, PermanentError, "no bridge named nobridge"),
            ({"bridge": "sntother"}, PermanentError, "Mininet has no switch sntother"),
            ({"ovsdb": "unix:/nowhere.sock"}, TransientError, "cannot be reached"),
            ({"command": ["sh", "-c", "echo bad; exit 3"]}, TransientError, "status 3: bad"),
            ({"command": ["no-such-program"]}, TransientError, "No such file"),
            (
                {"gateway": "10.0.0.1", "subnet": "10.0.0.0/30", "addresses": "10.0.0.2-10.0.0.2"},
                None,
                "",
            ),
        ],
        ids=["bridge", "switch", "database", "ends at once", "program", "fine"],
    )
    def test_start_says_what_is_wrong(
        self,
        ovs: PrivateOvs,
        config: dict[str, Any],
        change: dict[str, Any],
        error: type[Exception] | None,
        message: str,
    ) -> None:
        """Each trouble is of the right kind and named; what needs no mending works."""
        ovs.add_bridge("sntother", datapath_type="dummy")
        plugin = plugin_of({**config, **change})
        try:
            if error is None:
                plugin.start_node(node_request(2))
                plugin.stop_node("web-2")
            else:
                with pytest.raises(error, match=message):
                    plugin.start_node(node_request(2))
        finally:
            ovs.del_bridge("sntother")

    def test_taken_names_are_refused_and_left_alone(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """A port or an interface of the node's name that is not ours stays as it is."""
        plugin, port = plugin_of(config), node_request(2).port
        ovs.add_port(BRIDGE, port, type="internal")
        with pytest.raises(PermanentError, match=f"switch port {port} exists and is not ours"):
            plugin.start_node(node_request(2))
        plugin.stop_node("web-2")
        ovs.del_port(port)
        peer = ["type", "veth", "peer", "name", "sntpeer"]
        subprocess.run(["ip", "link", "add", port, *peer], check=True)
        with pytest.raises(PermanentError, match=f"interface {port} exists and is not ours"):
            plugin.start_node(node_request(2))
        assert port in links()
        subprocess.run(["ip", "link", "delete", port], check=True)

    def test_half_made_node_is_broken(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """A record without a host is listed with the reason, and goes with stop."""
        plugin, request = plugin_of(config), node_request(2)
        tags = tags_of(OWNER, request, BRIDGE)
        Ovsdb(ovs.db).record_port(BRIDGE, request.port, tags, None)
        (info,) = plugin.list_nodes()
        assert (info.status, info.detail) == (
            NodeStatus.BROKEN,
            f"Mininet has no host on port {request.port}",
        )
        plugin.stop_node("web-2")

    def test_control_socket_is_roots_alone(self, config: dict[str, Any]) -> None:
        """Nobody else may add hosts, and the plugin says that it needs root."""
        assert config["control"].stat().st_mode & 0o777 == 0o600
        os.seteuid(65534)
        try:
            with pytest.raises(PermanentError, match="needs root"):
                plugin_of(config).list_nodes()
        finally:
            os.seteuid(0)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"addresses": "10.0.0.9-10.0.0.8"}, "FIRST-LAST"),
            ({"addresses": "10.98.0.1-10.98.0.2"}, "10.98.0.1 is not in subnet"),
            ({"command": []}, "command"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"control": f"/run/{'x' * 110}"}, "at most 107 bytes"),
            ({"switch": "s1"}, "switch"),
        ],
    )
    def test_bad_section_is_refused(
        self, config: dict[str, Any], change: dict[str, Any], message: str
    ) -> None:
        """Every bad value is named by the model."""
        with pytest.raises(ValidationError, match=message):
            MininetConfig.model_validate({**config, **change})
