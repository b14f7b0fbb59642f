"""One datapath's connection: messages out, and every answer to whoever asked, by transaction.

Owns transaction numbers and the words of errors. It never waits: who asks leaves a listener and
returns. Messages that belong together leave in one buffer, because Ryu's send queue holds 16
buffers and then blocks the sender; the conversations above keep a handful in flight at most.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeAlias

from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as ryu_parser

from sncontroller.openflow.unparsed import OFPUnparsedReply, expect

LOG = logging.getLogger(__name__)
_ONF = 0x4F4E4600
_BUNDLE_ERRORS = 2300
_BUNDLE_ERROR_NAMES = (
    *("UNKNOWN", "EPERM", "BAD_ID", "BUNDLE_EXIST", "BUNDLE_CLOSED", "OUT_OF_BUNDLES"),
    *("BAD_TYPE", "BAD_FLAGS", "MSG_BAD_LEN", "MSG_BAD_XID", "MSG_UNSUP", "MSG_CONFLICT"),
    *("MSG_TOO_MANY", "MSG_FAILED", "TIMEOUT", "BUNDLE_IN_PROGRESS"),
)
_BACKLOG, _CROWD = 8, 4
"""Buffers in Ryu's queue of 16 from which on nothing is sent that can be done without, and from
which on nothing is that can wait: the places between are for what is more urgent."""
_FULL = 16_384
"""Bytes from which on a buffer is not added to."""


@dataclass(frozen=True, slots=True)
class Part:
    """A multipart reply, or a part of one."""

    body: bytes
    last: bool


@dataclass(frozen=True, slots=True)
class Done:
    """The request was carried out: a barrier's or a bundle control message's reply."""


@dataclass(frozen=True, slots=True)
class Problem:
    """The switch answered with an error."""

    name: str


Answer: TypeAlias = Part | Done | Problem
Listener: TypeAlias = Callable[[int, Answer], None]


class Wire:
    """Numbers, sends and hears for one Ryu datapath."""

    def __init__(self, datapath: Any) -> None:
        self._datapath = datapath
        self._listeners: dict[int, Listener] = {}
        self._open = bytearray()
        """The last buffer that may be added to, until Ryu has taken it to the socket."""

    @property
    def datapath_id(self) -> int:
        """The switch's own number."""
        return int(self._datapath.id)

    @property
    def congested(self) -> bool:
        """Whether the switch does not take what was sent already, or somebody waits for a place.

        He is the next one, also where all places are free again.
        """
        queue, places = self._datapath.send_q, self._datapath._send_q_sem
        waits = places.balance < places.counter
        return queue is None or waits or queue.qsize() >= _BACKLOG

    @property
    def crowded(self) -> bool:
        """Whether what can wait should: the switch has not yet taken what was sent before."""
        queue = self._datapath.send_q
        return queue is not None and queue.qsize() >= _CROWD

    def xid(self, listener: Listener | None = None) -> int:
        """A new transaction number; its answers go to the listener."""
        datapath = self._datapath
        datapath.xid = (datapath.xid + 1) & ofp.MAX_XID
        xid: int = datapath.xid
        if listener is not None:
            self._listeners[xid] = listener
        return xid

    def question(self, listener: Listener) -> int:
        """A new transaction number for a multipart request, whose reply stays unparsed."""
        xid = self.xid(listener)
        expect(self._datapath, xid)
        return xid

    def forget(self, xids: Iterable[int]) -> None:
        """Answers to these come too late, or will never come."""
        for xid in xids:
            self._listeners.pop(xid, None)

    def send(self, *messages: bytes) -> None:
        """Send the messages in this order, as one buffer."""
        if messages:
            self._datapath.send(b"".join(messages))

    def join(self, message: bytes) -> None:
        """Send the message, in one buffer with those before it that have not left yet."""
        queue = self._datapath.send_q
        waits = queue is not None and queue.qsize() and queue.queue[-1][0] is self._open
        if waits and len(self._open) < _FULL:
            self._open += message
        else:
            self._open = bytearray(message)
            self._datapath.send(self._open)

    def hear(self, message: Any) -> None:
        """Give a message from Ryu to its listener; unasked-for errors are logged."""
        answer = _answer(message)
        listener = self._listeners.get(message.xid)
        if answer is None:
            return
        if listener is not None:
            if not (isinstance(answer, Part) and not answer.last):
                del self._listeners[message.xid]
            listener(message.xid, answer)
        elif isinstance(answer, Problem):
            LOG.error("switch %016x: %s", self.datapath_id, answer.name)


def _answer(message: Any) -> Answer | None:
    match message:
        case OFPUnparsedReply():
            return Part(message.body, not message.more)
        case ryu_parser.OFPBarrierReply() | ryu_parser.ONFBundleCtrlMsg():
            return Done()
        case ryu_parser.OFPErrorMsg():
            return Problem(error_name(message))
        case _:
            return None


def error_name(message: Any) -> str:
    """The error's name as the specification has it: ``OFPBMC_BAD_PREREQ``."""
    if message.type != ofp.OFPET_EXPERIMENTER:
        name = ofp.ofp_error_code_to_str(message.type, message.code)
        return f"{ofp.ofp_error_type_to_str(message.type)} {name}"
    index = message.exp_type - _BUNDLE_ERRORS
    if message.experimenter == _ONF and 0 <= index < len(_BUNDLE_ERROR_NAMES):
        return f"OFPBFC_{_BUNDLE_ERROR_NAMES[index]}"
    return f"error {message.exp_type} of experimenter {message.experimenter:#x}"
