"""From a step in the load to the decision, and from there to the first flow on the new node.

Owns the rig: one primary, a client whose rate of new connections jumps to several times what the
capacity says, the product with a real hypervisor plugin. The nodes are network namespaces, or VMs
of a private libvirt, by the machine's processor where it can (KVM) and else by software emulation,
which boot a Debian kernel to a served page.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench import REPOSITORY, Section
from bench.attempts import NOT_MEASURED, Attempts
from bench.clients import Clients, Seen
from bench.disruption.stage import ADDRESS, SERVICE, node_name
from bench.waiting import fetched, until
from sncontroller.core.hypervisor import Owner
from sncontroller.hypervisors import base
from sncontroller.lab.controller import Controller, Endpoints
from sncontroller.lab.guest import CMDLINE, guest_files
from sncontroller.lab.isolation import isolate
from sncontroller.lab.libvirtd import PrivateLibvirt
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError, program, run_script

BRIDGE, GROUP, OWNER = "br0", "web", "bench"
ROUNDS = {"netns": 3, "libvirt": 2}
QUICK_ROUNDS = {"netns": 1}
CAPACITY_PER_S, HIGH, HIGH_FOR_S, POLL_INTERVAL_S = 50, 0.8, 1.0, 0.5
PROBE_INTERVAL_S = 0.2
WIDTH, BEFORE_PAUSE_S, AFTER_PAUSE_S = 4, 0.4, 0.02
STEP_AFTER_S = 3.0
_TIMES = ("decision_s", "created_s", "in_rotation_s", "first_flow_s")
_SERVES_WITHIN_S = {"netns": 30.0, "libvirt": 90.0}
_SEEN_FOR_S = 1.0


def measured(quick: bool, attempts: Attempts) -> Section:
    """Each hypervisor, several times from the beginning."""
    return {
        plugin: attempts.made(f"elasticity: {plugin}", partial(_rounds, plugin, rounds))
        for plugin, rounds in (QUICK_ROUNDS if quick else ROUNDS).items()
    }


def _rounds(plugin: str, rounds: int) -> Section:
    return _summed([_one(plugin) for _ in range(rounds)])


def _one(plugin: str) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="sn-bench-") as directory, ExitStack() as stack:
        return _Rig(Path(directory), stack, plugin).measured()


def _summed(runs: list[dict[str, Any]]) -> dict[str, Any]:
    times = {name: median(run[name] for run in runs) for name in _TIMES}
    return {"nodes": runs[0]["nodes"], **times, "rounds": runs}


def table(section: Section) -> str:
    """The times in Markdown."""
    lines = [
        "| nodes are | decision after the step | created after the decision | takes flows after "
        "| first flow after | connections, failed |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for plugin, found in section.items():
        if NOT_MEASURED in found:
            lines.append(f"| {plugin} | not measured: {found[NOT_MEASURED]} | | | | |")
            continue
        times = " | ".join(f"{found[name]:.2f} s" for name in _TIMES)
        made, failed = (sum(run[key] for run in found["rounds"]) for key in ("visits", "failed"))
        lines.append(f"| {found['nodes']} | {times} | {made:,}, {failed:,} |")
    return "\n".join(lines)


def readme(section: Section) -> str:
    """A sentence; empty where nothing was measured."""
    known = [found for found in section.values() if NOT_MEASURED not in found]
    times = (
        f"{found['decision_s']:.1f} s and {found['first_flow_s']:.1f} s ({found['nodes']})"
        for found in known
    )
    what = "From a step in the load to the decision, and from there to the new node's first flow"
    return f"{what}: {', '.join(times)}." if known else ""


class _Rig:
    """One step in the load, and what follows."""

    def __init__(self, directory: Path, stack: ExitStack, plugin: str) -> None:
        self.directory, self.stack, self.plugin = directory, stack, plugin
        self.endpoints = Endpoints()
        self.ovs = stack.enter_context(PrivateOvs(directory / "ovs"))
        self.ovs.add_bridge(BRIDGE, fail_mode="secure", controller=self.endpoints.target)
        self.ovs.ofctl("add-flow", BRIDGE, "cookie=0xf0e1,priority=0,actions=NORMAL")
        primary = Host(self.ovs, BRIDGE, "vm1", Link(f"{ADDRESS}/24", mac="02:00:00:00:01:01"))
        self.primary = stack.enter_context(primary)
        self.client = stack.enter_context(Host(self.ovs, BRIDGE, "cli1", Link("10.0.0.101/24")))
        name = node_name(1)
        self.primary.popen(*SERVICE.command(name, str(directory / name)))
        self.section = _SECTIONS[plugin](self)
        stack.callback(self._remove_nodes)
        file = directory / "sn.yaml"
        file.write_text(yaml.safe_dump(self._configuration(), sort_keys=False))
        controller = Controller(self.endpoints, file, directory / "controller.log")
        stack.callback(controller.stop)
        controller.start()

    def measured(self) -> dict[str, Any]:
        """Seconds from the step to the decision; from there to the others."""
        until(self._serves, "the group does not serve")
        new, steps = node_name(2), [[STEP_AFTER_S, AFTER_PAUSE_S]]
        plan = {"path": "/", "width": WIDTH, "pause_s": BEFORE_PAUSE_S, "steps": steps}
        with Clients(self.client, address=ADDRESS, timeout_s=2.0, max_s=120.0, **plan) as clients:
            stepped_s = clients.ready_s + STEP_AFTER_S
            patience_s = _SERVES_WITHIN_S[self.plugin]
            until(lambda: self._event("active", new), f"{new} does not serve", patience_s)
            time.sleep(_SEEN_FOR_S)
            seen = clients.finish()
        return self._times(seen, stepped_s, new)

    def _times(self, seen: Seen, stepped_s: float, new: str) -> dict[str, Any]:
        decided_s, first_s = self._at_s("wanted", None), seen.first_answer_s(new)
        if first_s is None:
            raise LabError(f"{new} takes flows and got none")
        return {
            "decision_s": decided_s - stepped_s,
            "created_s": self._at_s("started", new) - decided_s,
            "in_rotation_s": self._at_s("active", new) - decided_s,
            "first_flow_s": first_s - decided_s,
            "visits": len(seen.visits),
            "failed": len(seen.failed),
            "reason": self._event("wanted", None)["reason"],
            "nodes": self._kind(),
        }

    def _kind(self) -> str:
        """What the nodes really are."""
        if self.plugin == "netns":
            return "network namespaces"
        virsh = f"{program('virsh')} -c {self.section['uri']}"
        described = run_script(f"{virsh} dumpxml $({virsh} list --name | head -n 1)")
        by_processor = "<domain type='kvm'" in described
        return "virtual machines, " + ("KVM" if by_processor else "software emulation")

    def _serves(self) -> bool:
        try:
            group = self._group()
        except OSError:
            return False
        return bool(group["live"]) and any(node["state"] == "active" for node in group["nodes"])

    def _at_s(self, kind: str, node: str | None) -> float:
        event = self._event(kind, node)
        if event is None:
            raise LabError(f"the controller's log has no {kind}")
        return float(event["time_s"])

    def _event(self, kind: str, node: str | None) -> Any:
        """The first entry of the log of that kind; ``None`` when there is none."""
        found = (event for event in self._group()["events"] if event["kind"] == kind)
        return next((event for event in found if node is None or event["node"] == node), None)

    def _group(self) -> Any:
        return fetched(f"{self.endpoints.rest}/v1/status")["groups"][0]

    def _remove_nodes(self) -> None:
        """Whatever the controller left; it is meant to leave its nodes."""
        plugin = base.load(self.plugin)
        section = {name: value for name, value in self.section.items() if name != "plugin"}
        nodes = plugin(plugin.Config(**section), Owner(OWNER, GROUP))
        for node in nodes.list_nodes():
            nodes.stop_node(node.name)

    def _configuration(self) -> dict[str, Any]:
        scaling = {
            "policy": "threshold",
            "max": 3,
            "high": HIGH,
            "high_for_s": HIGH_FOR_S,
            "up_cooldown_s": 60,
        }
        group = {
            "bridge": BRIDGE,
            "match": {"address": ADDRESS, "ports": [80]},
            "primary": {"port": "vm1"},
            "capacity": {"new_flows_per_s": CAPACITY_PER_S},
            "health": {"kind": "http", "source": "10.0.0.254", "interval_s": PROBE_INTERVAL_S},
            "scaling": scaling,
            "hypervisor": self.section,
        }
        groups = {GROUP: group}
        return {"controller": OWNER, "poll_interval_s": POLL_INTERVAL_S, "groups": groups}


def _netns(rig: _Rig) -> dict[str, Any]:
    return {
        "plugin": "netns",
        "bridge": BRIDGE,
        "ovsdb": rig.ovs.db,
        "subnet": "10.0.0.0/24",
        "addresses": "10.0.0.20-10.0.0.29",
        "workdir": str(rig.directory / "nodes"),
        "command": list(SERVICE.command("{name}", "{directory}")),
    }


def _libvirt(rig: _Rig) -> dict[str, Any]:
    files = guest_files(REPOSITORY / "build" / "guest", isolate())
    place = rig.directory / "libvirt"
    place.mkdir()
    libvirt = rig.stack.enter_context(PrivateLibvirt(place, rig.ovs.environment))
    image = rig.directory / "image.raw"
    image.write_bytes(bytes(1 << 20))
    return {
        "plugin": "libvirt",
        "bridge": BRIDGE,
        "uri": libvirt.uri,
        "ovsdb": rig.ovs.db,
        "kernel": str(files.kernel),
        "initramfs": str(files.initramfs),
        "cmdline": CMDLINE,
        "image": str(image),
        "image_format": "raw",
        "disks": str(rig.directory / "disks"),
        "memory_mib": 96,
        "virtualization": "auto",
        "addresses": "10.0.0.20-10.0.0.29",
    }


_SECTIONS: dict[str, Callable[[_Rig], dict[str, Any]]] = {"netns": _netns, "libvirt": _libvirt}
