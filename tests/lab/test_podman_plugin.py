"""The ``podman`` plugin with real containers on a real switch."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from sncontroller.hypervisors.base import (
    Hypervisor,
    NodeInfo,
    Owner,
)
from sncontroller.hypervisors.contract import (
    OWNER,
    HypervisorContract,
    Subject,
)
from sncontroller.hypervisors.podman import PodmanConfig, PodmanContainers
from sncontroller.lab.leftovers import leftovers, snapshot
from sncontroller.lab.namespaces import links, namespaces
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from sncontroller.lab.podman import IMAGE, OPTIONS, PrivatePodman

BRIDGE = "sntbr0"
GROUP_ADDRESS = "10.99.0.10"


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def ovs(_isolated: None) -> Iterator[PrivateOvs]:
    """A running switch with one bridge that switches like any other."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure")
        running.ofctl("add-flow", BRIDGE, "actions=normal")
        yield running


@pytest.fixture(scope="module")
def podman(_isolated: None) -> Iterator[PrivatePodman]:
    """A podman with one image."""
    with PrivatePodman() as running:
        yield running


@pytest.fixture
def config(ovs: PrivateOvs, podman: PrivatePodman) -> dict[str, Any]:
    """A section that works."""
    return {
        "bridge": BRIDGE,
        "ovsdb": ovs.db,
        "subnet": "10.99.0.0/24",
        "addresses": "10.99.0.100-10.99.0.109",
        "image": IMAGE,
        "options": OPTIONS,
        "stop_s": 0,
    }


@pytest.fixture(autouse=True)
def _nothing_is_left(ovs: PrivateOvs, podman: PrivatePodman) -> Iterator[None]:
    before = snapshot()
    yield
    left = podman.run("ps", "--all", "--external", "--format", "{{.Names}}").split()
    assert left == []
    assert leftovers(before) == ()
    assert ovs.vsctl("list-ports", BRIDGE).split() == []


def plugin_of(config: Mapping[str, Any], owner: Owner = OWNER) -> PodmanContainers:
    """An instance with this section."""
    return PodmanContainers(PodmanConfig.model_validate(config), owner)


class PodmanSubject(Subject):
    """Containers, their storage and processes, namespaces, interfaces and ports."""

    def __init__(self, ovs: PrivateOvs, podman: PrivatePodman, config: Mapping[str, Any]) -> None:
        """Use this switch, this podman and this section."""
        self._ovs = ovs
        self._podman = podman
        self._config = config

    def plugin(self, owner: Owner) -> Hypervisor:
        """An instance."""
        return plugin_of(self._config, owner)

    def cramped(self, owner: Owner) -> Hypervisor:
        """An address pool of one."""
        return plugin_of({**self._config, "addresses": "10.99.0.100-10.99.0.100"}, owner)

    def objects(self) -> Collection[str]:
        """All that a node can consist of, whoever made it."""
        containers = json.loads(self._podman.run("ps", "-a", "--external", "--format", "json"))
        storage = Path("/var/lib/containers/storage")
        return [
            *(f"container {each['Names'][0]} {each['Id']} {each['Pid']}" for each in containers),
            *(f"storage {path.name}" for path in storage.glob("*-containers/*/")),
            *(f"runtime's {path.name}" for path in Path("/run/crun").iterdir()),
            *(f"volume {name}" for name in self._podman.run("volume", "ls", "-q").split()),
            *(f"namespace {name}" for name in namespaces()),
            *(f"interface {name}" for name in links()),
            *(f"port {name}" for name in self._ovs.vsctl("list-ports", BRIDGE).split()),
        ]

    def create_foreign(self) -> str:
        """A container of an operator's own, with a name such as ours and without our labels."""
        create = ("create", "--quiet", "--network=none", *OPTIONS)
        found = self._podman.run(*create, "--name=contract.web-9", IMAGE).strip()
        return f"container contract.web-9 {found} 0"

    def damages(self) -> Mapping[str, Callable[[NodeInfo], None]]:
        """Everything that a node has, taken away one at a time."""

        def with_podman(*arguments: str) -> Callable[[NodeInfo], None]:
            return lambda info: self._podman.run(*arguments, f"contract.{info.name}") and None

        def killed(info: NodeInfo) -> None:
            pid = self._podman.run("inspect", "-f", "{{.State.Pid}}", f"contract.{info.name}")
            os.kill(int(pid), signal.SIGKILL)
            self._podman.run("wait", f"contract.{info.name}")

        def run(*command: str) -> Callable[[NodeInfo], None]:
            def damage(info: NodeInfo) -> None:
                subprocess.run([word.format(info.port) for word in command], check=True)

            return damage

        return {
            "service killed": killed,
            "stopped": with_podman("stop", "--time=0"),
            "removed": with_podman("rm", "--force", "--time=0"),
            "port deleted": run("ovs-vsctl", f"--db={self._ovs.db}", "del-port", "{}"),
            "namespace's name deleted": run("ip", "netns", "delete", "{}"),
            "interface deleted": run("ip", "link", "delete", "{}"),
        }


class TestContract(HypervisorContract):
    """The contract of all plugins."""

    crash_moments = 6

    @pytest.fixture
    def subject(
        self, ovs: PrivateOvs, podman: PrivatePodman, config: dict[str, Any]
    ) -> Iterator[Subject]:
        """The plugin with real containers."""
        yield PodmanSubject(ovs, podman, config)
        podman.run("rm", "--ignore", "contract.web-9")
