"""What the switch and the processes beside it did between two moments.

Owns reading counters. Passes per packet, upcalls and flows do not depend on how busy the machine
is; CPU time does a little, rates very much.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sncontroller.lab.ovs import PrivateOvs

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_COUNTS = ("packets received", "packet recirculations", "miss with success upcall")


@dataclass(frozen=True, slots=True)
class Datapath:
    """The userspace datapath's counters, all threads together."""

    packets: int
    recirculations: int
    upcalls: int

    def __sub__(self, before: Datapath) -> Datapath:
        return Datapath(
            self.packets - before.packets,
            self.recirculations - before.recirculations,
            self.upcalls - before.upcalls,
        )

    @property
    def passes_per_packet(self) -> float | None:
        """How often a packet was looked up; None without packets."""
        return 1 + self.recirculations / self.packets if self.packets else None


def datapath(ovs: PrivateOvs) -> Datapath:
    """The counters since the switch started."""
    return parsed_datapath(ovs.appctl("dpif-netdev/pmd-stats-show"))


def parsed_datapath(text: str) -> Datapath:
    """The sum over the threads that ``dpif-netdev/pmd-stats-show`` lists."""
    sums = (
        sum(map(int, re.findall(rf"^\s*{name}: (\d+)", text, re.MULTILINE))) for name in _COUNTS
    )
    return Datapath(*sums)


def datapath_flows(ovs: PrivateOvs) -> int:
    """Flows in the datapath now."""
    return parsed_datapath_flows(ovs.appctl("upcall/show"))


def parsed_datapath_flows(text: str) -> int:
    """The sum over the datapaths that ``upcall/show`` lists."""
    return sum(map(int, re.findall(r"flows\s*: \(current (\d+)\)", text)))


def openflow_entries(ovs: PrivateOvs, bridge: str) -> int:
    """Flow entries and group entries on the bridge now."""
    return flow_entries(ovs, bridge) + ovs.ofctl("dump-groups", bridge).count("group_id=")


def flow_entries(ovs: PrivateOvs, bridge: str, *match: str) -> int:
    """Flow entries on the bridge now, those that match (``table=2``) or all of them."""
    found = re.search(r"flow_count=(\d+)", ovs.ofctl("dump-aggregate", bridge, *match))
    return int(found.group(1)) if found else 0


def cpu_s(pids: Iterable[int]) -> float:
    """Processor time that these processes used so far; those that are gone used none."""
    return sum(map(_cpu_s, pids))


def _cpu_s(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def memory_mib(pid: int) -> float:
    """Memory that the process holds (resident set)."""
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found.group(1)) / 1024 if found else 0.0


def tree(*roots: int) -> tuple[int, ...]:
    """These processes and all that descend from them."""
    found: list[int] = []
    waiting = list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        for task in Path(f"/proc/{pid}/task").glob("*/children"):
            try:
                waiting += map(int, task.read_text().split())
            except OSError:  # ended meanwhile
                continue
    return tuple(found)
