"""The ``rest`` plugin against the example server, which makes real nodes; and its errors."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from pydantic import ValidationError

from sncontroller.hypervisors.base import (
    Hypervisor,
    NodeStatus,
    Owner,
    PermanentError,
    TransientError,
    load,
)
from sncontroller.hypervisors.contract import (
    OWNER,
    ZONES,
    HypervisorContract,
    Subject,
    node_request,
)
from sncontroller.hypervisors.netns import ENVIRONMENT_MARK
from sncontroller.hypervisors.rest import DEADLINE_HEADER, Rest, RestConfig
from sncontroller.lab.leftovers import Scope, leftovers, snapshot
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.programs import dies_with_parent
from tests.lab.test_netns_plugin import BRIDGE, NetnsSubject

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "rest_hypervisor.py"
MARKS = tuple(f"{ENVIRONMENT_MARK}={owner.controller}/" for owner in ZONES)
PATH = "/v1/contract/web/nodes"
NODE = {
    "name": "web-2",
    "index": 2,
    "port": "snffa1-2",
    "mac": "02:53:ff:a1:00:02",
    "status": "running",
}

# The contract forks: its child only makes requests, and no lock of the canned server's is its.
pytestmark = pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@contextmanager
def serving(section: dict[str, Any], directory: Path) -> Iterator[str]:
    """The example server's URL while it runs as a process of its own."""
    file = directory / f"section-{section['addresses']}.yaml"
    file.write_text(yaml.safe_dump(section))
    command = [*dies_with_parent(), sys.executable, str(EXAMPLE), str(file), "127.0.0.1:0"]
    with (
        open(directory / "server.log", "ab") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as server,
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url, (directory / "server.log").read_text()
        try:
            yield url
        finally:
            server.terminate()


def plugin_at(url: str, owner: Owner = OWNER, **changes: Any) -> Rest:
    """An instance that speaks to this server."""
    return Rest(RestConfig.model_validate({"url": url, **changes}), owner)


class RestSubject(NetnsSubject):
    """Namespaces on this machine, made by a server."""

    def __init__(self, ovs: PrivateOvs, config: dict[str, Any], url: str, cramped: str) -> None:
        """Use these two servers."""
        super().__init__(ovs, config)
        self._url, self._cramped = url, cramped

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance at the server with room."""
        return plugin_at(self._url, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An instance at the server with one address."""
        return plugin_at(self._cramped, owner)


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """A running switch."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        yield running


@pytest.fixture(scope="module")
def section(ovs: PrivateOvs) -> dict[str, Any]:
    """The server's own configuration."""
    return {
        "plugin": "netns",
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "subnet": "10.99.0.0/24",
        "addresses": "10.99.0.100-10.99.0.109",
        "command": ["sleep", "1000"],
    }


@pytest.fixture(scope="module")
def urls(
    section: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, str]]:
    """Two servers, the second with room for one node."""
    directory = tmp_path_factory.mktemp("servers")
    small = {**section, "addresses": "10.99.0.100-10.99.0.100"}
    with serving(section, directory) as first, serving(small, directory) as second:
        yield first, second


class TestContract(HypervisorContract):
    """The contract of all plugins, by the example server with the ``netns`` plugin in it."""

    @pytest.fixture
    def subject(
        self, ovs: PrivateOvs, section: dict[str, Any], urls: tuple[str, str], tmp_path: Path
    ) -> Iterator[Subject]:
        """The plugin, its servers and their machine, on which nothing may be left."""
        before = snapshot(Scope(marks=MARKS))
        made = RestSubject(ovs, {**section, "workdir": tmp_path}, *urls)
        yield made
        for host in made.foreign:
            host.stop()
        assert leftovers(before) == ()

    def test_example_is_short(self) -> None:
        """Anybody can write one: less than 100 lines, as the docs say."""
        assert len(EXAMPLE.read_text().splitlines()) < 100

    def test_example_refuses_what_is_not_the_protocol(self, urls: tuple[str, str]) -> None:
        """Unknown resources are 404, and a body that is no node 422 with the reason."""
        for path in ("/", "/v1", f"{PATH}/web-2/more", "/v2/a/b/nodes"):
            assert requests.put(urls[0] + path, json={}, timeout=10).status_code == 404
        answer = requests.put(f"{urls[0]}{PATH}/web-2", json={"index": 2}, timeout=10)
        assert (answer.status_code, "port" in answer.json()["error"]) == (422, True)

    def test_server_restarted_has_the_same_nodes(
        self, section: dict[str, Any], tmp_path: Path
    ) -> None:
        """Nodes outlive the server: the next one lists and stops them."""
        with serving(section, tmp_path) as url:
            plugin_at(url).start_node(node_request(2))
        with pytest.raises(TransientError, match="refused"):
            plugin_at(url).list_nodes()
        with serving(section, tmp_path) as url:
            assert [info.name for info in plugin_at(url).list_nodes()] == ["web-2"]
            plugin_at(url).stop_node("web-2")


class Canned(ThreadingHTTPServer):
    """A server that gives prepared answers and remembers what was asked."""

    daemon_threads = True

    def __init__(self, *answers: tuple[int, object]) -> None:
        """Give these, in this order; the last one again and again."""
        super().__init__(("127.0.0.1", 0), CannedRequest)
        self.answers = list(answers)
        self.asked: list[tuple[str, dict[str, str], Any]] = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.silence = threading.Event()


class CannedRequest(BaseHTTPRequestHandler):
    """One request to it."""

    server: Canned

    def do_GET(self) -> None:
        """Give the next answer; ``None`` is silence."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        asked = (f"{self.command} {self.path}", dict(self.headers), json.loads(body or "null"))
        self.server.asked.append(asked)
        answers = self.server.answers
        status, said = answers.pop(0) if len(answers) > 1 else answers[0]
        if said is None:
            self.server.silence.wait(60)
            return
        text = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_PUT = do_DELETE = do_GET  # noqa: N815 - names that http.server calls

    def log_message(self, format: str, *arguments: object) -> None:
        """Keep quiet."""


@contextmanager
def canned(*answers: tuple[int, object]) -> Iterator[Canned]:
    """A running server with these answers."""
    with Canned(*answers) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.silence.set()
            server.shutdown()
            thread.join()


class TestWire:
    """What is said, and what answers mean."""

    def test_is_found_by_its_entry_point(self) -> None:
        """``rest`` names this plugin."""
        assert load("rest") is Rest

    def test_start_says_what_the_node_must_be(self, tmp_path: Path) -> None:
        """PUT by name, with the request's values, the options, the deadline and the token."""
        token = tmp_path / "token"
        token.write_text("s3cret\n")
        with canned((200, NODE)) as server:
            plugin = plugin_at(
                f"{server.url}/cloud/", options={"image": "web"}, timeout_s=7, token_file=token
            )
            assert plugin.start_node(node_request(2)).status is NodeStatus.RUNNING
        ((what, headers, body),) = server.asked
        assert what == f"PUT /cloud{PATH}/web-2"
        assert (headers[DEADLINE_HEADER], headers["Authorization"]) == ("7", "Bearer s3cret")
        assert body == {
            "index": 2,
            "port": "snffa1-2",
            "mac": "02:53:ff:a1:00:02",
            "addresses": ["10.99.0.10"],
            "options": {"image": "web"},
        }

    def test_environment_takes_nothing_of_the_requests(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Proxies that are meant for the web are not used for a hypervisor."""
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
        with canned((200, {"nodes": []})) as server:
            assert plugin_at(server.url).list_nodes() == ()

    def test_names_are_quoted(self) -> None:
        """An owner with an odd name stays one part of the path."""
        with canned((200, {"nodes": []})) as server:
            plugin_at(server.url, Owner("a/b", "ü")).list_nodes()
        assert server.asked[0][0] == "GET /v1/a%2Fb/%C3%BC/nodes"

    def test_broken_node_is_removed_and_made_again(self) -> None:
        """What PUT finds broken is deleted and put once more."""
        broken = {**NODE, "status": "broken", "detail": "no disk"}
        with canned((200, broken), (204, ""), (200, NODE)) as server:
            assert plugin_at(server.url).start_node(node_request(2)).status is NodeStatus.RUNNING
        assert [what.split()[0] for what, _, _ in server.asked] == ["PUT", "DELETE", "PUT"]
        with canned((200, broken)) as server, pytest.raises(TransientError, match="no disk"):
            plugin_at(server.url).start_node(node_request(2))

    def test_node_with_a_port_of_its_own_is_taken(self) -> None:
        """The answer says which port and hardware address the node really has."""
        with canned((201, {**NODE, "port": "tap7", "mac": "52:54:00:00:00:07"})) as server:
            info = plugin_at(server.url).start_node(node_request(2))
        assert (info.port, info.mac) == ("tap7", "52:54:00:00:00:07")

    def test_absent_is_stopped(self) -> None:
        """404 is a fine answer to DELETE, and no fine answer to GET."""
        with canned((404, "")) as server:
            plugin_at(server.url).stop_node("web-2")
            with pytest.raises(PermanentError, match="404 Not Found"):
                plugin_at(server.url).list_nodes()

    @pytest.mark.parametrize(
        ("status", "body", "kind", "message"),
        [
            (409, {"error": "busy"}, TransientError, "409 busy"),
            (429, "slow\ndown", TransientError, "429 slow down"),
            (500, "<html>", TransientError, "500 <html>"),
            (503, {"error": "rebooting"}, TransientError, "503 rebooting"),
            (507, {"error": "no room"}, TransientError, "507 no room"),
            (302, "", PermanentError, "302 Found"),
            (400, {"error": "no image x"}, PermanentError, "400 no image x"),
            (401, "", PermanentError, "401 Unauthorized"),
            (403, ["x"], PermanentError, r'403 \["x"\]'),
            (422, "x" * 1000, PermanentError, "422 x{300}$"),
            (200, "<html>", PermanentError, "no answer of the node protocol: its body: Invalid"),
            (200, {**NODE, "status": "fine"}, PermanentError, "protocol: status: Input should be"),
            (200, {"name": "web-2"}, PermanentError, "protocol: index: Field required"),
            (200, {**NODE, "index": 3}, PermanentError, "is about web-2, index 3"),
        ],
    )
    def test_each_answer_has_its_kind_of_error(
        self, status: int, body: object, kind: type[Exception], message: str
    ) -> None:
        """The message has the request, the status and the server's words, on one line."""
        with canned((status, body)) as server, pytest.raises(kind, match=message) as caught:
            plugin_at(server.url).start_node(node_request(2))
        assert str(caught.value).startswith(f"PUT {server.url}{PATH}/web-2: ")

    def test_silence_and_refusal_are_transient(self) -> None:
        """A server that says nothing in time, and one that is not there."""
        with canned((200, None)) as server, pytest.raises(TransientError, match="timed out"):
            plugin_at(server.url, timeout_s=0.2).start_node(node_request(2))
        with pytest.raises(TransientError, match=r"nodes: Connection refused$"):
            plugin_at("http://127.0.0.1:9").list_nodes()
        with pytest.raises(TransientError, match=r"nodes: .*(not known|resolution|associated)"):
            plugin_at("http://no-such-host.invalid").list_nodes()

    def test_missing_files_are_named(self, tmp_path: Path) -> None:
        """A token or a certificate file that is not there is told with its path."""
        with pytest.raises(PermanentError, match="token_file /nowhere: No such file"):
            plugin_at("http://127.0.0.1:9", token_file="/nowhere").list_nodes()
        with pytest.raises(TransientError, match="/nowhere"):
            plugin_at("https://127.0.0.1:9", ca_file="/nowhere").list_nodes()

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"url": "ftp://cloud"}, "url"),
            ({"url": "http://"}, "url"),
            ({"url": "http://cloud/?a=b"}, "url"),
            ({"timeout_s": 0}, "timeout_s"),
            ({"image": "web"}, "image"),
        ],
    )
    def test_bad_section_is_refused(self, change: dict[str, Any], message: str) -> None:
        """Every bad value is named by the model."""
        with pytest.raises(ValidationError, match=message):
            RestConfig.model_validate({"url": "http://cloud", **change})
