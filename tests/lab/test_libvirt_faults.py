"""libvirt that goes away, machines that vanish, and a controller that dies while one boots.

Everything is real: VMs of a private libvirt on a private switch, the controller, the connections.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sncontroller.lab.guest import CMDLINE, guest_files
from sncontroller.lab.libvirtd import PrivateLibvirt
from sncontroller.lab.net import isolate
from tests.lab.failover_lab import (
    ADDRESS,
    BRIDGE,
    PRIMARY,
    PROBES_FROM,
    REPOSITORY,
    Lab,
    running,
    visits,
)

HEALTH = {"kind": "http", "path": "/ping", "source": PROBES_FROM, "interval_s": 1, "fall": 8}
"""An emulated machine may be late while another one boots: that is no death."""
DRAIN = {"idle_s": 1, "deadline_s": 60}
TO = {"address": ADDRESS, "port": 80}
MOMENTS = int(os.environ.get("SNCONTROLLER_CRASH_MOMENTS", "1"))
"""How often the controller is killed; ``SNCONTROLLER_CRASH_MOMENTS=10`` takes some minutes."""
SPREAD_S = 4.0
"""A VM boots in about so long on a machine with nothing else to do."""


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


class Machines:
    """The VMs of a lab's group."""

    def __init__(self, lab: Lab, libvirt: PrivateLibvirt, disks: Path) -> None:
        self.lab = lab
        self.libvirt = libvirt
        self.disks = disks
        self.controller = f"failover-{os.getpid()}"

    def virsh(self, *arguments: str) -> list[str]:
        """The words that virsh prints."""
        command = ["virsh", "-q", "-c", self.libvirt.uri, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=30).stdout.split()

    def domain(self, node: str) -> str:
        """A node's domain."""
        return f"{self.controller}.{node}"

    def expect(self, *nodes: str) -> None:
        """Wait until these nodes serve; each has one machine, one disk, one port, none has two."""
        self.lab.active(PRIMARY, *nodes)
        self.lab.until(lambda: len(self.lab.states()) == 1 + len(nodes), "others do not go")
        wanted = sorted(self.domain(node) for node in nodes)
        assert sorted(self.virsh("list", "--all", "--name")) == wanted
        assert sorted(self.virsh("list", "--name")) == wanted
        assert sorted(path.stem for path in self.disks.iterdir()) == wanted
        ports = self.lab.ovs.vsctl("list-ports", BRIDGE).split()
        uuids = self.lab.ovs.vsctl("--bare", "--columns=external_ids", "list", "interface")
        assert len(ports) == 2 + len(nodes)  # the primary's and the client's
        assert uuids.count("vm-id") == len(nodes)


@contextmanager
def on_libvirt(directory: Path) -> Iterator[Machines]:
    """A group whose secondaries are VMs, none yet; in the end there are none again."""
    with running(directory, nodes=1) as lab:
        libvirt = lab.stack.enter_context(
            PrivateLibvirt(directory / "libvirt", lab.ovs.environment)
        )
        guest = guest_files(REPOSITORY / "build" / "guest", isolate())
        image, disks = directory / "image.raw", directory / "disks"
        image.write_bytes(bytes(1 << 20))
        disks.mkdir()
        section = {
            "plugin": "libvirt",
            "bridge": BRIDGE,
            "uri": libvirt.uri,
            "ovsdb": lab.ovs.db,
            "kernel": str(guest.kernel),
            "initramfs": str(guest.initramfs),
            "cmdline": CMDLINE,
            "image": str(image),
            "image_format": "raw",
            "disks": str(disks),
            "memory_mib": 96,
            "addresses": "10.0.0.20-10.0.0.60",
        }
        scaling = {"policy": "manual", "min": 1, "max": 6, "nodes": 1}
        lab.write(hypervisor=section, scaling=scaling, health=HEALTH, drain=DRAIN)
        lab.ask("reload", {})
        machines = Machines(lab, libvirt, disks)
        yield machines
        lab.ask("groups/web/scale", {"nodes": 1})
        machines.expect()
    shutil.rmtree(directory / "libvirt")


def scale(lab: Lab, nodes: int) -> float:
    """Ask for so many nodes; when."""
    at_s = time.time()
    lab.ask("groups/web/scale", {"nodes": nodes})
    return at_s


def test_libvirt_stops_under_load(tmp_path: Path) -> None:
    """Nobody notices but the event log; when it is back, the node that was asked for comes.

    Then a machine is killed: another takes its place, and nothing is left of it.
    """
    with on_libvirt(tmp_path) as machines:
        lab = machines.lab
        scale(lab, 2)
        machines.expect("web-2")
        agent, holder = lab.visitor(), lab.visitor()
        assert holder.do("open", count=20, **TO)["nodes"]["web-2"] > 0
        churn = holder.start("churn", rounds=2000, pause_s=0.05)
        number = agent.start("visit", total=200_000, width=2, pause_s=0.02, **TO)
        time.sleep(1)
        machines.libvirt.stop()
        stopped_s = scale(lab, 3)
        said = lab.wait_event("plugin_error", "web-3", since=stopped_s)
        assert "cannot start it: virsh" in said["reason"]
        assert "failed to connect to the hypervisor" in said["reason"]
        assert "again in 1 s" in said["reason"]
        time.sleep(2)
        assert lab.serving() == {PRIMARY, "web-2"}
        machines.libvirt.start()
        machines.expect("web-2", "web-3")
        time.sleep(1)
        agent.do("halt")
        holder.do("stop")
        seen, held = visits(agent, number), holder.wait(churn)
        print(f"\nlibvirt stopped: {len(seen.all)} connections, held {held}\n{said['reason']}")
        assert seen.failed == ()
        assert seen.nodes == {PRIMARY, "web-2", "web-3"}
        assert (held["broken"], held["moved"]) == (0, 0)

        gone_s = time.time()
        machines.libvirt.kill_guest(machines.domain("web-2"))
        why = lab.wait_event("failed", "web-2", since=gone_s)["reason"]
        assert why in {"its link is down", "its port is gone"}
        lab.write(drain={**DRAIN, "deadline_s": 59})
        lab.ask("reload", {})  # the machines are listed at once
        machines.expect("web-3", "web-4")


def test_the_controller_is_killed_while_a_machine_boots(tmp_path: Path) -> None:
    """At whatever moment of the boot: afterwards exactly the wanted nodes exist, once each."""
    with on_libvirt(tmp_path) as machines:
        lab = machines.lab
        for moment in range(MOMENTS):
            lab.write(scaling={**lab.changes["scaling"], "nodes": 2})
            lab.ask("reload", {})
            after_s = SPREAD_S * (moment + 0.5) / MOMENTS
            time.sleep(after_s)
            had = machines.virsh("list", "--all", "--name"), lab.states()
            lab.restart_controller()
            machines.expect("web-2")
            print(f"\nkilled {after_s:.1f} s after the request, with {had}")
            lab.write(scaling={**lab.changes["scaling"], "nodes": 1})
            lab.ask("reload", {})
            machines.expect()


def test_a_machine_that_never_boots(tmp_path: Path) -> None:
    """It is given up with the reason, and destroyed; nothing is left of it."""
    with on_libvirt(tmp_path) as machines:
        lab = machines.lab
        section: dict[str, Any] = {**lab.changes["hypervisor"], "boot_deadline_s": 3}
        lab.write(hypervisor={**section, "cmdline": "panic=-1 rdinit=/nothing"})
        lab.ask("reload", {})
        asked_s = scale(lab, 2)
        failed = lab.wait_event("failed", "web-2", since=asked_s)
        print(f"\nnever boots: {failed['reason']}")
        assert failed["reason"].startswith("no service within 3 s: ")
        assert failed["reason"].endswith("; the next one in 1 s")
        lab.wait_event("stopped", "web-2", since=asked_s)
