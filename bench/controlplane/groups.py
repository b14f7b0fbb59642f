"""What the controller costs by the number of groups and nodes on one switch.

Owns the rig: a real Open vSwitch with a datapath that forwards nothing (``dummy``), the product
under ``ryu-manager``, and groups whose nodes hang on the same 16 ports. Sharing ports changes
nothing about the entries, which differ by group and node; it spares a bridge with 16,000 ports,
which is a benchmark of Open vSwitch.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from bench import Section
from bench.counters import cpu_s, flow_entries, memory_mib
from bench.measured.process import MeasuredController
from sncontroller.lab.ovs import PrivateOvs

BRIDGE, MOST_NODES = "br0", 16
SIZES = ((1, 2), (100, 2), (100, 16), (1000, 2), (1000, 16))
QUICK_SIZES = ((1, 2), (100, 16))
"""Numbers of groups, and of nodes in each."""
CHANGES, QUICK_CHANGES = 40, 20
WATCH_S, QUICK_WATCH_S = 8.0, 4.0
PROFILE_S = 4.0
WITHIN_S = 30.0
"""What is not in place by then is reported as such."""
_QUIET_S = 1.0
_PROBE_S = 60
"""Open vSwitch hangs up on a controller that is silent for twice this; its default is 5 s. The
longest silence is measured: ``longest_stall_s``."""


def address(group: int) -> str:
    """The address of the group with that number, from 0."""
    return f"10.{group // 200}.{group % 200}.10"


def configuration(groups: int, nodes: int) -> str:
    """A configuration file: so many groups, each with so many ready nodes."""
    hypervisor = {"plugin": "rest", "url": "http://127.0.0.1:1/"}
    scaling = {"policy": "manual", "min": 1, "max": nodes, "nodes": nodes}
    return yaml.safe_dump(
        {
            "controller": "bench",
            "poll_interval_s": 1,
            "groups": {
                f"g{nth}": {
                    "id": nth + 1,
                    "match": {"address": address(nth), "ports": [80]},
                    "primary": {"port": "n1", "mac": "02:00:00:00:00:01"},
                    "health": {"kind": "tcp", "source": address(nth)[:-2] + "250"},
                    "scaling": scaling,
                    "hypervisor": hypervisor,
                }
                for nth in range(groups)
            },
        },
        sort_keys=False,
        width=1000,
    )


def name_of(groups: int, nodes: int) -> str:
    """What a size is called in the results."""
    return f"{groups}x{nodes}"


def measured(groups: int, nodes: int, quick: bool) -> Section:
    """Everything about one size."""
    with tempfile.TemporaryDirectory(prefix="sn-bench-") as directory:
        return _Rig(Path(directory), groups, nodes).measured(quick)


class _Rig:
    """One size, from an empty switch on."""

    def __init__(self, directory: Path, groups: int, nodes: int) -> None:
        self.directory, self.groups, self.nodes = directory, groups, nodes
        self.file = directory / "sn.yaml"
        self.file.write_text(configuration(groups, nodes))

    def measured(self, quick: bool) -> dict[str, Any]:
        with (
            PrivateOvs(self.directory / "ovs") as ovs,
            MeasuredController(self.directory, self.file, self.nodes) as controller,
        ):
            self.ovs, self.controller = ovs, controller
            self._plug()
            first = self._settled()
            found = {"groups": self.groups, "nodes": self.nodes, **self._memory()}
            found["configuration_read_s"] = first["read_s"]
            found["first_start"] = _phase(first)
            if first["settled"]:
                found |= self._running(quick)
            if not quick:
                found["profile"] = controller.ask("profile", seconds=PROFILE_S)
            if first["settled"]:
                found |= self._comebacks()
        return found

    def _running(self, quick: bool) -> dict[str, Any]:
        """What it costs while everything is in place."""
        time.sleep(_QUIET_S)
        count = QUICK_CHANGES if quick else CHANGES
        changes = self.controller.ask("changes", nodes=self.nodes, count=count)["took_ms"]
        time.sleep(_QUIET_S)
        polls = self._watched(QUICK_WATCH_S if quick else WATCH_S)
        return {"change_ms": _spread(changes), **polls, **self._memory()}

    def _comebacks(self) -> dict[str, Any]:
        """The switch daemon comes back with nothing, then the controller to everything."""
        self.controller.ask("forget")
        self.ovs.restart_vswitchd()
        back_s = time.monotonic()
        push = self._settled()
        entries = flow_entries(self.ovs, BRIDGE)
        self.controller.kill()
        self.controller.start()
        restart = self._settled()
        return {
            "entries": entries,
            "cold_push": {**_phase(push), "since_back_s": push["confirmed_s"] - back_s},
            "restart": _phase(restart),
        }

    def _plug(self) -> None:
        """The bridge and its ports; then it may connect."""
        target = self.controller.endpoints.target
        self.ovs.add_bridge(BRIDGE, datapath_type="dummy", fail_mode="secure")
        for number in range(1, MOST_NODES + 1):
            self.ovs.add_port(BRIDGE, f"n{number}", type="dummy", ofport=number)
        self.ovs.set_controller(BRIDGE, target)
        self.ovs.vsctl("set", "controller", BRIDGE, f"inactivity_probe={_PROBE_S * 1000}")

    def _settled(self) -> Any:
        return self.controller.ask(
            "settled", nodes=self.nodes, asked=self.groups, within_s=WITHIN_S
        )

    def _watched(self, seconds: float) -> dict[str, Any]:
        switch = self.ovs.pids[1:]
        before, began = cpu_s(switch), time.monotonic()
        said = self.controller.ask("watch", seconds=seconds)
        used = cpu_s(switch) - before
        return {
            "core_share": said["core_share"],
            "switch_core_share": used / (time.monotonic() - began),
            "polls_per_s": said["rounds"] / seconds,
            "poll_ms": _spread(said["round_ms"]),
        }

    def _memory(self) -> dict[str, Any]:
        return {
            "controller_mib": round(memory_mib(self.controller.pid), 1),
            "switch_mib": round(memory_mib(self.ovs.pids[1]), 1),
        }


def _phase(said: Any) -> dict[str, Any]:
    """One way to everything in place, from the switch's connection on."""
    return {
        "settled": said["settled"],
        "took_s": said["confirmed_s"] - said["connected_s"],
        "tables_confirmed": said["confirmed"],
        "operations": said["operations"],
        "longest_stall_s": said["longest_stall_s"],
    }


def _spread(values: list[float]) -> dict[str, float]:
    """Median and extremes."""
    if not values:
        return {}
    ordered = sorted(values)
    p90 = ordered[min(len(ordered) - 1, int(len(ordered) * 0.9))]
    return {"median": median(ordered), "p90": p90, "least": ordered[0], "most": ordered[-1]}
