"""The plugin guide's example keeps the contract: what the guide teaches is enough."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sncontroller.hypervisors.base import Hypervisor, NodeInfo, Owner, TransientError
from sncontroller.hypervisors.contract import OWNER, HypervisorContract, Subject, node_request

# The contract forks: its child only makes requests, and no lock of the cloud's threads is its.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")

GUIDE = Path(__file__).parents[2] / "docs" / "plugins.md"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The guide's example as a module."""
    (source,) = re.findall(r'```python\n(""".*?)```', GUIDE.read_text(), re.DOTALL)
    module = ModuleType("sncontroller_acme")
    exec(compile(source, str(GUIDE), "exec"), module.__dict__)
    return module


class Cloud(ThreadingHTTPServer):
    """The example's cloud, in memory: VMs by name, and room for so many."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port of the loopback."""
        super().__init__(("127.0.0.1", 0), CloudRequest)
        self.vms: dict[str, dict[str, Any]] = {}
        self.room = 100

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class CloudRequest(BaseHTTPRequestHandler):
    """One request to the cloud."""

    server: Cloud

    def do_GET(self) -> None:
        """All VMs."""
        self._answer(200, list(self.server.vms.values()))

    def do_PUT(self) -> None:
        """Make the VM, or find it made."""
        name = self.path.removeprefix("/vms/")
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if name not in self.server.vms and len(self.server.vms) >= self.server.room:
            self._answer(507, "no room")
            return
        self._answer(200, self.server.vms.setdefault(name, _vm(name, wanted)))

    def do_DELETE(self) -> None:
        """Remove the VM."""
        known = self.server.vms.pop(self.path.removeprefix("/vms/"), None)
        self._answer(200 if known else 404, {})

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""

    def _answer(self, status: int, body: object) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


def _vm(name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    return {**wanted, "id": f"vm-{name}", "state": "running"}


class CloudSubject(Subject):
    """The example plugin and its cloud."""

    def __init__(self, example: ModuleType, cloud: Cloud) -> None:
        """Use this cloud."""
        self._example = example
        self._cloud = cloud

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        section = {"url": self._cloud.url, "image": "web", "network": "net"}
        made: Hypervisor = self._example.Acme(self._example.AcmeConfig(**section), owner)
        return made

    def cramped(self, owner: Owner) -> Hypervisor:
        """A cloud with room for one."""
        self._cloud.room = 1
        return self.plugin(owner)

    def objects(self) -> Collection[str]:
        """VMs."""
        return list(self._cloud.vms)

    def create_foreign(self) -> str:
        """A VM that someone else made."""
        self._cloud.vms["web-2"] = _vm("web-2", {"tags": {}, "port": "", "mac": ""})
        return "web-2"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """What can happen to a VM."""

        def power_off(info: NodeInfo) -> None:
            self._cloud.vms[f"{OWNER.controller}.{info.name}"]["state"] = "stopped"

        return {"powered off": power_off}


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """A running cloud."""
    with Cloud() as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    settle_s = 0.02

    @pytest.fixture
    def subject(self, example: ModuleType, cloud: Cloud) -> Subject:
        """The example in its cloud."""
        return CloudSubject(example, cloud)


def test_unreachable_cloud_is_transient(example: ModuleType) -> None:
    """Connection refused is worth another try."""
    section = {"url": "http://127.0.0.1:9", "image": "web", "network": "net"}
    plugin = example.Acme(example.AcmeConfig(**section), OWNER)
    with pytest.raises(TransientError, match="GET http://127.0.0.1:9/vms".replace(".", r"\.")):
        plugin.start_node(node_request(2))
