"""A controller that only listens: it says hello, and counts packet-ins by port."""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from types import TracebackType
from typing import Self

from ryu.ofproto import ofproto_v1_3_parser as parser

from tests.openflow.link import HELLO, Messages


class Listening:
    """A controller that says hello and counts packet-ins by the port that they came from."""

    def __init__(self) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.settimeout(10)
        self.target = f"tcp:127.0.0.1:{self._listening.getsockname()[1]}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._connection.close()
        self._listening.close()

    def accept(self) -> None:
        """Let the bridge connect."""
        self._connection, _ = self._listening.accept()
        self._messages = Messages(self._connection)
        self._messages.send(HELLO)
        self._messages.receive()

    def count(self, quiet_s: float) -> Counter[int]:
        """Packet-ins by port, until none has come for so long."""
        self._connection.settimeout(quiet_s)
        found: Counter[int] = Counter()
        with contextlib.suppress(TimeoutError):
            while True:
                message = self._messages.receive()
                if isinstance(message, parser.OFPPacketIn):
                    found[message.match["in_port"]] += 1
                elif isinstance(message, parser.OFPEchoRequest):
                    self._answer(message)
        return found

    def _answer(self, asked: parser.OFPEchoRequest) -> None:
        answer = parser.OFPEchoReply(self._messages, asked.data)
        answer.set_xid(asked.xid)
        answer.serialize()
        self._messages.send(bytes(answer.buf))
