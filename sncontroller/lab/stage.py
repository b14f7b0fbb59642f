"""Where the demo plays: a private switch that others use too, the primary, the clients' host.

Owns what is there before the controller comes, and the configuration that is written for it. All
of it lives in network namespaces of the demo's own (``net.isolate``), so the addresses and names
here are nobody else's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import yaml

from sncontroller.core.hypervisor import Owner
from sncontroller.core.layout import group_origin, origin
from sncontroller.hypervisors import base
from sncontroller.lab.machines import HYPERVISORS
from sncontroller.lab.net import Host, Link
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import LabError
from sncontroller.lab.setting import (
    ADDRESS,
    BRIDGE,
    CLIENTS,
    GROUP,
    OWNER,
    PREFIX_LENGTH,
    PRIMARY_PORT,
    PROBE_SOURCE,
    Setting,
)

CLIENTS_PORT = "clients"
_SERVES_WITHIN_S = 90.0
"""An emulated machine boots in some seconds, and not much faster while others use the cores."""

FOREIGN_FLOWS = (
    "cookie=0xf0e1,table=0,priority=0,actions=NORMAL",
    "cookie=0xf0e2,table=0,priority=65000,dl_type=0x88cc,actions=drop",
    "cookie=0xf0e3,table=0,priority=100,udp,nw_dst=10.0.0.53,tp_dst=53,actions=resubmit(,17)",
    "cookie=0xf0e3,table=17,priority=1,udp,nw_src=10.0.0.0/24,actions=group:7",
)
FOREIGN_GROUPS = ("group_id=7,type=indirect,bucket=actions=NORMAL",)


_CONFIGURATION = """\
# The controller's configuration of this demo. To try a change of it: sncontroller check FILE
controller: {owner}              # tag on everything that the controller creates
poll_interval_s: 0.5

groups:
  {group}:
    bridge: {bridge}
    match: {{address: {address}, protocol: tcp, ports: [{port}]}}
    primary: {{port: {primary}}}      # the VM that was there before; the address is its own
    pinning: {pinning}
    capacity: {{bits_per_s: {rate_bps}}}   # what one node can send: load 1.0
    scaling:
      policy: threshold
      min: 1
      max: {max_nodes}
      high: 0.8               # above it for high_for_s: one node more
      low: 0.35               # below it for low_for_s: one node less
      high_for_s: {high_for_s}
      low_for_s: {low_for_s}
      up_cooldown_s: {cooldown_s}
      down_cooldown_s: {cooldown_s}
    health: {{kind: http, path: /ping, source: {source}, interval_s: 1, fall: 5}}
    drain:
      deadline_s: 120         # a drained node goes when its last connection ends, or then
      idle_s: 2
    hypervisor:
{section}"""


def configuration(setting: Setting, section: Mapping[str, Any]) -> str:
    """The controller's configuration file; ``section`` is the hypervisor plugin's."""
    plugin = {"plugin": setting.hypervisor, **section}
    lines = yaml.safe_dump(plugin, sort_keys=False, width=90).splitlines()
    return _CONFIGURATION.format(
        owner=OWNER,
        group=GROUP,
        bridge=BRIDGE,
        address=ADDRESS,
        primary=PRIMARY_PORT,
        source=PROBE_SOURCE,
        port=setting.service.port,
        pinning=setting.pinning,
        rate_bps=setting.service.rate_bps,
        max_nodes=setting.max_nodes,
        high_for_s=1.0 if setting.quick else 2.0,
        low_for_s=1.0 if setting.quick else 2.0,
        cooldown_s=1.0 if setting.quick else 3.0,
        section="".join(f"      {line}\n" for line in lines),
    )


@dataclass(frozen=True, slots=True)
class Entries:
    """The entries of a bridge as text, without counters: ours and those of others."""

    ours: tuple[str, ...]
    foreign: tuple[str, ...]


class Stage:
    """The stage, set; a context manager."""

    def __init__(self, setting: Setting) -> None:
        """Describe the stage; entering the context sets it."""
        self.setting = setting
        self.ovs = PrivateOvs()
        self.clients = Host(self.ovs, BRIDGE, CLIENTS_PORT, Link(f"{CLIENTS[0]}/{PREFIX_LENGTH}"))
        self.machines = HYPERVISORS[setting.hypervisor].machines(setting, self.ovs)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.enter_context(self.ovs)
            self._bridge()
            stack.enter_context(self.clients)
            stack.enter_context(self.machines)
            self._await_service()
            self._people()
            section = self.machines.section
            self.setting.configuration.write_text(configuration(self.setting, section))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.close()

    def entries(self) -> Entries:
        """What is on the bridge now."""
        flows = self.ovs.ofctl("dump-flows", "--no-stats", BRIDGE).splitlines()
        groups = self.ovs.ofctl("dump-groups", BRIDGE).splitlines()
        lines = [line.strip() for line in (*flows, *groups) if "_REPLY" not in line]
        ours = {line for line in lines if is_ours(line)}
        return Entries(tuple(sorted(ours)), tuple(sorted(set(lines) - ours)))

    def remove_secondaries(self) -> None:
        """Ensure that no node is left, however far the controller has come."""
        plugin = base.load(self.setting.hypervisor)
        nodes = plugin(plugin.Config(**self.machines.section), Owner(OWNER, GROUP))
        for node in nodes.list_nodes():
            nodes.stop_node(node.name)

    def left(self) -> tuple[str, ...]:
        """What there is of secondaries, one line each: ports, and what the hypervisor has."""
        ports = set(self.ovs.vsctl("list-ports", BRIDGE).split())
        strange = sorted(ports - {PRIMARY_PORT, CLIENTS_PORT})
        return (*(f"port {name}" for name in strange), *self.machines.left())

    def invitation(self) -> str:
        """How to look around in the lab from another terminal."""
        pid, rest = os.getpid(), self.setting.endpoints.rest
        return (
            f"The lab stays. In another terminal: nsenter -t {pid} -n -m\n"
            f"then e.g. export OVS_RUNDIR={self.ovs.directory}; ovs-ofctl -O OpenFlow13"
            f" dump-flows {BRIDGE}; curl {rest}/v1/status\n"
            "Ctrl-C ends it."
        )

    def _bridge(self) -> None:
        """A bridge that others use, without a controller."""
        self.ovs.add_bridge(BRIDGE, dpid=0xDE30)
        self.ovs.ofctl("del-flows", BRIDGE)
        for group in FOREIGN_GROUPS:
            self.ovs.ofctl("add-group", BRIDGE, group)
        for flow in FOREIGN_FLOWS:
            self.ovs.ofctl("add-flow", BRIDGE, flow)

    def _await_service(self) -> None:
        deadline = time.monotonic() + _SERVES_WITHIN_S
        while not self._answers():
            self.machines.expect_primary()
            if time.monotonic() > deadline:
                raise LabError(f"the primary does not serve within {_SERVES_WITHIN_S:.0f} s")
            time.sleep(0.05)

    def _answers(self) -> bool:
        url = f"http://{ADDRESS}:{self.setting.service.port}/ping"
        return not self.clients.run("curl", "-sfm1", url, check=False).returncode

    def _people(self) -> None:
        """More addresses and ports for the clients than their connections need."""
        for address in CLIENTS[1:]:
            self.clients.run("ip", "address", "add", f"{address}/{PREFIX_LENGTH}", "dev", "eth0")
        ports = "/proc/sys/net/ipv4/ip_local_port_range"
        self.clients.run("sh", "-c", f"echo 10000 65000 >{ports}")


def is_ours(line: str) -> bool:
    """Whether a dumped flow or group entry is sncontroller's."""
    if line.startswith("group_id="):
        return group_origin(int(line.removeprefix("group_id=").partition(",")[0])) is not None
    cookie = line.removeprefix("cookie=").partition(",")[0]
    return line.startswith("cookie=") and origin(int(cookie, 16)) is not None
