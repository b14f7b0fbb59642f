"""``sncontroller hypervisor check`` on real nodes, and what it says of plugins that do wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result
from pydantic import BaseModel

from sncontroller.cli import main
from sncontroller.config import parse
from sncontroller.core.model import GroupSpec
from sncontroller.hypervisors import base, check
from sncontroller.hypervisors.base import NodeInfo, NodeRequest, NodeStatus, Owner
from sncontroller.lab.leftovers import leftovers, snapshot
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "sntbr0"
TITLES = ["list", "clear", "start", "running", "start again", "stop", "stop again"]
GROUP: dict[str, Any] = {
    "match": {"address": "10.99.0.10", "ports": [80]},
    "primary": {"port": "vm1"},
    "scaling": {"policy": "manual", "min": 1, "max": 3},
    "health": {"kind": "none"},
}


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs() -> Iterator[PrivateOvs]:
    """A running switch with one bridge."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        yield running


@pytest.fixture
def section(ovs: PrivateOvs) -> dict[str, Any]:
    """A hypervisor section that works."""
    return {
        "plugin": "netns",
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "subnet": "10.99.0.0/24",
        "addresses": "10.99.0.100-10.99.0.102",
        "command": ["sleep", "1000"],
    }


def run(directory: Path, groups: dict[str, Any], *options: str) -> Result:
    """The command's result for these groups."""
    file = directory / "sn.yaml"
    file.write_text(yaml.safe_dump({"controller": "lab", "groups": groups}))
    return CliRunner().invoke(main, ["hypervisor", "check", str(file), *options])


def test_one_node_is_started_and_stopped(
    ovs: PrivateOvs, section: dict[str, Any], tmp_path: Path
) -> None:
    """Every step succeeds, in order, with its time, beside nodes that are left alone."""
    groups = {"web": {**GROUP, "hypervisor": section}}
    spec = parse(yaml.safe_dump({"controller": "lab", "groups": groups})).groups[0]
    assert spec.hypervisor is not None
    kind = base.load("netns")
    plugin = kind(spec.hypervisor.config, Owner("lab", "web"))
    plugin.start_node(NodeRequest("web-2", 2, "sn4e1b-2", "02:53:4e:1b:00:02", ("10.99.0.10",)))
    before = snapshot()
    result = run(tmp_path, groups, "--json")
    told = json.loads(result.stdout)
    assert (result.exit_code, [step["step"] for step in told]) == (0, TITLES)
    assert all(step["ok"] and step["took_s"] >= 0 for step in told)
    assert told[0]["said"] == "nodes: web-2 (running)"
    assert leftovers(before) == ()
    assert [info.name for info in plugin.list_nodes()] == ["web-2"]
    plugin.stop_node("web-2")
    assert ovs.vsctl("list-ports", BRIDGE) == ""


def test_failure_is_told_and_nothing_is_left(
    ovs: PrivateOvs, section: dict[str, Any], tmp_path: Path
) -> None:
    """A service that ends at once fails the start; it is cleaned up, and the exit code is 2."""
    before = snapshot()
    bad = {**section, "command": ["sh", "-c", "echo port taken; exit 1"], "workdir": str(tmp_path)}
    result = run(tmp_path, {"web": {**GROUP, "hypervisor": bad}})
    lines = result.output.splitlines()
    assert result.exit_code == 2
    assert [line.split()[1] for line in lines] == ["list", "clear", "start", "clean"]
    assert "FAILED: " in lines[2]
    assert lines[2].endswith("ended at once: port taken")
    assert leftovers(before) == ()
    assert ovs.vsctl("list-ports", BRIDGE) == ""


def test_group_can_be_chosen(section: dict[str, Any], tmp_path: Path) -> None:
    """Only the named group is checked; one without a hypervisor cannot be."""
    groups = {
        "web": {**GROUP, "hypervisor": section},
        "dns": {
            **GROUP,
            "match": {"address": "10.99.0.20", "protocol": "udp", "ports": [53]},
            "primary": {"port": "vm2"},
            "scaling": {"policy": "manual", "min": 1, "max": 1},
        },
    }
    result = run(tmp_path, groups, "--group", "web")
    assert {line.split(":")[0] for line in result.output.splitlines()} == {"web"}
    result = run(tmp_path, groups, "--group", "dns")
    assert result.exit_code == 2
    assert "no group dns with a hypervisor in" in result.output


@pytest.mark.parametrize("command", [("check",), ("hypervisor", "list"), ("hypervisor", "check")])
def test_unreadable_file_is_told_alike(tmp_path: Path, command: tuple[str, ...]) -> None:
    """Whoever may not read the file gets one line that says so, from every command."""
    file = tmp_path / "sn.yaml"
    file.touch(0)
    powers = "-dac_override,-dac_read_search"
    nobody = ["setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}"]
    done = subprocess.run(
        [*nobody, sys.executable, "-m", "sncontroller.cli", *command, str(file)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    told = f"{file}: cannot be read: permission denied; run as its owner or root\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)


class Fake:
    """A plugin in memory that can be told to do one thing wrong."""

    class Config(BaseModel):
        """An empty section."""

    protocol_version = base.PROTOCOL_VERSION
    fault = ""
    nodes: dict[str, NodeInfo]

    def __init__(self, config: Any, owner: Owner) -> None: ...

    def start_node(self, request: NodeRequest) -> NodeInfo:
        """Make it; with a fault, wrongly."""
        status = {"slow": NodeStatus.STARTING, "broken": NodeStatus.BROKEN}
        made = status.get(self.fault, NodeStatus.RUNNING)
        info = NodeInfo(request.name, request.index, request.port, request.mac, made, "no disk")
        if self.fault == "another" and request.name in self.nodes:
            info = replace(info, port="other")
        if self.fault == "bug":
            raise KeyError("image")
        if self.fault != "unlisted":
            self.nodes[request.name] = info
        return info

    def stop_node(self, name: str) -> None:
        """Forget it, or not."""
        if self.fault != "stays":
            self.nodes.pop(name, None)

    def list_nodes(self) -> tuple[NodeInfo, ...]:
        """All."""
        return tuple(self.nodes.values())


@pytest.mark.parametrize(
    ("fault", "title", "said"),
    [
        ("bug", "start", "unexpected KeyError: 'image'"),
        ("broken", "start", "web-check is broken: no disk"),
        ("slow", "running", "web-check is still starting after 0 s"),
        ("unlisted", "running", "web-check is listed 0 times, not once"),
        ("another", "start again", "another node than before: port other"),
        ("stays", "stop", "web-check is still listed after it was stopped"),
    ],
)
def test_each_wrong_is_named(
    monkeypatch: pytest.MonkeyPatch, fault: str, title: str, said: str
) -> None:
    """The step that shows it fails with the reason, and the node is stopped after it."""
    Fake.fault, Fake.nodes = fault, {}
    monkeypatch.setattr(base, "load", lambda name: Fake)
    *_, failed, cleaned = check.steps("lab", _spec(), running_s=0.0)
    assert (failed.title, failed.ok) == (title, False)
    assert failed.said.startswith(said)
    assert cleaned.title == "clean up"
    assert (Fake.nodes == {}) == cleaned.ok == (fault != "stays")


def test_interrupted_check_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever stops listening after the start has the node stopped."""
    Fake.fault, Fake.nodes = "", {}
    monkeypatch.setattr(base, "load", lambda name: Fake)
    taken = check.steps("lab", _spec())
    while next(taken).title != "start":
        pass
    assert list(Fake.nodes) == ["web-check"]
    taken.close()
    assert Fake.nodes == {}


def _spec() -> GroupSpec:
    group = {**GROUP, "hypervisor": {"plugin": "fake"}}
    return parse(yaml.safe_dump({"groups": {"web": group}})).groups[0]
