"""A server of the node protocol that the ``rest`` plugin speaks: any plugin's nodes, over HTTP.

    rest_hypervisor.py SECTION.yaml [HOST:PORT]

``SECTION.yaml`` has what stands under ``hypervisor`` in a group: ``{plugin: netns, bridge: …}``. It
runs where the nodes are. It has no access control: keep it on a management network.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from dataclasses import asdict
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any
from urllib.parse import unquote

import yaml

from sncontroller.hypervisors import base


class Server(ThreadingHTTPServer):
    """One plugin, an instance for each owner; calls for the same node wait for each other."""

    daemon_threads = True

    def __init__(self, section: dict[str, Any], host: str, port: int) -> None:
        """Listen; raises what is wrong with the section."""
        kind = base.load(section.pop("plugin"))
        config = kind.Config.model_validate(section)
        self.plugin_of = cache(lambda owner: kind(config, owner))
        self.locks: dict[tuple[str, ...], Lock] = defaultdict(Lock)
        super().__init__((host, port), Request)


class Request(BaseHTTPRequestHandler):
    """``/v1/CONTROLLER/GROUP/nodes``, and below it a node by its name."""

    server: Server
    timeout = 30

    def do_GET(self) -> None:
        """All nodes of the owner."""
        self._answer(lambda plugin, _: {"nodes": [_json(node) for node in plugin.list_nodes()]})

    def do_PUT(self) -> None:
        """Ensure the node."""
        self._answer(self._start)

    def do_DELETE(self) -> None:
        """Ensure that there is no such node."""
        self._answer(lambda plugin, name: plugin.stop_node(name))

    def _start(self, plugin: base.Hypervisor, name: str) -> dict[str, Any]:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        wanted = {key: body[key] for key in ("index", "port", "mac")}
        request = base.NodeRequest(name=name, addresses=tuple(body["addresses"]), **wanted)
        return _json(plugin.start_node(request))

    def _answer(self, call: Callable[[base.Hypervisor, str], Any]) -> None:
        path = tuple(map(unquote, self.path.split("/")))
        if (path[1:2], path[4:5], len(path)) != (("v1",), ("nodes",), 5 + (self.command != "GET")):
            return self._send(404, {"error": f"{self.path}: no such resource"})
        plugin, lock = self.server.plugin_of(base.Owner(*path[2:4])), self.server.locks[path]
        if not lock.acquire(timeout=float(self.headers.get("Deadline-S", 30))):
            return self._send(503, {"error": "another call for this node is still under way"})
        try:
            self._send(200, call(plugin, path[-1]))
        except base.TransientError as error:
            self._send(503, {"error": str(error)})
        except (base.PermanentError, KeyError, ValueError, TypeError) as error:
            self._send(422, {"error": str(error)})
        finally:
            lock.release()

    def _send(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _json(info: base.NodeInfo) -> dict[str, Any]:
    return {**asdict(info), "status": info.status.value}


if __name__ == "__main__":
    host, _, port = (sys.argv[2] if len(sys.argv) > 2 else "127.0.0.1:8090").rpartition(":")
    with open(sys.argv[1], encoding="utf-8") as file:
        server = Server(yaml.safe_load(file), host, int(port))
    print(f"http://{host}:{server.server_address[1]}", flush=True)
    server.serve_forever()
