"""The ``openstack`` plugin against a stand-in of the cloud's API, on a real switch."""

from __future__ import annotations

import base64
import random
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

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
    HypervisorContract,
    Subject,
    node_request,
    until_running,
)
from sncontroller.hypervisors.openstack import OpenStack, OpenStackConfig
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from tests.lab.openstack_project import PASSWORD
from tests.lab.standin import Fault, Running, running

BRIDGE = "sntbr0"

# The contract forks: its child makes a connection of its own.
pytestmark = [
    pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::PendingDeprecationWarning"),
]


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs(_isolated: None) -> Iterator[PrivateOvs]:
    """A running switch: the one of the cloud's only compute host."""
    with PrivateOvs() as running_ovs:
        running_ovs.add_bridge(BRIDGE, fail_mode="secure")
        yield running_ovs


@pytest.fixture(scope="module")
def cloud(ovs: PrivateOvs) -> Iterator[Running]:
    """A cloud with room."""
    with running("openstack_standin", ovs, BRIDGE) as made:
        yield made


@pytest.fixture(autouse=True)
def _nothing_is_left(cloud: Running, ovs: PrivateOvs) -> Iterator[None]:
    yield
    left = [name for name in cloud.objects() if "contract.web-9" not in name]
    cloud.do("clear")
    assert (left, ovs.vsctl("list-ports", BRIDGE).split()) == ([], [])


def clouds_file(directory: Path, url: str, **auth: str) -> Path:
    """A ``clouds.yaml`` that names this cloud."""
    access = {
        "auth_url": f"{url}/identity/v3",
        "username": "sncontroller",
        "password": PASSWORD,
        "project_name": "sn",
        "user_domain_name": "Default",
        "project_domain_name": "Default",
        **auth,
    }
    file = directory / f"clouds-{url.rpartition(':')[2]}.yaml"
    file.write_text(yaml.safe_dump({"clouds": {"lab": {"auth": access}}}))
    return file


def section(directory: Path, cloud: Running, ovs: PrivateOvs, **changes: Any) -> dict[str, Any]:
    """A group's section that works."""
    return {
        "cloud": "lab",
        "clouds_file": clouds_file(directory, cloud.url),
        "image": "web-22",
        "flavor": "m1.small",
        "network": "tenant-7",
        "ovsdb": ovs.db,
        "wait_s": 20,
        **changes,
    }


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> OpenStack:
    """An instance with this section."""
    return OpenStack(OpenStackConfig.model_validate(config), owner)


@pytest.fixture
def config(tmp_path: Path, cloud: Running, ovs: PrivateOvs) -> dict[str, Any]:
    """The section of most tests."""
    return section(tmp_path, cloud, ovs)


def started(plugin: OpenStack) -> NodeInfo:
    """Start as the controller does: a transient error is tried again."""
    deadline = time.monotonic() + 60
    while True:
        try:
            return plugin.start_node(node_request(2))
        except TransientError:
            assert time.monotonic() < deadline
            time.sleep(random.uniform(0.05, 0.5))  # so that they do not meet again


class CloudSubject(Subject):
    """Servers, Neutron ports and switch ports."""

    def __init__(self, cloud: Running, ovs: PrivateOvs, config: Mapping[str, Any]) -> None:
        """Use this cloud and this section."""
        self._cloud, self._ovs, self._config = cloud, ovs, config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address range of one."""
        return plugin_of({**self._config, "addresses": "10.99.0.100-10.99.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        ports = self._ovs.vsctl("list-ports", BRIDGE).split()
        return [*self._cloud.objects(), *(f"switch port {port}" for port in ports)]

    def create_foreign(self) -> str:
        """An operator's own server, with a name such as ours and without our tags."""
        self._cloud.do("foreign")
        return next(name for name in self.objects() if name.startswith("server contract.web-9"))

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """A server that is off, in error, or gone; a port that is gone, here or there."""

        def becomes(status: str) -> Callable[[NodeInfo], None]:
            return lambda info: self._cloud.do(
                "status", server=f"contract.{info.name}", status=status
            )

        def happens(what: str, **details: str) -> Callable[[NodeInfo], None]:
            return lambda info: self._cloud.do(
                what, **dict.fromkeys(details, f"contract.{info.name}")
            )

        return {
            "switched off": becomes("SHUTOFF"),
            "error": becomes("ERROR"),
            "server deleted": happens("delete server", server=""),
            "port deleted": happens("delete port", port=""),
            "unplugged": happens("unplug", port=""),
        }


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    as_requested = False  # Nova names the port
    crash_moments = 3  # each with a start and a stop of its own
    settle_s = 0.3

    @pytest.fixture
    def subject(self, cloud: Running, ovs: PrivateOvs, config: dict[str, Any]) -> Subject:
        """The plugin and its cloud."""
        return CloudSubject(cloud, ovs, config)


class TestNode:
    """What is asked of the cloud, and how the switch's port is found."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``openstack`` names this plugin."""
        assert load("openstack") is OpenStack

    def test_port_and_server_are_as_requested(
        self, cloud: Running, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """Our MAC and address, the group's address allowed, everything by its id, tags on both."""
        user_data = tmp_path / "user-data"
        user_data.write_text("#!/bin/sh\nip addr add {group_addresses} dev lo # {name} {address}\n")
        plugin = plugin_of(
            {
                **config,
                "addresses": "10.99.0.100-10.99.0.109",
                "security_groups": ["web"],
                "user_data": user_data,
                "key_name": "operator",
                "server_group": "together",
                "availability_zone": "nova",
                "config_drive": True,
            }
        )
        info = plugin.start_node(node_request(3))
        port, server = cloud.details("port contract.web-3"), cloud.details("server contract.web-3")
        plugin.stop_node("web-3")
        assert (info.mac, port["mac_address"]) == ("02:53:ff:a1:00:03", "02:53:ff:a1:00:03")
        assert port["fixed_ips"][0]["ip_address"] == "10.99.0.101"
        assert port["allowed_address_pairs"] == [{"ip_address": "10.99.0.10"}]
        assert port["security_groups"] == ["8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0006"]
        assert '"sncontroller": "contract", "group": "web", "node": "web-3"' in port["description"]
        assert server["metadata"] == {
            "sncontroller-controller": "contract",
            "sncontroller-group": "web",
            "sncontroller-node": "web-3",
            "sncontroller-index": "3",
        }
        asked = server["asked"]
        assert (asked["flavorRef"], asked["imageRef"][-4:]) == ("2", "0003")
        assert (asked["key_name"], asked["availability_zone"]) == ("operator", "nova")
        assert asked["config_drive"] is True
        hints = asked["OS-SCH-HNT:scheduler_hints"]
        assert hints == {"group": "8c0b5a0e-7a52-4d6c-9f43-0f9a2f5f0007"}
        said = base64.b64decode(asked["user_data"]).decode()
        assert "ip addr add 10.99.0.10 dev lo # web-3 10.99.0.101" in said

    def test_without_port_security_nothing_is_filtered(
        self, cloud: Running, config: dict[str, Any]
    ) -> None:
        """No pairs and no groups then: Neutron refuses them."""
        plugin = plugin_of({**config, "port_security": False})
        plugin.start_node(node_request(2))
        port = cloud.details("port contract.web-2")
        plugin.stop_node("web-2")
        assert (port["port_security_enabled"], port["security_groups"]) == (False, [])
        assert port["allowed_address_pairs"] == []

    def test_port_is_found_by_its_iface_id(self, ovs: PrivateOvs, tmp_path: Path) -> None:
        """Whatever Nova calls it, as qvo with the hybrid plug."""
        with running("openstack_standin", ovs, BRIDGE, prefix="qvo") as hybrid:
            plugin = plugin_of(section(tmp_path, hybrid, ovs))
            info = plugin.start_node(node_request(2))
            assert info.port.startswith("qvo")
            assert info.port in ovs.vsctl("list-ports", BRIDGE).split()
            guessing = plugin_of(section(tmp_path, hybrid, ovs, ovsdb=None, port_prefix="qvo"))
            assert guessing.list_nodes() == plugin.list_nodes() == (info,)
            plugin.stop_node("web-2")

    def test_token_that_expired_is_renewed(self, cloud: Running, config: dict[str, Any]) -> None:
        """Hours after the first call the plugin still works."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        cloud.do("tokens expire")
        assert len(plugin.list_nodes()) == 1
        plugin.stop_node("web-2")

    def test_second_server_of_a_node_is_removed(
        self, cloud: Running, config: dict[str, Any]
    ) -> None:
        """What a killed controller's late request makes cannot have the port, and goes."""
        plugin, before = plugin_of(config), cloud.objects()
        plugin.start_node(node_request(2))
        server = cloud.details("server contract.web-2")
        cloud.do("surplus", server="contract.web-2")
        (info,) = plugin.list_nodes()
        assert info.status is NodeStatus.RUNNING
        assert "to be deleted" in info.detail
        assert plugin.start_node(node_request(2)).detail == f"server {server['id']}"
        assert len(cloud.objects()) == len(before) + 2
        plugin.stop_node("web-2")

    def test_port_on_a_former_network_goes_too(
        self, cloud: Running, config: dict[str, Any]
    ) -> None:
        """The group's network was changed while a node was made: it is one node with two ports."""
        plugin = plugin_of(config)
        info = plugin.start_node(node_request(2))
        port = cloud.details("port contract.web-2")
        taken = ("name", "description", "mac_address")
        former = {"network_id": "former", **{key: port[key] for key in taken}}
        cloud.do("port", port=former)
        assert plugin.list_nodes() == (info,)
        plugin.stop_node("web-2")
        assert cloud.objects() == []

    def test_ten_starts_at_once_make_one_node(self, cloud: Running, config: dict[str, Any]) -> None:
        """Ten instances, as after ten crashes: those that lose try again, and there is one node."""

        before = cloud.objects()
        slow = Fault(SERVERS, delay_s=0.1)  # meanwhile others find a port without a server
        with cloud.going_wrong(slow), ThreadPoolExecutor(10) as threads:
            list(threads.map(started, [plugin_of(config) for _ in range(10)]))
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        assert len(cloud.objects()) == len(before) + 2
        assert until_running(plugin, "web-2").mac == "02:53:ff:a1:00:02"
        plugin.stop_node("web-2")
        assert sorted(cloud.objects()) == sorted(before)


SERVERS = "POST /compute/v2.1/servers$"
PORTS = "POST /networking/v2.0/ports$"
NOVA_DOWN = {"computeFault": {"code": 500, "message": "Unexpected API Error."}}
SLOW_DOWN = {"overLimit": {"code": 429, "message": "This request was rate-limited."}}
NOT_YOURS = {
    "forbidden": {"code": 403, "message": "Policy doesn't allow os_compute_api:servers:create"}
}


class TestTrouble:
    """What failures mean, and that they leave nothing."""

    @pytest.mark.parametrize(
        ("fault", "kind", "message"),
        [
            (Fault(SERVERS, status=500, body=NOVA_DOWN), TransientError, "Unexpected API Error"),
            (Fault(SERVERS, status=503, body="<html>busy</html>"), TransientError, "503"),
            (Fault(SERVERS, status=429, body=SLOW_DOWN), TransientError, "rate-limited"),
            (Fault(SERVERS, status=403, body=NOT_YOURS), PermanentError, "Policy doesn't allow"),
            (Fault(SERVERS, status=200, body="<html>"), TransientError, "cloud lab: create server"),
            (Fault(SERVERS, status=202, body={}), TransientError, "cloud lab: create server"),
            (Fault(PORTS, status=500, body="x"), TransientError, "create port"),
            (Fault(PORTS, status=201, body=[]), TransientError, "cloud lab: create port"),
            (Fault("GET /compute/v2.1/servers", status=404, body="x"), PermanentError, "404"),
            (Fault("POST /identity", status=503, body="x"), TransientError, "503"),
        ],
    )
    def test_each_refusal_has_its_kind(
        self,
        config: dict[str, Any],
        cloud: Running,
        fault: Fault,
        kind: type[Exception],
        message: str,
    ) -> None:
        """The message has what was tried and the cloud's words, and nothing is left."""
        plugin, before = plugin_of(config), cloud.objects()
        with cloud.going_wrong(fault), pytest.raises(kind, match=message):
            plugin.start_node(node_request(2))
        assert cloud.objects() == before

    def test_answer_that_is_lost_leaves_one_node(
        self, config: dict[str, Any], cloud: Running
    ) -> None:
        """Done, and the connection broke before the answer: the next try makes it one node."""
        for match in (PORTS, SERVERS):
            plugin, before = plugin_of(config), cloud.objects()
            with cloud.going_wrong(Fault(match, reset=True)), pytest.raises(TransientError):
                plugin.start_node(node_request(2))
            assert [info.status for info in plugin.list_nodes()] == [NodeStatus.BROKEN]
            plugin.start_node(node_request(2))
            assert len(cloud.objects()) == len(before) + 2
            plugin.stop_node("web-2")
            assert cloud.objects() == before

    def test_silence_ends_in_time(self, config: dict[str, Any], cloud: Running) -> None:
        """A request that is not answered is a transient error after ``timeout_s``."""
        plugin = plugin_of({**config, "timeout_s": 0.3})
        slow = Fault("GET /compute/v2.1/servers", delay_s=1.0)
        with cloud.going_wrong(slow), pytest.raises(TransientError, match=r"timed out|timeout"):
            plugin.list_nodes()

    def test_cloud_that_is_down_is_transient(self, config: dict[str, Any], tmp_path: Path) -> None:
        """Nobody listens."""
        file = clouds_file(tmp_path, "http://127.0.0.1:9")
        with pytest.raises(TransientError, match="Unable to establish connection to"):
            plugin_of({**config, "clouds_file": file}).list_nodes()

    def test_wrong_password_is_permanent(
        self, config: dict[str, Any], cloud: Running, tmp_path: Path
    ) -> None:
        """It says that the credentials are what is wrong."""
        file = clouds_file(tmp_path, cloud.url, password="wrong")
        with pytest.raises(PermanentError, match="does not accept the credentials: cloud lab"):
            plugin_of({**config, "clouds_file": file}).list_nodes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"cloud": "other"}, "other.*not found"),
            ({"image": "web-23"}, "image web-23: .*web-23"),
            ({"image": "twice"}, "image twice: .*[Mm]ore than one"),
            ({"flavor": "xxl"}, "flavor xxl: "),
            ({"network": "tenant-8"}, "network tenant-8: "),
            ({"security_groups": ["dns"]}, "security group dns: "),
            ({"server_group": "apart"}, "server group apart: "),
            ({"user_data": "/nowhere"}, "user_data /nowhere: No such file"),
            ({"addresses": "10.1.0.2-10.1.0.9"}, "10.1.0.2 is not a valid IP"),
            ({"addresses": "10.99.0.1-10.99.0.9"}, "10.99.0.1 already allocated"),
            ({"key_name": "nobody"}, "Invalid key_name"),
        ],
    )
    def test_wrong_name_is_permanent(
        self, config: dict[str, Any], cloud: Running, change: dict[str, Any], message: str
    ) -> None:
        """What is not there is named, and nothing is left."""
        cloud.do("foreign")  # has the first address
        before = cloud.objects()
        with pytest.raises(PermanentError, match=message):
            plugin_of({**config, **change}).start_node(node_request(2))
        assert cloud.objects() == before

    def test_foreign_port_with_our_mac_is_permanent(
        self, config: dict[str, Any], cloud: Running
    ) -> None:
        """Somebody else's port has the address: it stays, and the message says which."""
        request = node_request(2)
        cloud.do("port", port={"name": "contract.web-9", "mac_address": request.mac})
        with pytest.raises(PermanentError, match=f"mac address {request.mac} is in use"):
            plugin_of(config).start_node(request)

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"instances": 1}, "out of quota or room: .*Quota exceeded for instances"),
            ({"ports": 1}, "out of quota or room: .*Quota exceeded for resources"),
            ({"hosts": 1}, "server .* is ERROR: No valid host was found"),
        ],
    )
    def test_no_room_is_transient(
        self, ovs: PrivateOvs, tmp_path: Path, limits: dict[str, int], message: str
    ) -> None:
        """Quotas and full hosts: nothing is left of the node too many; later there is room."""
        with running("openstack_standin", ovs, BRIDGE, **limits) as small:
            plugin = plugin_of(section(tmp_path, small, ovs))
            plugin.start_node(node_request(2))
            before = small.objects()
            with pytest.raises(TransientError, match=message):
                plugin.start_node(node_request(3))
            assert small.objects() == before
            plugin.stop_node("web-2")
            plugin.start_node(node_request(3))
            plugin.stop_node("web-3")

    def test_server_that_never_gets_active_is_removed(
        self, ovs: PrivateOvs, tmp_path: Path
    ) -> None:
        """``wait_s`` ends the waiting."""
        with running("openstack_standin", ovs, BRIDGE, build_s=3600) as stuck:
            plugin = plugin_of(section(tmp_path, stuck, ovs, wait_s=1.0))
            with pytest.raises(TransientError, match=r"web-2: server .* is BUILD after 1 s"):
                plugin.start_node(node_request(2))
            assert stuck.objects() == []

    def test_server_that_vanishes_while_it_is_built(self, ovs: PrivateOvs, tmp_path: Path) -> None:
        """Somebody else deleted it: the start ends and says so, and clears its port away."""
        with (
            running("openstack_standin", ovs, BRIDGE, build_s=3600) as stuck,
            ThreadPoolExecutor(1) as threads,
        ):
            plugin = plugin_of(section(tmp_path, stuck, ovs))
            start = threads.submit(plugin.start_node, node_request(2))
            while len(stuck.objects()) < 2:
                time.sleep(0.02)
            assert [info.status for info in plugin.list_nodes()] == [NodeStatus.STARTING]
            stuck.do("delete server", server="contract.web-2")
            with pytest.raises(TransientError, match=r"web-2: port .* has no server"):
                start.result(timeout=30)
            assert stuck.objects() == []

    def test_server_that_is_never_gone_keeps_its_port(
        self, ovs: PrivateOvs, tmp_path: Path
    ) -> None:
        """Its record stays, so that it is found and deleted later."""
        with running("openstack_standin", ovs, BRIDGE, delete_s=3600) as stuck:
            plugin = plugin_of(section(tmp_path, stuck, ovs, wait_s=1.0))
            plugin.start_node(node_request(2))
            with pytest.raises(TransientError, match=r"is not gone 1 s after its deletion"):
                plugin.stop_node("web-2")
            (info,) = plugin.list_nodes()
            assert (info.status, "is being deleted" in info.detail) == (NodeStatus.BROKEN, True)
            stuck.do("delete server", server="contract.web-2")
            plugin.stop_node("web-2")
            assert stuck.objects() == []
