"""One connected switch: what it holds, what it is told, and what it says.

Owns the order of conversations with a switch: changes of a few groups at a time, or a dump of all
entries, alone; polls run beside them. Nothing here waits: every method returns at once, and
``emit`` gets the events. Not a Ryu app; the app calls ``on_message`` with every message from the
datapath.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ryu.controller import ofp_event
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as ryu_parser

from sncontroller.core.commands import AddPin, Apply, DropPins, SendFrame
from sncontroller.core.diff import AddFlow, Operation, diff
from sncontroller.core.entries import EMPTY, FlowEntry, FlowKey, Table
from sncontroller.core.events import Applied, Event, Port, PortGone, PortSeen, Refused, SwitchUp
from sncontroller.core.layout import Index, Kind, Layout, Zone, cookie, origin
from sncontroller.openflow import codec, inbound, requests
from sncontroller.openflow.bundle import Change, in_the_way
from sncontroller.openflow.dump import Dump, Dumped
from sncontroller.openflow.polls import Round, Watched, watched
from sncontroller.openflow.unparsed import EventOFPUnparsedReply
from sncontroller.openflow.wire import Wire

LOG = logging.getLogger(__name__)
EVENTS = (
    ofp_event.EventOFPErrorMsg,
    ofp_event.EventOFPBarrierReply,
    ofp_event.EventONFBundleCtrlMsg,
    ofp_event.EventOFPPortStatus,
    EventOFPUnparsedReply,
)
"""Ryu's events whose messages ``Switch.on_message`` wants, beside packet-ins."""
CHANGES_AT_ONCE = 4
"""So many groups change at a time: while the switch works on one, the next is prepared."""
BUSY_POLL_S = 5.0
"""So long after a poll there is none while more groups than that wait for their turn."""


class Switch:
    """A datapath that finished Ryu's handshake (``MAIN_DISPATCHER``)."""

    def __init__(self, datapath: Any, layout: Layout, emit: Callable[[Event], None]) -> None:
        self.datapath = datapath
        self._wire, self._layout, self._emit = Wire(datapath), layout, emit
        self._ports: dict[int, Port] = {}
        self._installed: dict[Zone, Table] = {}
        self._watched: dict[Zone, Watched] = {}
        self._foreign: Mapping[FlowKey, FlowEntry] = {}
        self._looked: Apply | None = None
        """The command for whose sake the switch was dumped last."""
        self._given: dict[tuple[Zone, Index], int] = {}
        """By node: how many flows the core had given it when its last pin was written."""
        self._waiting: dict[Zone, Apply] = {}
        self._changing: set[Zone] = set()
        """Groups whose change is under way."""
        self._dumping = False
        self._dump_wanted = False
        self._up = False
        self._round: Round | None = None
        self._counters = codec.CounterReader()
        self._polled_s = -math.inf
        self._touched: set[Zone] = set()
        """Groups that changed while the current round of statistics was under way."""

    @property
    def installed(self) -> Mapping[Zone, Table]:
        """What the switch is known to hold, by group."""
        return self._installed

    # what the core wants

    def start(self) -> None:
        """Find out what the switch holds, then emit ``SwitchUp``."""
        self._up = False
        self.resync()

    def resync(self) -> None:
        """Look again; ``SwitchUp`` again if the switch holds something else than we thought."""
        self._dump_wanted = True
        self._proceed()

    def apply(self, command: Apply) -> None:
        """Make this the group's table, in its turn; the last command for a group counts."""
        self._waiting[command.zone] = command
        self._proceed()

    @property
    def crowded(self) -> bool:
        """Whether new flows should wait, so that tables and statistics need not."""
        return self._wire.crowded

    @property
    def is_changing(self) -> bool:
        """Whether a change of a table is under way."""
        return bool(self._changing)

    @property
    def congested(self) -> bool:
        """Whether a frame would have to wait, or be dropped."""
        return self._wire.congested

    def add_pins(self, commands: Iterable[AddPin]) -> None:
        """Pin flows, and let the packets that asked for it follow.

        Several packets of a flow may be on their way here when its pin is made: the core gives them
        all to one node. All leave in one buffer, and none is lost: look at ``crowded`` before.
        """
        messages = []
        for command in commands:
            if command.pin is not None:
                messages.append(codec.add_flow(command.pin, self._wire.xid()))
                self._note_given(command.pin, command.given)
            run = (command.in_port, command.actions, command.frame)
            messages.append(requests.run_frame(self._wire.xid(), *run))
        self._wire.send(*messages)

    def send_frame(self, command: SendFrame) -> None:
        """Send a frame out of a port; it does not wait where the switch is not ``congested``."""
        self._send_if_free(requests.send_frame(self._wire.xid(), command.port, command.frame))

    def drop_pins(self, command: DropPins) -> None:
        """Remove the per-flow entries of a node."""
        number = cookie(Kind.PIN, command.zone, command.index)
        self._wire.send(codec.delete_by_cookie(self._layout.pin_table, number, self._wire.xid()))

    def poll(self, at_s: float) -> None:
        """Ask for statistics: ``Polled`` per group when all are there, or at the next poll.

        While many groups wait for their tables, these go first: it is asked less often.
        """
        if not self._up:
            return
        if self._round is not None:
            self._end_round(self._round)
        waits = len(self._waiting) > CHANGES_AT_ONCE and at_s < self._polled_s + BUSY_POLL_S
        if waits or self._wire.congested:
            return
        self._polled_s = at_s
        self._touched = set(self._changing)
        self._round = Round(
            self._wire,
            self._layout,
            dict(self._watched),
            at_s,
            self._heard,
            dict(self._given),
            self._counters,
        )
        self._round.start(len(self._ports))

    # what the switch says

    def on_message(self, message: Any) -> None:
        """Take any message that Ryu parsed; those that are none of ours change nothing."""
        match message:
            case ryu_parser.OFPPacketIn():
                self._packet_in(message)
            case ryu_parser.OFPPortStatus():
                self._port_status(message)
            case _:
                self._wire.hear(message)

    def _packet_in(self, message: Any) -> None:
        whose = origin(message.cookie)
        if whose is not None and message.reason == ofp.OFPR_ACTION:
            in_port = message.match["in_port"]
            self._emit(inbound.event(self._wire.datapath_id, whose, in_port, message.data))

    def _port_status(self, message: Any) -> None:
        desc = message.desc
        port = requests.port(desc.port_no, desc.hw_addr, desc.name, desc.config, desc.state)
        gone = message.reason == ofp.OFPPR_DELETE
        if gone:
            self._ports.pop(port.number, None)
        else:
            self._ports[port.number] = port
        if self._up:
            event = PortGone if gone else PortSeen
            self._emit(event(self._wire.datapath_id, port))

    # conversations

    def _proceed(self) -> None:
        while not self._dumping and not (self._dump_wanted and self._changing):
            if self._dump_wanted:
                self._dump_wanted, self._dumping = False, True
                Dump(self._wire, self._layout, self._dumped).start()
                return
            free = self._up and len(self._changing) < CHANGES_AT_ONCE
            startable = (zone for zone in self._waiting if zone not in self._changing)
            zone = next(startable, None) if free else None
            if zone is None:
                return
            self._begin(self._waiting.pop(zone))

    def _dumped(self, dumped: Dumped) -> None:
        self._dumping = False
        self._ports = {port.number: port for port in dumped.ports}
        news = not self._up or dumped.installed != self._installed
        self._installed = dict(dumped.installed)
        self._foreign = dumped.foreign
        self._watched = {
            zone: watched(zone, table, self._layout) for zone, table in self._installed.items()
        }
        if news:
            self._up = True
            self._emit(
                SwitchUp(self._wire.datapath_id, self._bridge(), dumped.ports, dumped.installed)
            )
        self._proceed()

    def _begin(self, command: Apply) -> None:
        installed = self._installed.get(command.zone, EMPTY)
        operations = diff(command.desired, installed)
        if not operations:
            self._confirm(command)
            return
        blocked = [flow for flow in map(self._in_place_of, operations) if flow is not None]
        if blocked and self._looked is not command:
            self._look_first(command)
            return
        if blocked:
            self._tell_refused(command, "; ".join(map(in_the_way, blocked)))
            return
        self._changing.add(command.zone)
        self._touched.add(command.zone)

        def finish(refusal: str | None) -> None:
            self._changing.discard(command.zone)
            self._touched.add(command.zone)
            if refusal is None:
                self._confirm(command)
            else:
                self._dump_wanted = True  # does it still hold what we think it does?
                self._tell_refused(command, refusal)
            self._proceed()
            if self._round is not None:
                self._round.go_on()

        Change(self._wire, operations, finish).start()

    def _in_place_of(self, operation: Operation) -> FlowEntry | None:
        """The foreign flow that the operation would replace."""
        return self._foreign.get(operation.flow.key) if isinstance(operation, AddFlow) else None

    def _look_first(self, command: Apply) -> None:
        """What was in the way when we looked last may be gone: the operator was told to mend it."""
        self._looked, self._dump_wanted = command, True
        self._waiting = {command.zone: command} | self._waiting

    def _confirm(self, command: Apply) -> None:
        zone = command.zone
        if command.desired.flows or command.desired.groups:
            self._installed[zone] = command.desired
            self._watched[zone] = watched(zone, command.desired, self._layout)
        else:
            self._installed.pop(zone, None)
            self._watched.pop(zone, None)
        self._emit(Applied(self._wire.datapath_id, zone, command.version))

    def _tell_refused(self, command: Apply, reason: str) -> None:
        self._emit(Refused(self._wire.datapath_id, command.zone, command.version, reason))

    def _heard(self) -> None:
        """Changes go first: the next piece of a round is asked for when one of them has ended."""
        if self._round is None:
            return
        if self._round.complete:
            self._end_round(self._round)
        elif not self._changing:
            self._round.go_on()

    def _end_round(self, round_: Round) -> None:
        self._round = None
        complete = round_.complete
        round_.close()
        for polled in round_.results():
            self._emit(polled)
        if complete and round_.is_strange(self._touched):
            LOG.warning(
                "%s: somebody changed our entries; they are compared anew. If it goes on, another "
                "controller has the same groups: ovs-vsctl get-controller %s",
                *(self._bridge(), self._bridge()),
            )
            self.resync()

    def _note_given(self, pin: FlowEntry, given: int) -> None:
        whose = origin(pin.cookie)
        if whose is not None:
            self._given[whose.zone, whose.index] = given

    def _send_if_free(self, message: bytes) -> None:
        """Drop what a network may lose rather than wait for a slow switch.

        A burst fills the queue before Ryu's sender has had a turn at all; only what the sender
        cannot get rid of then is a slow switch.
        """
        if self._wire.congested:
            from ryu.lib import hub  # eventlet changes modules that it is the first to import

            hub.sleep(0)
        if not self._wire.congested:
            self._wire.join(message)

    def _bridge(self) -> str:
        local = self._ports.get(requests.LOCAL_PORT)
        return "" if local is None else local.name
