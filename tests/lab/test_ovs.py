"""The private Open vSwitch, hosts on it, and what they leave: nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sncontroller.lab import programs
from sncontroller.lab.leftovers import Scope, leftovers, snapshot
from sncontroller.lab.namespaces import end_processes, is_dead_name, links, namespaces
from sncontroller.lab.net import Host, Link, Shaping, isolate
from sncontroller.lab.ovs import LabError, MissingError, PrivateOvs

BRIDGE = "sntbr0"


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture
def ovs() -> Iterator[PrivateOvs]:
    """A running switch with one bridge that switches like any other."""
    with PrivateOvs() as running:
        running.add_bridge(BRIDGE, fail_mode="secure", dpid=0xABC)
        running.ofctl("add-flow", BRIDGE, "actions=normal")
        yield running


@contextmanager
def unprivileged() -> Iterator[None]:
    """This process as the user nobody."""
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def until(reached: Callable[[], bool]) -> None:
    """Wait for something that is bound to happen."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    """Whether the process exists and has not ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


class TestSwitch:
    """Life of the daemons."""

    def test_plain_tools_find_it_by_its_environment(self, ovs: PrivateOvs) -> None:
        """ovs-vsctl, ovs-ofctl and ovs-appctl need nothing but the environment."""
        for command in (["ovs-vsctl", "br-exists", BRIDGE], ["ovs-ofctl", "show", BRIDGE]):
            subprocess.run(command, env=ovs.environment, check=True, capture_output=True)
        said = subprocess.run(
            ["ovs-appctl", "dpif/show"], env=ovs.environment, check=True, capture_output=True
        )
        assert BRIDGE.encode() in said.stdout

    def test_database_remote_is_enough_for_ovs_vsctl(self, ovs: PrivateOvs) -> None:
        """Without the environment, ``--db`` names the database."""
        command = ["ovs-vsctl", f"--db={ovs.db}", "list-br"]
        assert subprocess.check_output(command, text=True).split() == [BRIDGE]

    def test_datapath_id_and_fail_mode_are_as_asked(self, ovs: PrivateOvs) -> None:
        """The bridge has the datapath id and the fail mode it was added with."""
        assert "dpid:0000000000000abc" in ovs.ofctl("show", BRIDGE)
        assert ovs.vsctl("get", "bridge", BRIDGE, "fail_mode").strip() == "secure"

    def test_adding_a_bridge_twice_is_one_bridge(self, ovs: PrivateOvs) -> None:
        """``add_bridge`` is idempotent, and ``del_bridge`` too."""
        ovs.add_bridge(BRIDGE)
        assert ovs.vsctl("list-br").split() == [BRIDGE]
        ovs.del_bridge(BRIDGE)
        ovs.del_bridge(BRIDGE)
        assert ovs.vsctl("list-br").split() == []

    def test_restart_loses_flows_and_keeps_ports(self, ovs: PrivateOvs) -> None:
        """A killed switch daemon comes back with bridges and ports, and with no flow."""
        with Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24")) as host:
            killed = ovs.pids[1]
            ovs.restart_vswitchd()
            assert not is_alive(killed)
            assert "actions" not in ovs.ofctl("dump-flows", BRIDGE)
            assert ovs.ofport("snt1") == host.ofport

    def test_two_stand_side_by_side(self, ovs: PrivateOvs) -> None:
        """Another one with a datapath that needs no tap does not disturb the first."""
        with PrivateOvs() as other:
            other.add_bridge("sntother", datapath_type="dummy")
            assert other.vsctl("list-br").split() == ["sntother"]
            assert ovs.vsctl("list-br").split() == [BRIDGE]
        assert "actions=NORMAL" in ovs.ofctl("dump-flows", BRIDGE)

    def test_second_userspace_datapath_is_refused(self, ovs: PrivateOvs) -> None:
        """The tap that two userspace datapaths would share is named in the error."""
        with PrivateOvs() as other, pytest.raises(LabError, match="ovs-netdev is in use"):
            other.add_bridge("sntother")

    def test_datapath_of_a_killed_run_is_taken_over(self) -> None:
        """Taps that a daemon left when it was killed are no obstacle, and go with the next stop."""
        with PrivateOvs() as first:
            first.add_bridge(BRIDGE)
            os.kill(first.pids[1], signal.SIGKILL)
            until(lambda: not is_alive(first.pids[1]))
            first._bridges.clear()  # as when nobody is left to clean up
        assert BRIDGE in links()
        with PrivateOvs() as second:
            second.add_bridge(BRIDGE)
        assert set(links()) & {BRIDGE, "ovs-netdev"} == set()

    def test_given_directory_is_kept_and_used_again(self, tmp_path: Path) -> None:
        """The database in a directory of the caller's survives a stop."""
        for _ in range(2):
            with PrivateOvs(tmp_path) as ovs:
                ovs.add_bridge(BRIDGE)
        assert (tmp_path / "conf.db").exists()
        assert [path for path in tmp_path.iterdir() if path.is_socket()] == []

    def test_daemons_die_with_their_killed_parent(self) -> None:
        """Nobody stops them when the parent is killed with -9, and still they end."""
        script = (
            "import time; from sncontroller.lab.ovs import PrivateOvs\n"
            "with PrivateOvs() as ovs:\n"
            "    print(ovs.directory, *ovs.pids, flush=True)\n"
            "    time.sleep(60)\n"
        )
        with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as parent:
            assert parent.stdout is not None
            directory, *pids = parent.stdout.readline().decode().split()
            assert all(is_alive(int(pid)) for pid in pids)
            parent.kill()
        until(lambda: not any(is_alive(int(pid)) for pid in pids))
        subprocess.run(["rm", "-r", directory], check=True)


class TestTrouble:
    """What is said when something is missing or dies."""

    def test_missing_program_is_named_with_its_package(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        """The error names the first missing program and what to install."""
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(programs, "SBIN", ())
        with pytest.raises(MissingError, match=r"ovsdb-tool is not installed .*openvswitch"):
            PrivateOvs().start()

    def test_without_root_it_says_so(self) -> None:
        """Neither a switch nor a host can be made without root."""
        with unprivileged(), pytest.raises(MissingError, match="needs root"):
            PrivateOvs().start()

    def test_daemon_that_cannot_start_is_reported_with_its_log(self, tmp_path: Path) -> None:
        """A database that is no database ends in the daemon's own words, and in no process."""
        (tmp_path / "conf.db").write_text("no database\n")
        before = snapshot(Scope(directories=(tmp_path,)))
        with pytest.raises(LabError, match=r"(?s)ovsdb-server ended with status 1.*conf\.db"):
            PrivateOvs(tmp_path).start()
        assert leftovers(before) == ()

    def test_dead_daemon_is_reported_by_the_next_command(self, ovs: PrivateOvs) -> None:
        """A command that fails because the switch daemon died says that first."""
        os.kill(ovs.pids[1], signal.SIGKILL)
        until(lambda: not is_alive(ovs.pids[1]))
        with pytest.raises(LabError, match=r"ovs-vswitchd ended with status -9"):
            ovs.ofctl("dump-flows", BRIDGE)
        with pytest.raises(LabError, match=r"ovs-vswitchd ended with status -9"):
            ovs.appctl("version")

    def test_failing_command_is_quoted_with_its_error(self, ovs: PrivateOvs) -> None:
        """The command line and the tool's own words are both in the message."""
        with pytest.raises(LabError, match=r"ovs-vsctl .*list-ports nobridge: .*no bridge named"):
            ovs.vsctl("list-ports", "nobridge")

    def test_stopped_switch_says_that_it_is_not_running(self) -> None:
        """Using it before start or after stop is an error of its own."""
        with pytest.raises(LabError, match="is not running"):
            PrivateOvs().vsctl("show")


class TestHosts:
    """Hosts on the bridge."""

    def test_hosts_reach_each_other(self, ovs: PrivateOvs) -> None:
        """ICMP and TCP pass between two hosts: checksums are right."""
        with (
            Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24")) as one,
            Host(ovs, BRIDGE, "snt2", Link("10.98.0.2/24", mac="02:00:00:00:00:02")) as two,
        ):
            assert two.mac == "02:00:00:00:00:02"
            one.run("ping", "-c1", "-W5", two.ip)
            with two.popen(
                *_python("s.listen(); c, _ = s.accept(); c.sendall(b'hello')")
            ) as server:
                until(lambda: ":5000" in two.run("ss", "-Hltn").stdout)
                said = one.run(*_python("s.connect(('10.98.0.2', 5000)); print(s.recv(9))"))
            assert (said.stdout.strip(), server.returncode) == ("b'hello'", 0)

    def test_ipv6_hosts_reach_each_other_at_once(self, ovs: PrivateOvs) -> None:
        """IPv6 addresses are usable when start returns: no duplicate address detection."""
        with (
            Host(ovs, BRIDGE, "snt1", Link("fd98::1/64", gateway="fd98::2")) as one,
            Host(ovs, BRIDGE, "snt2", Link("fd98::2/64")) as two,
        ):
            one.run("ping", "-c1", "-W5", two.ip)
            assert "via fd98::2" in one.run("ip", "-6", "route", "show", "default").stdout

    def test_loopback_addresses_are_not_announced(self, ovs: PrivateOvs) -> None:
        """Nobody answers ARP for an address that several hosts hold on their loopback."""
        shared = ("10.98.0.10",)
        with (
            Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24", loopback=shared)) as one,
            Host(ovs, BRIDGE, "snt2", Link("10.98.0.2/24", loopback=shared)),
            Host(ovs, BRIDGE, "snt3", Link("10.98.0.3/24", gateway="10.98.0.1")) as client,
        ):
            one.run("ping", "-c1", "-W5", shared[0])
            client.run("ping", "-c1", "-W1", shared[0], check=False)
            client.run("ping", "-c1", "-W5", one.ip)
            neighbours = client.run("ip", "neigh").stdout
            assert f"{one.ip} dev eth0 lladdr" in neighbours
            assert f"{shared[0]} dev eth0 lladdr" not in neighbours

    def test_shaping_stays_in_both_directions(self, ovs: PrivateOvs) -> None:
        """Open vSwitch, which deletes foreign qdiscs when it reconfigures, leaves this one."""
        link = Link("10.98.0.1/24", rate_bps=8_000_000, shaping=Shaping.BOTH)
        with Host(ovs, BRIDGE, "snt1", link) as host:
            ovs.add_bridge("sntother")
            outer = subprocess.check_output(["tc", "qdisc", "show", "dev", "snt1"], text=True)
            inner = host.run("tc", "qdisc", "show", "dev", "eth0").stdout
            for shown in (outer, inner):
                assert "qdisc tbf" in shown
                assert "rate 8Mbit" in shown

    def test_name_must_fit_and_be_free(self, ovs: PrivateOvs) -> None:
        """Names that are too long or in use are refused; whoever has the name keeps it."""
        with pytest.raises(LabError, match="1 to 15 characters"):
            Host(ovs, BRIDGE, "sixteen-and-more", Link("10.98.0.1/24"))
        with Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24")):
            with pytest.raises(LabError, match="snt1 exists already"):
                Host(ovs, BRIDGE, "snt1", Link("10.98.0.2/24")).start()
            assert "snt1" in namespaces()

    def test_host_that_cannot_start_leaves_nothing(self, ovs: PrivateOvs) -> None:
        """When the bridge is missing or the address is none, all that was made goes again."""
        before = snapshot()
        for bridge, address in (("nobridge", "10.98.0.1/24"), (BRIDGE, "10.98.0.300/24")):
            with pytest.raises(LabError, match=r"nobridge|10\.98\.0\.300"):
                Host(ovs, bridge, "snt1", Link(address)).start()
        assert leftovers(before) == ()

    def test_failing_command_inside_is_quoted(self, ovs: PrivateOvs) -> None:
        """The host, the command and its words are in the message; unchecked it is a result."""
        with Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24")) as host:
            with pytest.raises(LabError, match=r"snt1: cat /nowhere: .*No such file"):
                host.run("cat", "/nowhere")
            assert host.run("cat", "/nowhere", check=False).returncode == 1


class TestIsolation:
    """A process in namespaces of its own."""

    def test_is_elsewhere_once_and_can_reach_out(self) -> None:
        """Network and names are its own, a second call changes nothing, and a prefix leads out."""
        inside = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt")]
        outside = isolate()
        assert [os.readlink(f"/proc/self/ns/{kind}") for kind in ("net", "mnt")] == inside
        command = [*outside, "readlink", "/proc/self/ns/net", "/proc/self/ns/mnt"]
        said = subprocess.check_output(command, text=True).split()
        assert set(said) & set(inside) == set()

    def test_that_fails_leaves_the_process_where_it_was(self, tmp_path: Path) -> None:
        """No process is ever left in a bare namespace, where not even the loopback is up."""
        script = (
            "import os\n"
            "from sncontroller.lab import isolation\n"
            "def where():\n"
            "    ours = [os.readlink(f'/proc/self/ns/{kind}') for kind in ('net', 'mnt')]\n"
            "    return ours, os.getcwd(), os.listdir('/sys/class/net')\n"
            "before, isolation.RUN_NETNS = where(), '/proc/nowhere'\n"
            "try:\n"
            "    isolation.isolate()\n"
            "except FileNotFoundError as error:\n"
            "    print(error.filename, where() == before)\n"
        )
        command = [sys.executable, "-c", script]
        assert subprocess.check_output(command, cwd=tmp_path, text=True) == "/proc/nowhere True\n"

    def test_shows_its_own_interfaces_everywhere(self) -> None:
        """What /sys says agrees with the kernel's own list: nobody else's interface is in sight."""
        assert sorted(os.listdir("/sys/class/net")) == list(links())


class TestLeftovers:
    """What a run leaves, and that it is seen."""

    def test_whole_lab_leaves_nothing(self, tmp_path: Path) -> None:
        """Processes that ignore being asked to end go too, with switch and host."""
        before = snapshot(Scope(directories=(tmp_path,), marks=("SN_TEST=",)))
        with PrivateOvs(environment={"SN_TEST": "1"}) as ovs:
            ovs.add_bridge(BRIDGE)
            with Host(ovs, BRIDGE, "snt1", Link("10.98.0.1/24")) as host:
                host.popen("sh", "-c", "trap '' TERM; while :; do sleep 1; done")
                during = leftovers(before, patience_s=0)
        kinds = {line.split()[0] for line in during}
        assert kinds == {"process", "namespace", "interface", "directory"}
        assert {"namespace snt1", "interface snt1", f"interface {BRIDGE}"} <= set(during)
        assert sum("ovs" in line for line in during if line.startswith("process")) == 2
        assert leftovers(before) == ()

    def test_bridges_of_a_named_database_are_seen(self, ovs: PrivateOvs) -> None:
        """A bridge left on the machine's own switch is a leftover."""
        before = snapshot(Scope(ovsdb=ovs.db))
        ovs.add_bridge("sntother", datapath_type="dummy")
        assert leftovers(before, patience_s=0) == ("bridge sntother",)

    def test_process_is_known_by_what_it_holds(self, tmp_path: Path) -> None:
        """A directory, an open file or a word of the command line in the run's is enough."""
        before, unknown = snapshot(Scope(directories=(tmp_path,))), snapshot()
        (tmp_path / "log").touch()
        with open(tmp_path / "log") as log:
            children = [
                subprocess.Popen(["sleep", "60"], cwd=tmp_path),
                subprocess.Popen(["sleep", "60"], stdin=log),
                subprocess.Popen(["tail", "-f", str(tmp_path / "log")]),
            ]
        found = leftovers(before, patience_s=0)
        assert [line.split(":")[0] for line in found] == [f"process {c.pid}" for c in children]
        assert leftovers(unknown, patience_s=0) == ()
        end_processes(lambda: [child.pid for child in children if child.poll() is None])
        assert leftovers(before) == ()

    def test_name_that_lost_its_namespace_is_no_namespace(self) -> None:
        """The empty file that a killed ``ip netns`` leaves is told from a namespace."""
        subprocess.run(["ip", "netns", "add", "sntdead"], check=True)
        assert ("sntdead" in namespaces(), is_dead_name("sntdead")) == (True, False)
        subprocess.run(["umount", "/run/netns/sntdead"], check=True)
        assert ("sntdead" in namespaces(), is_dead_name("sntdead")) == (False, True)
        os.unlink("/run/netns/sntdead")


def _python(statements: str) -> list[str]:
    setup = "import socket; s = socket.socket(); s.settimeout(20)"
    bind = "s.bind(('', 5000))" if "listen" in statements else "pass"
    return [sys.executable, "-c", f"{setup}; {bind}; {statements}"]
