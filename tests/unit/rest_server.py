"""A controller without a switch behind the real REST interface, as a process of its own.

Run with a configuration file and a port; 0 takes any. It prints the port. The groups, their state
machine and the web server are the product's own; only the switch and the hypervisor are values: a
node that is started is there at once.
"""

from __future__ import annotations

import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

from sncontroller.ryu_manager import prepare_eventlet

prepare_eventlet()

import eventlet  # noqa: E402
import eventlet.wsgi  # noqa: E402
from ryu.app.wsgi import WSGIApplication  # noqa: E402

from sncontroller import config  # noqa: E402
from sncontroller.controller import Controller  # noqa: E402
from sncontroller.core import commands as cmd  # noqa: E402
from sncontroller.core import events as ev  # noqa: E402
from sncontroller.core.hypervisor import NodeInfo, NodeStatus  # noqa: E402
from sncontroller.northbound import metrics, rest, views  # noqa: E402

DATAPATH = 7
BUG = "# a bug"


class Brain:
    """The application's part: a controller, and surroundings that obey at once."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._waiting: deque[ev.Event] = deque()
        self._nodes: dict[str, NodeInfo] = {}
        loaded = config.load(path)
        self.controller = Controller(loaded, self, time.time())
        names = [spec.primary.port for spec in loaded.groups if spec.primary.port]
        self._ports = {
            name: ev.Port(number, name, f"02:00:00:00:00:{number:02x}", True)
            for number, name in enumerate(names, 1)
        }
        self._give(ev.SwitchUp(DATAPATH, "br0", tuple(self._ports.values()), {}))

    def _give(self, event: ev.Event) -> None:
        self._waiting.append(event)
        while self._waiting:
            self.controller.handle(self._waiting.popleft(), time.time())

    def carry_out(self, group: str, command: cmd.Command) -> None:
        """Answer the core's commands."""
        match command:
            case cmd.Apply(datapath, zone, version):
                self._waiting.append(ev.Applied(datapath, zone, version))
            case cmd.StartNode(zone, request):
                node = NodeInfo(
                    request.name, request.index, request.port, request.mac, NodeStatus.RUNNING
                )
                self._nodes[node.name] = node
                port = ev.Port(100 + request.index, request.port, request.mac, True)
                self._ports[request.port] = port
                self._waiting.append(ev.PortSeen(DATAPATH, port))
                self._answer(zone, ev.Call.START, request.name, (node,))
            case cmd.StopNode(zone, name):
                self._nodes.pop(name, None)
                self._answer(zone, ev.Call.STOP, name)
            case cmd.ListNodes(zone):
                self._answer(zone, ev.Call.LIST, None, tuple(self._nodes.values()))
            case _:
                pass

    def _answer(
        self, zone: Any, call: ev.Call, name: str | None, nodes: tuple[NodeInfo, ...] = ()
    ) -> None:
        self._waiting.append(ev.HypervisorResult(zone, call, name, nodes, None, False, 0.1))

    # what rest.py asks

    def status(self) -> dict[str, Any]:
        """Everything there is to see."""
        return views.status("lab", "1.2.3", self.controller.groups.values(), time.time())

    def metrics(self) -> str:
        """For Prometheus."""
        return metrics.render(self.status())

    def ask(self, group: str, node: str, verb: ev.Verb) -> None:
        """Drain, undrain or fail a node."""
        self.controller.ask(group, node, verb, time.time())
        self._give(ev.Tick())

    def scale(self, group: str, nodes: int | None) -> None:
        """Set the number of nodes, or release it."""
        self.controller.scale(group, nodes, time.time())
        self._give(ev.Tick())

    def reload(self) -> tuple[str, ...]:
        """Apply the file anew; ``BUG`` in it is one of ours."""
        if BUG in Path(self._path).read_text():
            raise RuntimeError("something nobody thought of")
        fresh = config.load(self._path)
        refused = self.controller.refusals(fresh)
        if refused:
            raise config.ConfigError(config.Problem(r.path, r.message) for r in refused)
        return self.controller.reconfigure(fresh, time.time())


def main(path: str, port: int) -> None:
    """Serve until killed."""
    application = WSGIApplication()
    rest.mount(application, Brain(path))
    listener = eventlet.listen(("127.0.0.1", port))
    print(listener.getsockname()[1], flush=True)
    eventlet.wsgi.server(listener, application, log_output=False)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
