"""Flow set-ups through the controller (``pinning: reactive``), and a storm of packet-ins.

Owns the rig: a client that opens connections nobody answers at a fixed rate, a primary that takes
the packets, the product in between. Counted is what arrives: pins on the switch. In the storm far
more flows come than the controller can set up; looked at are the queue of new flows, whether
rounds of statistics still begin and end with all answers, and whether a node that answers its
probes is still taken for living.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from bench import Report, syns
from bench.counters import flow_entries, memory_mib
from bench.measured.process import MeasuredController
from sncontroller.core.layout import Layout
from sncontroller.lab.net import INNER, Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError

BRIDGE, MAC = "br0", "02:00:00:00:01:01"
ADDRESS = "10.0.0.10"
"""The group's; nobody answers there."""
NODE = "10.0.0.99"
"""What the primary answers a probe's question for."""
RATES, QUICK_RATES = (500, 1000, 2000, 4000), (1000,)
SECONDS, QUICK_SECONDS = 3.0, 2.0
STORM_RATE, STORM_S, QUICK_STORM_S = 20_000, 6.0, 3.0
POLL_INTERVAL_S = PROBE_INTERVAL_S = 0.5
_CALM_WITHIN_S = 12.0
KEPT_UP = 0.98
"""A rate was kept up when this share of the flows was set up while they came."""


def measured(quick: bool, report: Report) -> dict[str, Any]:
    """Rates one after the other, then the storm."""
    with tempfile.TemporaryDirectory(prefix="sn-bench-") as directory:
        path = Path(directory)
        file = path / "sn.yaml"
        file.write_text(yaml.safe_dump(_configuration()))
        with (
            PrivateOvs(path / "ovs") as ovs,
            MeasuredController(path, file, None) as controller,
        ):
            ovs.add_bridge(BRIDGE, fail_mode="secure", controller=controller.endpoints.target)
            ovs.ofctl("add-flow", BRIDGE, "priority=0,actions=NORMAL")
            with (
                Host(ovs, BRIDGE, "vm1", Link(f"{NODE}/24", mac=MAC)),
                Host(ovs, BRIDGE, "cli1", Link("10.0.0.101/24")) as client,
            ):
                rig = _Rig(ovs, controller, client)
                rig.settle()
                rates = []
                for rate in QUICK_RATES if quick else RATES:
                    report(f"reactive: {rate} new flows per second")
                    rates.append(rig.rate(rate, QUICK_SECONDS if quick else SECONDS))
                report(f"packet-in storm: {STORM_RATE} per second")
                storm = rig.storm(QUICK_STORM_S if quick else STORM_S)
    kept = [each["set_up_per_s"] for each in rates if each["share"] >= KEPT_UP]
    return {
        "rates": rates,
        "most_set_up_per_s": max(each["set_up_per_s"] for each in [*rates, storm]),
        "kept_up_per_s": max(kept, default=0.0),
        "storm": storm,
    }


def _configuration() -> dict[str, Any]:
    group = {
        "bridge": BRIDGE,
        "match": {"address": ADDRESS, "ports": [80]},
        "primary": {"port": "vm1", "mac": MAC},
        "pinning": "reactive",
        "pin": {"tcp_idle_s": 30, "fin_idle_s": 1},
        "health": {"kind": "arp", "target": NODE, "interval_s": PROBE_INTERVAL_S},
        "scaling": {"policy": "manual", "min": 1, "max": 1, "nodes": 1},
    }
    return {
        "controller": "bench",
        "poll_interval_s": POLL_INTERVAL_S,
        "groups": {"web": group},
    }


class _Rig:
    """The three of them, at work."""

    def __init__(self, ovs: PrivateOvs, controller: MeasuredController, client: Host) -> None:
        self.ovs, self.controller, self.client = ovs, controller, client
        self._first = 0
        """Number of the next flow: the controller knows those again that it has just set up."""

    def settle(self) -> None:
        """Wait until the group is on the switch."""
        said = self.controller.ask("settled", nodes=1, asked=1, within_s=20.0)
        if not said["settled"]:
            raise LabError(f"the group did not settle: {said}")

    def rate(self, rate: int, seconds: float) -> dict[str, Any]:
        """How many of the flows that come at this rate are set up."""
        before = self._before()
        sent = self._send(rate, seconds)
        pins = self._pins()
        after = self.controller.ask("counts")
        self._calm()
        return {
            "offered_per_s": sent["sent"] / sent["took_s"],
            "set_up_per_s": pins / sent["took_s"],
            "share": pins / max(1, sent["sent"]),
            "dropped": after["dropped"] - before["dropped"],
            "core_share": (after["cpu_s"] - before["cpu_s"]) / (after["now_s"] - before["now_s"]),
        }

    def storm(self, seconds: float) -> dict[str, Any]:
        """Far more than it can do."""
        memory = memory_mib(self.controller.pid)
        before = self._before()
        sent = self._send(STORM_RATE, seconds)
        asked = time.monotonic()
        during = self.controller.ask("counts")
        answered_s = time.monotonic() - asked
        pins = self._pins()
        ended = self._calm()
        polls = [at for at, _ in during["polls"]]
        gaps = [later - earlier for earlier, later in pairwise([before["now_s"], *polls])]
        took = [done - at for at, done in during["polls"]]
        return {
            "offered_per_s": sent["sent"] / sent["took_s"],
            "set_up_per_s": pins / sent["took_s"],
            "longest_queue": during["longest_inbox"],
            "queue_bound": during["bound"],
            "dropped": during["dropped"] - before["dropped"],
            "polls": len(polls),
            "partial_polls": during["partial_polls"],
            "falls": during["falls"] - before["falls"],
            "polls_due": sent["took_s"] / POLL_INTERVAL_S,
            "longest_gap_s": max(gaps, default=seconds),
            "slowest_poll_s": max(took, default=None),
            "answer_s": answered_s,
            "quiet_after_s": ended,
            "errors": during["errors"],
            "memory_mib": [memory, memory_mib(self.controller.pid)],
        }

    def _before(self) -> Any:
        self.controller.ask("forget")
        return self.controller.ask("counts")

    def _send(self, rate: int, seconds: float) -> Any:
        """What the sender says of itself."""
        flows = (str(round(rate * seconds)), str(rate), str(seconds), str(self._first))
        self._first += round(rate * seconds)
        command = (sys.executable, str(Path(syns.__file__)), INNER, ADDRESS, MAC, *flows)
        done = self.client.run(*command, check=False, timeout_s=seconds + 20)
        if done.returncode != 0:
            raise LabError(f"the sender failed: {done.stderr}")
        return json.loads(done.stdout)

    def _pins(self) -> int:
        """Per-flow entries on the switch."""
        return flow_entries(self.ovs, BRIDGE, f"table={Layout().pin_table}")

    def _calm(self) -> float:
        """Wait until what was queued is done, but not for ever, and remove the pins: how long."""
        began, last = time.monotonic(), -1
        while (pins := self.controller.ask("counts")["pins"]) != last:
            last = pins
            if time.monotonic() > began + _CALM_WITHIN_S:
                break
            time.sleep(0.3)
        quiet_s = time.monotonic() - began
        self.ovs.ofctl("del-flows", BRIDGE, f"table={Layout().pin_table}")
        return quiet_s
