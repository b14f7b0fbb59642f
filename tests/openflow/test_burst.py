"""Many new flows at once, through Ryu's bounded send queue and its sender's green thread."""

from __future__ import annotations

from typing import Any

from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3, ofproto_v1_3_parser

from sncontroller.core import plan
from sncontroller.core.events import AddPin, FiveTuple
from sncontroller.core.layout import Index, Layout
from sncontroller.openflow.switch import Switch
from tests.openflow.tables import group_spec

BURST = 40
RYU_QUEUE = 16


class Datapath:
    """As much of Ryu's as a ``Switch`` uses: a bounded queue that a green thread empties."""

    ofproto, ofproto_parser = ofproto_v1_3, ofproto_v1_3_parser

    def __init__(self) -> None:
        self.id, self.xid = 1, 0
        self.send_q: Any = hub.Queue(RYU_QUEUE)
        self.sent: list[bytes] = []
        self.takes = True

    def send(self, data: bytes) -> None:
        """What ``Wire`` calls."""
        self.send_q.put(data)

    def sender(self) -> None:
        """Take what there is, whenever there is a turn."""
        while self.takes:
            self.sent.append(self.send_q.get())
            hub.sleep(0)


def ask(switch: Switch, number: int) -> None:
    """The controller's answer to a new flow."""
    flow = FiveTuple(6, "10.0.0.9", "10.0.0.10", 1000 + number, 80)
    pin = plan.pin(group_spec(pinning="reactive"), flow, Index(2), Layout())
    switch.add_pin(AddPin(1, pin, (), 9, bytes(60), 0))


def test_a_burst_of_new_flows_loses_none() -> None:
    """The sender gets its turn before anything is taken for a slow switch."""
    datapath = Datapath()
    switch = Switch(datapath, Layout(), lambda event: None)
    thread = hub.spawn(datapath.sender)
    for number in range(BURST):
        ask(switch, number)
    while not datapath.send_q.empty():
        hub.sleep(0)
    hub.kill(thread)
    assert len(datapath.sent) == BURST


def test_a_switch_that_takes_nothing_does_not_make_the_controller_wait() -> None:
    """What a network may lose is dropped."""
    datapath = Datapath()
    switch = Switch(datapath, Layout(), lambda event: None)
    for number in range(BURST):
        ask(switch, number)
    assert 0 < datapath.send_q.qsize() < RYU_QUEUE
