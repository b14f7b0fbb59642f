"""openflow.packets: bytes and values, and whole probes against a real Linux in a namespace."""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sncontroller.core.frames import (
    MSS,
    Arp,
    ArpOp,
    Echo,
    Frame,
    Nd,
    NdKind,
    Packet,
    Tcp,
    TcpFlag,
    Udp,
    Unreachable,
)
from sncontroller.core.health import Health, HealthSpec, Verdict, initial, observe
from sncontroller.core.probe import (
    Action,
    Prober,
    ProbeState,
    Received,
    Result,
    Send,
    Target,
    Tick,
)
from sncontroller.openflow.packets import decoded, encoded

ADDRESS, SOURCE, OWN = map(IPv4Address, ("10.99.0.10", "10.99.0.254", "10.99.0.101"))
NODE_MAC, OUR_MAC = "02:53:00:a1:00:02", "02:53:00:a1:00:00"
CLONE_NEWNET = 0x40000000

# Bytes and values

MACS = st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":"))
ADDRESSES = st.builds(IPv4Address, st.integers(0, 2**32 - 1))
ADDRESSES6 = st.builds(IPv6Address, st.integers(0, 2**128 - 1))
U16, U32 = st.integers(0, 2**16 - 1), st.integers(0, 2**32 - 1)
DATA = st.binary(max_size=200)


def packets_between(ends: st.SearchStrategy[Any]) -> st.SearchStrategy[Packet]:
    """Packets that both families have, between such addresses."""
    flags = st.builds(TcpFlag, st.integers(0, 63))
    return st.one_of(
        st.builds(Echo, ends, ends, U16, U16, st.booleans(), DATA),
        st.builds(Tcp, ends, ends, U16, U16, U32, U32, flags, DATA, st.sampled_from([0, MSS])),
        st.builds(Udp, ends, ends, U16, U16, DATA),
        st.builds(Unreachable, ends, ends, st.integers(0, 255), U16, U16),
    )


PACKETS: st.SearchStrategy[Packet] = st.one_of(
    st.builds(Arp, st.sampled_from(ArpOp), MACS, ADDRESSES, ADDRESSES, MACS),
    packets_between(ADDRESSES),
)
ND = st.builds(Nd, st.sampled_from(NdKind), ADDRESSES6, ADDRESSES6, ADDRESSES6, st.none() | MACS)
PACKETS6: st.SearchStrategy[Packet] = st.one_of(ND, packets_between(ADDRESSES6))
FRAMES4 = st.builds(Frame, MACS, MACS, PACKETS, st.none() | st.integers(0, 4095))
FRAMES6 = st.builds(Frame, MACS, MACS, PACKETS6, st.none() | st.integers(0, 4095))
FRAMES = FRAMES4 | FRAMES6


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071), written anew: 0 over data that carries its own."""
    words = struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    total: int = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


@given(FRAMES, st.binary(max_size=20).map(lambda pad: b"\0" * len(pad)))
def test_round_trip(frame: Frame, padding: bytes) -> None:
    """What is written is read again, whatever Ethernet pads it with."""
    assert decoded(encoded(frame) + padding) == frame


def test_what_is_remembered_of_a_segment_is_not_its_numbers_nor_its_option() -> None:
    """Two segments that differ in those are each written as if it were the first."""
    one = replace(SEGMENT, src_port=1, dst_port=2, seq=3, ack=4)
    two = replace(SEGMENT, src_port=5, dst_port=6, seq=7, ack=8, mss=MSS)
    plain, announcing = (encoded(Frame(OUR_MAC, NODE_MAC, packet)) for packet in (one, two))
    assert encoded(Frame(OUR_MAC, NODE_MAC, one)) == plain
    assert len(announcing) == len(plain) + 4
    assert announcing[54:58] == bytes((2, 4, *MSS.to_bytes(2)))
    assert plain[34:46] == struct.pack("!HHII", 1, 2, 3, 4)
    assert announcing[34:46] == struct.pack("!HHII", 5, 6, 7, 8)


@given(FRAMES4.filter(lambda frame: not isinstance(frame.packet, Arp)))
def test_checksums(frame: Frame) -> None:
    """IPv4, TCP, UDP and ICMP checksums hold by an independent calculation."""
    ip = encoded(replace(frame, vlan_id=None))[14:]
    header, body = ip[:20], ip[20 : int.from_bytes(ip[2:4])]
    assert checksum(header) == 0
    pseudo = header[12:20] + struct.pack("!HH", header[9], len(body))
    sums_pseudo = isinstance(frame.packet, (Tcp, Udp))
    assert checksum((pseudo if sums_pseudo else b"") + body) == 0


@given(FRAMES6)
def test_checksums_of_ipv6(frame: Frame) -> None:
    """All of IPv6's payloads are summed with its addresses (RFC 8200, 8.1); none is left out."""
    ip = encoded(replace(frame, vlan_id=None))[14:]
    length, protocol = int.from_bytes(ip[4:6]), ip[6]
    body = ip[40 : 40 + length]
    assert checksum(ip[8:40] + struct.pack("!IxxxB", length, protocol) + body) == 0
    assert ip[7] == (255 if isinstance(frame.packet, Nd) else 64)
    if isinstance(frame.packet, Udp):
        assert body[6:8] != bytes(2)


@pytest.mark.parametrize("ends", [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")])
def test_a_checksum_of_zero_is_written_as_ones(ends: tuple[str, str]) -> None:
    """Zero would say that there is none, which IPv6 forbids (RFC 8200, 8.1)."""
    src, dst = map(ip_address, ends)
    plain = encoded(Frame(NODE_MAC, OUR_MAC, Udp(src, dst, 1, 2, bytes(2))))
    at = 14 + (20 if src.version == 4 else 40) + 6
    payload = plain[at : at + 2]  # with its own sum as data, a datagram sums up to zero
    summed = encoded(Frame(NODE_MAC, OUR_MAC, Udp(src, dst, 1, 2, payload)))
    assert summed[at : at + 2] == b"\xff\xff"


@settings(max_examples=500)
@given(FRAMES, st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=6), U16)
def test_damaged_frames_never_raise(
    frame: Frame, damage: list[tuple[int, int]], length: int
) -> None:
    """Any bytes changed and cut anywhere: a frame or nothing."""
    data = bytearray(encoded(frame))
    for at, value in damage:
        data[at % len(data)] = value
    result = decoded(bytes(data[: length % (len(data) + 1)]))
    assert result is None or isinstance(result, Frame)


@given(st.binary(max_size=120))
@example(b"")
def test_any_bytes_never_raise(data: bytes) -> None:
    """Noise is no frame, also behind the headers of a real one."""
    assert decoded(data) is None or isinstance(decoded(data), Frame)
    for kind in (b"\x08\x00", b"\x86\xdd", b"\x86\xdd\x60" + bytes(5) + b"\x3a\xff" + bytes(32)):
        frame = decoded(bytes(12) + kind + data)
        assert frame is None or isinstance(frame, Frame)


SEGMENT = Tcp(ADDRESS, SOURCE, 80, 4000, 1, 2, TcpFlag.ACK, b"payload")
DATAGRAM = Udp(ADDRESS, SOURCE, 53, 4000, b"payload")
ADDRESS6, SOURCE6, OWN6 = map(IPv6Address, ("fd00::10", "fd00::254", "fd00::101"))
SEGMENT6 = replace(SEGMENT, src=ADDRESS6, dst=SOURCE6)
TOLD = Nd(NdKind.ADVERTISEMENT, OWN6, SOURCE6, OWN6, NODE_MAC)


def changed(packet: Packet, at: int, value: bytes, cut: int | None = None) -> bytes:
    """The frame of ``packet`` with ``value`` at offset ``at``, cut to ``cut`` bytes."""
    data = bytearray(encoded(Frame(NODE_MAC, OUR_MAC, packet)))
    data[at : at + len(value)] = value
    return bytes(data[:cut])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(changed(SEGMENT, 12, b"\x86\xdd"), id="IPv6"),
        pytest.param(changed(SEGMENT, 14, b"\x65"), id="IP version 6"),
        pytest.param(changed(SEGMENT, 14, b"\x44"), id="IP header too short"),
        pytest.param(changed(SEGMENT, 20, b"\x20\x00"), id="first fragment"),
        pytest.param(changed(SEGMENT, 20, b"\x00\x10"), id="later fragment"),
        pytest.param(changed(SEGMENT, 23, b"\x84"), id="SCTP"),
        pytest.param(changed(SEGMENT, 0, b"", -1), id="cut short"),
        pytest.param(changed(SEGMENT, 46, b"\x40"), id="TCP header too short"),
        pytest.param(changed(SEGMENT, 46, b"\xf0"), id="TCP header too long"),
        pytest.param(changed(DATAGRAM, 38, b"\x00\x07"), id="UDP too short"),
        pytest.param(changed(DATAGRAM, 38, b"\x00\xff"), id="UDP too long"),
        pytest.param(changed(Echo(ADDRESS, SOURCE, 1, 2), 34, b"\x0d"), id="ICMP timestamp"),
        pytest.param(changed(Unreachable(ADDRESS, SOURCE, 3, 1, 2), 51, b"\x01"), id="quotes ICMP"),
        pytest.param(
            changed(Arp(ArpOp.REPLY, NODE_MAC, OWN, SOURCE), 14, b"\x00\x06"),
            id="ARP of token ring",
        ),
        pytest.param(changed(SEGMENT6, 12, b"\x08\x00"), id="IPv4"),
        pytest.param(changed(SEGMENT6, 14, b"\x45"), id="IP version 4"),
        pytest.param(changed(SEGMENT6, 20, b"\x2c"), id="IPv6 fragment"),
        pytest.param(changed(SEGMENT6, 0, b"", -1), id="IPv6 cut short"),
        pytest.param(changed(TOLD, 21, b"\x40"), id="ND from beyond the link"),
        pytest.param(changed(TOLD, 55, b"\x01"), id="ND with a code"),
        pytest.param(changed(TOLD, 54, b"\x85"), id="router solicitation"),
        pytest.param(changed(TOLD, 79, b"\x00"), id="ND option of length 0"),
        pytest.param(changed(TOLD, 79, b"\x02"), id="ND option too long"),
        pytest.param(
            changed(Unreachable(ADDRESS6, SOURCE6, 4, 1, 2), 68, b"\x3a"), id="quotes ICMPv6"
        ),
        pytest.param(changed(Arp(ArpOp.REPLY, NODE_MAC, OWN, SOURCE), 21, b"\x03"), id="RARP"),
    ],
)
def test_what_is_none_of_ours_is_nothing(data: bytes) -> None:
    """Each malformed or foreign packet is refused, and none is half read."""
    assert decoded(data) is None


def test_tcp_option_of_length_0_ends() -> None:
    """Ryu 4.34's own option parser never returns on this, and any node could send it."""
    options = bytes([200, 0, 1, 1])
    plain = encoded(Frame(NODE_MAC, OUR_MAC, replace(SEGMENT, payload=options + b"data")))
    data = bytearray(plain)
    data[46] = 6 << 4
    frame = decoded(bytes(data))
    assert frame is not None
    assert frame.packet == replace(SEGMENT, payload=b"data")


@pytest.mark.parametrize("port", [67, 179, 4789, 6653])
def test_ports_of_other_protocols_are_not_read_as_those(port: int) -> None:
    """A payload is bytes, on the ports of DHCP, BGP, VXLAN and OpenFlow, too, and if all zero."""
    for packet in (SEGMENT, DATAGRAM):
        frame = Frame(NODE_MAC, OUR_MAC, replace(packet, src_port=port, payload=bytes(9)))
        assert decoded(encoded(frame)) == frame


# A real node: a namespace with Linux's own stack, and real processes

SERVICE = """
import http.server, socket, sys, threading

class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/" else 404)
        self.send_header("Content-Length", "20000")
        self.end_headers()
        self.wfile.write(b"x" * 20000)
    def log_message(self, *args):
        pass

def pieces(server):
    while True:
        client = server.accept()[0]
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"HT", b"TP/1.1 2", b"04 No", b" Content\\r\\n"):
            client.sendall(piece)
        client.close()

def pong(server):
    while True:
        data, peer = server.recvfrom(2000)
        server.sendto(b"pong " + data, peer)

address = sys.argv[1]
web = http.server.ThreadingHTTPServer((address, 80), Answer)
split = socket.create_server((address, 81))
echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
echo.bind((address, 53))
for target, server in ((pieces, split), (pong, echo)):
    threading.Thread(target=target, args=(server,), daemon=True).start()
print("ready", flush=True)
web.serve_forever()
"""


def ip(*command: str) -> None:
    """Run iproute2, which must succeed."""
    subprocess.run(["ip", *command], check=True, capture_output=True)


def raw_socket(namespace: str, interface: str) -> socket.socket:
    """A packet socket on an interface of another namespace; this thread comes back from there."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path("/proc/thread-self/ns/net").open() as home:
        with Path(f"/run/netns/{namespace}").open() as there:
            if libc.setns(there.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), f"setns {namespace}")
        try:
            every_protocol = socket.htons(0x0003)
            wire = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, every_protocol)
            wire.bind((interface, 0))
        finally:
            if libc.setns(home.fileno(), CLONE_NEWNET):
                os.abort()  # nothing may run on in the wrong namespace
    return wire


@dataclass
class Node:
    """A node, and the wire to it: what the controller and the switch are in production."""

    namespace: str
    wire: socket.socket
    service: subprocess.Popen[bytes]
    seen: list[Packet] = field(default_factory=list)
    """All that came from the node, but ARP requests."""

    def send(self, actions: tuple[Any, ...]) -> None:
        """Put the frames of all Sends on the wire."""
        for action in actions:
            if isinstance(action, Send):
                self.wire.send(encoded(action.frame))

    def receive(self, until_s: float) -> Packet | None:
        """The next packet from the node; asked for SOURCE, answer as the switch does."""
        while select.select([self.wire], [], [], max(0.0, until_s - time.monotonic()))[0]:
            data, (_, _, kind, *_) = self.wire.recvfrom(4096)
            frame = None if kind == socket.PACKET_OUTGOING else decoded(data)
            if frame is None:
                continue
            if isinstance(frame.packet, Arp) and frame.packet.op is ArpOp.REQUEST:
                self.answer(frame)
                continue
            self.seen.append(frame.packet)
            return frame.packet
        return None

    def answer(self, request: Frame) -> None:
        """Answer ARP for SOURCE only: the group's address and others are not on this wire."""
        asked = request.packet
        if isinstance(asked, Arp) and asked.target == SOURCE:
            reply = Arp(ArpOp.REPLY, OUR_MAC, SOURCE, asked.sender, asked.sender_mac)
            self.wire.send(encoded(Frame(OUR_MAC, asked.sender_mac, reply)))

    def probe(self, spec: HealthSpec, times: int, port: int = 80) -> list[Result]:
        """The results of ``times`` probes in real time."""
        target = Target(2, NODE_MAC, ADDRESS, spec.port or port, OUR_MAC)
        prober = Prober(spec, target, seed=time.monotonic_ns())
        state = prober.start(time.monotonic())
        results: list[Result] = []
        while len(results) < times:
            state, actions = self.turn(prober, state)
            results += [action for action in actions if isinstance(action, Result)]
        return results

    def turn(self, prober: Prober, state: ProbeState) -> tuple[ProbeState, tuple[Action, ...]]:
        """One event, whichever comes first, and its frames on the wire."""
        packet = self.receive(state.wake_s)
        event = Tick() if packet is None else Received(packet)
        state, actions = prober.step(state, event, time.monotonic())
        self.send(actions)
        return state, actions

    def health(self, spec: HealthSpec, times: int) -> Health:
        """The health after ``times`` probes."""
        health = initial(spec, 0.0)
        for count, result in enumerate(self.probe(spec, times)):
            health = observe(spec, health, result.ok, result.detail, float(count))
        return health

    def sockets(self) -> str:
        """The TCP sockets of the namespace that are neither listening nor in TIME-WAIT."""
        command = ["ss", "-Htan", "state", "connected", "exclude", "time-wait"]
        inside = ["ip", "netns", "exec", self.namespace, *command]
        return subprocess.run(inside, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node with the group's address on its loopback, and its service; all gone afterwards."""
    near, far = (f"snp{os.getpid()}{side}" for side in "ab")
    service = None
    wire = None
    try:
        for namespace in (near, far):
            ip("netns", "add", namespace)
        wire = cabled(near, far)
        command = [sys.executable, "-c", SERVICE, str(ADDRESS)]
        service = subprocess.Popen(["ip", "netns", "exec", far, *command], stdout=subprocess.PIPE)
        assert service.stdout is not None
        assert service.stdout.readline() == b"ready\n"
        yield Node(far, wire, service)
    finally:
        if service is not None:
            service.kill()
            service.communicate()
        if wire is not None:
            wire.close()
        for namespace in (near, far):
            subprocess.run(["ip", "netns", "del", namespace], check=False, capture_output=True)


def cabled(near: str, far: str) -> socket.socket:
    """Join the namespaces by a cable, set up the node, and give the near end as a socket."""
    ip("-n", near, "link", "add", "wire", "type", "veth", "peer", "name", "eth0", "netns", far)
    for namespace in (near, far):
        for path in ("all", "default"):
            quiet = f"net.ipv6.conf.{path}.disable_ipv6=1"
            ip("netns", "exec", namespace, "sysctl", "-qw", quiet)
    for setting in ("arp_ignore=1", "arp_announce=2"):
        ip("netns", "exec", far, "sysctl", "-qw", f"net.ipv4.conf.all.{setting}")
    ip("-n", far, "link", "set", "eth0", "address", NODE_MAC)
    ip("-n", far, "addr", "add", f"{OWN}/24", "dev", "eth0")
    ip("-n", far, "addr", "add", f"{ADDRESS}/32", "dev", "lo")
    for namespace, interface in ((far, "lo"), (far, "eth0"), (near, "wire")):
        ip("-n", namespace, "link", "set", interface, "up")
    return raw_socket(near, "wire")


def spec_of(kind: str, **section: Any) -> HealthSpec:
    """A section with a source where the kind has one, five probes a second, patient timeouts."""
    usual = {"interval_s": 0.2, "timeout_s": 0.2, "source": str(SOURCE)}
    return HealthSpec.model_validate({"kind": kind, **usual, **section})


@pytest.mark.parametrize(
    ("section", "detail"),
    [
        ({"kind": "icmp"}, "echo reply"),
        ({"kind": "tcp"}, "port 80 accepts"),
        ({"kind": "http"}, "HTTP 200"),
        ({"kind": "http", "path": "/none", "expect_status": 404}, "HTTP 404"),
        ({"kind": "http", "port": 81}, "HTTP 204"),
        ({"kind": "udp", "port": 53, "payload": "ping", "expect": "pong ping"}, "reply of 9 bytes"),
        ({"kind": "udp", "port": 53, "payload": "hex:00"}, "reply of 6 bytes"),
        ({"kind": "arp", "target": "10.99.0.99+index"}, f"10.99.0.101 is at {NODE_MAC}"),
        ({"kind": "arp", "target": "10.99.0.101", "source": None}, f"10.99.0.101 is at {NODE_MAC}"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["kind"],
)
def test_real_node_answers(node: Node, section: dict[str, Any], detail: str) -> None:
    """Each kind of probe is understood by Linux and a real service, and its answer by us."""
    results = node.probe(spec_of(**section), 3)
    assert [(result.ok, result.detail) for result in results[1:]] == [(True, detail)] * 2
    assert node.sockets() == ""


@pytest.mark.parametrize(
    ("section", "detail"),
    [
        ({"kind": "tcp", "port": 9}, "port 9 refuses"),
        ({"kind": "http", "port": 9}, "port 9 refuses"),
        ({"kind": "udp", "port": 9, "payload": "?"}, "port 9 unreachable (ICMP)"),
        ({"kind": "http", "path": "/none"}, "HTTP 404"),
        (
            {"kind": "udp", "port": 53, "payload": "?", "expect": "!"},
            "replied, but not as expected",
        ),
        ({"kind": "arp", "target": "10.99.0.10"}, "no answer within 0.2 s"),
    ],
)
def test_real_node_answers_badly(node: Node, section: dict[str, Any], detail: str) -> None:
    """Closed ports and wrong answers; ARP for an address on the loopback has none (arp_ignore)."""
    results = node.probe(spec_of(**section), 2)
    assert (results[1].ok, results[1].detail) == (False, detail)
    assert node.health(spec_of(**section), 3).verdict is Verdict.DOWN


def test_stopped_process_is_down_for_http_and_up_for_tcp(node: Node) -> None:
    """The kernel goes on accepting for a process that hangs: why docs/health.md says http."""
    http, tcp, icmp = spec_of("http"), spec_of("tcp"), spec_of("icmp")
    node.service.send_signal(signal.SIGSTOP)
    try:
        hung = {spec.kind.value: node.health(spec, 4) for spec in (http, tcp, icmp)}
    finally:
        node.service.send_signal(signal.SIGCONT)
    assert {kind: health.verdict for kind, health in hung.items()} == {
        "http": Verdict.DOWN,
        "tcp": Verdict.UP,
        "icmp": Verdict.UP,
    }
    assert hung["http"].reason == (
        "4 probes failed, last: accepts, but no HTTP status line within 0.2 s"
    )
    assert node.health(http, 4).verdict is Verdict.UP


def test_many_tcp_probes_leave_nothing_and_tell_the_service_nothing(node: Node) -> None:
    """Half-open probes never reach a stopped process's backlog, which would fill up."""
    node.service.send_signal(signal.SIGSTOP)
    try:
        results = node.probe(spec_of("tcp", interval_s=0.1, timeout_s=0.1), 30)
        assert node.sockets() == ""
    finally:
        node.service.send_signal(signal.SIGCONT)
    assert all(result.ok for result in results[1:])


def test_silent_node_is_down(node: Node) -> None:
    """With its interface gone deaf a node gives no answer to anything."""
    target = Target(2, "02:53:00:a1:00:09", ADDRESS, 80, OUR_MAC)
    prober = Prober(spec_of("http"), target, seed=1)
    state, health = prober.start(time.monotonic()), initial(prober.spec, 0.0)
    while health.bad < 3:
        state, actions = node.turn(prober, state)
        for result in (action for action in actions if isinstance(action, Result)):
            health = observe(prober.spec, health, result.ok, result.detail, 0.0)
    assert health.verdict is Verdict.DOWN
    assert health.reason == "3 probes failed, last: no answer within 0.2 s"


def test_dropped_request_is_sent_again(node: Node) -> None:
    """The request is lost on its way: the node repeats its SYN/ACK, and gets the request."""
    prober = Prober(
        spec_of("http", interval_s=5, timeout_s=4),
        Target(2, NODE_MAC, ADDRESS, 80, OUR_MAC),
        seed=time.monotonic_ns(),
    )
    now = time.monotonic()
    state, actions = prober.step(prober.start(now), Tick(), now + 1)
    node.send(actions)
    answer = node.receive(now + 4)
    assert answer is not None
    state, _ = prober.step(state, Received(answer), now + 1)
    result: tuple[Action, ...] = ()
    while not result:
        state, actions = node.turn(prober, state)
        result = tuple(action for action in actions if isinstance(action, Result))
    assert [(one.ok, one.detail) for one in result if isinstance(one, Result)] == [
        (True, "HTTP 200")
    ]


def test_connection_of_an_earlier_controller_is_cleared(node: Node) -> None:
    """A connection left open by a controller that was killed is reset by the next one's probe."""
    spec, seed = spec_of("http", interval_s=1, timeout_s=1), time.monotonic_ns()
    prober = Prober(spec, Target(2, NODE_MAC, ADDRESS, 80, OUR_MAC), seed)
    now = time.monotonic()
    node.service.send_signal(signal.SIGSTOP)
    try:
        state, actions = prober.step(prober.start(now), Tick(), now + 1)
        node.send(actions)
        answer = node.receive(now + 2)
        assert answer is not None
        node.send(prober.step(state, Received(answer), now)[1])
        while f"{SOURCE}:{state.our_port}" not in node.sockets():
            time.sleep(0.01)
    finally:
        node.service.send_signal(signal.SIGCONT)
    again, results = prober.start(time.monotonic()), list[Result]()
    while len(results) < 2:
        again, actions = node.turn(prober, again)
        results += [action for action in actions if isinstance(action, Result)]
    assert results[-1].ok
    assert node.sockets() == ""
