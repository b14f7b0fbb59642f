"""The ``proxmox`` plugin against a stand-in of the cluster's API, on a real switch."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

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
    until_running,
)
from sncontroller.hypervisors.proxmox import Proxmox, ProxmoxConfig
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from tests.lab.proxmox_standin import TOKEN
from tests.lab.standin import Fault, Running, running

BRIDGE = "sntbr0"
VMIDS = {OWNER: "1000-1009", SAME_CONTROLLER: "1010-1019", SAME_GROUP: "1020-1029"}
FOREIGN = 1005

# The contract forks: its child only makes requests.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs(_isolated: None) -> Iterator[PrivateOvs]:
    """A running switch: the one of the cluster's only host."""
    with PrivateOvs() as running_ovs:
        running_ovs.add_bridge(BRIDGE, fail_mode="secure")
        yield running_ovs


@pytest.fixture(scope="module")
def cluster(ovs: PrivateOvs) -> Iterator[Running]:
    """A cluster with room."""
    with running("proxmox_standin", ovs, BRIDGE) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left(cluster: Running, ovs: PrivateOvs) -> Iterator[None]:
    yield
    left = cluster.objects()
    if any(str(FOREIGN) in name for name in left):
        cluster.do("remove", vmid=FOREIGN)
        left = cluster.objects()
    assert (left, ovs.vsctl("list-ports", BRIDGE).split()) == ([], [])


def section(directory: Path, cluster: Running, ovs: PrivateOvs, **changes: Any) -> dict[str, Any]:
    """A group's section that works."""
    token = directory / "token"
    token.write_text(f"{TOKEN}\n")
    return {
        "url": cluster.url,
        "token_file": token,
        "host": "pve1",
        "template": 900,
        "vmids": VMIDS[OWNER],
        "bridge": "vmbr1",
        "ovsdb": ovs.db,
        "wait_s": 20,
        **changes,
    }


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> Proxmox:
    """An instance with this section."""
    return Proxmox(ProxmoxConfig.model_validate(config), owner)


@pytest.fixture
def config(tmp_path: Path, cluster: Running, ovs: PrivateOvs) -> dict[str, Any]:
    """The section of most tests."""
    return section(tmp_path, cluster, ovs)


def started(plugin: Proxmox) -> NodeInfo:
    """Start as the controller does: a transient error is tried again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return plugin.start_node(node_request(2))
        except TransientError:
            assert time.monotonic() < deadline
            time.sleep(random.uniform(0.05, 0.5))  # so that they do not meet again


class ClusterSubject(Subject):
    """VMs and switch ports."""

    def __init__(self, cluster: Running, ovs: PrivateOvs, config: Mapping[str, Any]) -> None:
        """Use this cluster and this section."""
        self._cluster, self._ovs, self._config = cluster, ovs, config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance; each group has numbers of its own."""
        return plugin_of({**self._config, "vmids": VMIDS[owner]}, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """One number."""
        return plugin_of({**self._config, "vmids": "1000-1000"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        ports = self._ovs.vsctl("list-ports", BRIDGE).split()
        return [*self._cluster.objects(), *(f"switch port {port}" for port in ports)]

    def create_foreign(self) -> str:
        """An operator's own VM in our range, with a name such as ours and without our tags."""
        self._cluster.do("foreign", vmid=FOREIGN)
        return f"vm {FOREIGN} contract.web-9"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """A VM that is off, or whose disk is full; a port that is gone."""
        happens = self._cluster.do
        vmid = 1000
        return {
            "switched off": lambda info: happens("stopped", vmid=vmid),
            "disk full": lambda info: happens("state", vmid=vmid, state="io-error"),
            "unplugged": lambda info: happens("unplug", vmid=vmid),
        }


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    as_requested = False  # Proxmox names the port
    crash_moments = 3  # each with a start and a stop of its own
    settle_s = 0.3  # a task goes on

    @pytest.fixture
    def subject(self, cluster: Running, ovs: PrivateOvs, config: dict[str, Any]) -> Subject:
        """The plugin and its cluster."""
        return ClusterSubject(cluster, ovs, config)


class TestNode:
    """What is asked of the cluster."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``proxmox`` names this plugin."""
        assert load("proxmox") is Proxmox

    def test_vm_is_as_requested(self, cluster: Running, config: dict[str, Any]) -> None:
        """Our MAC on the bridge, an address by cloud-init, sizes, and tags."""
        plugin = plugin_of(
            {
                **config,
                "subnet": "10.99.0.0/24",
                "addresses": "10.99.0.100-10.99.0.109",
                "gateway": "10.99.0.1",
                "vlan": 7,
                "cores": 2,
                "memory_mib": 512,
                "pool": "elastic",
            }
        )
        info = plugin.start_node(node_request(3))
        made = cluster.details("1001")["config"]
        plugin.stop_node("web-3")
        assert (info.port, info.mac) == ("tap1001i0", "02:53:ff:a1:00:03")
        assert made["net0"] == "virtio=02:53:FF:A1:00:03,bridge=vmbr1,firewall=0,tag=7"
        assert made["ipconfig0"] == "ip=10.99.0.101/24,gw=10.99.0.1"
        assert (made["cores"], made["memory"], made["name"]) == ("2", "512", "contract.web-3")
        assert made["tags"] == "sncontroller;sn-controller-contract;sn-group-web"
        assert '"sncontroller": "contract", "group": "web", "node": "web-3"' in made["description"]

    def test_firewall_has_another_port(
        self, ovs: PrivateOvs, cluster: Running, config: dict[str, Any]
    ) -> None:
        """With Proxmox' firewall it is that one's port that hangs on the bridge."""
        plugin = plugin_of({**config, "firewall": True})
        info = plugin.start_node(node_request(2))
        assert (info.port, info.status) == ("fwln1000o0", NodeStatus.RUNNING)
        assert ovs.vsctl("list-ports", BRIDGE).split() == ["fwln1000o0"]
        plugin.stop_node("web-2")

    def test_node_may_shut_down(self, cluster: Running, config: dict[str, Any]) -> None:
        """With ``shutdown_s`` it is asked first, and switched off after that time."""
        plugin = plugin_of({**config, "shutdown_s": 30})
        plugin.start_node(node_request(2))
        before = cluster.requests()
        plugin.stop_node("web-2")
        made = {what for what, count in cluster.requests().items() if count > before.get(what, 0)}
        assert "POST /api2/json/nodes/pve1/qemu/1000/status/shutdown" in made
        assert "POST /api2/json/nodes/pve1/qemu/1000/status/stop" not in made

    def test_ten_starts_at_once_make_one_node(
        self, cluster: Running, config: dict[str, Any]
    ) -> None:
        """Ten instances, as after ten crashes: those that lose try again, and there is one node."""

        with ThreadPoolExecutor(10) as threads:
            list(threads.map(started, [plugin_of(config) for _ in range(10)]))
        plugin = plugin_of(config)
        assert until_running(plugin, "web-2").mac == "02:53:ff:a1:00:02"
        assert sorted(cluster.objects()) == ["running 1000", "vm 1000 contract.web-2"]
        plugin.stop_node("web-2")

    def test_clone_of_a_killed_start_is_used(
        self, cluster: Running, config: dict[str, Any]
    ) -> None:
        """A clone that was never configured is not made again."""
        plugin = plugin_of(config)
        with (
            cluster.going_wrong(Fault("PUT .*/config", status=500, times=1, body="x"), CLEANING),
            pytest.raises(TransientError),
        ):
            plugin.start_node(node_request(2))
        (info,) = plugin.list_nodes()
        assert (info.status, info.detail) == (NodeStatus.BROKEN, "VM 1000 on pve1 is stopped")
        before = cluster.requests()["POST /api2/json/nodes/pve1/qemu/900/clone"]
        plugin.start_node(node_request(2))
        assert cluster.requests()["POST /api2/json/nodes/pve1/qemu/900/clone"] == before
        plugin.stop_node("web-2")


CLEANING = Fault("DELETE ", times=1, status=500, body="x")
"""The plugin cannot clean up either, as if it were killed."""
CLONE = "POST .*/clone$"
NO_PERMISSION = {"data": None, "message": "Permission check failed (/vms/900, VM.Clone)\n"}
NO_STORAGE = {"data": None, "message": "storage 'fast' does not exist\n"}
TIMED_OUT = {"data": None, "message": "can't lock file '/run/lock/x.conf' - got timeout\n"}


class TestTrouble:
    """What failures mean, and that they leave nothing."""

    @pytest.mark.parametrize(
        ("fault", "kind", "message"),
        [
            (Fault(CLONE, status=403, body=NO_PERMISSION), PermanentError, "VM.Clone"),
            (Fault(CLONE, status=500, body=NO_PERMISSION), PermanentError, "VM.Clone"),
            (Fault(CLONE, status=500, body=NO_STORAGE), PermanentError, "'fast' does not exist"),
            (Fault(CLONE, status=500, body=TIMED_OUT), TransientError, "got timeout"),
            (Fault(CLONE, status=500, reason="no quorum!"), TransientError, "no quorum!"),
            (Fault(CLONE, status=501, reason="not implemented"), PermanentError, "501"),
            (Fault(CLONE, status=503), TransientError, "503"),
            (Fault(CLONE, status=595, reason="No route to host"), TransientError, "595 No route"),
            (Fault(CLONE, status=596, reason="Broken pipe"), TransientError, "596 Broken pipe"),
            (Fault(CLONE, status=429), TransientError, "429"),
            (Fault(CLONE, status=302), PermanentError, "302"),
            (Fault(CLONE, status=200, body="<html>"), TransientError, "no answer of Proxmox VE"),
            (Fault(CLONE, status=200, body={"data": None}), TransientError, "no task of Proxmox"),
            (Fault("resources", status=200, body={"data": 7}), TransientError, "no answer of"),
            (Fault("POST .*/status/start", status=500, body=TIMED_OUT), TransientError, "timeout"),
        ],
    )
    def test_each_refusal_has_its_kind(
        self,
        config: dict[str, Any],
        cluster: Running,
        fault: Fault,
        kind: type[Exception],
        message: str,
    ) -> None:
        """The message has what was tried and the cluster's words, and nothing is left."""
        with cluster.going_wrong(fault), pytest.raises(kind, match=message):
            plugin_of(config).start_node(node_request(2))
        assert cluster.objects() == []

    @pytest.mark.parametrize(
        "fault",
        [
            Fault(CLONE, reset=True),
            Fault("PUT .*/config", reset=True),
            Fault("POST .*/status/start", reset=True),
            Fault("GET .*/tasks/", status=200, body={"data": {}}),
        ],
    )
    def test_answer_that_is_lost_leaves_one_node(
        self, config: dict[str, Any], cluster: Running, fault: Fault
    ) -> None:
        """Done, and the connection broke before the answer: the next tries make it one node."""
        plugin = plugin_of(config)
        with cluster.going_wrong(fault), pytest.raises(TransientError):
            plugin.start_node(node_request(2))
        started(plugin)
        assert sorted(cluster.objects()) == ["running 1000", "vm 1000 contract.web-2"]
        plugin.stop_node("web-2")

    def test_silence_ends_in_time(self, config: dict[str, Any], cluster: Running) -> None:
        """A request that is not answered is a transient error after ``timeout_s``."""
        plugin = plugin_of({**config, "timeout_s": 0.2})
        slow = Fault("GET /api2/json/cluster", delay_s=0.6)
        with cluster.going_wrong(slow), pytest.raises(TransientError, match="timed out"):
            plugin.list_nodes()

    def test_host_that_is_down_is_transient(self, config: dict[str, Any]) -> None:
        """Nobody listens."""
        with pytest.raises(TransientError, match="refused"):
            plugin_of({**config, "url": "http://127.0.0.1:9"}).list_nodes()

    def test_wrong_token_is_permanent(self, config: dict[str, Any], tmp_path: Path) -> None:
        """It says that the token is what is wrong, or which file is missing."""
        token = tmp_path / "wrong"
        token.write_text("root@pam!x=y")
        with pytest.raises(PermanentError, match=r"does not accept the token: .*invalid token"):
            plugin_of({**config, "token_file": token}).list_nodes()
        with pytest.raises(PermanentError, match=r"token_file /nowhere: .*No such file"):
            plugin_of({**config, "token_file": "/nowhere"}).list_nodes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"template": 901}, "template 901: .*901.conf' does not exist"),
            ({"bridge": "vmbr9"}, "task qmstart: start failed: bridge 'vmbr9' does not exist"),
            ({"vmids": "1000-1001"}, "vmids 1000-1001 have none for index 4"),
        ],
    )
    def test_what_is_not_there_is_permanent(
        self, config: dict[str, Any], cluster: Running, change: dict[str, Any], message: str
    ) -> None:
        """It is named, and nothing is left."""
        with pytest.raises(PermanentError, match=message):
            plugin_of({**config, **change}).start_node(node_request(4))
        assert cluster.objects() == []

    def test_foreign_vm_with_our_number_is_permanent(
        self, config: dict[str, Any], cluster: Running
    ) -> None:
        """It stays, and the message says what to do."""
        cluster.do("foreign", vmid=FOREIGN)
        with pytest.raises(PermanentError, match="VM 1005 exists and is not ours: remove it or"):
            plugin_of(config).start_node(node_request(7))
        assert cluster.objects() == [f"vm {FOREIGN} contract.web-9"]

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"volumes": 1}, "task qmclone: clone failed: .*free space in thin pool"),
            ({"running": 1}, "task qmstart: start failed: .*Cannot allocate memory"),
        ],
    )
    def test_no_room_is_transient(
        self, ovs: PrivateOvs, tmp_path: Path, limits: dict[str, int], message: str
    ) -> None:
        """Storage and memory: nothing is left of the node too many; later there is room."""
        with running("proxmox_standin", ovs, BRIDGE, **limits) as small:
            plugin = plugin_of(section(tmp_path, small, ovs))
            plugin.start_node(node_request(2))
            before = small.objects()
            with pytest.raises(TransientError, match=message):
                plugin.start_node(node_request(3))
            assert small.objects() == before
            plugin.stop_node("web-2")
            plugin.start_node(node_request(3))
            plugin.stop_node("web-3")

    def test_words_of_the_status_line_are_understood(self, ovs: PrivateOvs, tmp_path: Path) -> None:
        """Before version 8 the body has none."""
        with running("proxmox_standin", ovs, BRIDGE, old=True) as old:
            config = section(tmp_path, old, ovs)
            with pytest.raises(PermanentError, match=r"901\.conf' does not exist"):
                plugin_of({**config, "template": 901}).start_node(node_request(2))
            plugin = plugin_of(config)
            plugin.start_node(node_request(2))
            plugin.stop_node("web-2")
            assert plugin.list_nodes() == ()

    def test_lock_that_stays_is_said(self, config: dict[str, Any], cluster: Running) -> None:
        """A node under backup is BROKEN, not removed; its stop is tried again later."""
        plugin, hasty = plugin_of(config), plugin_of({**config, "wait_s": 0.2})
        plugin.start_node(node_request(2))
        cluster.do("lock", vmid=1000, lock="backup")
        with pytest.raises(TransientError, match=r"VM 1000 is locked \(backup\) .* qm unlock 1000"):
            hasty.stop_node("web-2")
        (info,) = plugin.list_nodes()
        assert info.detail == "VM 1000 on pve1 is running, locked (backup)"
        cluster.do("unlock", vmid=1000)
        plugin.stop_node("web-2")

    def test_vm_that_vanishes_while_it_is_made(
        self, config: dict[str, Any], cluster: Running
    ) -> None:
        """Somebody else removed the clone before it was configured."""
        with (
            cluster.going_wrong(Fault("PUT .*/config", delay_s=0.5)),
            ThreadPoolExecutor(1) as threads,
        ):
            configure = "PUT /api2/json/nodes/pve1/qemu/1000/config"
            before = cluster.requests()[configure]
            start = threads.submit(plugin_of(config).start_node, node_request(2))
            while cluster.requests()[configure] == before:
                time.sleep(0.02)
            cluster.do("remove", vmid=1000)
            with pytest.raises(TransientError, match=r"1000.conf' does not exist"):
                start.result(timeout=30)
        assert cluster.objects() == []

    def test_task_that_never_ends_is_transient(self, ovs: PrivateOvs, tmp_path: Path) -> None:
        """``wait_s`` ends the waiting; the clone is found and removed when it is done."""
        with running("proxmox_standin", ovs, BRIDGE, end_s=3600) as stuck:
            hasty = plugin_of(section(tmp_path, stuck, ovs, wait_s=0.2))
            with pytest.raises(TransientError, match=r"task qmclone is not finished after 0\.2 s"):
                hasty.start_node(node_request(2))
            stuck.do("tasks end")
            patient = plugin_of(section(tmp_path, stuck, ovs))
            while not patient.list_nodes():
                time.sleep(0.05)
            assert patient.list_nodes()[0].status is NodeStatus.BROKEN
            patient.stop_node("web-2")
            assert stuck.objects() == []
