"""What OVN costs for the same number of load balancers and backends.

Owns the rig: northd and ovn-controller on a private database, a logical switch with one port on
this switch, and load balancers on it that stand for our groups. Times are OVN's own: from northd's
seeing a change until ovn-controller reports that the switch confirmed it. It takes no statistics
and probes nothing here.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from statistics import median

from bench import Section
from bench.controlplane.groups import BRIDGE, address
from bench.counters import flow_entries, memory_mib
from bench.ovn import Ovn
from bench.waiting import until
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError

CHANGES, QUICK_CHANGES = 20, 6
_AT_ONCE = 250
"""Load balancers per command line."""
_WITHIN_S, _PATIENCE_S = 60.0, 120


def backends(group: int, nodes: int) -> list[str]:
    """The backends of the group with that number."""
    head = address(group).rpartition(".")[0]
    return [f"{head}.{20 + index}:80" for index in range(1, nodes + 1)]


def measured(groups: int, nodes: int, quick: bool) -> Section:
    """Everything about one size."""
    with tempfile.TemporaryDirectory(prefix="sn-bench-") as directory:
        path = Path(directory)
        with PrivateOvs(path / "ovs") as ovs:
            ovs.add_bridge(BRIDGE, datapath_type="dummy", fail_mode="secure")
            ovs.add_port(BRIDGE, "n1", type="dummy", ofport=1)
            ovs.vsctl("set", "interface", "n1", "external_ids:iface-id=n1")
            with Ovn(path / "ovn", _PATIENCE_S) as ovn:
                return _Rig(ovs, ovn, groups, nodes).measured(quick)


class _Rig:
    """One size, from an empty database on."""

    def __init__(self, ovs: PrivateOvs, ovn: Ovn, groups: int, nodes: int) -> None:
        self.ovs, self.ovn, self.groups, self.nodes = ovs, ovn, groups, nodes

    def measured(self, quick: bool) -> Section:
        self.ovn.add_switch("ls0", {"n1": ("02:00:00:00:00:01", "10.255.0.1")})
        self.ovn.start_controller(self.ovs, BRIDGE)
        self.ovn.await_ports(1)
        first_s = self._added()
        changes = [self._change(nth) for nth in range(QUICK_CHANGES if quick else CHANGES)]
        memory = {name: round(memory_mib(pid), 1) for name, pid in self.ovn.pids.items()}
        counted = self._counted()
        push_s = self._pushed(counted)
        restart_s = self._restarted()
        return {
            "groups": self.groups,
            "nodes": self.nodes,
            "entries": counted,
            "first_start_s": first_s,
            "cold_push_s": push_s,
            "change_ms": {"median": median(changes), "least": min(changes), "most": max(changes)},
            "restart_s": restart_s,
            "memory_mib": memory,
        }

    def _added(self) -> float:
        """All load balancers are written, then northd and ovn-controller are let go."""
        for first in range(0, self.groups, _AT_ONCE):
            words: list[str] = []
            for nth in range(first, min(first + _AT_ONCE, self.groups)):
                vip = f"{address(nth)}:80"
                joined = ",".join(backends(nth, self.nodes))
                words += ["--", "lb-add", f"lb{nth}", vip, joined, "tcp"]
            self.ovn.nbctl(*words)
        said = self.ovn.nbctl("--bare", "--columns=_uuid", "list", "Load_Balancer")
        self.ovn.nbctl(
            *("--wait=hv", "set", "Logical_Switch", "ls0"),
            f"load_balancer={','.join(said.split())}",
        )
        return self.ovn.took_ms() / 1000

    def _change(self, nth: int) -> float:
        """One backend fewer, one backend more, in one load balancer after the other."""
        group = nth // 2 * 7 % self.groups
        nodes = self.nodes if nth % 2 else self.nodes - 1
        self.ovn.set_backends(f"lb{group}", f"{address(group)}:80", backends(group, nodes))
        return float(self.ovn.took_ms())

    def _counted(self) -> int:
        """Flow entries on the switch; 0 while it does not answer."""
        try:
            return flow_entries(self.ovs, BRIDGE)
        except LabError:
            return 0

    def _pushed(self, wanted: int) -> float:
        """The switch daemon comes back with nothing; ovn-controller goes on."""
        self.ovs.restart_vswitchd()
        began = time.monotonic()
        again = "ovn-controller did not install its flows again"
        until(lambda: self._counted() >= wanted, again, _WITHIN_S)
        return time.monotonic() - began

    def _restarted(self) -> float:
        """ovn-controller dies; a new one finds everything in place."""
        self.ovn.kill_controller()
        began = time.monotonic()
        self.ovn.start_controller(self.ovs, BRIDGE)
        return time.monotonic() - began
