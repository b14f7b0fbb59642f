"""The product between client and backends: ``ryu-manager``, and ready nodes in its pool."""

from __future__ import annotations

from typing import Any

import yaml

from bench.disruption.stage import ADDRESS, MOST_NODES, Contender, node_name
from bench.waiting import fetched, until
from sncontroller.lab.controller import Controller, Endpoints
from sncontroller.lab.net import Link

GROUP, PROBES_FROM = "web", "10.0.0.254"
SHORTEST_INTERVAL_S = 0.1


class Ours(Contender):
    """A group with conntrack pinning; backend 1 is the primary, whose own address it is."""

    title = "ours"

    def prepare(self) -> None:
        """A bridge that switches like any other, and waits for its controller."""
        self.endpoints = Endpoints()
        self.ovs.add_bridge(self.bridge, fail_mode="secure", controller=self.endpoints.target)
        self.ovs.ofctl("add-flow", self.bridge, "cookie=0xf0e1,priority=0,actions=NORMAL")

    def backend_link(self, index: int) -> Link:
        """Secondaries hold the group's address on their loopback."""
        mac = f"02:00:00:00:01:{index:02x}"
        if index == 1:
            return Link(f"{ADDRESS}/24", mac=mac)
        return Link(f"10.0.0.{20 + index}/24", mac=mac, loopback=(ADDRESS,))

    def begin(self) -> None:
        """Start the controller; it takes two nodes from the pool."""
        file = self.directory / "sn.yaml"
        file.write_text(yaml.safe_dump(self._configuration(), sort_keys=False))
        controller = Controller(self.endpoints, file, self.directory / "controller.log")
        controller.start()
        self.stack.callback(controller.stop)
        self._until_serving(3)

    def scale(self, nodes: int) -> None:
        """As an operator would."""
        fetched(f"{self.endpoints.rest}/v1/groups/{GROUP}/scale", {"nodes": nodes})
        self._until_serving(nodes)

    def wait_recovered(self, index: int) -> None:
        """The controller knows, and its breaker has no doubts left from the fault before."""

        def holds() -> bool:
            group = self._group()
            nodes = {node["name"]: node["state"] for node in group["nodes"]}
            return nodes.get(node_name(index)) == "active" and not group["held"]

        until(holds, lambda: f"{node_name(index)} did not come back: {self._group()}", 60.0)

    def doubt(self) -> str:
        """What the breaker said last: at this interval a busy machine may be late with answers."""
        said = [event for event in self._group()["events"] if event["kind"] == "breaker"]
        return str(max(said, key=lambda event: event["time_s"])["reason"]) if said else ""

    def _until_serving(self, nodes: int) -> None:
        def holds() -> bool:
            try:
                group = self._group()
            except OSError:
                return False
            active = [node for node in group["nodes"] if node["state"] == "active"]
            return len(active) == nodes and bool(group["live"]) and not group["held"]

        until(holds, f"there are not {nodes} nodes")

    def _group(self) -> Any:
        return fetched(f"{self.endpoints.rest}/v1/status")["groups"][0]

    def _configuration(self) -> dict[str, Any]:
        ready = [
            {"port": f"vm{index}", "mac": f"02:00:00:00:01:{index:02x}"}
            for index in range(2, MOST_NODES + 1)
        ]
        group = {
            "bridge": self.bridge,
            "match": {"address": ADDRESS, "ports": [80]},
            "primary": {"port": "vm1"},
            "health": {
                "kind": "http",
                "path": "/ping",
                "source": PROBES_FROM,
                "interval_s": SHORTEST_INTERVAL_S,
                "damping": {"penalty": 0},
            },
            "drain": {"idle_s": 60, "deadline_s": 300},
            "scaling": {"policy": "manual", "min": 1, "max": MOST_NODES, "nodes": 3},
            "hypervisor": {"plugin": "pool", "ovsdb": self.ovs.db, "nodes": ready},
        }
        return {"controller": "bench", "poll_interval_s": 0.5, "groups": {GROUP: group}}
