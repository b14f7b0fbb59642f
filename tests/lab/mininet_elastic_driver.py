"""A Mininet that answers the ``mininet`` plugin, driven by standard input; for Mininet's Python.

The control socket is its argument. A line is a host's name and a shell
command; the answer is a line of JSON with what it printed. The line ``hosts`` asks for all hosts,
with the processes in each. The network goes down with the end of input.
"""

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "mininet_topos"))

from elastic import ElasticMininet
from topologies import LabSwitch, SingleTopo


def processes(host):
    """Ids of the processes in the host's network namespace, its shell's apart."""
    pids = filter(str.isdigit, os.listdir("/proc"))
    return sorted(int(pid) for pid in pids if pid != str(host.pid) and same(pid, host.pid))


def same(pid, other):
    """Whether two processes have one network namespace."""
    try:
        return os.readlink(f"/proc/{pid}/ns/net") == os.readlink(f"/proc/{other}/ns/net")
    except OSError:
        return False


def main():
    """Start, answer, stop."""
    net = ElasticMininet(topo=SingleTopo(), switch=LabSwitch, controller=None, control=sys.argv[1])
    net.start()
    print(json.dumps("ready"), flush=True)
    try:
        for line in sys.stdin:
            host, _, command = line.strip().partition(" ")
            if host == "hosts":
                answer = {each.name: [each.pid, *processes(each)] for each in net.hosts}
            else:
                answer = net[host].cmd(command)
            print(json.dumps(answer), flush=True)
    finally:
        net.stop()


if __name__ == "__main__":
    main()
