"""An OpenFlow 1.3 connection to a real bridge, for tests: Ryu's parser without Ryu's event loop.

Owns the messages of a connection, and one to the bridge's management socket, which stands where a
Ryu datapath would. ``settle`` reads whatever the bridge says and gives it to a ``Switch``, as the
app would.
"""

from __future__ import annotations

import itertools
import queue
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ryu.ofproto import ofproto_v1_3, ofproto_v1_3_parser
from ryu.ofproto.ofproto_parser import msg as parse

from sncontroller.core.events import Event
from sncontroller.core.layout import Layout
from sncontroller.openflow.switch import Switch

TIMEOUT_S = 20
_HEADER = struct.Struct("!BBHI")
HELLO = _HEADER.pack(4, 0, 8, 1)
"""With which both ends of a connection begin."""


class Messages:
    """OpenFlow 1.3 on a connected socket, both ways; stands where a datapath would for parsing."""

    ofproto = ofproto_v1_3
    ofproto_parser = ofproto_v1_3_parser
    id = 0

    def __init__(self, connected: socket.socket) -> None:
        self.received = 0
        self._socket = connected

    def send(self, data: bytes) -> None:
        """Send messages."""
        self._socket.sendall(data)

    def receive(self) -> Any:
        """The next message. Raises ``TimeoutError`` when none comes."""
        head = self._exactly(_HEADER.size)
        version, kind, length, xid = _HEADER.unpack(head)
        self.received += length
        return parse(self, version, kind, length, xid, head + self._exactly(length - len(head)))

    def close(self) -> None:
        """End the connection."""
        self._socket.close()

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            piece = self._socket.recv(size - len(data))
            if not piece:
                raise ConnectionError("the bridge closed the connection")
            data += piece
        return data


class Places:
    """Those in a send queue, all free."""

    balance = counter = 16


class Link(Messages):
    """A datapath as ``Switch`` sees it, connected to a real bridge."""

    def __init__(self, directory: Path, bridge: str) -> None:
        super().__init__(socket.socket(socket.AF_UNIX))
        self.xid = 0
        self.send_q: queue.Queue[bytes] = queue.Queue()
        self._send_q_sem = Places()
        self.sent: list[bytes] = []
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(directory / f"{bridge}.mgmt"))
        self.send(HELLO + _HEADER.pack(4, 5, 8, 2))
        while True:
            message = self.receive()
            if isinstance(message, ofproto_v1_3_parser.OFPSwitchFeatures):
                self.id = message.datapath_id
                return

    def send(self, data: bytes) -> None:
        """What ``Wire`` calls."""
        self.sent.append(data)
        super().send(data)

    def want_events(self) -> None:
        """Ask for what a management connection does not get by itself, unlike a controller's."""
        every = ofproto_v1_3_parser.OFPSetAsync(self, [7, 7], [7, 7], [7, 7])
        every.serialize()
        self.send(bytes(every.buf))


class Connected:
    """A ``Switch`` on a real bridge, and the events it emitted."""

    def __init__(self, directory: Path, bridge: str, layout: Layout | None = None) -> None:
        self.link = Link(directory, bridge)
        self.events: list[Event] = []
        self.switch = Switch(self.link, layout or Layout(), self.events.append)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.link.close()

    def settle(self, enough: Callable[[], object] | None = None) -> list[Event]:
        """Hear the bridge until ``enough``, or it answered all; the events since the last time."""
        if enough is None:
            self._ask_last()
        else:
            while not enough():
                self.switch.on_message(self.link.receive())
        events, self.events[:] = list(self.events), []
        return events

    def _ask_last(self) -> None:
        """Repeat barriers until one is answered before anything new was sent."""
        for number in itertools.count(0x7F00_0000):
            self.link.sent.clear()
            self.link.send(_HEADER.pack(4, 20, 8, number))
            while True:
                message = self.link.receive()
                if message.xid == number:
                    break
                self.switch.on_message(message)
            if len(self.link.sent) == 1:
                return
