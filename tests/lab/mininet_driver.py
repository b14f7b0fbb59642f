"""A Mininet on one of our topologies, driven by lines on standard input; for Mininet's own Python.

``TOPOLOGY OPENFLOW_PORT`` are the arguments. A line is a host's name and a shell command; the
answer is a line of JSON with what it printed. The network goes down with the end of input.
"""

import importlib.util
import json
import sys
from pathlib import Path

from mininet.net import Mininet
from mininet.node import RemoteController

HERE = Path(__file__).parents[2] / "mininet_topos" / "topologies.py"


def main() -> None:
    """Start, answer, stop."""
    spec = importlib.util.spec_from_file_location("topologies", HERE)
    ours = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(ours)
    net = Mininet(topo=ours.topos[sys.argv[1]](), switch=ours.LabSwitch, controller=None)
    net.addController("c0", RemoteController, ip="127.0.0.1", port=int(sys.argv[2]))
    net.start()
    print(json.dumps("ready"), flush=True)
    try:
        for line in sys.stdin:
            host, _, command = line.strip().partition(" ")
            print(json.dumps(net[host].cmd(command)), flush=True)
    finally:
        net.stop()


if __name__ == "__main__":
    main()
