"""Commands of the core on their way out, to the switch, the hypervisor, the nodes or the log.

Owns their order: one green thread carries them out as they came. A queue between two green threads
costs a turn of all of them, so a packet for a node goes past the queue while nothing waits in it;
it overtakes nothing, and neither path ever makes a step of the core wait.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

from eventlet import queue

from sncontroller.core.commands import (
    AddPin,
    Apply,
    AskNode,
    Command,
    DropPins,
    FetchReport,
    Kind,
    ListNodes,
    Logged,
    SendFrame,
    SetBfd,
    StartNode,
    StopNode,
    Transmit,
)
from sncontroller.core.events import Event
from sncontroller.core.model import GroupSpec
from sncontroller.hypervisors.remote import PluginHost
from sncontroller.management.desk import Desk
from sncontroller.openflow import packets
from sncontroller.openflow.switch import Switch
from sncontroller.turns import Turns, is_free

LOG = logging.getLogger("sncontroller")
_WARNINGS = frozenset(
    {
        Kind.FAILED,
        Kind.PLUGIN_ERROR,
        Kind.REFUSED,
        Kind.BREAKER,
        Kind.SWITCH_DOWN,
        Kind.REPORT,
        Kind.BFD,
    }
)


class Outbox:
    """Carries commands out; results come back as events."""

    def __init__(
        self,
        switches: Mapping[int, Switch],
        spec: Callable[[str], GroupSpec | None],
        plugins: PluginHost,
        emit: Callable[[Event], None],
        guard: Callable[[object], AbstractContextManager[None]],
    ) -> None:
        """``spec`` knows groups by name; ``guard`` keeps an exception from ending the loop."""
        self._switches, self._spec, self._guard = switches, spec, guard
        self.plugins = plugins
        self._desk = Desk(emit)
        self._queue: Any = queue.LightQueue()
        self._pins: list[AddPin] = []

    @property
    def is_empty(self) -> bool:
        """Whether nothing waits."""
        return bool(self._queue.empty())

    def put(self, group: str, command: Command) -> None:
        """Begin to carry out a group's command; no other green thread has a turn meanwhile."""
        if isinstance(command, AddPin):
            self._pins.append(command)
        elif isinstance(command, Transmit) and self._may_leave(command):
            with self._guard(command):
                self._to_switch(command)
        else:
            self._queue.put((group, command))

    def taken_pins(self) -> list[AddPin]:
        """What is to be sent for new flows since this was asked last: in batches, by others."""
        pins, self._pins = self._pins, []
        return pins

    def run(self) -> None:
        """Carry out commands for ever."""
        turns = Turns()
        while True:
            group, command = self._queue.get()
            turns.begin()
            with self._guard(command):
                self._carry_out(group, command)
            turns.pause()

    def _may_leave(self, command: Transmit) -> bool:
        """Whether a frame can be sent at once, and would overtake nothing."""
        switch = self._switches.get(command.datapath)
        return switch is not None and not switch.congested and is_free(self._queue)

    def _carry_out(self, group: str, command: Command) -> None:
        """A switch that is gone is told when it is back."""
        match command:
            case Logged():
                level = logging.WARNING if command.kind in _WARNINGS else logging.INFO
                node = "" if command.node is None else f" {command.node}"
                LOG.log(level, "%s%s: %s: %s", group, node, command.kind.value, command.reason)
            case StartNode() | StopNode() | ListNodes():
                spec = self._spec(group)
                if spec is not None and spec.hypervisor is not None:
                    self.plugins.carry_out(group, spec.hypervisor, command)
            case AskNode() | FetchReport() | SetBfd():
                self._desk.carry_out(command)
            case _:
                self._to_switch(command)

    def _to_switch(self, command: Command) -> None:
        switch = self._switches.get(getattr(command, "datapath", -1))
        if switch is None:
            return
        match command:
            case Apply():
                switch.apply(command)
            case DropPins():
                switch.drop_pins(command)
            case Transmit(datapath, port, frame):
                switch.send_frame(SendFrame(datapath, port, packets.encoded(frame)))
            case SendFrame():
                switch.send_frame(command)
