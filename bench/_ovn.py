"""OVN's load balancer between client and backends, with its health checks on.

The client's logical switch has the load balancer, as Kubernetes' OVN plugins do it; a router leads
to the backends' switch.
"""

from __future__ import annotations

from bench._private_ovn import BRIDGE, PrivateOvn
from bench._stage import ADDRESS, MOST_NODES, Contender, until
from sncontroller.lab.net import Host, Link

SHORTEST_INTERVAL_S = 1
_GATEWAYS = {"cli": "10.1.0.1/24", "web": "10.0.0.1/24"}
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
    bridge = BRIDGE

    def prepare(self) -> None:
        """The integration bridge, OVN, two logical switches and a router."""
        self.ovs.add_bridge(BRIDGE, fail_mode="secure")
        self.ovn = self.stack.enter_context(PrivateOvn(self.ovs, self.directory / "ovn"))
        self.ovn.nbctl("lr-add", "lr0")
        for nth, (name, gateway) in enumerate(_GATEWAYS.items(), 1):
            self._switch(name, gateway, f"02:00:00:00:ff:{nth:02x}")

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
        self.ovn.nbctl("lb-add", "lb0", f"{ADDRESS}:80", self._backends(3), "tcp")
        self._check_health()
        self.ovn.nbctl("--wait=hv", "ls-lb-add", "ls-cli", "lb0")
        until(self._answers, "OVN's load balancer does not serve")
        until(lambda: self._online(3), "OVN's health checks do not find the backends online")

    def scale(self, nodes: int) -> None:
        """Set the backends, and wait until the switch has them."""
        vip = f'vips:"{ADDRESS}:80"="{self._backends(nodes)}"'
        self.ovn.nbctl("--wait=hv", "set", "Load_Balancer", "lb0", vip)

    def _backends(self, nodes: int) -> str:
        return ",".join(f"{_backend(index)}:80" for index in range(1, nodes + 1))

    def _switch(self, name: str, gateway: str, mac: str) -> None:
        self.ovn.nbctl(
            *("ls-add", f"ls-{name}"),
            *("--", "lrp-add", "lr0", f"lrp-{name}", mac, gateway),
            *("--", "lsp-add", f"ls-{name}", f"to-{name}"),
            *("--", "lsp-set-type", f"to-{name}", "router"),
            *("--", "lsp-set-addresses", f"to-{name}", "router"),
            *("--", "lsp-set-options", f"to-{name}", f"router-port=lrp-{name}"),
        )

    def _check_health(self) -> None:
        options = (f"options:{key}={value}" for key, value in _CHECKS.items())
        self.ovn.nbctl(
            *("--", "--id=@check", "create", "Load_Balancer_Health_Check"),
            *(f'vip="{ADDRESS}:80"', *options),
            *("--", "add", "Load_Balancer", "lb0", "health_check", "@check"),
        )
        for index in range(1, MOST_NODES + 1):
            mapping = f'ip_port_mappings:"{_backend(index)}"="vm{index}:{_CHECKS_FROM}"'
            self.ovn.nbctl("set", "Load_Balancer", "lb0", mapping)

    def _answers(self) -> bool:
        command = ("curl", "-s", "-m", "1", f"http://{ADDRESS}/ping")
        return "pong" in self.client.run(*command, check=False).stdout

    def _online(self, nodes: int) -> bool:
        said = self.ovn.sbctl("--bare", "--columns=status", "list", "Service_Monitor")
        return said.split().count("online") >= nodes
