"""A Mininet whose hosts come and go while it runs, at the request of sncontroller.

In a script of your own one name changes:

    from elastic import ElasticMininet
    net = ElasticMininet(topo=topo, ...)        # instead of Mininet(topo=topo, ...)

and for Mininet's own command this file is all it takes:

    mn --custom mininet_topos/topologies.py,mininet_topos/elastic.py --topo snsingle \
       --switch snovs --controller remote,ip=127.0.0.1,port=6653

From ``start`` to ``stop`` it answers the controller's ``mininet`` plugin on a unix socket that is
root's alone: /run/sn-mininet.sock, or what SN_MININET_SOCKET says. A host that was added is one
like the others, in ``nodes``, ``net`` and ``pingall``; its hyphens are underscores, which Mininet's
command line wants: node web-2 is host web_2.

A request is a line of JSON, and so is the answer, one per connection:

    {"call": "list"}
    {"call": "add", "name": "web-2", "switch": "s1", "port": "sn4e1b-2", "mac": "02:...",
     "setup": "shell script that is run inside", "command": ["web"], "tags": {...}}
    {"call": "remove", "port": "sn4e1b-2"}

    {"hosts": [{"host": "web_2", "port": "sn4e1b-2", "tags": {...}, "problem": ""}]}
    {"error": "what is wrong", "permanent": false}

The switch's record of a port is the plugin's. This file runs under the Python that Mininet is
installed for and needs nothing of sncontroller.
"""

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from mininet.link import Link
from mininet.net import Mininet
from mininet.node import Host

SOCKET = "/run/sn-mininet.sock"
REQUEST_TIMEOUT_S = 10
SCRIPT_TIMEOUT_S = 20
END_PATIENCE_S = 1
KILL_PATIENCE_S = 10


class ElasticMininet(Mininet):
    """A Mininet that adds and removes hosts for a controller while it runs."""

    def __init__(self, *args, control=None, **params):
        """``control`` is the socket's path."""
        path = control or os.environ.get("SN_MININET_SOCKET", SOCKET)
        self.guests = GuestServer(self, path)
        self.guests.refuse_taken()
        super().__init__(*args, **params)

    def start(self):
        """Start the network, and answer."""
        super().start()
        self.guests.start()

    def stop(self):
        """Answer no more, remove what was added, and stop the network."""
        self.guests.stop()
        super().stop()


class RefusedError(Exception):
    """A request that cannot be met, now or (``permanent``) ever."""

    def __init__(self, said, permanent=False):
        """``said`` is for the operator."""
        super().__init__(said)
        self.permanent = permanent


class PluggedLink(Link):
    """A veth pair: ``eth0`` in the host, and the port beside the switch.

    Unlike Mininet's own it uses no node's shell, in which somebody may be typing.
    """

    @classmethod
    def makeIntfPair(cls, intfname1, intfname2, addr1=None, *args, node1=None, **params):  # noqa: N802
        """Make it with its inner end where it belongs."""
        host = node1 if node1 is not None else args[1]
        inner = f"peer name {intfname1} address {addr1} netns {host.pid}"
        run("sh", "-ec", f"ip link add {intfname2} type veth {inner}")

    def delete(self):
        """Ensure that both ends are gone."""
        delete_interface(self.intf2.name)
        for intf in (self.intf1, self.intf2):
            intf.node.delIntf(intf)


class Guest:
    """A host that was added, with its link and its service."""

    def __init__(self, port, tags):
        """Describe it; nothing is made yet."""
        self.port = port
        self.tags = tags
        self.host = self.link = self.service = self.namespace = None
        self.directory = tempfile.mkdtemp(prefix="sn-mininet-")

    @property
    def log(self):
        """Where the service writes."""
        return Path(self.directory, "service.log")

    def problem(self):
        """What is wrong with it; empty when nothing is."""
        if self.host.shell is None or self.host.shell.poll() is not None:
            return f"host {self.host} has ended"
        if self.port not in interfaces():
            return f"interface {self.port} is missing"
        status = self.service.poll()
        if status is None:
            return ""
        last = self.log.read_text(errors="replace").splitlines()[-1:] or ["it said nothing"]
        return f"the service of host {self.host} ended with status {status}: {last[0]}"

    def end_processes(self):
        """Ask all that run in the host to end, kill the deaf."""
        deadline = time.monotonic() + END_PATIENCE_S
        asked = set()
        while pids := [pid for pid in self._pids() if pid != self.host.pid]:
            late = time.monotonic() > deadline
            for pid in pids:
                if late or pid not in asked:
                    quietly(os.kill, pid, signal.SIGKILL if late else signal.SIGTERM)
            if time.monotonic() > deadline + KILL_PATIENCE_S:
                raise RefusedError(f"processes {pids} of host {self.host} cannot be killed")
            asked.update(pids)
            if self.service is not None:
                self.service.poll()  # a child that nobody waits for never goes
            time.sleep(0.01)

    def _pids(self):
        """Who is in the host's namespace; it is kept open, so that no other gets its number."""
        ours = os.stat(self.namespace)
        for entry in filter(str.isdigit, os.listdir("/proc")):
            there = quietly(os.stat, f"/proc/{entry}/ns/net")
            if there is not None and there.st_ino == ours.st_ino:
                yield int(entry)


class GuestServer:
    """The socket, and the hosts that were added by it.

    One thread makes and removes them one after the other: Mininet's methods want that, and a
    service dies with the thread that started it, so that a killed Mininet leaves none behind.
    """

    def __init__(self, net, path):
        """Serve this network at this path."""
        self.net = net
        self.path = path
        self.guests = {}
        self.listener = None
        self.thread = None

    def refuse_taken(self):
        """Raise ``OSError`` when another Mininet listens there."""
        with socket.socket(socket.AF_UNIX) as probe:
            if probe.connect_ex(self.path) == 0:
                raise OSError(f"another Mininet answers at {self.path}: set SN_MININET_SOCKET")

    def start(self):
        """Listen, and answer until :meth:`stop`."""
        Path(self.path).unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.path)
        os.chmod(self.path, 0o600)  # before listening: nobody gets in in between
        self.listener.listen()
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def stop(self):
        """End, and remove every host that was added."""
        if self.thread is None:
            return
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        self.thread = None
        self.listener.close()
        Path(self.path).unlink(missing_ok=True)

    def _serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                break
            with connection:
                connection.settimeout(REQUEST_TIMEOUT_S)
                quietly(self._converse, connection)
        for port in tuple(self.guests):
            self._remove(port)

    def _converse(self, connection):
        with connection.makefile("rw") as lines:
            lines.write(json.dumps(self._answer(lines.readline())) + "\n")

    def _answer(self, line):
        try:
            request = json.loads(line)
            call = request.pop("call")
            calls = {"list": self._list, "add": self._add, "remove": self._remove}
            if call not in calls:
                raise RefusedError(f"no call {call!r}", permanent=True)
            return {"hosts": calls[call](**request) or []}
        except RefusedError as error:
            return {"error": str(error), "permanent": error.permanent}
        except Exception as error:  # the network goes on, whatever one request does
            return {"error": f"{type(error).__name__}: {error}", "permanent": False}

    def _list(self):
        return [self._told(guest) for guest in self.guests.values()]

    def _told(self, guest):
        host = str(guest.host)
        return {"host": host, "port": guest.port, "tags": guest.tags, "problem": guest.problem()}

    def _add(self, name, switch, port, mac, setup, command, tags):
        if switch not in (each.name for each in self.net.switches):
            raise RefusedError(f"Mininet has no switch {switch}", permanent=True)
        if port in interfaces():
            raise RefusedError(f"interface {port} exists and is not ours", permanent=True)
        guest = self.guests[port] = Guest(port, tags)
        try:
            self._make(guest, self._free(name, port), switch, mac, setup, command)
        except BaseException:
            self._remove(port)
            raise
        return [self._told(guest)]

    def _free(self, name, port):
        """A name for the host; another controller's node may have the first one."""
        for wanted in (name, port):
            host = wanted.replace("-", "_")
            if host not in self.net:
                return host
        raise RefusedError(f"Mininet has a host {host} that is not ours", permanent=True)

    def _make(self, guest, name, switch, mac, setup, command):
        guest.host = self.net.addHost(name, cls=Host, ip=None)
        guest.namespace = os.open(f"/proc/{guest.host.pid}/ns/net", os.O_RDONLY)
        ends = {"intfName1": "eth0", "intfName2": guest.port, "addr1": mac}
        as_is = {"up": None}  # or Mininet would use the switch's shell
        guest.link = self.net.addLink(
            guest.host, switch, cls=PluggedLink, params1=as_is, params2=as_is, **ends
        )
        run("mnexec", "-a", str(guest.host.pid), "sh", "-ec", setup)
        run("ethtool", "-K", guest.port, "tx", "off")
        run("ip", "link", "set", guest.port, "up")
        words = [word.replace("{directory}", guest.directory) for word in command]
        with guest.log.open("w") as log:
            guest.service = guest.host.popen(
                ["setpriv", "--pdeathsig", "KILL", *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=guest.directory,
            )

    def _remove(self, port):
        """Ensure that the host is gone, as far as it was made."""
        guest = self.guests.get(port)
        if guest is None:
            return
        if guest.namespace is not None:
            guest.end_processes()
        if guest.link is not None:
            self.net.delLink(guest.link)
        delete_interface(port)
        if guest.host is not None:
            self.net.delHost(guest.host)
        if guest.service is not None:
            guest.service.kill()  # one that has moved to another namespace was not found
            guest.service.wait()
        if guest.namespace is not None:
            os.close(guest.namespace)
        shutil.rmtree(guest.directory, ignore_errors=True)
        del self.guests[port]


def run(*command):
    """Run a command. Raises ``RefusedError`` with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=SCRIPT_TIMEOUT_S)
    if done.returncode != 0:
        said = done.stderr.strip() or f"status {done.returncode}"
        raise RefusedError(f"{command[0]}: {said}")


def interfaces():
    """Names of the interfaces beside the switches."""
    return [name for _, name in socket.if_nameindex()]


def delete_interface(name):
    """Ensure that it is gone, and its other end."""
    if name in interfaces():
        run("ip", "link", "delete", name)


def quietly(call, *arguments):
    """What the call returns, ``None`` when the operating system refuses: gone meanwhile."""
    try:
        return call(*arguments)
    except OSError:
        return None


# mn --custom takes every name of this file for its own: with it, its networks are elastic.
Mininet = ElasticMininet
