"""OVN's load balancer between client and backends, with its health checks on.

The client's logical switch has the load balancer, as Kubernetes' OVN plugins do it; a router leads
to the backends' switch.
"""

from __future__ import annotations

from bench import ovn
from bench.disruption.stage import ADDRESS, MOST_NODES, Contender
from bench.waiting import until
from sncontroller.lab.net import Host, Link

SHORTEST_INTERVAL_S = 1
_GATEWAYS = {
    "ls-cli": ("02:00:00:00:ff:01", "10.1.0.1/24"),
    "ls-web": ("02:00:00:00:ff:02", "10.0.0.1/24"),
}
_FRONT = f"{ADDRESS}:80"
_CHECKS_FROM = "10.0.0.254"
_CHECKS = {
    "interval": SHORTEST_INTERVAL_S,
    "timeout": 1,
    "success_count": 1,
    "failure_count": 3,
}


def _backend(index: int) -> str:
    return f"10.0.0.{20 + index}"


def _mac(index: int) -> str:
    return f"02:00:00:00:01:{index:02x}"


class Ovn(Contender):
    """northd and ovn-controller on a private database."""

    title = "OVN load balancer"

    def prepare(self) -> None:
        """The integration bridge, OVN, two logical switches and a router."""
        self.ovs.add_bridge(self.bridge, fail_mode="secure")
        self.ovn = self.stack.enter_context(ovn.Ovn(self.directory / "ovn"))
        for switch in _GATEWAYS:
            self.ovn.add_switch(switch, {})
        self.ovn.add_router("lr0", _GATEWAYS)
        self.ovn.start_controller(self.ovs, self.bridge)

    def backend_link(self, index: int) -> Link:
        """An address of its own, and the router as the way to clients."""
        return Link(f"{_backend(index)}/24", mac=_mac(index), gateway="10.0.0.1")

    def client_link(self) -> Link:
        """In the other network."""
        return Link("10.1.0.101/24", mac="02:00:00:00:02:01", gateway="10.1.0.1")

    def plugged(self, host: Host) -> None:
        """Make it a port of its logical switch."""
        name = "cli" if host.name == "cli1" else "web"
        addresses = f"{host.link.mac} {host.ip}"
        self.ovn.nbctl(
            *("lsp-add", f"ls-{name}", host.name),
            *("--", "lsp-set-addresses", host.name, addresses),
        )
        self.ovs.vsctl("set", "interface", host.name, f"external_ids:iface-id={host.name}")

    def begin(self) -> None:
        """The load balancer with three backends and health checks; wait until it serves."""
        self.ovn.add_balancer("lb0", "ls-cli", _FRONT, self._backends(3))
        self._check_health()
        self.ovn.sync()
        until(self.answers, "OVN's load balancer does not serve")
        until(lambda: self._online(3), "OVN's health checks do not find the backends online")

    def scale(self, nodes: int) -> None:
        """Set the backends, and wait until the switch has them."""
        self.ovn.set_backends("lb0", _FRONT, self._backends(nodes))

    def _backends(self, nodes: int) -> list[str]:
        return [f"{_backend(index)}:80" for index in range(1, nodes + 1)]

    def _check_health(self) -> None:
        options = (f"options:{key}={value}" for key, value in _CHECKS.items())
        self.ovn.nbctl(
            *("--", "--id=@check", "create", "Load_Balancer_Health_Check"),
            *(f'vip="{_FRONT}"', *options),
            *("--", "add", "Load_Balancer", "lb0", "health_check", "@check"),
        )
        for index in range(1, MOST_NODES + 1):
            mapping = f'ip_port_mappings:"{_backend(index)}"="vm{index}:{_CHECKS_FROM}"'
            self.ovn.nbctl("set", "Load_Balancer", "lb0", mapping)

    def _online(self, nodes: int) -> bool:
        said = self.ovn.sbctl("--bare", "--columns=status", "list", "Service_Monitor")
        return said.split().count("online") >= nodes
