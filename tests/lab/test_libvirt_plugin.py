"""The ``libvirt`` plugin with real VMs of a private libvirt on a real switch."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sncontroller.hypervisors.base import (
    Hypervisor,
    NodeInfo,
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
from sncontroller.hypervisors.libvirt import Libvirt, LibvirtConfig, Virtualization
from sncontroller.lab.guest import CMDLINE, CMDLINE_OF_SEED, GuestFiles, guest_files
from sncontroller.lab.libvirtd import PrivateLibvirt
from sncontroller.lab.namespaces import all_pids
from sncontroller.lab.net import Host, Link, isolate
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "sntbr0"
FOREIGN = ("contract.web-9",)
KVM = Path("/dev/kvm")
MOMENTS = int(os.environ.get("SNCONTROLLER_CRASH_MOMENTS", "3"))
"""Each of them starts a machine; the contract's own number is 10."""
BUILD = Path(__file__).parents[2] / "build" / "guest"


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def guest() -> GuestFiles:
    """What a VM boots."""
    return guest_files(BUILD, isolate())


@pytest.fixture(scope="module")
def ovs(_isolated: None) -> Iterator[PrivateOvs]:
    """A running switch with one bridge that switches like any other."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        running.ofctl("add-flow", BRIDGE, "actions=normal")
        yield running


@pytest.fixture(scope="module")
def libvirt(ovs: PrivateOvs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateLibvirt]:
    """A running libvirt that finds the switch."""
    with PrivateLibvirt(tmp_path_factory.mktemp("libvirt"), ovs.environment) as running:
        yield running


@pytest.fixture(autouse=True)
def _nothing_is_left(libvirt: PrivateLibvirt, tmp_path: Path) -> Iterator[None]:
    yield
    names = virsh("list", "--all", "--name").split()
    for name in names:
        subprocess.run(["virsh", "-q", "destroy", name], capture_output=True)
        virsh("undefine", name)
    assert [name for name in names if name not in FOREIGN] == []
    assert list((tmp_path / "disks").glob("*")) == []


@pytest.fixture
def config(
    ovs: PrivateOvs, libvirt: PrivateLibvirt, guest: GuestFiles, tmp_path: Path
) -> dict[str, Any]:
    """A section that works."""
    image = tmp_path / "image.raw"
    image.write_bytes(bytes(1 << 20))
    return {
        "bridge": BRIDGE,
        "uri": libvirt.uri,
        "ovsdb": ovs.db,
        "kernel": guest.kernel,
        "initramfs": guest.initramfs,
        "cmdline": CMDLINE,
        "image": image,
        "image_format": "raw",
        "disks": tmp_path / "disks",
        "memory_mib": 96,
        "addresses": "10.99.0.100-10.99.0.109",
    }


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> Libvirt:
    """An instance with this section."""
    return Libvirt(LibvirtConfig.model_validate(config), owner)


def virsh(*arguments: str) -> str:
    """What virsh prints."""
    return subprocess.check_output(["virsh", "-q", *arguments], text=True)


class LibvirtSubject(Subject):
    """Domains, their processes, disks, interfaces and ports."""

    def __init__(self, ovs: PrivateOvs, libvirt: PrivateLibvirt, config: Mapping[str, Any]) -> None:
        """Use this switch, this daemon and this section."""
        self._ovs = ovs
        self._libvirt = libvirt
        self._config = config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address pool of one."""
        return plugin_of({**self._config, "addresses": "10.99.0.100-10.99.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        links = Path("/sys/class/net").iterdir()
        return [
            *(f"domain {name}" for name in virsh("list", "--all", "--name").split()),
            *(f"running {name}" for name in virsh("list", "--uuid").split()),
            *(f"interface {link.name}" for link in links),
            *(f"port {name}" for name in self._ovs.vsctl("list-ports", BRIDGE).split()),
            *(f"disk {path.name}" for path in self._config["disks"].glob("*")),
        ]

    def create_foreign(self) -> str:
        """A domain of an operator's own, with a name such as ours and without our tags."""
        virsh("define", str(self._template("contract.web-9")))
        return "domain contract.web-9"

    def _template(self, name: str) -> Path:
        file = Path(self._config["disks"]).parent / "domain.xml"
        file.write_text(
            f"<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>"
            "<os><type arch='x86_64'>hvm</type></os></domain>"
        )
        return file

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """A VM that was switched off, one that died, and one whose port somebody deleted."""

        def off(info: NodeInfo) -> None:
            virsh("destroy", f"contract.{info.name}")

        def killed(info: NodeInfo) -> None:
            self._libvirt.kill_guest(f"contract.{info.name}")
            until(lambda: "shut off" in virsh("domstate", f"contract.{info.name}"))

        def unplugged(info: NodeInfo) -> None:
            self._ovs.del_port(info.port)

        return {"switched off": off, "killed": killed, "port deleted": unplugged}


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    crash_moments = MOMENTS

    settle_s = 1.5

    @pytest.fixture
    def subject(self, ovs: PrivateOvs, libvirt: PrivateLibvirt, config: dict[str, Any]) -> Subject:
        """The plugin with real VMs."""
        return LibvirtSubject(ovs, libvirt, config)


class TestNode:
    """What a node is."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``libvirt`` names this plugin."""
        assert load("libvirt") is Libvirt

    def test_vm_boots_and_serves(self, ovs: PrivateOvs, config: dict[str, Any]) -> None:
        """A client on the bridge gets the VM's page, and no ARP for the group's address."""
        plugin = plugin_of(config)
        with Host(ovs, BRIDGE, "sntclient", Link("10.99.0.1/24")) as client:
            info = plugin.start_node(node_request(2))
            fetch = ["curl", "-si", "-m", "2", "http://10.99.0.100/"]
            until(lambda: "X-Node: web-2" in client.run(*fetch, check=False).stdout)
            client.run("ping", "-c1", "-W1", "10.99.0.10", check=False)
            neighbours = client.run("ip", "neigh").stdout
            assert "10.99.0.10 dev eth0 lladdr" not in neighbours
            assert f"10.99.0.100 dev eth0 lladdr {info.mac}" in neighbours
            plugin.stop_node("web-2")

    def test_switch_port_tells_which_vm_it_is(
        self, ovs: PrivateOvs, config: dict[str, Any]
    ) -> None:
        """libvirt writes the usual external_ids, and the metadata has the owner."""
        plugin = plugin_of({**config, "vlan": 7})
        info = plugin.start_node(node_request(2))
        ids = ovs.vsctl("get", "interface", info.port, "external_ids")
        uuid = virsh("domuuid", "contract.web-2").strip()
        assert f'attached-mac="{info.mac}"' in ids
        assert f'vm-id="{uuid}"' in ids
        assert info.detail == f"VM {uuid}"
        assert ovs.vsctl("get", "port", info.port, "tag").strip() == "7"
        plugin.stop_node("web-2")

    def test_disk_has_only_the_differences(self, config: dict[str, Any]) -> None:
        """The image is the disk's backing file and stays as it is."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        disk = config["disks"] / "contract.web-2.qcow2"
        said = subprocess.check_output(["qemu-img", "info", "-U", str(disk)], text=True)
        assert f"backing file: {config['image']}" in said
        plugin.stop_node("web-2")
        assert (disk.exists(), config["image"].read_bytes()) == (False, bytes(1 << 20))

    def test_disk_goes_with_a_node_whose_record_was_removed(self, config: dict[str, Any]) -> None:
        """Also when somebody undefined the domain behind the plugin's back."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        virsh("destroy", "contract.web-2")
        virsh("undefine", "contract.web-2")
        assert plugin.list_nodes() == ()
        plugin.stop_node("web-2")
        assert list(config["disks"].iterdir()) == []

    def test_cloud_init_seed_tells_the_guest_who_it_is(
        self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """A guest that is told nothing else gets name and address from its seed disk."""
        user_data = tmp_path / "user-data"
        user_data.write_text("#!/bin/sh\nip address add {address}/24 dev eth0\n")
        network = tmp_path / "network-config"
        network.write_text("version: 2\n")
        seeded = {"user_data": user_data, "network_config": network, "cmdline": CMDLINE_OF_SEED}
        emulated = {"virtualization": Virtualization.QEMU}  # on every machine, also one with KVM
        plugin = plugin_of({**config, **seeded, **emulated})
        with Host(ovs, BRIDGE, "sntclient", Link("10.99.0.1/24")) as client:
            plugin.start_node(node_request(2))
            seed = config["disks"] / "contract.web-2.seed.iso"
            said = subprocess.check_output(["isoinfo", "-J", "-f", "-d", "-i", seed], text=True)
            assert "Volume id: cidata" in said
            fetch = ["curl", "-si", "-m", "2", "http://10.99.0.100/"]
            until(lambda: "X-Node: web-2" in client.run(*fetch, check=False).stdout)
            plugin.stop_node("web-2")
        assert list(config["disks"].iterdir()) == []

    def test_template_is_used(self, config: dict[str, Any], tmp_path: Path) -> None:
        """What a template says stays; name, interface and tags are the node's."""
        template = tmp_path / "template.xml"
        template.write_text(
            "<domain type='xen'><name>x</name><memory unit='MiB'>80</memory>"
            "<description>{name} {index} {address} {mac} {group_addresses}</description>"
            "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>"
            "<interface type='user'><mac address='02:00:00:00:00:77'/></interface>"
            "</devices></domain>"
        )
        section = {key: value for key, value in config.items() if key in _WITH_A_TEMPLATE}
        plugin = plugin_of({**section, "template": template})
        info = plugin.start_node(node_request(2))
        xml = virsh("dumpxml", "contract.web-2")
        assert "<description>web-2 2 10.99.0.100 02:53:ff:a1:00:02 10.99.0.10</desc" in xml
        assert ("81920" in xml, "02:00:00:00:00:77" in xml) == (True, False)
        assert info.mac in xml
        plugin.stop_node("web-2")

    def test_libvirt_restarted_has_the_same_nodes(
        self, config: dict[str, Any], libvirt: PrivateLibvirt
    ) -> None:
        """VMs go on without their daemon; calls are transient errors until it is back."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        libvirt.stop()
        with pytest.raises(TransientError, match="virsh list at qemu:///system"):
            plugin.list_nodes()
        libvirt.start()
        assert until_running(plugin, "web-2").port == node_request(2).port
        plugin.stop_node("web-2")


class TestVirtualization:
    """KVM where it is good for something, emulation where it is not."""

    def test_machine_without_kvm_emulates(
        self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """Unless KVM is asked for by name, which is an error for good, and leaves nothing."""
        with without_kvm(), PrivateLibvirt(tmp_path / "libvirt", ovs.environment):
            plugin = plugin_of(config)
            plugin.start_node(node_request(2))
            assert "<domain type='qemu'" in virsh("dumpxml", "contract.web-2")
            plugin.stop_node("web-2")
            by_name = plugin_of({**config, "virtualization": Virtualization.KVM})
            with pytest.raises(PermanentError, match="virt type 'kvm'"):
                by_name.start_node(node_request(2))
            assert virsh("list", "--all", "--name").split() == []

    def test_guest_has_all_that_the_machine_can(self, config: dict[str, Any]) -> None:
        """Not the least of all processors, with which many distributions do not boot."""
        plugin = plugin_of(config)
        plugin.start_node(node_request(2))
        assert "<cpu mode='maximum'" in virsh("dumpxml", "contract.web-2")
        plugin.stop_node("web-2")


@contextmanager
def without_kvm() -> Iterator[None]:
    """A machine that has no KVM, for this process and its children."""
    if not KVM.exists():
        yield
        return
    with tempfile.NamedTemporaryFile() as nothing:  # libvirt asks again and again for a device
        subprocess.run(["mount", "--bind", nothing.name, KVM], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", KVM], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", KVM], check=True)


class TestPrivateLibvirt:
    """What the lab's own daemon promises."""

    def test_no_machine_outlives_whoever_started_the_daemon(
        self, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """A machine is nobody's child; killed with -9, the lab takes it along all the same."""
        owner = f"killed{os.getpid()}"
        command = [sys.executable, "-c", _LAB, owner, str(tmp_path), str(config["kernel"])]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as lab:
            assert lab.stdout is not None
            assert lab.stdout.readline() == "started\n"
            assert len(machines(owner)) == 1
            lab.kill()
        until(lambda: machines(owner) == [], 20)


_LAB = f"""
import sys, time
from pathlib import Path
from sncontroller.hypervisors.contract import node_request
from sncontroller.hypervisors.libvirt import Libvirt, LibvirtConfig, Owner
from sncontroller.lab.libvirtd import PrivateLibvirt
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
owner, directory, kernel = sys.argv[1:]
isolate()
with PrivateOvs(directory + "/ovs") as ovs:
    ovs.add_bridge("{BRIDGE}", fail_mode="secure")
    with PrivateLibvirt(Path(directory) / "libvirt", ovs.environment) as libvirt:
        section = dict(bridge="{BRIDGE}", ovsdb=ovs.db, kernel=kernel)
        Libvirt(LibvirtConfig(**section), Owner(owner, "web")).start_node(node_request(2))
        print("started", flush=True)
        time.sleep(60)
"""


def machines(owner: str) -> list[int]:
    """The process ids of a controller's VMs."""
    found = []
    for pid in all_pids():
        with suppress(OSError):
            if f"guest={owner}.".encode() in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(pid)
    return found


_WITH_A_TEMPLATE = ("bridge", "uri", "ovsdb", "addresses")


class TestTrouble:
    """Errors, their kind, and that nothing is left."""

    @pytest.mark.parametrize(
        ("change", "error", "message"),
        [
            ({"kernel": "/nowhere"}, PermanentError, "there is no file /nowhere"),
            ({"uri": "qemu:///nothing"}, TransientError, "virsh dumpxml at qemu:///nothing"),
            ({"bridge": "nobridge"}, TransientError, "nobridge"),
            ({"image_format": "qcow2"}, PermanentError, "qemu-img create"),
            ({"addresses": "10.0.0.1-10.0.0.1"}, None, ""),
        ],
        ids=["kernel", "daemon", "bridge", "image", "fine"],
    )
    def test_start_says_what_is_wrong(
        self,
        ovs: PrivateOvs,
        libvirt: PrivateLibvirt,
        config: dict[str, Any],
        change: dict[str, Any],
        error: type[Exception] | None,
        message: str,
    ) -> None:
        """Each trouble is of the right kind and named, and leaves nothing."""
        plugin, subject = plugin_of({**config, **change}), LibvirtSubject(ovs, libvirt, config)
        before = set(subject.objects())
        if error is None:
            plugin.start_node(node_request(2))
            plugin.stop_node("web-2")
        else:
            with pytest.raises(error, match=message):
                plugin.start_node(node_request(2))
        assert set(subject.objects()) == before

    def test_taken_names_are_refused_and_left_alone(
        self, ovs: PrivateOvs, config: dict[str, Any], tmp_path: Path
    ) -> None:
        """A domain or a port of the node's name that is not ours stays as it is."""
        plugin = plugin_of(config)
        ovs.add_port(BRIDGE, node_request(2).port, type="internal")
        with pytest.raises(PermanentError, match="exists and is not ours"):
            plugin.start_node(node_request(2))
        ovs.del_port(node_request(2).port)
        file = tmp_path / "other.xml"
        file.write_text(
            "<domain type='qemu'><name>contract.web-2</name><memory unit='MiB'>64</memory>"
            "<os><type arch='x86_64'>hvm</type></os></domain>"
        )
        virsh("define", str(file))
        with pytest.raises(PermanentError, match="already exists"):
            plugin.start_node(node_request(2))
        plugin.stop_node("web-2")
        virsh("undefine", "contract.web-2")

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"kernel": None, "image": None, "disks": None}, "one of them must say"),
            ({"disks": None}, "image and disks must both"),
            ({"image": None}, "image and disks must both"),
            ({"image": None, "disks": None, "user_data": "/u"}, "user_data: disks must say"),
            ({"network_config": "/n"}, "network_config: it goes with user_data"),
            ({"template": "/x"}, "a template says itself"),
            ({"addresses": "10.0.0.9-10.0.0.8"}, "FIRST-LAST"),
            ({"addresses": "10.0.0.9-web"}, "does not appear to be"),
            ({"virtualization": "xen"}, "virtualization"),
            ({"memory_mib": 1}, "memory_mib"),
            ({"flavor": "small"}, "flavor"),
        ],
    )
    def test_bad_section_is_refused(self, change: dict[str, Any], message: str) -> None:
        """Every bad value is named by the model."""
        good = {"bridge": "br0", "kernel": "/k", "image": "/i", "disks": "/d"}
        with pytest.raises(ValidationError, match=message):
            LibvirtConfig.model_validate({**good, **change})


def until(done: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Wait until it is so."""
    deadline = time.monotonic() + patience_s
    while not done():
        assert time.monotonic() < deadline
        time.sleep(0.05)
