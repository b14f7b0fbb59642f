"""core.probe: one node's probes step by step, and the search for the primary."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Address
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sncontroller.core.frames import (
    MSS,
    Arp,
    ArpOp,
    Echo,
    Packet,
    Tcp,
    TcpFlag,
    Udp,
    Unreachable,
)
from sncontroller.core.health import HealthSpec
from sncontroller.core.probe import (
    Action,
    Call,
    Event,
    Heard,
    Phase,
    Prober,
    ProbeState,
    Received,
    Result,
    Send,
    Target,
    Tick,
)

NOBODY = IPv4Address(0)
ADDRESS, SOURCE, OWN = map(IPv4Address, ("10.0.0.10", "10.0.0.254", "10.0.0.103"))
MAC, OUR_MAC, OTHER_MAC = "02:53:00:a1:00:03", "02:53:00:a1:00:00", "02:00:00:00:00:99"
TARGET = Target(node=3, mac=MAC, address=ADDRESS, port=80, source_mac=OUR_MAC)
SYN_ACK = TcpFlag.SYN | TcpFlag.ACK
SECTIONS: dict[str, dict[str, Any]] = {
    "arp": {"source": "10.0.0.254", "target": "10.0.0.100+index"},
    "icmp": {"source": "10.0.0.254"},
    "tcp": {"source": "10.0.0.254"},
    "udp": {"source": "10.0.0.254", "payload": "ping", "expect": "pong"},
    "http": {"source": "10.0.0.254", "path": "/health"},
}


def prober(kind: str, seed: int = 1, target: Target = TARGET, **section: Any) -> Prober:
    """A prober with 1 s interval, 0.5 s timeout and no jitter, unless ``section`` says else."""
    usual = {"timeout_s": 0.5, "jitter": 0.0, **SECTIONS.get(kind, {})}
    spec = HealthSpec.model_validate({"kind": kind, **usual, **section})
    return Prober(spec, target, seed)


def begun(probe: Prober, now: float = 0.0) -> tuple[ProbeState, Packet]:
    """The state with the first probe under way, and the packet that it sent."""
    state, actions = probe.step(probe.start(now), Tick(), now)
    assert state.phase is Phase.ASKED
    return state, sent(actions)[0]


def sent(actions: tuple[Action, ...]) -> list[Packet]:
    """The packets of all Sends; each goes to the node from the group's probe address."""
    frames = [action.frame for action in actions if isinstance(action, Send)]
    assert all((frame.eth_src, frame.eth_dst) == (OUR_MAC, MAC) for frame in frames)
    return [frame.packet for frame in frames]


def results(actions: tuple[Action, ...]) -> list[tuple[bool, str]]:
    """What the Results say."""
    return [(action.ok, action.detail) for action in actions if isinstance(action, Result)]


def tcp(packet: Packet) -> Tcp:
    """``packet``, which must be a TCP segment."""
    assert isinstance(packet, Tcp)
    return packet


def from_node(asked: Packet, flags: TcpFlag, seq: int, ack: int, payload: bytes = b"") -> Tcp:
    """A segment of the node in the connection that ``asked`` belongs to."""
    out = tcp(asked)
    ports = (out.dst_port, out.src_port)
    return Tcp(ADDRESS, SOURCE, *ports, seq & 0xFFFFFFFF, ack & 0xFFFFFFFF, flags, payload)


class Http:
    """An HTTP probe whose handshake is done; the node's sequence number wraps around soon."""

    isn = 0xFFFFFFF0

    def __init__(self, **section: Any) -> None:
        """Begin the probe and accept its connection."""
        self.probe = prober("http", **section)
        self.state, self.syn = begun(self.probe)
        self.next = tcp(self.syn).seq + 1
        self.state, actions = self.node(SYN_ACK, offset=-1)
        (self.request,) = (tcp(packet) for packet in sent(actions))
        self.next += len(self.request.payload)

    def node(self, flags: TcpFlag, payload: bytes = b"", offset: int = 0) -> Any:
        """Let the node send ``payload`` at ``offset`` of its stream."""
        segment = from_node(self.syn, flags, self.isn + 1 + offset, self.next, payload)
        self.state, actions = self.probe.step(self.state, Received(segment), 0.25)
        return self.state, actions

    def says(self, payload: bytes, offset: int = 0, fin: bool = False) -> tuple[Action, ...]:
        """What the prober does about data from the node."""
        flags = TcpFlag.PSH | TcpFlag.ACK | (TcpFlag.FIN if fin else TcpFlag(0))
        actions: tuple[Action, ...] = self.node(flags, payload, offset)[1]
        return actions


# Schedule


def test_kind_none_never_wakes_and_never_sends() -> None:
    """Nothing is scheduled, and even a state left over from another kind stays silent."""
    probe = prober("none")
    assert probe.start(5.0).wake_s == float("inf")
    left_over = ProbeState(wake_s=0.0, phase=Phase.ASKED)
    assert probe.step(left_over, Tick(), 5.0) == (left_over, ())


def test_tick_before_its_time_does_nothing() -> None:
    """Ticks are harmless when nothing is due, before a probe and in the middle of one."""
    probe = prober("tcp", jitter=0.5)
    waiting = probe.start(10.0)
    assert 10.0 < waiting.wake_s <= 10.5
    assert probe.step(waiting, Tick(), 10.0) == (waiting, ())
    asked, _ = begun(prober("tcp"))
    assert probe.step(asked, Tick(), 0.4) == (asked, ())


def test_next_good_probe_is_an_interval_after_the_last() -> None:
    """The interval runs from start to start, whatever the answer took."""
    probe = prober("icmp")
    state, asked = begun(probe)
    assert isinstance(asked, Echo)
    reply = replace(asked, src=ADDRESS, dst=SOURCE, reply=True)
    state, actions = probe.step(state, Received(reply), 0.25)
    assert actions == (Result(3, True, "echo reply", 0.25),)
    assert (state.phase, state.wake_s) == (Phase.IDLE, 1.0)


@given(st.floats(0.0, 0.5), st.integers(0, 2**64), st.integers(1, 4095))
def test_jitter_only_shortens_intervals(jitter: float, seed: int, node: int) -> None:
    """No gap between good probes is longer than the interval, or shorter than jitter allows."""
    probe = prober("icmp", seed, replace(TARGET, node=node), jitter=jitter, timeout_s=0.1)
    state, now, starts = probe.start(0.0), 0.0, []
    for _ in range(5):
        now = state.wake_s
        state, actions = probe.step(state, Tick(), now)
        (asked,) = sent(actions)
        assert isinstance(asked, Echo)
        starts.append(now)
        reply = replace(asked, src=ADDRESS, dst=SOURCE, reply=True)
        state, _ = probe.step(state, Received(reply), now)
    gaps = [later - sooner for sooner, later in pairwise(starts)]
    assert all(1 - jitter - 1e-9 <= gap <= 1 + 1e-9 for gap in gaps)


def test_failing_node_is_asked_every_timeout() -> None:
    """A timeout is the end of one probe and the start of the next one, in one step."""
    probe = prober("icmp")
    state, first = begun(probe)
    state, actions = probe.step(state, Tick(), 0.5)
    assert actions[0] == Result(3, False, "no answer within 0.5 s", 0.5, silent=True)
    (second,) = sent(actions)
    assert (state.wake_s, state.count, second != first) == (1.0, 2, True)


def test_refused_probe_is_not_repeated_at_once() -> None:
    """Three refusals within a millisecond must not be ``fall`` bad probes: the timeout is kept."""
    probe = prober("tcp")
    state, syn = begun(probe)
    refusal = from_node(syn, TcpFlag.RST | TcpFlag.ACK, 0, tcp(syn).seq + 1)
    state, actions = probe.step(state, Received(refusal), 0.001)
    assert actions == (Result(3, False, "port 80 refuses", 0.001),)
    assert (state.phase, state.wake_s) == (Phase.IDLE, 0.5)


def test_hang_is_found_within_interval_times_fall() -> None:
    """With the defaults a node that hangs after a good probe has ``fall`` bad ones in 3.1 s."""
    probe = prober("icmp", timeout_s=None)
    state, asked = begun(probe)
    assert isinstance(asked, Echo)
    reply = replace(asked, src=ADDRESS, dst=SOURCE, reply=True)
    state, _ = probe.step(state, Received(reply), 0.0)
    bad: list[tuple[bool, str]] = []
    while len(bad) < probe.spec.fall:
        now = state.wake_s
        state, actions = probe.step(state, Tick(), now)
        bad += results(actions)
    assert now <= probe.spec.interval_s * probe.spec.fall + 0.1 + 1e-9


def test_late_tick_starts_one_probe_only() -> None:
    """After a pause of the controller nothing is made up for."""
    probe = prober("tcp")
    state, _ = begun(probe)
    state, actions = probe.step(state, Tick(), 100.0)
    assert [type(action) for action in actions] == [Send, Result, Send]
    assert state.wake_s == 100.5


def test_each_probe_has_its_own_port_and_sequence() -> None:
    """Ports do not repeat for 49,152 probes and differ by node; numbers come from the seed."""
    probe = prober("tcp")
    state, ports, seqs = probe.start(0.0), [], set()
    for _ in range(200):
        state, actions = probe.step(state, Tick(), state.wake_s)
        syn = tcp(sent(actions)[-1])
        ports.append(syn.src_port)
        seqs.add(syn.seq)
    assert len(set(ports)) == len(seqs) == 200
    assert all(16384 <= port <= 65535 for port in ports)
    other = begun(prober("tcp", target=replace(TARGET, node=4)))[1]
    assert begun(probe)[1] == begun(prober("tcp"))[1] != other
    assert begun(prober("tcp", seed=2))[1] != begun(probe)[1]


def test_vlan_of_the_node_is_used() -> None:
    """A node behind a tagged port is asked with its tag."""
    probe = prober("icmp", target=replace(TARGET, vlan_id=7))
    (action,) = probe.step(probe.start(0.0), Tick(), 0.0)[1]
    assert isinstance(action, Send)
    assert action.frame.vlan_id == 7


# ARP, ICMP, UDP


def arp_reply(**change: Any) -> Arp:
    """The answer that node 3 should give, with changes."""
    return replace(Arp(ArpOp.REPLY, MAC, OWN, SOURCE, OUR_MAC), **change)


def test_arp_asks_for_the_nodes_own_address() -> None:
    """The request is for base + index, and the node's answer is good."""
    probe = prober("arp")
    state, asked = begun(probe)
    assert asked == Arp(ArpOp.REQUEST, OUR_MAC, SOURCE, OWN)
    _, actions = probe.step(state, Received(arp_reply()), 0.125)
    assert actions == (Result(3, True, f"{OWN} is at {MAC}", 0.125),)


def test_arp_without_source_asks_as_nobody() -> None:
    """Without a source the request is an address probe."""
    assert begun(prober("arp", source=None))[1] == Arp(ArpOp.REQUEST, OUR_MAC, NOBODY, OWN)


def test_arp_answer_of_another_interface_is_bad() -> None:
    """Flows are delivered to the node's hardware address: another one is no good answer."""
    probe = prober("arp")
    reply = arp_reply(sender_mac=OTHER_MAC)
    _, actions = probe.step(begun(probe)[0], Received(reply), 0.1)
    assert results(actions) == [(False, f"{OWN} is at {OTHER_MAC}, expected at {MAC}")]


def test_icmp_and_udp_questions() -> None:
    """What an echo request and a UDP probe carry, and where they go."""
    echo, datagram = begun(prober("icmp"))[1], begun(prober("udp"))[1]
    assert isinstance(echo, Echo)
    assert isinstance(datagram, Udp)
    assert (echo.src, echo.dst, echo.seq, echo.reply) == (SOURCE, ADDRESS, 1, False)
    assert (datagram.src, datagram.dst, datagram.dst_port) == (SOURCE, ADDRESS, 80)
    assert datagram.payload == b"ping"


@pytest.mark.parametrize(
    ("payload", "ok", "detail"),
    [
        (b"xx pong", True, "reply of 7 bytes"),
        (b"error", False, "replied, but not as expected"),
    ],
)
def test_udp_reply_must_have_what_is_expected(payload: bytes, ok: bool, detail: str) -> None:
    """A reply counts only with the expected bytes in it."""
    probe = prober("udp")
    state, asked = begun(probe)
    assert isinstance(asked, Udp)
    reply = Udp(ADDRESS, SOURCE, 80, asked.src_port, payload)
    assert results(probe.step(state, Received(reply), 0.1)[1]) == [(ok, detail)]


@pytest.mark.parametrize("kind", ["udp", "tcp", "http"])
def test_unreachable_port_fails_at_once(kind: str) -> None:
    """An ICMP error that quotes the probe is an answer; one about something else is not."""
    probe = prober(kind)
    state, asked = begun(probe)
    assert isinstance(asked, (Udp, Tcp))
    error = Unreachable(ADDRESS, SOURCE, 3, asked.src_port, 80)
    assert probe.step(state, Received(replace(error, src_port=1)), 0.1) == (state, ())
    _, actions = probe.step(state, Received(error), 0.1)
    assert results(actions) == [(False, "port 80 unreachable (ICMP)")]


@pytest.mark.parametrize("kind", ["arp", "icmp", "udp", "tcp"])
def test_what_was_not_asked_for_is_ignored(kind: str) -> None:
    """Answers of another kind, to other questions or from others change nothing."""
    probe = prober(kind)
    state, _ = begun(probe)
    port = state.our_port
    strangers: list[Packet] = [
        arp_reply(op=ArpOp.REQUEST),
        arp_reply(sender=ADDRESS),
        Echo(ADDRESS, SOURCE, port, 2, reply=True),
        Echo(ADDRESS, SOURCE, port, 1, reply=False),
        Echo(OWN, SOURCE, port, 1, reply=True),
        Udp(ADDRESS, SOURCE, 80, port ^ 1, b"pong"),
        Udp(ADDRESS, SOURCE, 81, port, b"pong"),
        Tcp(OWN, SOURCE, 80, port, 0, 0, SYN_ACK),
        *([] if kind == "arp" else [arp_reply()]),
        *([] if kind == "icmp" else [Echo(ADDRESS, SOURCE, port, 1, reply=True)]),
        *([] if kind == "udp" else [Udp(ADDRESS, SOURCE, 80, port, b"pong")]),
    ]
    for packet in strangers:
        assert probe.step(state, Received(packet), 0.1) == (state, ())
    idle = probe.start(0.0)
    assert probe.step(idle, Received(arp_reply()), 0.1) == (idle, ())


# TCP


def test_tcp_handshake_is_good_and_reset() -> None:
    """SYN, SYN/ACK with the right number, RST: nothing is left on the node."""
    probe = prober("tcp")
    state, syn = begun(probe)
    assert (tcp(syn).flags, tcp(syn).ack, tcp(syn).mss) == (TcpFlag.SYN, 0, MSS)
    answer = from_node(syn, SYN_ACK, 5000, tcp(syn).seq + 1)
    state, actions = probe.step(state, Received(answer), 0.25)
    (reset,) = sent(actions)
    assert (tcp(reset).flags, tcp(reset).seq) == (TcpFlag.RST, tcp(syn).seq + 1)
    assert results(actions) == [(True, "port 80 accepts")]


def test_wrong_acknowledgement_is_reset_and_not_believed() -> None:
    """A connection from an earlier life is reset with its own number; the probe goes on."""
    probe = prober("tcp")
    state, syn = begun(probe)
    old = from_node(syn, TcpFlag.ACK, 5000, 77)
    after, actions = probe.step(state, Received(old), 0.1)
    assert after == state
    assert [(tcp(p).flags, tcp(p).seq) for p in sent(actions)] == [(TcpFlag.RST, 77)]


@pytest.mark.parametrize(
    ("flags", "acked"),
    [
        (TcpFlag.RST | TcpFlag.ACK, 5),
        (TcpFlag.RST, 1),
        (TcpFlag.SYN, 0),
        (TcpFlag.ACK, 1),
    ],
)
def test_segments_that_decide_nothing_while_connecting(flags: TcpFlag, acked: int) -> None:
    """A blind reset, a bare SYN and a bare ACK are no answer to our SYN."""
    probe = prober("tcp")
    state, syn = begun(probe)
    segment = from_node(syn, flags, 5000, tcp(syn).seq + acked)
    assert probe.step(state, Received(segment), 0.1) == (state, ())


def test_silent_port_times_out_and_is_reset() -> None:
    """No answer at all: a bad probe, and a reset for the half-open connection there may be."""
    probe = prober("tcp")
    state, syn = begun(probe)
    _, actions = probe.step(state, Tick(), 0.5)
    reset, again = (tcp(packet) for packet in sent(actions))
    assert (reset.flags, reset.seq) == (TcpFlag.RST, tcp(syn).seq + 1)
    assert again.flags is TcpFlag.SYN
    assert results(actions) == [(False, "no answer within 0.5 s")]


def test_late_answers_are_reset() -> None:
    """A SYN/ACK after the timeout is reset, or the node would repeat it; resets are not."""
    probe = prober("tcp")
    idle = probe.start(0.0)
    late = Tcp(ADDRESS, SOURCE, 80, 40000, 5000, 4242, SYN_ACK)
    (reset,) = sent(probe.step(idle, Received(late), 0.1)[1])
    assert reset == Tcp(SOURCE, ADDRESS, 40000, 80, 4242, 0, TcpFlag.RST)
    for quiet in (TcpFlag.RST | TcpFlag.ACK, TcpFlag.FIN):
        assert probe.step(idle, Received(replace(late, flags=quiet)), 0.1) == (idle, ())


@pytest.mark.parametrize("next_began", [False, True])
def test_what_crosses_the_reset_is_not_reset_again(next_began: bool) -> None:
    """A FIN was sent before the node had our reset; one repeated later says that it never came."""
    http = Http()
    http.says(b"HTTP/1.1 200 OK\r\n\r\n")
    state, now = http.state, 0.25
    if next_began:
        state, _ = http.probe.step(replace(state, wake_s=now), Tick(), now)
    fin = from_node(http.syn, TcpFlag.FIN | TcpFlag.ACK, http.isn + 20, 4242)
    assert http.probe.step(state, Received(fin), now + 0.05) == (state, ())
    after, actions = http.probe.step(state, Received(fin), now + 0.2)
    (reset,) = (tcp(packet) for packet in sent(actions))
    assert (after, reset.flags, reset.seq) == (state, TcpFlag.RST, 4242)


def test_what_belongs_to_no_connection_is_reset_however_early() -> None:
    """Only the connection that was just reset gets no second one."""
    http = Http()
    http.says(b"HTTP/1.1 200 OK\r\n\r\n")
    fin = from_node(http.syn, TcpFlag.FIN | TcpFlag.ACK, 5000, 4242)
    other = replace(fin, dst_port=fin.dst_port - 1)
    assert len(sent(http.probe.step(http.state, Received(other), 0.25)[1])) == 1


# HTTP


def test_http_request_rides_on_the_handshakes_last_segment() -> None:
    """The request acknowledges the SYN/ACK, and names path, host and an end of the connection."""
    http = Http()
    assert http.request.flags == TcpFlag.PSH | TcpFlag.ACK
    assert (http.request.seq, http.request.ack) == (tcp(http.syn).seq + 1, 0xFFFFFFF1)
    assert http.request.payload == (
        b"GET /health HTTP/1.1\r\nHost: 10.0.0.10\r\nUser-Agent: sncontroller\r\n"
        b"Accept: */*\r\nConnection: close\r\n\r\n"
    )


@pytest.mark.parametrize(
    ("port", "section", "host"),
    [(8080, {}, b"10.0.0.10:8080"), (8080, {"host": "www.example"}, b"www.example")],
)
def test_http_host(port: int, section: dict[str, Any], host: bytes) -> None:
    """The host is the address, with the port where that is not 80, or what is configured."""
    probe = prober("http", target=replace(TARGET, port=port), **section)
    state, syn = begun(probe)
    answer = from_node(syn, SYN_ACK, 9, tcp(syn).seq + 1)
    (request,) = sent(probe.step(state, Received(answer), 0.1)[1])
    assert b"\r\nHost: " + host + b"\r\n" in tcp(request).payload


@pytest.mark.parametrize(
    ("answer", "ok", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nServer: x\r\n\r\nbody", True, "HTTP 200"),
        (b"HTTP/1.0 204\n", True, "HTTP 204"),
        (b"HTTP/1.1 302 \r\n", True, "HTTP 302"),
        (b"HTTP/1.1 503 Busy\r\n", False, "HTTP 503"),
        (b"HTTP/1.1 20x OK\r\n", False, "what answers is not HTTP/1"),
        (b"SSH-2.0-OpenSSH_9\r\n", False, "what answers is not HTTP/1"),
        (b"\x15\x03\x01", False, "what answers is not HTTP/1"),
        (b"HTTP/1.1 200 " + b"x" * 2048, False, "what answers is not HTTP/1"),
    ],
)
def test_http_answers(answer: bytes, ok: bool, detail: str) -> None:
    """The status line decides, as soon as it is there; then the connection is reset."""
    http = Http()
    actions = http.says(answer)
    assert results(actions) == [(ok, detail)]
    (reset,) = (tcp(packet) for packet in sent(actions))
    assert (reset.flags, reset.ack) == (TcpFlag.RST, 0)
    assert reset.seq == http.request.seq + len(http.request.payload)
    assert http.state.phase is Phase.IDLE


def test_http_status_line_in_pieces_repeated_and_out_of_order() -> None:
    """Pieces in order are taken and acknowledged, others answered with what is expected."""
    http = Http()

    def acks(actions: tuple[Action, ...]) -> list[int]:
        assert not results(actions)
        return [(tcp(packet).ack - http.isn - 1) & 0xFFFFFFFF for packet in sent(actions)]

    assert acks(http.says(b"")) == []
    assert acks(http.says(b"HTTP")) == [4]
    assert acks(http.says(b"HTTP")) == [4]
    assert acks(http.says(b"200 OK\r\n", offset=9)) == [4]
    assert acks(http.says(b"", offset=-1)) == []
    assert acks(http.says(b"TP/1.", offset=2)) == [7]
    assert acks(http.says(b"1 200 ", offset=7)) == [13]
    assert results(http.says(b"OK\r\n", offset=13)) == [(True, "HTTP 200")]


@given(st.data())
def test_http_any_order_of_pieces_reads_the_same(data: st.DataObject) -> None:
    """However the answer is cut, repeated and shuffled, with retransmission it is read right."""
    answer = b"HTTP/1.1 200 All is very well\r\n"
    http = Http()
    cuts = sorted(data.draw(st.sets(st.integers(1, len(answer) - 1), max_size=6)))
    edges = [0, *cuts, len(answer)]
    pieces = [(a, answer[a:b]) for a, b in pairwise(edges)]
    order = data.draw(st.lists(st.sampled_from(pieces), max_size=12)) + pieces
    said: list[tuple[bool, str]] = []
    for offset, piece in order:
        said += results(http.says(piece, offset))
    assert said == [(True, "HTTP 200")]


def test_http_repeated_syn_ack_repeats_the_request() -> None:
    """When our request was lost the node repeats its SYN/ACK, and gets the same request."""
    http = Http()
    before = http.state
    _, actions = http.node(SYN_ACK, offset=-1)
    assert sent(actions) == [http.request]
    assert http.state == before


def test_http_closed_or_reset_without_an_answer() -> None:
    """A close and a reset are answers, bad ones; a blind reset is none."""
    closed, cut, reset = Http(), Http(), Http()
    assert results(closed.says(b"", fin=True)) == [(False, "closed before a status line")]
    assert results(cut.says(b"HTTP/1.1 2", fin=True)) == [(False, "closed before a status line")]
    assert reset.node(TcpFlag.RST, offset=5000)[1] == ()
    assert reset.node(TcpFlag.RST, offset=-1)[1] == ()
    actions = reset.node(TcpFlag.RST)[1]
    assert actions == (Result(3, False, "reset before a status line", 0.25),)


def test_http_repeated_data_with_the_close() -> None:
    """Data seen before, repeated with FIN: the close is new and counts."""
    http = Http()
    http.says(b"HTTP/1.1 2")
    assert results(http.says(b"HTTP/1.1 2", fin=True)) == [(False, "closed before a status line")]


def test_http_silent_service_is_told_from_a_silent_node() -> None:
    """The connection is accepted and nothing is said: what a stopped process looks like."""
    http = Http()
    _, actions = http.probe.step(http.state, Tick(), 0.5)
    assert results(actions) == [(False, "accepts, but no HTTP status line within 0.5 s")]
    reset, again = (tcp(packet) for packet in sent(actions))
    assert (reset.flags, again.flags) == (TcpFlag.RST, TcpFlag.SYN)


def test_http_other_packets_while_connected() -> None:
    """Only TCP decides once the connection is open."""
    http = Http()
    error = Unreachable(ADDRESS, SOURCE, 3, http.state.our_port, 80)
    assert http.probe.step(http.state, Received(error), 0.1) == (http.state, ())


# By the controller itself


def test_calls_are_timed_as_probes_are() -> None:
    """A question, an answer, a pause; what the answer took is what the shell measured."""
    probe = prober("tcp", via="controller", source=None)
    state, actions = probe.step(probe.start(0.0), Tick(), 0.0)
    assert actions == (Call(0.0),)
    assert state.wake_s == 0.5
    state, actions = probe.step(state, Heard(0.0, True, "port 80 accepts", 0.02), 0.1)
    assert actions == (Result(3, True, "port 80 accepts", 0.02),)
    assert (state.phase, state.wake_s) == (Phase.IDLE, 1.0)
    state, _ = probe.step(state, Tick(), 1.0)
    state, actions = probe.step(state, Heard(1.0, False, "port 80 refuses", 0.01), 1.1)
    assert actions == (Result(3, False, "port 80 refuses", 0.01),)
    assert state.wake_s == 1.5


def test_calls_that_are_not_answered_fail_and_are_repeated() -> None:
    """In one step, with nothing to hang up; the late answer and packets change nothing."""
    probe = prober("http", via="controller", source=None)
    state, _ = probe.step(probe.start(0.0), Tick(), 0.0)
    state, actions = probe.step(state, Tick(), 0.5)
    assert actions == (Result(3, False, "no answer within 0.5 s", 0.5, silent=True), Call(0.5))
    late = Heard(0.0, True, "HTTP 200", 0.7)
    assert probe.step(state, late, 0.7) == (state, ())
    assert probe.step(state, Received(Udp(ADDRESS, SOURCE, 80, 1)), 0.7) == (state, ())
    idle, _ = probe.step(state, Heard(0.5, True, "HTTP 200", 0.2), 0.7)
    assert probe.step(idle, Heard(0.5, True, "HTTP 200", 0.2), 0.8) == (idle, ())


# Anything at all

ADDRESSES = st.sampled_from([ADDRESS, SOURCE, OWN, NOBODY])
PORTS = st.sampled_from([0, 80, 81, 65535])
NUMBERS = st.sampled_from([0, 1, 0x7FFFFFFF, 0xFFFFFFFF])
PAYLOADS = st.sampled_from([b"", b"H", b"HTTP/1.1 200 OK\r\n", b"pong", b"\0" * 600])
FLAGS = st.builds(TcpFlag, st.integers(0, 63))
PACKETS = st.one_of(
    st.builds(Arp, st.sampled_from(ArpOp), st.sampled_from([MAC, OTHER_MAC]), ADDRESSES, ADDRESSES),
    st.builds(Echo, ADDRESSES, ADDRESSES, PORTS, NUMBERS, st.booleans(), PAYLOADS),
    st.builds(Tcp, ADDRESSES, ADDRESSES, PORTS, PORTS, NUMBERS, NUMBERS, FLAGS, PAYLOADS),
    st.builds(Udp, ADDRESSES, ADDRESSES, PORTS, PORTS, PAYLOADS),
    st.builds(Unreachable, ADDRESSES, ADDRESSES, PORTS, PORTS, PORTS),
)


def near(state: ProbeState, packet: Packet, seq: int, ack: int) -> Packet:
    """``packet``, made to fit the probe under way but for small errors."""
    if isinstance(packet, (Tcp, Udp)):
        packet = replace(packet, src=ADDRESS, dst=SOURCE, src_port=80, dst_port=state.our_port)
    if isinstance(packet, Tcp):
        numbers = ((state.their_seq + seq) & 0xFFFFFFFF, (state.our_seq + ack) & 0xFFFFFFFF)
        packet = replace(packet, seq=numbers[0], ack=numbers[1])
    if isinstance(packet, Echo):
        packet = replace(packet, src=ADDRESS, dst=SOURCE, ident=state.our_port, seq=state.count)
    if isinstance(packet, Unreachable):
        packet = replace(packet, dst=SOURCE, src_port=state.our_port, dst_port=80)
    return packet


@settings(max_examples=300)
@given(st.sampled_from(["none", *SECTIONS]), st.data())
def test_random_events_never_raise(kind: str, data: st.DataObject) -> None:
    """Any event at any time, also going back: every bad or good result ends one begun probe."""
    probe = prober(kind, data.draw(st.integers()), jitter=0.1)
    state, now, ended = probe.start(0.0), 0.0, 0
    for _ in range(data.draw(st.integers(1, 25))):
        now += data.draw(st.floats(-0.5, 2.0))
        event: Event = Tick()
        if data.draw(st.booleans()):
            packet = data.draw(PACKETS)
            if data.draw(st.booleans()):
                small = st.integers(-20, 20)
                packet = near(state, packet, data.draw(small), data.draw(st.integers(-1, 1)))
            event = Received(packet)
        state, actions = probe.step(state, event, now)
        ended += len(results(actions))
        assert ended == state.count - (state.phase is not Phase.IDLE)
        assert all(a.latency_s >= 0 for a in actions if isinstance(a, Result))
        for packet in sent(actions):
            assert not isinstance(packet, Tcp) or 0 <= packet.seq | packet.ack <= 0xFFFFFFFF


# Where the primary is
