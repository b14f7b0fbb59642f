"""A node's Prometheus exporter, and its service: ``python -m tests.lab.exporter FILE COMMAND...``.

Serves what FILE says as the gauge ``test_busy``, beside what every Python process has to tell, on
port 9100, and becomes the parent of COMMAND. Without COMMAND it only exports.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from prometheus_client import Gauge, start_http_server

PORT = 9100


def main() -> None:
    """Serve until killed."""
    file, *command = sys.argv[1:]
    busy = Gauge("test_busy", "What the test wants to be told.", ["part"])
    busy.labels("noise").set(99)
    busy.labels("all").set_function(lambda: float(Path(file).read_text()))
    start_http_server(PORT)
    if command:
        with subprocess.Popen(command) as child:
            sys.exit(child.wait())
    print(os.getpid(), flush=True)
    time.sleep(3600)


if __name__ == "__main__":
    main()
