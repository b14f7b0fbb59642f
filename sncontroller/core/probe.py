"""Probes as values: when each node is asked, what is sent, and what an answer means. Sans-I/O.

Owns the state machine of one node's probes (``Prober``); packets as values are in ``frames.py``.
Events in, actions out; it sends nothing, reads no clock and judges no node (``health.py``).

One probe at a time per node. A probe is never repeated within its timeout: loss is a failed probe,
``fall`` is what forgives it. TCP is spoken just far enough, and every connection begun is ended
with a reset, so that nothing is left on the node.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from enum import Enum
from math import inf

from sncontroller.core import neighbour
from sncontroller.core.chance import chance, mixed
from sncontroller.core.family import Address, family_of, unnumbered
from sncontroller.core.frames import (
    MSS,
    WINDOW,
    Arp,
    Echo,
    Frame,
    Nd,
    Packet,
    Tcp,
    TcpFlag,
    Udp,
    Unreachable,
)
from sncontroller.core.health_spec import HealthSpec, Kind, Via

CROSSING_S = 0.1
"""So long after its reset, what still comes of a connection was sent before the node had it. One
that did not get it repeats itself later than that: Linux after 0.2 s."""
_MAX_HEAD = 2048
_STATUS_LINE = re.compile(rb"HTTP/1\.[01] (\d{3})(?: [^\r\n]*)?\r?\n")
_HTTP_START = b"HTTP/1."
_MASK32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed; due at ``state.wake_s``, harmless at any other time."""


@dataclass(frozen=True, slots=True)
class Received:
    """A packet came in from the node."""

    packet: Packet


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of a ``Call``; a question that nobody answered in time has none."""

    asked_s: float
    """The ``Call``'s own."""
    ok: bool
    detail: str
    latency_s: float


@dataclass(frozen=True, slots=True)
class Send:
    """Send this out of the node's port."""

    frame: Frame


@dataclass(frozen=True, slots=True)
class Call:
    """Ask the node over the management network, and say what came of it (``Heard``)."""

    asked_s: float


@dataclass(frozen=True, slots=True)
class Result:
    """One probe has ended; for ``health.observe``."""

    node: int
    ok: bool
    detail: str
    latency_s: float
    """From its first packet to the answer that decided it, or to the end of waiting."""
    silent: bool = False
    """Whether nothing decided it but time."""


Event = Tick | Received | Heard
Action = Send | Call | Result


@dataclass(frozen=True, slots=True)
class Target:
    """Whom to ask and as whom: the group's address, but at the node's hardware address."""

    node: int
    mac: str
    address: Address
    port: int
    """TCP or UDP port, already resolved (``spec.port`` or the group's first); else 0."""
    source_mac: str
    """Where probes come from: the address of the group's never existing node 0."""
    vlan_id: int | None = None


class Phase(Enum):
    """How far the probe of a node is."""

    IDLE = "idle"
    ASKED = "asked"
    """The first packet is out."""
    CONNECTED = "connected"
    """HTTP: the connection is open and the request is out."""


@dataclass(frozen=True, slots=True)
class ProbeState:
    """One node's probe. All times on the caller's clock, in seconds."""

    wake_s: float
    """When the next Tick has something to do; infinite for kind ``none``."""
    phase: Phase = Phase.IDLE
    count: int = 0
    """How many probes have begun; gives each its port and sequence numbers."""
    started_s: float = 0.0
    our_port: int = 0
    """TCP and UDP source port, ICMP identifier."""
    our_seq: int = 0
    """TCP: the next sequence number that we send."""
    their_seq: int = 0
    """TCP: the next sequence number that we expect."""
    head: bytes = b""
    """HTTP: what came so far, in order."""
    ended_port: int = 0
    """TCP: our port of the connection that was reset last."""
    ended_s: float = -inf
    """When that was."""


Step = tuple[ProbeState, tuple[Action, ...]]


@dataclass(frozen=True, slots=True)
class Prober:
    """The probes of one node. One ``seed`` may serve many: the node's index is mixed in."""

    spec: HealthSpec
    target: Target
    seed: int

    def start(self, now: float) -> ProbeState:
        """The state before the first probe, which is due at once, give or take the jitter."""
        if not self.spec.asks:
            return ProbeState(wake_s=inf)
        return ProbeState(wake_s=now + self.spec.interval_s * self.spec.jitter * self._chance(0))

    def step(self, state: ProbeState, event: Event, now: float) -> Step:
        """The state after ``event``, and what to do about it. Never raises."""
        if isinstance(event, Received):
            return self._received(state, event.packet, now)
        if isinstance(event, Heard):
            return self._heard(state, event, now)
        if now < state.wake_s or not self.spec.asks:
            return state, ()
        if state.phase is Phase.IDLE:
            return self._begun(state, now)
        actions = self._hang_up(state)
        result = Result(
            self.target.node, False, self._silence(state), max(0.0, now - state.started_s), True
        )
        return _then((*actions, result), self._begun(state, now))

    def _heard(self, state: ProbeState, heard: Heard, now: float) -> Step:
        if state.phase is not Phase.ASKED or heard.asked_s != state.started_s:
            return state, ()
        return self._ended(state, heard.ok, heard.detail, now, heard.latency_s)

    def _begun(self, state: ProbeState, now: float) -> Step:
        count = state.count + 1
        state = ProbeState(
            wake_s=now + self.spec.probe_timeout_s,
            phase=Phase.ASKED,
            count=count,
            started_s=now,
            our_port=16384 + (mixed(self.seed, self.target.node, 0) + count) % 49152,
            our_seq=mixed(self.seed, self.target.node, count) & _MASK32,
            ended_port=state.ended_port,
            ended_s=state.ended_s,
        )
        if self._calls:
            return state, (Call(now),)
        return replace(state, our_seq=_later(state.our_seq, 1)), self._send(self._question(state))

    def _question(self, state: ProbeState) -> Packet:
        source, address = self._source, self.target.address
        match self.spec.kind:
            case Kind.ARP | Kind.ND:
                wanted = self.spec.target_of(self.target.node)
                return neighbour.question(self.target.source_mac, source, wanted)
            case Kind.ICMP:
                return Echo(source, address, state.our_port, state.count & 0xFFFF, data=b"sn" * 8)
            case Kind.UDP:
                payload = self.spec.payload or b""
                return Udp(source, address, state.our_port, self.target.port, payload)
            case _:
                return replace(self._segment(state, TcpFlag.SYN), ack=0, mss=MSS)

    def _received(self, state: ProbeState, packet: Packet, now: float) -> Step:
        if self._calls:
            return state, ()
        if isinstance(packet, Tcp):
            return self._tcp(state, packet, now)
        if state.phase is not Phase.ASKED:
            return state, ()
        match packet:
            case Arp() | Nd():
                return self._neighbour(state, packet, now)
            case Echo():
                return self._echo(state, packet, now)
            case Udp():
                return self._udp(state, packet, now)
            case _:
                return self._unreachable(state, packet, now)

    def _neighbour(self, state: ProbeState, packet: Arp | Nd, now: float) -> Step:
        found = neighbour.answer(packet)
        wanted = self.spec.target_of(self.target.node)
        if self.spec.kind not in (Kind.ARP, Kind.ND) or found is None or found[0] != wanted:
            return state, ()
        mac = found[1]
        if mac != self.target.mac:
            detail = f"{wanted} is at {mac}, expected at {self.target.mac}"
            return self._failed(state, detail, now)
        return self._passed(state, f"{wanted} is at {mac}", now)

    def _echo(self, state: ProbeState, echo: Echo, now: float) -> Step:
        got = (self.spec.kind, echo.reply, echo.src, echo.dst, echo.ident, echo.seq)
        asked = (True, self.target.address, self._source, state.our_port, state.count & 0xFFFF)
        if got != (Kind.ICMP, *asked):
            return state, ()
        return self._passed(state, "echo reply", now)

    def _udp(self, state: ProbeState, reply: Udp, now: float) -> Step:
        if self.spec.kind is not Kind.UDP or not self._is_ours(state, reply):
            return state, ()
        if self.spec.expect not in reply.payload:
            return self._failed(state, "replied, but not as expected", now)
        return self._passed(state, f"reply of {len(reply.payload)} bytes", now)

    def _unreachable(self, state: ProbeState, error: Unreachable, now: float) -> Step:
        quoted = (error.dst, error.src_port, error.dst_port)
        if quoted != (self._source, state.our_port, self.target.port):
            return state, ()
        return self._failed(state, f"port {self.target.port} unreachable (ICMP)", now)

    def _tcp(self, state: ProbeState, segment: Tcp, now: float) -> Step:
        if state.phase is Phase.IDLE or not self._is_ours(state, segment):
            crosses = segment.dst_port == state.ended_port and now < state.ended_s + CROSSING_S
            return state, () if crosses else self._stray(segment)
        if state.phase is Phase.CONNECTED:
            return self._answering(state, segment, now)
        return self._connecting(state, segment, now)

    def _connecting(self, state: ProbeState, segment: Tcp, now: float) -> Step:
        acked = TcpFlag.ACK in segment.flags and segment.ack == state.our_seq
        if not acked:  # of a connection that the node still has from an earlier life of ours
            return state, self._stray(segment)
        if TcpFlag.RST in segment.flags:
            return self._ended(state, False, f"port {self.target.port} refuses", now)
        if TcpFlag.SYN not in segment.flags:
            return state, ()
        state = replace(state, their_seq=_later(segment.seq, 1))
        if self.spec.kind is Kind.TCP:
            return self._passed(state, f"port {self.target.port} accepts", now)
        request = self._request(state)
        state = replace(state, phase=Phase.CONNECTED)
        return replace(state, our_seq=_later(state.our_seq, len(request.payload))), self._send(
            request
        )

    def _answering(self, state: ProbeState, segment: Tcp, now: float) -> Step:
        seen = _later(state.their_seq, -segment.seq)
        if TcpFlag.RST in segment.flags:
            if -seen & _MASK32 >= WINDOW:
                return state, ()
            return self._ended(state, False, "reset before a status line", now)
        if TcpFlag.SYN in segment.flags:  # what acknowledges it, our request, was lost
            asked = replace(state, our_seq=_later(state.our_seq, -len(self._http())))
            return state, self._send(self._request(asked))
        fresh, closed = segment.payload[seen:], TcpFlag.FIN in segment.flags
        if seen > len(segment.payload) or not (fresh or closed):  # a gap, or nothing new
            return state, self._ack(state) if segment.payload else ()
        their_seq = _later(state.their_seq, len(fresh) + closed)
        state = replace(state, head=state.head + fresh, their_seq=their_seq)
        return self._read(state, closed, now)

    def _read(self, state: ProbeState, closed: bool, now: float) -> Step:
        found = _STATUS_LINE.match(state.head)
        if found:
            status = int(found[1])
            end = self._passed if self.spec.accepts(status) else self._failed
            return end(state, f"HTTP {status}", now)
        if not _may_be_http(state.head):
            return self._failed(state, "what answers is not HTTP/1", now)
        if closed:
            return self._failed(state, "closed before a status line", now)
        return state, self._ack(state)

    def _silence(self, state: ProbeState) -> str:
        waited = f"within {self.spec.probe_timeout_s:.2g} s"
        if state.phase is Phase.CONNECTED:
            return f"accepts, but no HTTP status line {waited}"
        return f"no answer {waited}"

    def _passed(self, state: ProbeState, detail: str, now: float) -> Step:
        return _then(self._hang_up(state), self._ended(state, True, detail, now))

    def _failed(self, state: ProbeState, detail: str, now: float) -> Step:
        return _then(self._hang_up(state), self._ended(state, False, detail, now))

    def _ended(
        self, state: ProbeState, ok: bool, detail: str, now: float, latency_s: float | None = None
    ) -> Step:
        """After a good probe comes a pause of an interval; after a bad one only of a timeout."""
        pause_s = self.spec.interval_s * (1 - self.spec.jitter * self._chance(state.count))
        pause_s = pause_s if ok else self.spec.probe_timeout_s
        took_s = now - state.started_s if latency_s is None else latency_s
        result = Result(self.target.node, ok, detail, max(0.0, took_s))
        next_s = state.started_s + pause_s
        after = ProbeState(wake_s=next_s, count=state.count, ended_port=state.our_port, ended_s=now)
        return after, (result,)

    def _hang_up(self, state: ProbeState) -> tuple[Action, ...]:
        if self._calls or self.spec.kind not in (Kind.TCP, Kind.HTTP):
            return ()
        return self._send(replace(self._segment(state, TcpFlag.RST), ack=0))

    def _stray(self, segment: Tcp) -> tuple[Action, ...]:
        """A reset for what belongs to no probe of now (RFC 9293, 3.10.7.1): a late answer, or a
        connection from before a restart, which the node would otherwise keep and repeat."""
        ends = (segment.src, segment.dst, segment.src_port)
        ours = ends == (self.target.address, self._source, self.target.port)
        if not ours or TcpFlag.RST in segment.flags or TcpFlag.ACK not in segment.flags:
            return ()
        ports = (segment.dst_port, segment.src_port)
        return self._send(Tcp(segment.dst, segment.src, *ports, segment.ack, 0, TcpFlag.RST))

    def _is_ours(self, state: ProbeState, packet: Tcp | Udp) -> bool:
        ends = (packet.src, packet.dst, packet.src_port, packet.dst_port)
        return ends == (self.target.address, self._source, self.target.port, state.our_port)

    def _segment(self, state: ProbeState, flags: TcpFlag, payload: bytes = b"") -> Tcp:
        ports = (state.our_port, self.target.port)
        numbers = (state.our_seq, state.their_seq)
        return Tcp(self._source, self.target.address, *ports, *numbers, flags, payload)

    def _ack(self, state: ProbeState) -> tuple[Action, ...]:
        return self._send(self._segment(state, TcpFlag.ACK))

    def _request(self, state: ProbeState) -> Tcp:
        return self._segment(state, TcpFlag.PSH | TcpFlag.ACK, self._http())

    def _http(self) -> bytes:
        port = "" if self.target.port == 80 else f":{self.target.port}"
        address = self.target.address
        host = self.spec.host or f"{f'[{address}]' if address.version == 6 else address}{port}"
        return (
            f"GET {self.spec.path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sncontroller\r\n"
            "Accept: */*\r\nConnection: close\r\n\r\n"
        ).encode()

    def _send(self, packet: Packet) -> tuple[Action, ...]:
        target = self.target
        return (Send(Frame(target.source_mac, target.mac, packet, target.vlan_id)),)

    @property
    def _calls(self) -> bool:
        return self.spec.via is Via.CONTROLLER

    @property
    def _source(self) -> Address:
        family = family_of(self.target.address)
        return self.spec.source or unnumbered(family, self.target.source_mac)

    def _chance(self, count: int) -> float:
        return chance(self.seed, self.target.node, count)


def _then(actions: tuple[Action, ...], step: Step) -> Step:
    return step[0], actions + step[1]


def _later(seq: int, by: int) -> int:
    return (seq + by) & _MASK32


def _may_be_http(head: bytes) -> bool:
    """Whether more bytes could still make ``head`` an HTTP/1 status line."""
    starts = head[: len(_HTTP_START)] == _HTTP_START[: len(head)]
    return starts and b"\n" not in head and len(head) <= _MAX_HEAD
