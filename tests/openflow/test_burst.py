"""A burst of new flows waits for room, within a bound; what is more urgent has room meanwhile."""

from __future__ import annotations

import json
import subprocess
import sys


def test_bursts() -> None:
    """What fits into the queue is pinned, the rest is dropped; a slow switch fills our queue."""
    said = subprocess.check_output([sys.executable, "-m", "tests.openflow.bursts"], timeout=60)
    burst, stuck = map(json.loads, said.splitlines())
    assert burst["dropped"] > 0
    assert burst["sent"] == burst["came"] - burst["dropped"]
    assert 0 < stuck["buffers"] <= stuck["room"] / 4
    assert stuck["waiting"] > 0
