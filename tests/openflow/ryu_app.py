"""A Ryu app for a test: keeps a table on each switch, and writes down what happens, in lines."""

from __future__ import annotations

from typing import Any, ClassVar

from eventlet import patcher
from ryu.base import app_manager
from ryu.controller import ofp_event
from ryu.controller.handler import DEAD_DISPATCHER, MAIN_DISPATCHER, set_ev_cls
from ryu.ofproto import ofproto_v1_3

from sncontroller.core.commands import Apply
from sncontroller.core.events import Applied, Event, Frame, Polled, PortSeen, SwitchUp
from sncontroller.core.layout import Layout
from sncontroller.openflow.switch import EVENTS, Switch
from tests.openflow.tables import ZONE, compiled

_os = patcher.original("os")


def say(*words: object) -> None:
    """One line, at once, written by one call that no other green thread can come between."""
    _os.write(1, (" ".join(map(str, words)) + "\n").encode())


class Keeper(app_manager.RyuApp):  # type: ignore[misc]
    """Applies a compiled table to each switch, polls it, and says what it sees."""

    OFP_VERSIONS: ClassVar = [ofproto_v1_3.OFP_VERSION]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.switches: dict[int, Switch] = {}

    @set_ev_cls(ofp_event.EventOFPStateChange, [MAIN_DISPATCHER, DEAD_DISPATCHER])
    def on_state(self, change: Any) -> None:
        """Begin with a switch, or forget it."""
        if change.state == MAIN_DISPATCHER:
            self.switches[change.datapath.id] = Switch(change.datapath, Layout(), self.heard)
            self.switches[change.datapath.id].start()
        else:
            say("gone")

    @set_ev_cls([*EVENTS, ofp_event.EventOFPPacketIn], MAIN_DISPATCHER)
    def on_message(self, event: Any) -> None:
        """All else is for the switch."""
        self.switches[event.msg.datapath.id].on_message(event.msg)

    def heard(self, event: Event) -> None:
        """Go on: up, applied, polled."""
        match event:
            case SwitchUp(datapath, bridge, _, installed):
                say("up", bridge, sum(len(table.flows) for table in installed.values()))
                self.switches[datapath].apply(Apply(datapath, ZONE, 1, compiled()))
            case Applied(datapath):
                say("applied")
                self.switches[datapath].poll(1.0)
            case Polled(nodes=nodes):
                say("polled", *(counters.new_flows for counters in nodes.values()))
            case PortSeen(port=port):
                say("port", port.name)
            case Frame(in_port=in_port):
                say("frame", in_port)
