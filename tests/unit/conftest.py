"""A controller with its real REST interface, for the tests of both ends of it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from sncontroller.lab.programs import dies_with_parent

CONFIG = """\
groups:
  web:
    match: {address: 10.0.0.10, ports: [80]}
    primary: {port: vm1, mac: '02:00:00:00:00:01'}
    health: {kind: none}
    drain: {idle_s: 600, deadline_s: 600}
    scaling: {policy: manual, max: 4}
    hypervisor: {plugin: netns, bridge: br0, subnet: 10.0.0.0/24,
                 addresses: 10.0.0.101-10.0.0.120, command: [/usr/bin/web]}
  dns:
    match: {address: 10.0.0.53, protocol: udp, ports: [53]}
    primary: {port: vm2, mac: '02:00:00:00:00:02'}
    health: {kind: none}
    scaling: {policy: manual, max: 1}
"""


@dataclass(frozen=True)
class Served:
    """Where the interface is, and the configuration behind it."""

    port: int
    file: Path

    @property
    def url(self) -> str:
        """What ``--api`` wants."""
        return f"http://127.0.0.1:{self.port}"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A controller with two groups whose primaries serve."""
    with _serving(tmp_path) as served:
        yield served


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The same for all tests of a module: for requests that must not change anything."""
    with _serving(tmp_path_factory.mktemp("untouched")) as served:
        yield served


@contextmanager
def _serving(directory: Path) -> Iterator[Served]:
    file = directory / "sn.yaml"
    file.write_text(CONFIG)
    module = [sys.executable, "-m", "tests.unit.rest_server"]
    command = [*dies_with_parent(), *module, str(file), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield Served(int(server.stdout.readline()), file)
        finally:
            server.kill()
