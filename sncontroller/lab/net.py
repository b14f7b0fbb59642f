"""Hosts in network namespaces, plugged into a bridge of the private Open vSwitch.

Owns veth pairs, addresses and shaping, all made with plain iproute2: a host is up in some 30 ms. It
knows Open vSwitch only as the thing that a host's outer interface is plugged into.
"""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Any, Final, Self

from sncontroller.lab.isolation import isolate
from sncontroller.lab.namespaces import INNER, namespaces, remove_link, remove_namespace
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import (
    DIES_WITH_PARENT,
    LabError,
    dies_with_parent,
    program,
    require_root,
    run_script,
)

__all__ = [
    "INNER",
    "Host",
    "Link",
    "Shaping",
    "attach_script",
    "inside_script",
    "isolate",
    "namespaces",
    "remove_namespace",
    "run_script",
    "tbf_command",
]

INTERFACE_NAME_MAX: Final = 15
CHILD_PATIENCE_S: Final = 10.0
TBF_LATENCY_MS: Final = 100
TBF_BURST_MIN_B: Final = 6 * 1514


class Shaping(Enum):
    """Which directions of a host's link have its rate: what it sends, or what it gets too."""

    EGRESS = "egress"
    BOTH = "both"


@dataclass(frozen=True, slots=True)
class Link:
    """What a host's network interface must be."""

    address: str
    """Own address with prefix length, as 10.0.0.1/24."""
    mac: str | None = None
    gateway: str | None = None
    loopback: tuple[str, ...] = ()
    """Addresses on the loopback that the host must not answer for; in IPv6 it does not anyway."""
    rate_bps: int | None = None
    shaping: Shaping = Shaping.EGRESS
    tag: int | None = None
    """VLAN of the switch port."""
    alias: str | None = None
    """Written on the namespace's loopback and the outer interface (at most 255 characters)."""


def attach_script(namespace: str, port: str, link: Link) -> str:
    """Shell commands that make the namespace and its veth pair, outer end ``port`` here."""
    name, outer = shlex.quote(namespace), shlex.quote(port)
    mac = f"address {link.mac} " if link.mac is not None else ""
    alias = f"alias {shlex.quote(link.alias)} " if link.alias is not None else ""
    pair = f"link add {outer} type veth peer name {INNER} {mac}netns {name}"
    return "\n".join(
        [
            "set -e",
            _namespace_command(name, link.alias),
            f"ip {pair}",
            # a child of this shell that dies with it, as this shell dies with its caller
            f"ip netns exec {name} {DIES_WITH_PARENT} sh -ec {shlex.quote(inside_script(link))}",
            f"ethtool -K {outer} tx off >/dev/null",
            f"echo 1 >/proc/sys/net/ipv6/conf/{outer}/disable_ipv6 2>/dev/null || true",
            f"ip link set {outer} {alias}up",
        ]
    )


def _namespace_command(name: str, alias: str | None) -> str:
    """With an alias: it is written before the namespace gets its name, so none is ever without."""
    if alias is None:
        return f"ip netns add {name}"
    tag = f"ip link set lo alias {shlex.quote(alias)}"
    inside = shlex.quote(f"{tag}; ip netns attach {name} $$")
    return f"{DIES_WITH_PARENT} unshare --net sh -ec {inside}"


def inside_script(link: Link) -> str:
    """Shell commands that configure, from inside, a namespace whose interface is there."""
    conf = "/proc/sys/net/ipv4/conf"
    return "\n".join(
        [
            # before the interface comes up: nothing on the loopback is ever answered or announced
            f"echo 1 >{conf}/{INNER}/arp_ignore",
            f"echo 2 >{conf}/{INNER}/arp_announce",
            f"{_ipv6_setting(link)} 2>/dev/null || true",
            f"ethtool -K {INNER} tx off >/dev/null",
            *([] if link.rate_bps is None else [tbf_command(INNER, link.rate_bps)]),
            "ip -batch - <<'END'",
            "link set lo up",
            f"link set {INNER} up",
            *(f"address add {address} dev lo" for address in link.loopback),
            f"address add {link.address} dev {INNER}",
            *([f"route add default via {link.gateway}"] if link.gateway is not None else []),
            "END",
        ]
    )


def _ipv6_setting(link: Link) -> str:
    """No duplicate address detection, and no IPv6 chatter at all on a host that does not use it."""
    conf = f"/proc/sys/net/ipv6/conf/{INNER}"
    used = any(":" in address for address in (link.address, *link.loopback))
    return f"echo 0 >{conf}/accept_dad" if used else f"echo 1 >{conf}/disable_ipv6"


def tbf_command(interface: str, rate_bps: int) -> str:
    """The command that limits what leaves an interface; 10 ms of burst: more than a tick."""
    burst_b = max(TBF_BURST_MIN_B, rate_bps // 8 // 100)
    rate = f"rate {rate_bps}bit burst {burst_b} latency {TBF_LATENCY_MS}ms"
    return f"tc qdisc replace dev {shlex.quote(interface)} root tbf {rate}"


class Host:
    """A network namespace with one interface on a bridge; a context manager.

    The switch port and the namespace are both called ``name``: at most 15 characters, unique on the
    machine (use a prefix of your run's own).
    """

    def __init__(self, ovs: PrivateOvs, bridge: str, name: str, link: Link) -> None:
        """Describe the host; :meth:`start` makes it."""
        if not 0 < len(name) <= INTERFACE_NAME_MAX:
            raise LabError(f"host name {name!r} must have 1 to {INTERFACE_NAME_MAX} characters")
        self.ovs = ovs
        self.bridge = bridge
        self.name = name
        self.link = link
        self.ofport = 0
        self._children: list[subprocess.Popen[Any]] = []

    @property
    def ip(self) -> str:
        """The host's own address without the prefix length."""
        return self.link.address.partition("/")[0]

    @property
    def mac(self) -> str:
        """The hardware address of the host's interface."""
        return self.run("cat", f"/sys/class/net/{INNER}/address").stdout.strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Make the host; its port is on the bridge when this returns."""
        require_root("a network namespace")
        for name in ("ip", "tc", "ethtool"):
            program(name)
        if self.name in namespaces():
            raise LabError(f"network namespace {self.name} exists already")
        try:
            run_script(attach_script(self.name, self.name, self.link))
            self.ofport = self.ovs.add_port(self.bridge, self.name, tag=self.link.tag)
            if self.link.rate_bps is not None and self.link.shaping is Shaping.BOTH:
                self.ovs.leave_qdisc(self.name)
                run_script(tbf_command(self.name, self.link.rate_bps))
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Ensure that processes, port, interface and namespace are gone."""
        remove_namespace(self.name)
        remove_link(self.name)
        while self._children:
            child = self._children.pop()
            child.kill()  # one that was only about to enter the namespace was not found there
            child.wait(CHILD_PATIENCE_S)
        if self.ovs.pids:
            self.ovs.del_port(self.name)

    def argv(self, *command: str) -> list[str]:
        """The command line that runs ``command`` inside."""
        return [program("ip"), "netns", "exec", self.name, *command]

    def run(
        self, *command: str, check: bool = True, timeout_s: float = 30.0, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside to its end. Raises ``LabError`` when ``check`` and it fails."""
        done = subprocess.run(
            self.argv(*command),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            input=stdin or "",
        )
        if check and done.returncode != 0:
            said = done.stderr.strip() or done.stdout.strip() or f"status {done.returncode}"
            raise LabError(f"{self.name}: {' '.join(command)}: {said}")
        return done

    def popen(self, *command: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process inside; it ends with :meth:`stop` at the latest, or with this thread."""
        options.setdefault("stdin", subprocess.DEVNULL)
        options.setdefault("start_new_session", True)
        child = subprocess.Popen([*dies_with_parent(), *self.argv(*command)], **options)
        self._children.append(child)
        return child
