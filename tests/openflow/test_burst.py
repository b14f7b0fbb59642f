"""A burst of new flows is not mistaken for a slow switch, and a slow switch is not waited for."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bursts() -> None:
    """The sender gets its turn before anything is dropped; then what a network may lose is."""
    said = subprocess.check_output([sys.executable, "-m", "tests.openflow.bursts"], timeout=60)
    seen = json.loads(said)
    assert seen["left"] == seen["sent"]
    assert 0 < seen["waiting"] < seen["room"]
