"""The systemd unit of the documentation: systemd takes it, and it runs a command that there is."""

from __future__ import annotations

import configparser
import shlex
import subprocess
from pathlib import Path

import click

from sncontroller.cli import main
from sncontroller.cli.shell import WRONG

UNIT = Path(__file__).parents[2] / "docs" / "examples" / "sncontroller.service"


def test_the_unit_runs_the_controller_and_keeps_its_nodes() -> None:
    """A stop ends the controller alone; a wrong file is not tried again and again."""
    unit = configparser.ConfigParser(interpolation=None)
    unit.read(UNIT)
    program, command, file = shlex.split(unit["Service"]["ExecStart"])

    assert Path(program).name == "sncontroller"
    assert main.get_command(click.Context(main), command) is not None
    assert file == "/etc/sncontroller.yaml"
    assert unit["Service"]["KillMode"] == "process"
    assert unit["Service"]["RestartPreventExitStatus"] == str(WRONG)
    assert unit["Service"]["StateDirectory"] == "sncontroller"


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Not one unknown key; the program alone is another one, which is installed."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("/opt/sncontroller/bin/sncontroller", "/bin/true"))
    done = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
