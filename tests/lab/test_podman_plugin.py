"""The ``podman`` plugin with real containers on a real switch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from pydantic import ValidationError

from sncontroller.cli import main
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
from sncontroller.hypervisors.podman import PodmanConfig, PodmanContainers
from sncontroller.lab.controller import Controller, Endpoints
from sncontroller.lab.leftovers import leftovers, snapshot
from sncontroller.lab.namespaces import links, namespaces
from sncontroller.lab.net import Host, Link, isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.podman import IMAGE, OPTIONS, PrivatePodman

BRIDGE = "sntbr0"
GROUP_ADDRESS = "10.99.0.10"


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs(_isolated: None) -> Iterator[PrivateOvs]:
    """A running switch with one bridge that switches like any other."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        running.ofctl("add-flow", BRIDGE, "actions=normal")
        yield running


@pytest.fixture(scope="module")
def podman(_isolated: None) -> Iterator[PrivatePodman]:
    """A podman with one image."""
    with PrivatePodman() as running:
        yield running


@pytest.fixture
def config(ovs: PrivateOvs, podman: PrivatePodman) -> dict[str, Any]:
    """A section that works."""
    return {
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "subnet": "10.99.0.0/24",
        "addresses": "10.99.0.100-10.99.0.109",
        "image": IMAGE,
        "options": OPTIONS,
        "stop_s": 0,
    }


@pytest.fixture(autouse=True)
def _nothing_is_left(ovs: PrivateOvs, podman: PrivatePodman) -> Iterator[None]:
    before = snapshot()
    yield
    left = podman.run("ps", "--all", "--external", "--format", "{{.Names}}").split()
    assert left == []
    # directories of a lab elsewhere on the machine, which was killed, are not ours
    assert [left for left in leftovers(before) if not left.startswith("directory")] == []
    assert ovs.vsctl("list-ports", BRIDGE).split() == []


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> PodmanContainers:
    """An instance with this section."""
    return PodmanContainers(PodmanConfig.model_validate(config), owner)


class PodmanSubject(Subject):
    """Containers, their storage and processes, namespaces, interfaces and ports."""

    def __init__(self, ovs: PrivateOvs, podman: PrivatePodman, config: Mapping[str, Any]) -> None:
        """Use this switch, this podman and this section."""
        self._ovs = ovs
        self._podman = podman
        self._config = config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address pool of one."""
        return plugin_of({**self._config, "addresses": "10.99.0.100-10.99.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        containers = json.loads(self._podman.run("ps", "-a", "--external", "--format", "json"))
        storage = Path("/var/lib/containers/storage")
        return [
            *(f"container {each['Names'][0]} {each['Id']} {each['Pid']}" for each in containers),
            *(f"storage {path.name}" for path in storage.glob("*-containers/*/")),
            *(f"runtime's {path.name}" for path in Path("/run/crun").iterdir()),
            *(f"volume {path.name}" for path in (storage / "volumes").glob("*")),
            *(f"namespace {name}" for name in namespaces()),
            *(f"interface {name}" for name in links()),
            *(f"port {name}" for name in self._ovs.vsctl("list-ports", BRIDGE).split()),
        ]

    def create_foreign(self) -> str:
        """A container of an operator's own, with a name such as ours and without our labels."""
        create = ("create", "--quiet", "--network=none", *OPTIONS)
        found = self._podman.run(*create, "--name=contract.web-9", IMAGE).strip()
        return f"container contract.web-9 {found} 0"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """Everything that a node has, taken away one at a time."""

        def with_podman(*arguments: str) -> Callable[[NodeInfo], None]:
            return lambda info: self._podman.run(*arguments, f"contract.{info.name}") and None

        def killed(info: NodeInfo) -> None:
            pid = self._podman.run("inspect", "-f", "{{.State.Pid}}", f"contract.{info.name}")
            os.kill(int(pid), signal.SIGKILL)
            self._podman.run("wait", f"contract.{info.name}")

        def run(*command: str) -> Callable[[NodeInfo], None]:
            def damage(info: NodeInfo) -> None:
                subprocess.run([word.format(info.port) for word in command], check=True)

            return damage

        return {
            "service killed": killed,
            "removed": with_podman("rm", "--force", "--time=0"),
            "port deleted": run("ovs-vsctl", f"--db={self._ovs.db}", "del-port", "{}"),
            "namespace's name deleted": run("ip", "netns", "delete", "{}"),
            "interface deleted": run("ip", "link", "delete", "{}"),
        }


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    crash_moments = 3  # a start is some ten programs

    @pytest.fixture
    def subject(
        self, ovs: PrivateOvs, podman: PrivatePodman, config: dict[str, Any]
    ) -> Iterator[Subject]:
        """The plugin with real containers."""
        yield PodmanSubject(ovs, podman, config)
        podman.run("rm", "--ignore", "contract.web-9")


class TestNode:
    """What a node is."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``podman`` names this plugin."""
        assert load("podman") is PodmanContainers

    def test_service_answers_at_its_own_address(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """A client on the bridge gets the container's page, and no ARP for the group's address."""
        plugin = plugin_of(config)
        with Host(ovs, BRIDGE, "sntclient", Link("10.99.0.1/24")) as client:
            info = plugin.start_node(node_request(2))
            fetch = ["--retry", "20", "--retry-connrefused", "--retry-delay", "1", "-m", "20"]
            assert client.run("curl", "-s", *fetch, "http://10.99.0.100/").stdout == "web-2\n"
            client.run("ping", "-c1", "-W1", GROUP_ADDRESS, check=False)
            neighbours = client.run("ip", "neigh").stdout
            assert f"10.99.0.100 dev eth0 lladdr {info.mac}" in neighbours
            assert f"{GROUP_ADDRESS} dev eth0 lladdr" not in neighbours
            plugin.stop_node("web-2")

    def test_interface_is_as_requested(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """Hardware address, own and group's addresses, gateway, VLAN and rate are all there."""
        plugin = plugin_of({**config, "gateway": "10.99.0.1", "vlan": 7, "rate_bps": 8_000_000})
        request = node_request(3)
        plugin.start_node(request)
        inside = subprocess.check_output(
            ["ip", "netns", "exec", request.port, "sh", "-c", "ip addr; ip route; tc qdisc"],
            text=True,
        )
        for expected in (
            f"link/ether {request.mac}",
            "inet 10.99.0.101/24",
            f"inet {GROUP_ADDRESS}/32 scope global lo",
            "default via 10.99.0.1",
            "rate 8Mbit",
        ):
            assert expected in inside
        assert ovs.vsctl("get", "port", request.port, "tag").strip() == "7"
        plugin.stop_node(request.name)

    def test_container_and_port_tell_whose_they_are(
        self, ovs: PrivateOvs, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """Labels and external_ids carry controller, group and node."""
        plugin, request = plugin_of(config), node_request(2)
        info = plugin.start_node(request)
        assert info.detail == "container contract.web-2"
        said = podman.run("inspect", "--format", "{{json .Config.Labels}}", "contract.web-2")
        ids = ovs.vsctl("get", "interface", info.port, "external_ids")
        for key, value in {"sn-controller": "contract", "sn-group": "web"}.items():
            assert json.loads(said)[key] == value
            assert f"{key}={value}" in ids
        assert json.loads(said)["sn-port"] == request.port
        plugin.stop_node("web-2")

    def test_command_and_environment_get_the_nodes_values(
        self, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """Placeholders reach the service; its last words are the container's log."""
        words = ["{name}", "{index}", "{address}", "{mac}", "{port}", "{group_addresses}"]
        script = "echo $0 $@ $WHO {}; exec sleep 1000"
        change = {"command": ["sh", "-c", script, *words], "environment": {"WHO": "I={name}"}}
        plugin, request = plugin_of({**config, **change}), node_request(2)
        plugin.start_node(request)
        values = f"web-2 2 10.99.0.100 {request.mac} {request.port} {GROUP_ADDRESS} I=web-2 {{}}"
        assert podman.run("logs", "contract.web-2").strip() == values
        plugin.stop_node("web-2")

    def test_container_outlives_whoever_started_it(
        self, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """The same container runs when the process that started the node is gone."""
        child = os.fork()
        if child == 0:
            plugin_of(config).start_node(node_request(2))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        before = podman.run("ps", "--format", "{{.ID}} {{.Pid}}")
        plugin = plugin_of(config)
        assert plugin.start_node(node_request(2)).status is NodeStatus.RUNNING
        assert (podman.run("ps", "--format", "{{.ID}} {{.Pid}}"), bool(before)) == (before, True)
        plugin.stop_node("web-2")

    def test_restarted_container_keeps_its_place(
        self, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """What somebody, or podman's restart policy, starts again is plugged in as before."""
        plugin = plugin_of(config)
        started = plugin.start_node(node_request(2))
        podman.run("restart", "--time", "0", "contract.web-2")
        assert until_running(plugin, "web-2") == started
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
        file = tmp_path / "sn.yaml"
        file.write_text(yaml.safe_dump(group_of(config)))
        result = CliRunner().invoke(main, ["hypervisor", "check", str(file)])
        assert result.exit_code == 0, result.output
        assert "container lab-check.web-check" in result.output


class TestGroup:
    """Under a running controller."""

    def test_group_grows_by_containers_and_shrinks(
        self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """A client reaches the primary and two containers by one address, then the primary."""
        endpoints, bridge = Endpoints(16653, 18080), "sntgroup"
        ovs.add_bridge(bridge, fail_mode="secure", controller=endpoints.target)
        ovs.ofctl("add-flow", bridge, "priority=0,actions=normal")
        file = tmp_path / "sn.yaml"
        file.write_text(yaml.safe_dump(group_of({**config, "bridge": bridge})))
        controller = Controller(endpoints, file, tmp_path / "controller.log")
        page = tmp_path / "index.html"
        page.write_text("web-1\n")
        with (
            Host(ovs, bridge, "vm1", Link(f"{GROUP_ADDRESS}/24")) as primary,
            Host(ovs, bridge, "sntclient", Link("10.99.0.1/24")) as client,
        ):
            primary.popen("busybox", "httpd", "-f", "-p", "80", "-h", str(tmp_path))
            controller.start()
            try:
                until(lambda: active(endpoints) == 1)
                scale(endpoints, 3)
                until(lambda: active(endpoints) == 3)
                fetch = f"for i in $(seq 60); do curl -s -m 5 http://{GROUP_ADDRESS}/; done"
                seen = client.run("sh", "-c", fetch).stdout.split()
                assert (len(seen), set(seen)) == (60, {"web-1", "web-2", "web-3"})
                scale(endpoints, 1)
                until(lambda: plugin_of(config, Owner("lab", "web")).list_nodes() == ())
            finally:
                controller.stop()
                plugin = plugin_of(config, Owner("lab", "web"))
                for node in plugin.list_nodes():
                    plugin.stop_node(node.name)
                ovs.del_bridge(bridge)


def group_of(section: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with one group."""
    group = {
        "match": {"address": GROUP_ADDRESS, "ports": [80]},
        "primary": {"port": "vm1"},
        "scaling": {"policy": "manual", "min": 1, "max": 3},
        "health": {"kind": "http", "source": "10.99.0.250", "interval_s": 0.2},
        "drain": {"idle_s": 1},
        "hypervisor": {**section, "plugin": "podman", "options": list(OPTIONS)},
    }
    return {"controller": "lab", "groups": {"web": group}}


def active(endpoints: Endpoints) -> int:
    """How many nodes serve; 0 while the controller does not answer."""
    try:
        with urllib.request.urlopen(f"{endpoints.rest}/v1/status", timeout=5) as reply:
            count: int = json.load(reply)["groups"][0]["active"]
    except OSError:
        return 0
    return count


def scale(endpoints: Endpoints, nodes: int) -> None:
    """Ask for a number of nodes."""
    url, headers = f"{endpoints.rest}/v1/groups/web/scale", {"Content-Type": "application/json"}
    body = json.dumps({"nodes": nodes}).encode()
    urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=5).close()


def until(done: Callable[[], bool]) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + 60
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.1)


class TestTaken:
    """Names that someone else has."""

    @pytest.mark.parametrize("labels", [(), ("--label=sn-controller=another",)])
    def test_foreign_container_of_the_same_name(
        self, podman: PrivatePodman, config: dict[str, Any], labels: tuple[str, ...]
    ) -> None:
        """It is refused for good, with its name, and goes on running."""
        run = ("run", "--detach", "--network=none", *OPTIONS, *labels)
        podman.run(*run, "--name=contract.web-2", IMAGE, "sleep", "1000")
        plugin = plugin_of(config)
        with pytest.raises(
            PermanentError, match=r"container contract\.web-2 exists and is not ours"
        ):
            plugin.start_node(node_request(2))
        plugin.stop_node("web-2")
        assert plugin.list_nodes() == ()
        assert podman.run("inspect", "-f", "{{.State.Status}}", "contract.web-2") == "running\n"
        podman.run("rm", "--force", "--time=0", "contract.web-2")

    def test_taken_port_is_refused(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """A switch port of the node's name that is not ours stays as it is."""
        plugin, port = plugin_of(config), node_request(2).port
        ovs.add_port(BRIDGE, port, type="internal")
        with pytest.raises(PermanentError, match=f"switch port {port} exists and is not ours"):
            plugin.start_node(node_request(2))
        plugin.stop_node("web-2")
        ovs.del_port(port)


class TestTrouble:
    """Errors, their kind, and that nothing is left."""

    def test_somebodys_containers_that_come_and_go(
        self, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """Podman's list fails when a container vanishes under it; ours then looks again."""
        plugin = plugin_of(config)

        def comes_and_goes(number: int) -> None:
            name = f"somebodys-{number}"
            for _ in range(40):
                podman.run("create", "--network=none", "--name", name, IMAGE)
                podman.run("rm", name)

        with ThreadPoolExecutor(2) as somebody:
            done = [somebody.submit(comes_and_goes, number) for number in range(2)]
            while not all(each.done() for each in done):
                assert plugin.list_nodes() == ()
            for each in done:
                each.result()

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"image": "localhost/none:1"}, PermanentError, "none:1 is not on this machine"),
            ({"image": "No:such:image"}, PermanentError, "No:such:image"),
            ({"options": ["--no-such-option"]}, PermanentError, "unknown flag: --no-such-option"),
            ({"command": ["no-such-program"]}, PermanentError, "executable file `no-such-program`"),
            (
                {"command": ["sh", "-c", "echo bad; exit 3"]},
                TransientError,
                "status 3 at once: bad",
            ),
            ({"podman": ["no-such-podman"]}, PermanentError, "no-such-podman is not installed"),
            ({"podman": ["podman", "--bad"]}, PermanentError, "unknown flag: --bad"),
            ({"bridge": "nobridge"}, PermanentError, "no bridge named nobridge"),
            ({"ovsdb": "unix:/nowhere.sock"}, TransientError, "cannot be reached"),
            ({"timeout_s": 0.001}, TransientError, "podman ps has not ended after 0.001 s"),
            ({"addresses": "10.99.0.1-10.99.0.1"}, None, ""),
        ],
        ids=[
            *("image", "image's name", "option", "program", "ends at once", "podman"),
            *("global option", "bridge", "database", "time", "fine"),
        ],
    )
    def test_start_says_what_is_wrong(
        self,
        config: dict[str, Any],
        change: dict[str, Any],
        error: type[Exception] | None,
        message: str,
    ) -> None:
        """Each trouble is of the right kind and named, and leaves nothing."""
        plugin = plugin_of({**config, **change})
        if error is None:
            plugin.start_node(node_request(2))
            plugin.stop_node("web-2")
            return
        with pytest.raises(error, match=message):
            plugin.start_node(node_request(2))

    def test_container_that_dies_says_how(
        self, podman: PrivatePodman, config: dict[str, Any]
    ) -> None:
        """A service that ends some time later is BROKEN, with the status it ended with."""
        command = ["sh", "-c", "until [ -e /end ]; do sleep 0.1; done; exit 7"]
        plugin = plugin_of({**config, "command": command})
        plugin.start_node(node_request(2))
        podman.run("exec", "contract.web-2", "sh", "-c", ": >/end")
        podman.run("wait", "contract.web-2")
        (info,) = plugin.list_nodes()
        assert info.status is NodeStatus.BROKEN
        assert info.detail == "container contract.web-2 ended with status 7"
        plugin.stop_node("web-2")

    def test_service_gets_time_to_end(
        self, podman: PrivatePodman, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """It is asked first, and killed only when ``stop_s`` is over."""
        script = (
            "trap 'echo bye >/out/said; exit' TERM; echo up >/out/said; while :; do sleep 0.1; done"
        )
        options = [*OPTIONS, f"--volume={tmp_path}:/out"]
        change = {"command": ["sh", "-c", script], "options": options, "stop_s": 30}
        plugin = plugin_of({**config, **change})
        plugin.start_node(node_request(2))
        deadline = time.monotonic() + 30
        while not (tmp_path / "said").exists():
            assert time.monotonic() < deadline
        plugin.stop_node("web-2")
        assert (tmp_path / "said").read_text() == "bye\n"

    def test_without_root_every_call_says_so(self, config: dict[str, Any]) -> None:
        """Rootless podman cannot plug a container into the machine's bridge."""
        os.seteuid(65534)
        try:
            with pytest.raises(PermanentError, match="the podman plugin needs root"):
                plugin_of(config).list_nodes()
        finally:
            os.seteuid(0)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"image": ""}, "image"),
            ({"image": "--privileged"}, "image"),
            ({"options": ["--network=host"]}, "--network=host cannot be given: a node is plugged"),
            ({"options": ["--rm"]}, "--rm cannot be given"),
            ({"addresses": "10.99.0.9-10.99.0.8"}, "FIRST-LAST"),
            ({"addresses": "10.98.0.1-10.98.0.2"}, "10.98.0.1 is not in subnet"),
            ({"stop_s": -1}, "stop_s"),
            ({"podman": []}, "podman"),
            ({"memory": 512}, "memory"),
        ],
    )
    def test_bad_section_is_refused(self, change: dict[str, Any], message: str) -> None:
        """Every bad value is named by the model."""
        good = {"bridge": "br0", "subnet": "10.99.0.0/24", "image": IMAGE}
        section = {**good, "addresses": "10.99.0.100-10.99.0.109"}
        assert PodmanConfig.model_validate(section).options == ()
        with pytest.raises(ValidationError, match=message):
            PodmanConfig.model_validate({**section, **change})
