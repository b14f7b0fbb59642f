"""How the data plane bears many pinned flows: rates, memory and the price of statistics.

Owns filling the switch with pins and measuring beside them. conntrack's pins are made by packets
(``bench.syns``); those that are entries are written as ``learn`` and the controller write them,
because that many packets through the slow path would take longer than the whole run.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from bench import Report, syns
from bench.counters import cpu_s, flow_entries, memory_mib
from bench.dataplane import client
from bench.dataplane.contenders import ZONE, Ours
from bench.dataplane.field import BRIDGE, SERVICE, Field
from sncontroller.core import layout as at
from sncontroller.core.layout import Index, Kind, Layout
from sncontroller.lab.net import INNER
from sncontroller.lab.programs import LabError

SIZES: Final = {
    "conntrack": (0, 1_000, 10_000, 100_000, 1_000_000),
    "learn": (0, 1_000, 10_000, 100_000),
}
"""Pins to measure with. A million entries take Open vSwitch minutes to write."""
SPAN_S: Final = 2
IDLE_S: Final = 4.0
"""For so long nobody does anything, and the controller polls once a second."""
_SYNS_PER_S: Final = 40_000.0
_ATTEMPTS: Final = 2
_ENOUGH: Final = 0.98
"""Share of the pins for which no second attempt is made: the switch loses some in the haste."""
_HALF_OPEN_S: Final = 3600
_FILL_TIMEOUT_S: Final = 120.0
_LIMIT: Final = 2_000_000
_AT_ONCE: Final = 10_000
"""Entries of one ovs-ofctl, which has 20 seconds."""


@dataclass(frozen=True, slots=True)
class Held:
    """The switch with this many pins."""

    pins: int
    new_connections_per_s: float
    keepalive_requests_per_s: float
    errors: int
    switch_memory_mib: float
    controller_memory_mib: float
    poll_switch_cpu_ms: float
    """Processor time of the switch per second in which nothing but a poll happens."""
    poll_controller_cpu_ms: float


def measure(
    field: Field, sizes: Mapping[str, Sequence[int]], report: Report
) -> dict[str, list[dict[str, Any]]]:
    """Per pinning, a row per number of pins; what could not be measured says why."""
    found = {}
    for pinning, wanted in sizes.items():
        field.restart()  # memory that was freed is seldom given back
        field.clear()
        found[pinning] = list(_pinning(field, pinning, wanted, report))
    return found


def _pinning(
    field: Field, pinning: str, sizes: Sequence[int], report: Report
) -> Iterator[dict[str, Any]]:
    ours = Ours(pinning, field, {"limit": _LIMIT})
    wanted = 0
    try:
        _let_half_open_live(field)
        ours.start()
        for wanted in sizes:
            _fill(field, pinning, wanted)
            held = _held(field, ours, _pins(field, pinning))
            report(f"{pinning}, {held.pins} pins: {held.new_connections_per_s:.0f} connections/s")
            yield {"wanted": wanted, **asdict(held)}
    except LabError as error:
        report(f"{pinning}, {wanted} pins: {error}")
        yield {"wanted": wanted, "not_measured": str(error).splitlines()[0]}
    finally:
        field.revive()
        ours.stop()


def _held(field: Field, ours: Ours, pins: int) -> Held:
    controller, *_ = ours.pids
    time.sleep(1)
    before = cpu_s((field.switch_pid,)), cpu_s(ours.pids)
    time.sleep(IDLE_S)
    idle = cpu_s((field.switch_pid,)) - before[0], cpu_s(ours.pids) - before[1]
    new = client.rate(field.client, ours.address, SPAN_S, close=True)
    keep = client.rate(field.client, ours.address, SPAN_S, close=False)
    return Held(
        pins=pins,
        new_connections_per_s=round(new.per_s, 1),
        keepalive_requests_per_s=round(keep.per_s, 1),
        errors=new.errors + keep.errors,
        switch_memory_mib=round(memory_mib(field.switch_pid), 1),
        controller_memory_mib=round(memory_mib(controller), 1),
        poll_switch_cpu_ms=round(idle[0] / IDLE_S * 1e3, 2),
        poll_controller_cpu_ms=round(idle[1] / IDLE_S * 1e3, 2),
    )


# filling


def _let_half_open_live(field: Field) -> None:
    """A pin of a SYN without an answer stays for the measurement, not for half a minute."""
    policy = [f"{state}={_HALF_OPEN_S}" for state in ("tcp_syn_sent", "tcp_syn_recv")]
    if "netdev" not in field.ovs.vsctl("get", "open_vswitch", ".", "datapaths"):
        create = ("--id=@dp", "create", "datapath", "datapath_version=0")
        field.ovs.vsctl(*create, "--", "set", "open_vswitch", ".", "datapaths:netdev=@dp")
    field.ovs.vsctl("--may-exist", "add-zone-tp", "netdev", f"zone={ZONE}", *policy)


def _fill(field: Field, pinning: str, wanted: int) -> None:
    if not wanted:
        return
    if pinning == "conntrack":
        _by_packets(field, wanted)
    else:
        _by_entries(field, wanted)


def _by_packets(field: Field, wanted: int) -> None:
    mac = str(field.backends[0].link.mac)
    script = str(Path(syns.__file__))
    for _ in range(_ATTEMPTS):
        command = (sys.executable, script, INNER, SERVICE, mac, f"{wanted}", f"{_SYNS_PER_S}")
        field.client.run(*command, timeout_s=_FILL_TIMEOUT_S)
        if _pins(field, "conntrack") >= _ENOUGH * wanted:
            return


def _by_entries(field: Field, wanted: int) -> None:
    path = field.directory / "pins.flows"
    for first in range(0, wanted, _AT_ONCE):
        with path.open("w") as out:
            out.writelines(_entries(first, min(_AT_ONCE, wanted - first), len(field.backends)))
        field.ovs.ofctl("--bundle", "add-flows", BRIDGE, str(path))
    path.unlink()


def _entries(first: int, count: int, nodes: int) -> Iterator[str]:
    """Pins as ``learn`` writes them, in ovs-ofctl's words."""
    table = Layout().pin_table
    pins = [
        (at.cookie(Kind.PIN, at.Zone(ZONE), i), at.mark(at.Zone(ZONE), Index(i)))
        for i in range(1, nodes + 1)
    ]
    for number in range(first, first + count):
        cookie, mark = pins[number % nodes]
        source, port = syns.flow(number)
        yield (
            f"table={table},priority=100,cookie={cookie},idle_timeout=7200,tcp,reg1={ZONE},"
            f"nw_src={source},nw_dst={SERVICE},tp_src={port},tp_dst=80,"
            f"actions=load:{mark}->NXM_NX_REG0[],fin_timeout(idle_timeout=10)\n"
        )


def _pins(field: Field, pinning: str) -> int:
    if pinning == "conntrack":
        return int(field.ovs.appctl("dpctl/ct-get-nconns").split()[0])
    return flow_entries(field.ovs, BRIDGE, f"table={Layout().pin_table}")
