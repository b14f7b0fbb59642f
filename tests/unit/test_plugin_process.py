"""Plugins that do not what they should: every call ends, and the others' calls go on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sncontroller.hypervisors.base import ENTRY_POINT_GROUP

ROOT = Path(__file__).parents[2]
PLUGIN = """
import os
import subprocess
import sys
from ipaddress import ip_address

from pydantic import BaseModel

from sncontroller.hypervisors.base import NodeInfo, NodeStatus, TransientError


class Config(BaseModel):
    does: str


class Faulty:
    protocol_version = 1
    Config = Config
    tried = []

    def __init__(self, config, owner):
        self.does, self.whose = config.does, owner.group
        if self.does == "is late" and not self.tried:
            self.tried.append(self)
            raise TransientError("its API is down")

    def start_node(self, request): ...

    def stop_node(self, name): ...

    def list_nodes(self):
        match self.does:
            case "prints":
                print("so that nobody can miss it")
                subprocess.run(["echo", "nor this"])
            case "reads":
                subprocess.run(["cat"])
            case "exits":
                sys.exit("goodbye")
            case "leaves":
                subprocess.Popen(["sleep", "10"])
                os._exit(3)
            case "stutters":
                for number in range(1, 30):
                    try:
                        os.write(number, b'{"id": 1, "no')
                    except OSError:
                        pass
                os._exit(3)
            case "names":
                return (NodeInfo(self.whose, 2, "p", "m", NodeStatus.RUNNING),)
            case "mistypes":
                where = ip_address("10.0.0.1")
                return (NodeInfo("web-2", 2, "p", "m", NodeStatus.RUNNING, address=where),)
        return ()
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory in which the faulty plugin is installed."""
    metadata = tmp_path / "faulty-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: faulty\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[{ENTRY_POINT_GROUP}]\nfaulty = faulty:Faulty\n")
    (tmp_path / "faulty.py").write_text(PLUGIN)
    return tmp_path


@pytest.mark.parametrize(
    ("calls", "results"),
    [
        (("prints", "fine"), ("0 nodes", "0 nodes")),
        (("reads", "fine", "fine"), ("0 nodes", "0 nodes", "0 nodes")),
        (("exits", "fine"), ("unexpected SystemExit: goodbye", "0 nodes")),
        (("leaves", "fine"), ("the plugin process ended with status 3", "0 nodes")),
        (("stutters", "fine"), ("the plugin process ended with status", "0 nodes")),
        (("mistypes", "fine"), ("1 nodes", "0 nodes")),
        (("is late", "is late", "is late"), ("its API is down", "0 nodes", "0 nodes")),
        (("nowhere", "fine"), ("the plugin process cannot be started: ", "0 nodes")),
        (("renamed", "fine"), ("dns", "0 nodes")),
        (("stopped", "fine"), ("the plugin process ended with status -9", "0 nodes")),
    ],
    ids=lambda words: words[0].replace(" ", "-"),
)
def test_every_call_ends(site: Path, calls: tuple[str, ...], results: tuple[str, ...]) -> None:
    """Whatever the plugin does, a result comes of it, and the next call is answered."""
    path = os.pathsep.join((str(ROOT), str(site)))
    command = [sys.executable, "-W", "ignore", "-m", "tests.unit.plugin_process", *calls]
    environment = {**os.environ, "PYTHONPATH": path}
    with (site / "errors").open("w+") as errors:  # a pipe would wait for what the plugin leaves
        done = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=errors, timeout=100
        )
        errors.seek(0)
        assert done.returncode == 0, errors.read()
    for said, begins in zip(json.loads(done.stdout), results, strict=True):
        assert said.startswith(begins)
