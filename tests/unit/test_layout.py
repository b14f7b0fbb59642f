"""Numbers on the switch: every one says whose it is, and foreign ones are nobody's."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core import layout as at
from sncontroller.core.layout import Index, Kind, Origin, Zone

ZONES = st.integers(1, at.MAX_ZONE).map(Zone)
INDEXES = st.integers(1, at.MAX_INDEX).map(Index)


@given(st.sampled_from(Kind), ZONES, INDEXES)
def test_a_cookie_tells_its_origin(kind: Kind, zone: Zone, index: Index) -> None:
    """What goes into a cookie comes out of it."""
    assert at.origin(at.cookie(kind, zone, index)) == Origin(kind, zone, index)


@given(ZONES, INDEXES)
def test_a_group_identifier_tells_its_origin(zone: Zone, index: Index) -> None:
    """Slot tables and deliveries are told apart, and never collide."""
    assert at.group_origin(at.deliver_group(zone, index)) == (zone, index)
    assert at.group_origin(at.select_group(zone)) == (zone, 0)
    assert at.mark(zone, index) > 0


@given(ZONES, INDEXES.filter(lambda index: index > 1))
def test_a_port_name_tells_its_node(zone: Zone, index: Index) -> None:
    """A secondary's port fits into Linux's limit and names group and node."""
    name = at.port_name(zone, index)
    assert len(name) <= 15
    assert at.node_index(name, zone) == index
    other = Zone(zone % at.MAX_ZONE + 1)
    assert at.node_index(name, other) is None


def test_foreign_numbers_are_nobodys() -> None:
    """Cookies, groups and ports of others are recognised as such."""
    assert at.origin(0) is None
    assert at.origin(at.COOKIE_MAGIC | 99 << 32) is None
    assert at.group_origin(1) is None
    assert at.node_index("eth0", Zone(1)) is None
    assert at.node_index("sn0001-1", Zone(1)) is None
    assert at.node_index("sn0001-x", Zone(1)) is None
    assert at.node_index("sn0001-4096", Zone(1)) is None
    assert at.node_index("sn0001-4095", Zone(1)) == 4095


@given(ZONES, INDEXES)
def test_hardware_addresses_are_local_and_unicast(zone: Zone, index: Index) -> None:
    """Addresses that we give cannot clash with a vendor's."""
    first = int(at.node_mac(zone, index)[:2], 16)
    assert first & 3 == 2
