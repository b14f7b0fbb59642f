"""Many new flows at once, through Ryu's bounded send queue and its sender's green thread.

A process of its own, because green threads take the thread over that they run in. It prints how
many flows came, were pinned and dropped; and how many buffers and flows wait where nobody takes
any.
"""

from __future__ import annotations

import json
import struct
from contextlib import nullcontext
from typing import Any

from ryu.lib import hub
from ryu.ofproto import ofproto_v1_3, ofproto_v1_3_parser

from sncontroller.core import plan
from sncontroller.core.commands import AddPin
from sncontroller.core.events import FiveTuple, NewFlow
from sncontroller.core.layout import Index, Layout, Zone
from sncontroller.openflow.admission import MOST_WAITING, Admission
from sncontroller.openflow.switch import Switch
from tests.openflow.tables import group_spec

BURST = MOST_WAITING + 100
RYU_QUEUE = 16


class Datapath:
    """As much of Ryu's as a ``Switch`` uses: a bounded queue that a green thread empties."""

    ofproto, ofproto_parser = ofproto_v1_3, ofproto_v1_3_parser

    def __init__(self) -> None:
        self.id, self.xid = 1, 0
        self.send_q: Any = hub.Queue(RYU_QUEUE)
        self._send_q_sem = hub.BoundedSemaphore(RYU_QUEUE)
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


def flow(number: int) -> NewFlow:
    """What the switch asks about."""
    flow = FiveTuple(6, "10.0.0.9", "10.0.0.10", number, 80)
    return NewFlow(1, Zone(7), flow, 9, number, None, bytes(60), False)


def answer(event: NewFlow) -> list[AddPin]:
    """The controller's answer to a new flow."""
    pin = plan.pin(group_spec(pinning="reactive"), event.flow, Index(2), Layout())
    return [AddPin(1, pin, (), 9, bytes(60), 0)]


def begin(datapath: Datapath) -> Admission:
    """New flows that come all at once, and the loop that lets them in."""
    switch = Switch(datapath, Layout(), lambda event: None)
    admission = Admission(answer, {1: switch}, lambda what: nullcontext())
    for number in range(BURST):
        admission.put(flow(number))
    return admission


def burst() -> tuple[int, int]:
    """How many of a burst's pins leave while a sender has its turns, and in how many buffers."""
    datapath = Datapath()
    admission = begin(datapath)
    threads = [hub.spawn(datapath.sender), hub.spawn(admission.run)]
    while sum(map(pins, datapath.sent)) < BURST - admission.dropped:
        hub.sleep(0.001)
    for thread in threads:
        hub.kill(thread)
    return sum(map(pins, datapath.sent)), admission.dropped


def stuck() -> tuple[int, int]:
    """How many buffers wait, and how many flows, when nobody takes any."""
    datapath = Datapath()
    admission = begin(datapath)
    thread = hub.spawn(admission.run)
    hub.sleep(0.1)
    hub.kill(thread)
    return int(datapath.send_q.qsize()), len(admission)


def pins(buffer: bytes) -> int:
    """How many flows a buffer pins."""
    count = offset = 0
    while offset < len(buffer):
        kind, length = struct.unpack_from("!xBH", buffer, offset)
        count += kind == ofproto_v1_3.OFPT_FLOW_MOD
        offset += length
    return count


if __name__ == "__main__":
    sent, dropped = burst()
    buffers, waiting = stuck()
    print(json.dumps({"came": BURST, "sent": sent, "dropped": dropped}))
    print(json.dumps({"buffers": buffers, "waiting": waiting, "room": RYU_QUEUE}))
