"""Multipart replies that Ryu leaves alone: the ones that we asked for ourselves.

Ryu parses every reply into objects before a handler sees it: 34 us for a flow entry, of which a
poll needs three numbers. A reply whose transaction number was announced with ``expect`` becomes an
``OFPUnparsedReply`` with its own event instead; every other reply, and every other app in the same
ryu-manager, sees Ryu's own classes and events as before.
"""

from __future__ import annotations

import struct
from typing import Any
from weakref import WeakKeyDictionary

from ryu.controller import ofp_event
from ryu.ofproto import ofproto_v1_3 as ofp
from ryu.ofproto import ofproto_v1_3_parser as ryu_parser
from ryu.ofproto.ofproto_parser import MsgBase

_MULTIPART = struct.Struct("!HH4x")  # type, flags
_expected: WeakKeyDictionary[Any, set[int]] = WeakKeyDictionary()


class OFPUnparsedReply(MsgBase):  # type: ignore[misc]  # Ryu has no types
    """A multipart reply as bytes: ``body`` is what follows the multipart header."""

    cls_msg_type = ofp.OFPT_MULTIPART_REPLY
    more: bool
    body: bytes

    @classmethod
    def parser(cls, datapath: Any, *header_and_buf: Any) -> OFPUnparsedReply:
        """The message; Ryu's calling convention."""
        message: OFPUnparsedReply = super().parser(datapath, *header_and_buf)
        _, flags = _MULTIPART.unpack_from(message.buf, ofp.OFP_HEADER_SIZE)
        message.more = bool(flags & ofp.OFPMPF_REPLY_MORE)
        message.body = message.buf[ofp.OFP_MULTIPART_REPLY_SIZE :]
        return message


def expect(datapath: Any, xid: int) -> None:
    """Leave the reply with this transaction number unparsed."""
    _expected.setdefault(datapath, set()).add(xid)


def _parse(
    datapath: Any, version: int, msg_type: int, msg_len: int, xid: int, buf: bytes
) -> MsgBase:
    expected = _expected.get(datapath, ())
    if xid not in expected:
        return _ryu_parse(datapath, version, msg_type, msg_len, xid, buf)
    reply = OFPUnparsedReply.parser(datapath, version, msg_type, msg_len, xid, buf)
    if not reply.more:
        _expected[datapath].discard(xid)
    return reply


_ryu_parse = ryu_parser.OFPMultipartReply.parser
ryu_parser._MSG_PARSERS[ofp.OFPT_MULTIPART_REPLY] = _parse
ofp_event._create_ofp_msg_ev_class(OFPUnparsedReply)
EventOFPUnparsedReply = ofp_event.EventOFPUnparsedReply
