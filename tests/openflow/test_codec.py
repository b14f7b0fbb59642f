"""The codec: what it writes is OpenFlow, and what it reads is what was written."""

from __future__ import annotations

import struct
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ryu.ofproto import ofproto_v1_3, ofproto_v1_3_parser
from ryu.ofproto.ofproto_parser import msg as parse_with_ryu

from sncontroller.core import diff
from sncontroller.core import entries as e
from sncontroller.openflow import codec
from sncontroller.openflow.actions import Opaque, decode_actions, encode_actions
from sncontroller.openflow.oxm import decode_match, encode_match
from tests.openflow.strategies import (
    action_lists,
    flow_entries,
    group_entries,
    matches,
    u8,
    u32,
    u64,
)

DATAPATH = SimpleNamespace(ofproto=ofproto_v1_3, ofproto_parser=ofproto_v1_3_parser)
HEADER = struct.Struct("!BBHI")
FLOW_MOD_SIZE = 48
"""Bytes of a flow_mod before its match."""


def as_statistics(message: bytes, packets: int = 0, octets: int = 0) -> bytes:
    """The body of a flow statistics reply for the entry that this flow_mod makes."""
    cookie, _, table, _, idle, _, priority = struct.unpack_from("!QQBBHHH", message, 8)
    rest = message[FLOW_MOD_SIZE:]
    counted = (cookie, packets, octets)
    return (
        struct.pack("!HBxIIHHHH4xQQQ", 48 + len(rest), table, 9, 9, priority, idle, 0, 0, *counted)
        + rest
    )


def as_description(message: bytes) -> bytes:
    """The body of a group description reply for the group that this group_mod makes."""
    _, kind, group_id = struct.unpack_from("!HBxI", message, 8)
    return struct.pack("!HBxI", len(message) - 8, kind, group_id) + message[16:]


def through_ryu(message: bytes) -> bytes:
    """The message parsed and written again by Ryu."""
    parsers: dict[int, Any] = {
        14: ofproto_v1_3_parser.OFPFlowMod,
        15: ofproto_v1_3_parser.OFPGroupMod,
    }
    _, kind, length, xid = HEADER.unpack_from(message)
    assert length == len(message)
    if kind == 14:
        parsed = parsers[kind].parser(DATAPATH, 4, kind, length, xid, message)
    else:
        parsed = parsers[kind](DATAPATH, *struct.unpack_from("!HBxI", message, 8))
        parsed.xid = xid
        parsed.buckets = list(ryu_buckets(message))
    parsed.serialize()
    return bytes(parsed.buf)


def ryu_buckets(message: bytes) -> Any:
    """The group_mod's buckets, parsed by Ryu, which has no parser for the whole message."""
    offset = 16
    while offset < len(message):
        bucket = ofproto_v1_3_parser.OFPBucket.parser(message, offset)
        yield bucket
        offset += bucket.len


@given(flow_entries)
def test_flow_round_trip(flow: e.FlowEntry) -> None:
    """A flow entry comes back from a statistics reply as it was sent."""
    assert list(codec.flows(as_statistics(codec.add_flow(flow, 1)))) == [flow]


@given(group_entries)
def test_group_round_trip(group: e.GroupEntry) -> None:
    """A group entry comes back from a description reply as it was sent."""
    message = codec.encode(diff.AddGroup(group), 1)
    assert list(codec.groups(as_description(message))) == [group]


@given(st.lists(st.tuples(flow_entries, u64, u64), max_size=5))
def test_many_entries_in_a_reply(counted: list[tuple[e.FlowEntry, int, int]]) -> None:
    """Entries and counters of a reply with several entries are all found, in order."""
    body = b"".join(as_statistics(codec.add_flow(f, 1), p, o) for f, p, o in counted)
    assert list(codec.flows(body)) == [flow for flow, _, _ in counted]
    found = codec.CounterReader().read(body)
    assert list(zip(*found, strict=True)) == [(f.cookie, p, o) for f, p, o in counted]


@given(st.lists(st.lists(st.tuples(flow_entries, u64, u64), max_size=3), min_size=2, max_size=6))
def test_replies_of_one_size(replies: list[list[tuple[e.FlowEntry, int, int]]]) -> None:
    """What is known of earlier replies never hides what a later one says."""
    reader = codec.CounterReader()
    for counted in [*replies, *replies, *(reply[::-1] for reply in replies)]:
        body = b"".join(as_statistics(codec.add_flow(f, 1), p, o) for f, p, o in counted)
        found = list(zip(*reader.read(body), strict=True))
        assert found == [(f.cookie, p, o) for f, p, o in counted]


def test_the_places_of_many_sizes_are_forgotten() -> None:
    """A table that grows all the time leaves no trace of each size."""
    reader = codec.CounterReader()
    entry = as_statistics(codec.add_flow(e.FlowEntry(1, 2, e.match(reg0=3), (), 4), 1), 5, 6)
    for count in range(1, codec.KNOWN_SIZES + 3):
        assert reader.read(entry * count).packets == (5,) * count


@given(flow_entries, u32)
def test_flow_mod_is_what_ryu_writes(flow: e.FlowEntry, xid: int) -> None:
    """Ryu's parser understands the flow_mod, and Ryu writes the same bytes for it."""
    message = codec.add_flow(flow, xid)
    assert through_ryu(message) == message


@given(group_entries, u32)
def test_group_mod_is_what_ryu_writes(group: e.GroupEntry, xid: int) -> None:
    """Ryu's parser understands the group_mod, and Ryu writes the same bytes for it."""
    message = codec.encode(diff.ModifyGroup(group), xid)
    assert through_ryu(message) == message


@given(flow_entries, u32)
def test_delete_names_one_entry(flow: e.FlowEntry, xid: int) -> None:
    """A removal is strict and bound to the entry's own cookie."""
    message = codec.encode(diff.DeleteFlow(flow), xid)
    parsed = ofproto_v1_3_parser.OFPFlowMod.parser(DATAPATH, 4, 14, len(message), xid, message)
    assert parsed.command == ofproto_v1_3.OFPFC_DELETE_STRICT
    assert (parsed.cookie, parsed.cookie_mask) == (flow.cookie, 2**64 - 1)
    assert (parsed.table_id, parsed.priority) == (flow.table, flow.priority)
    assert through_ryu(message) == message


@given(matches)
def test_match_is_what_ryu_reads(match: e.Match) -> None:
    """Ryu finds the fields that were put into a match."""
    flow = e.FlowEntry(0, 1, match, (), 0)
    message = codec.add_flow(flow, 1)
    parsed = ofproto_v1_3_parser.OFPFlowMod.parser(DATAPATH, 4, 14, len(message), 1, message)
    names = {name.removesuffix("_nxm") for name, _ in parsed.match.items()}
    assert names == {"in_phy_port" if n == "oxm_80000204" else n for n, _ in match.fields}


@given(st.integers(0, 44), st.booleans(), st.binary(min_size=1, max_size=60))
def test_a_field_of_another_length_is_kept(number: int, masked: bool, data: bytes) -> None:
    """A TLV whose value has not its field's length is a field of its own, and survives."""
    data = data[: len(data) // 2 * 2] or b"ab"
    mask = len(data) // 2 if masked else 0
    field = struct.pack("!HBB", 0x8000, number << 1 | masked, len(data)) + data
    if masked:  # a switch sends no value bits outside the mask, and no full mask
        field = field[:4] + bytes(mask) + b"\x55" * mask
    wire = struct.pack("!HH", 1, 4 + len(field)) + field + bytes(-(4 + len(field)) % 8)
    match, end = decode_match(wire, 0)
    assert end == len(wire)
    assert len(match.fields) == 1
    assert decode_match(encode_match(match), 0)[0] == match


@given(st.binary(min_size=4, max_size=60), u8)
def test_strange_actions_are_opaque(noise: bytes, kind: int) -> None:
    """Bytes that are no action of ours are kept, and no parse of them raises."""
    length = 4 + len(noise) + (-(4 + len(noise)) % 8)
    action = struct.pack("!HH", kind, length) + noise.ljust(length - 4, b"\0")
    ours = encode_actions((e.Normal(),))
    found = decode_actions(action + ours)
    assert len(found) == 2
    assert found[1] == e.Normal()
    assert found[0] == Opaque(action) or isinstance(found[0], e.Action)


@pytest.mark.parametrize(
    "strange",
    [
        pytest.param(struct.pack("!HHB3x", 1, 8, 3), id="goto_table"),
        pytest.param(struct.pack("!HH4xHHI", 3, 16, 22, 8, 5), id="write_actions"),
        pytest.param(struct.pack("!HHI", 6, 8, 1), id="meter"),
    ],
)
def test_other_instructions_are_opaque(strange: bytes) -> None:
    """An entry with an instruction that we never use equals no entry of ours."""
    message = codec.add_flow(e.FlowEntry(1, 2, e.match(reg0=3), (), 4), 1)
    (found,) = codec.flows(as_statistics(message + strange))
    assert found == e.FlowEntry(1, 2, e.match(reg0=3), (Opaque(strange),), 4)  # type: ignore[arg-type]


@given(action_lists)
def test_a_group_of_another_type_is_opaque(actions: e.Actions) -> None:
    """A group under our identifier whose type we never use equals no group of ours."""
    group = e.GroupEntry(7, e.GroupType.SELECT, (e.Bucket(actions),))
    body = bytearray(as_description(codec.encode(diff.AddGroup(group), 1)))
    body[2] = ofproto_v1_3.OFPGT_ALL
    (found,) = codec.groups(bytes(body))
    assert found.group_id == group.group_id
    assert found != group


def test_bundle_add_wraps_a_message() -> None:
    """A message goes into a bundle whole, and under its own transaction number."""
    inner = codec.add_flow(e.FlowEntry(1, 2, e.match(reg0=3), (e.Normal(),), 4), 99)
    outer = codec.bundle_add(5, inner, 99)
    reference = ofproto_v1_3_parser.ONFBundleAddMsg(
        DATAPATH, 5, codec.BUNDLE_FLAGS, _Written(inner, 99), []
    )
    reference.set_xid(99)
    reference.serialize()
    assert outer == bytes(reference.buf)


class _Written:
    """A message that is bytes already, for Ryu's bundle message."""

    def __init__(self, buf: bytes, xid: int) -> None:
        self.buf, self.xid = buf, xid

    def serialize(self) -> None:
        """Nothing is left to do."""


def test_ryu_reads_the_bundle_of_a_slot_table() -> None:
    """A slot table of 256 buckets fits a message, with one bucket's bytes per slot."""
    two = [e.Bucket((e.Load(n, "NXM_NX_REG0"), e.Resubmit(201)), n) for n in (1, 2)]
    group = e.GroupEntry(5, e.GroupType.SELECT, tuple(two[slot % 2] for slot in range(256)))
    message = codec.bundle_add(1, codec.encode(diff.ModifyGroup(group), 1), 1)
    assert len(message) < 2**16
    assert parse_with_ryu(DATAPATH, 4, 4, len(message), 1, message) is not None
