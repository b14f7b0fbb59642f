"""Mininet topologies for an elastic group: a single switch, a line, and a leaf-spine.

Usable as they are; the controller's configuration for each lies beside this file:

    sncontroller run mininet_topos/single.yaml &
    mn --custom mininet_topos/topologies.py --topo snsingle \
       --switch snovs --controller remote,ip=127.0.0.1,port=6653
    mininet> c1 curl -s 10.0.0.10

Every topology has a primary ``vm1`` (10.0.0.10, a web server that answers with its own name) and
clients ``c1``, ``c2``, ... The switches are Open vSwitch bridges in the userspace datapath, which
forward what belongs to no group (a NORMAL entry of lowest priority). Secondaries are made by the
``netns`` plugin on the primary's switch; with elastic.py beside this file, and elastic.yaml, they
are hosts of the same Mininet.

This file runs under the Python that Mininet is installed for and needs nothing of sncontroller.
"""

import shutil
import subprocess
import tempfile
from itertools import pairwise
from pathlib import Path

from mininet.node import Host, OVSSwitch
from mininet.topo import Topo

SERVICE_IP = "10.0.0.10"


class PlainHost(Host):
    """A host whose checksums are real: the userspace datapath does not fill them in."""

    def config(self, **params):
        """Configure the interfaces, without transmit offload."""
        result = super().config(**params)
        for name in self.intfNames():
            if name != "lo":
                self.cmd(f"ethtool -K {name} tx off")
        return result


class ServiceHost(PlainHost):
    """A host with a web server on port 80 that answers with the host's name."""

    def config(self, **params):
        """Configure, and start the service."""
        result = super().config(**params)
        self.www = tempfile.mkdtemp(prefix="sn-mininet-")
        Path(self.www, "index.html").write_text(f"{self.name}\n")
        server = ["python3", "-m", "http.server", "80", "--directory", self.www]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.server = self.popen(server, **quiet)
        return result

    def terminate(self):
        """Stop the service by its own pid, then the host."""
        self.server.terminate()
        self.server.wait()
        shutil.rmtree(self.www, ignore_errors=True)
        super().terminate()


class LabSwitch(OVSSwitch):
    """An Open vSwitch bridge that forwards by itself what no other entry takes."""

    def __init__(self, name, datapath="user", failMode="secure", rstp=False, **params):  # noqa: N803
        """Describe the bridge; ``rstp`` where the topology has loops."""
        self.rstp = rstp
        params["batch"] = False  # Mininet would make the bridge only after start()
        super().__init__(
            name, datapath=datapath, failMode=failMode, protocols="OpenFlow13", **params
        )

    def start(self, controllers):
        """Start, then add the entry of lowest priority: configuring a controller flushes."""
        super().start(controllers)
        if self.rstp:
            self.vsctl("set bridge", self.name, "rstp_enable=true")
        self.dpctl("add-flow", "priority=0,actions=NORMAL")

    def dpctl(self, *args):
        """ovs-ofctl in the bridge's version of OpenFlow."""
        return self.cmd("ovs-ofctl -O OpenFlow13", args[0], self, *args[1:])


class SingleTopo(Topo):
    """One switch.

    c1 ──┐
    c2 ──┼── s1 ── vm1 (primary)
         │    └─── secondaries, as they come
        ...
    """

    def build(self, clients=2):
        """``clients`` is how many there are."""
        switch = self.addSwitch("s1")
        self.addLink(self.addHost("vm1", cls=ServiceHost, ip=f"{SERVICE_IP}/24"), switch)
        _clients(self, clients, (switch,))


class LinearTopo(Topo):
    """A line of switches, the primary at one end, clients at each switch.

    c1      c2      c3
    │       │       │
    s1 ──── s2 ──── s3
    │
    vm1 (primary), secondaries
    """

    def build(self, switches=3, clients=3):
        """``switches`` in a line, ``clients`` dealt out to them in turn."""
        line = [self.addSwitch(f"s{i}") for i in range(1, switches + 1)]
        self.addLink(self.addHost("vm1", cls=ServiceHost, ip=f"{SERVICE_IP}/24"), line[0])
        for left, right in pairwise(line):
            self.addLink(left, right)
        _clients(self, clients, line)


class LeafSpineTopo(Topo):
    """Leaves that are each linked to every spine; rapid spanning tree keeps loops away.

             s101 ──────── s102          spines
            /  |  \\      /  |  \\
          s1 ──┼── s2 ──┴── s3           leaves, each linked to both spines
          │        │        │
         vm1      c1       c2
    """

    def build(self, leaves=3, spines=2, clients=2):
        """The primary is at leaf s1, clients at the others."""
        low = [self.addSwitch(f"s{i}", rstp=True) for i in range(1, leaves + 1)]
        high = [self.addSwitch(f"s{100 + i}", rstp=True) for i in range(1, spines + 1)]
        self.addLink(self.addHost("vm1", cls=ServiceHost, ip=f"{SERVICE_IP}/24"), low[0])
        for leaf in low:
            for spine in high:
                self.addLink(leaf, spine)
        _clients(self, clients, low[1:])


def _clients(topo, count, switches):
    for i in range(count):
        client = topo.addHost(f"c{i + 1}", cls=PlainHost, ip=f"10.0.0.{201 + i}/24")
        topo.addLink(client, switches[i % len(switches)])


topos = {"snsingle": SingleTopo, "snlinear": LinearTopo, "snleafspine": LeafSpineTopo}
switches = {"snovs": LabSwitch}
hosts = {"snhost": PlainHost, "snservice": ServiceHost}
