"""A node that speaks BFD: Open vSwitch inside it, between its interface and its addresses.

Runs in the node's namespace as ``python -m tests.lab.bfd_node DIRECTORY COMMAND...``: moves what
the interface has to a bridge of a private Open vSwitch, turns BFD on, prints the switch daemon's
process id, and becomes what COMMAND is the child of. What stops when that daemon stops is the whole
node, with its link still up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sncontroller.lab.namespaces import INNER
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "inside"
INTERVAL_MS = 100


def main() -> None:
    """Serve until killed."""
    directory, *command = sys.argv[1:]
    (shown,) = json.loads(_ip("-json", "address", "show", "dev", INNER))
    (own,) = (a for a in shown["addr_info"] if a["family"] == "inet")
    _ip("address", "flush", "dev", INNER)
    with PrivateOvs(Path(directory) / "ovs") as ovs:
        ovs.add_bridge(BRIDGE, other_config={"hwaddr": shown["address"]})
        ovs.add_port(BRIDGE, INNER)
        for setting in ("enable=true", f"min_rx={INTERVAL_MS}", f"min_tx={INTERVAL_MS}"):
            ovs.vsctl("set", "interface", INNER, f"bfd:{setting}")
        for name in ("arp_ignore", "arp_announce"):
            value = Path(f"/proc/sys/net/ipv4/conf/{INNER}/{name}").read_text()
            Path(f"/proc/sys/net/ipv4/conf/{BRIDGE}/{name}").write_text(value)
        subprocess.run(["ethtool", "-K", BRIDGE, "tx", "off"], check=True, capture_output=True)
        _ip("link", "set", BRIDGE, "up")
        _ip("address", "add", f"{own['local']}/{own['prefixlen']}", "dev", BRIDGE)
        print(ovs.pids[1], flush=True)
        subprocess.run(command, check=True)


def _ip(*arguments: str) -> str:
    done = subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
    return done.stdout


if __name__ == "__main__":
    main()
