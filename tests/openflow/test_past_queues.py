"""What goes past the application's queues overtakes nothing, is not lost, and waits for nobody."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest


@pytest.mark.parametrize("what", ["events", "faults", "commands", "turns"])
def test_past_queues(what: str) -> None:
    """Events in, commands out, what fails among them, and the turns of those that bring them."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.openflow.past_queues", what]
    assert json.loads(subprocess.check_output(command, timeout=60)) is True
