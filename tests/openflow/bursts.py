"""Many new flows at once, through Ryu's bounded send queue and its sender's green thread.

A process of its own, because green threads take the thread over that they run in. It prints how
many messages were sent and left, and for how many there was room and wait where nobody takes any.
"""

from __future__ import annotations

import json
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


def burst() -> int:
    """How many of a burst's messages leave while a sender has its turns."""
    datapath = Datapath()
    switch = Switch(datapath, Layout(), lambda event: None)
    thread = hub.spawn(datapath.sender)
    for number in range(BURST):
        ask(switch, number)
    while not datapath.send_q.empty():
        hub.sleep(0)
    hub.kill(thread)
    return len(datapath.sent)


def stuck() -> int:
    """How many wait when nobody takes any."""
    datapath = Datapath()
    switch = Switch(datapath, Layout(), lambda event: None)
    for number in range(BURST):
        ask(switch, number)
    return int(datapath.send_q.qsize())


if __name__ == "__main__":
    print(json.dumps({"sent": BURST, "left": burst(), "room": RYU_QUEUE, "waiting": stuck()}))
