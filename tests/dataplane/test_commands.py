"""The commands on a real bridge as an operator types them: exit codes, lines, and a whole life."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sncontroller.bridge import Switch
from sncontroller.lab.programs import dies_with_parent
from tests.dataplane.configured import text
from tests.dataplane.world import BRIDGE, World, eventually, group_spec

NOBODY = "tcp:127.0.0.1:16653"
"""Where no controller listens."""


def cli(world: World, *arguments: str, before: tuple[str, ...] = ()) -> tuple[int, str, str]:
    """Exit code, output and errors of ``sncontroller``."""
    done = subprocess.run(
        [*before, sys.executable, "-m", "sncontroller.cli", *arguments],
        env={**world.ovs.environment, "OVS_DB": world.ovs.db},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


def test_the_commands(world: World, tmp_path: Path) -> None:
    """Attach and detach as an operator types them."""
    code, out, err = cli(world, "attach", BRIDGE, "--controller", NOBODY)
    assert (code, err) == (0, "")
    assert out == (
        f"br0: controller {NOBODY} set, fail_mode secure, at most 1500 packet-ins per second, "
        "1 flow as before\n"
    )
    again = f"br0 has the controller {NOBODY} already"
    code, out, err = cli(world, "attach", BRIDGE, "--controller", NOBODY, "--packet-ins", "0")
    assert (code, err) == (0, "")
    assert out.startswith(f"{again} (not connected")
    assert out.endswith("); now no limit of packet-ins\n")
    assert cli(world, "attach", BRIDGE, "--controller", NOBODY, "--packet-ins", "99") == (
        2,
        "",
        "sncontroller: 99 packet-ins per second are less than Open vSwitch can limit; at least "
        "100, or 0 for no limit\n",
    )

    code, out, err = cli(world, "detach", BRIDGE, "--json")
    assert (code, err) == (0, "")
    assert re.search(r'"changed": true,', out)
    assert '"flows": 1' in out


def test_what_the_commands_say_when_they_cannot(world: World, tmp_path: Path) -> None:
    """One line each, and the exit code."""
    assert cli(world, "attach", "br9") == (
        2,
        "",
        f"sncontroller: no bridge br9; Open vSwitch at {world.ovs.db} has: br0\n",
    )
    nowhere = f"unix:{tmp_path}/nothing.sock"
    assert cli(world, "attach", BRIDGE, "--ovsdb", nowhere) == (
        2,
        "",
        f"sncontroller: Open vSwitch at {nowhere} is not running: its database does not answer; "
        "start it (systemctl start openvswitch-switch), or name its socket with --ovsdb\n",
    )
    world.ovs.vsctl("set", "bridge", BRIDGE, "protocols=OpenFlow10")
    for command in (("attach", BRIDGE), ("detach", BRIDGE)):
        assert cli(world, *command) == (
            2,
            "",
            "sncontroller: bridge br0 speaks only OpenFlow10; allow 1.3: "
            "ovs-vsctl add bridge br0 protocols OpenFlow13\n",
        )
    (world.ovs.directory / "db.sock").chmod(0)
    powers = "-dac_override,-dac_read_search"
    nobody = ("setpriv", f"--bounding-set={powers}", f"--inh-caps={powers}")
    assert cli(world, "attach", BRIDGE, before=nobody) == (
        2,
        "",
        f"sncontroller: no permission to speak to Open vSwitch at {world.ovs.db}; "
        "run as root (sudo)\n",
    )


def test_detach_asks_for_the_configuration(world: World, tmp_path: Path) -> None:
    """While an address would be nobody's, detach refuses; with the file, or --purge, it goes."""
    spec = group_spec(arp="switch")
    world.add_nodes(spec, 1)
    world.install(spec)
    file = tmp_path / "sn.yaml"
    file.write_text(text(spec))

    code, _, err = cli(world, "detach", BRIDGE)
    assert (code, err) == (
        1,
        "sncontroller: br0 answers for the address of group number 161 (arp: switch); "
        "give --config FILE to keep it reachable, or --purge to give it up\n",
    )
    other = tmp_path / "other.yaml"
    other.write_text(text(group_spec(id=162)))
    code, _, err = cli(world, "detach", BRIDGE, "--config", str(other))
    assert (code, err) == (
        1,
        "sncontroller: br0 answers for the address of group number 161 (arp: switch), which "
        f"{other} does not have; give the file that has it, or --purge\n",
    )
    assert cli(world, "detach", BRIDGE, "--config", str(file))[0] == 0
    assert len(world.dump()) == 3
    assert cli(world, "detach", BRIDGE, "--purge")[0] == 0
    assert world.dump() == ()


# A whole life -----------------------------------------------------------------------------------


@contextmanager
def controller(file: Path, listen: int, rest: int) -> Iterator[subprocess.Popen[str]]:
    """``sncontroller run``, ended with Ctrl-C."""
    where = ("--listen", f"127.0.0.1:{listen}", "--rest", f"127.0.0.1:{rest}")
    run = [sys.executable, "-m", "sncontroller.cli", "run", str(file), *where]
    command = [*dies_with_parent(), *run]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        try:
            yield running
            running.send_signal(signal.SIGINT)
            said = running.communicate(timeout=30)[1]
            assert running.returncode == 0, said
            assert "Traceback" not in said
        finally:
            running.kill()


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def status(world: World, api: str) -> dict[str, Any]:
    """The group as the controller shows it; empty while it does not answer."""
    code, out, _ = cli(world, "status", "web", "--json", "--api", api)
    if code:
        return {}
    group: dict[str, Any] = json.loads(out)["groups"][0]
    return group


def test_from_attach_to_detach(world: World, tmp_path: Path) -> None:
    """A held connection lives through all of it, and between, the switch has what is planned."""
    world.ovs.vsctl("del-fail-mode", BRIDGE)
    spec = group_spec(health={"kind": "tcp", "source": "10.0.0.254", "interval_s": 0.2})
    world.add_nodes(spec, 1)
    client = world.client()
    assert client.do("open", address="10.0.0.10", port=80, count=20)["failed"] == 0
    client.start("churn", rounds=600, pause_s=0.05)
    file = tmp_path / "sn.yaml"
    file.write_text(text(spec))
    listen, rest = free_port(), free_port()
    api = f"http://127.0.0.1:{rest}"

    assert cli(world, "attach", BRIDGE, "--controller", f"tcp:127.0.0.1:{listen}")[0] == 0
    with controller(file, listen, rest):
        eventually(lambda: serves(status(world, api)), 30)
        assert cli(world, "diff", str(file), BRIDGE) == (0, "", "")
        burst = client.do("burst", address="10.0.0.10", port=80, total=100)
        assert burst["nodes"] == {"web-1": 100}
        code, out, _ = cli(world, "events", "web", "--api", api)
        assert code == 0
        assert "br0 is connected" in out
    assert client.do("burst", address="10.0.0.10", port=80, total=20)["made"] == 20
    assert cli(world, "detach", BRIDGE)[0] == 0

    client.do("stop")
    found = client.do("check")
    assert (found["held"], found["broken"], found["moved"]) == (20, 0, 0)
    assert client.do("burst", address="10.0.0.10", port=80, total=20)["made"] == 20
    bridge = Switch(world.ovs.db).bridge(BRIDGE)
    assert bridge.entries("OpenFlow15").flows == {"priority=0 actions=NORMAL"}
    assert bridge.settings().fail_mode == ""


def serves(group: dict[str, Any]) -> bool:
    """Whether the primary takes flows and the switch has confirmed it."""
    return bool(group) and group["live"] and [n["state"] for n in group["nodes"]] == ["active"]
