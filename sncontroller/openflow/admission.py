"""New flows on their way to their pins: as many at a time as the switch takes.

Owns the queue of packet-ins of ``reactive`` pinning. It is bounded: what does not fit in is dropped
and counted, and the sender, whose packet it was, repeats it. What was let in is answered in
batches, one buffer each, that wait while the connection is crowded: tables, statistics and probes
have the places between, and the queue fills instead of Ryu's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager

from eventlet import queue
from ryu.lib import hub

from sncontroller.core.commands import AddPin
from sncontroller.core.events import NewFlow
from sncontroller.openflow.switch import Switch

MOST_WAITING = 1024
"""Packet-ins that may wait."""
AT_ONCE = 64
"""New flows that are answered before anything else has its turn, some milliseconds' work."""
PAUSE_S = 0.002


class Admission:
    """A queue of new flows, and the loop that lets them in."""

    def __init__(
        self,
        answer: Callable[[NewFlow], Iterable[AddPin]],
        switches: Mapping[int, Switch],
        guard: Callable[[object], AbstractContextManager[None]],
    ) -> None:
        """``guard`` keeps an exception over something from ending the loop."""
        self._answer, self._switches, self._guard = answer, switches, guard
        self._flows: queue.LightQueue = queue.LightQueue(MOST_WAITING)
        self.dropped = 0
        """Flows that found no place."""

    def __len__(self) -> int:
        """How many wait."""
        return int(self._flows.qsize())

    def put(self, flow: NewFlow) -> None:
        """Let a flow wait, or drop it."""
        if self._flows.full():
            self.dropped += 1
        else:
            self._flows.put(flow)

    def run(self) -> None:
        """Answer flows for ever."""
        while True:
            flows = [self._flows.get()]
            while len(flows) < AT_ONCE and not self._flows.empty():
                flows.append(self._flows.get())
            pins: dict[int, list[AddPin]] = defaultdict(list)
            for flow in flows:
                for pin in self._answer(flow):
                    pins[pin.datapath].append(pin)
            for datapath, commands in pins.items():
                self._let_in(datapath, commands)
            hub.sleep(0)

    def _let_in(self, datapath: int, pins: list[AddPin]) -> None:
        """Send pins once there is room for them, unless the switch is gone by then."""
        while (switch := self._switches.get(datapath)) is not None and switch.crowded:
            hub.sleep(PAUSE_S)
        if switch is not None:
            with self._guard(pins[0]):
                switch.add_pins(pins)
