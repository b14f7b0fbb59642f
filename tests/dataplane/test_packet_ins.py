"""The limit of packet-ins at a bridge: who sets it, who restores it, what it does."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import pytest

from sncontroller.attach import attach, detach
from sncontroller.bridge import Bridge, Switch
from sncontroller.controller_row import DEFAULT, PER_S, PacketIns
from sncontroller.errors import OperatorError
from tests.dataplane.listening import Listening
from tests.dataplane.world import BRIDGE, World, eventually

NOBODY = "tcp:127.0.0.1:16653"
"""Where no controller listens."""
VERSION = "OpenFlow15"
CLIENT_PORT, NODE_PORT = 7, 8
FRAME = "ffffffffffff0200000000010800" + "00" * 46


@pytest.fixture
def bridge(world: World) -> Bridge:
    """The world's bridge."""
    return Switch(world.ovs.db).bridge(BRIDGE)


def limits(bridge: Bridge) -> list[PacketIns]:
    """What the rows of the bridge's controllers say."""
    return [row.packet_ins for row in bridge.settings().controllers]


def set_by_hand(world: World, *columns: str) -> None:
    """A controller as an operator sets it."""
    world.ovs.vsctl("set-controller", BRIDGE, NOBODY)
    if columns:
        world.ovs.vsctl("set", "controller", BRIDGE, *columns)


def test_attach_limits_and_keeps_what_it_was_told(bridge: Bridge) -> None:
    """The usual limit; another stays until the next one is given; 0 is none."""
    attach(bridge, NOBODY)
    assert limits(bridge) == [DEFAULT] == [PacketIns(PER_S, PER_S // 3)]

    told = attach(bridge, NOBODY, PacketIns.limited(500))
    assert (told.changed, told.away_s) == (True, 0)
    assert told.message.endswith("; now at most 500 packet-ins per second")
    assert not attach(bridge, NOBODY).changed
    assert limits(bridge) == [PacketIns(500, 166)]

    attach(bridge, "tcp:127.0.0.1:16654")
    assert limits(bridge) == [PacketIns(500, 166)]
    attach(bridge, "tcp:127.0.0.1:16654", PacketIns.limited(0))
    assert limits(bridge) == [PacketIns()]
    detach(bridge)


def test_less_than_open_vswitch_takes() -> None:
    """Its least is 100 per second, and a burst of 25."""
    with pytest.raises(OperatorError, match=r"^99 packet-ins per second are less than"):
        PacketIns.limited(99)
    assert PacketIns.limited(100) == PacketIns(100, 33)


def test_a_row_set_by_hand_gets_it_and_is_put_back(world: World, bridge: Bridge) -> None:
    """Without a limit it gets the usual one; what it said is there again after detach."""
    set_by_hand(world)

    assert attach(bridge, NOBODY).changed
    assert not attach(bridge, NOBODY).changed
    assert limits(bridge) == [DEFAULT]

    assert detach(bridge).changed
    assert limits(bridge) == [PacketIns()]
    assert bridge.settings().controllers[0].external_ids == {}
    assert not detach(bridge).changed


def test_a_limit_set_by_hand_is_kept(world: World, bridge: Bridge) -> None:
    """Unless another one is asked for; then it comes back with detach, whatever came between."""
    set_by_hand(world, "controller_rate_limit=700")

    assert not attach(bridge, NOBODY).changed
    assert limits(bridge) == [PacketIns(700)]

    attach(bridge, NOBODY, PacketIns.limited(500))
    attach(bridge, NOBODY, PacketIns.limited(600))
    assert limits(bridge) == [PacketIns(600, 200)]
    detach(bridge)
    assert limits(bridge) == [PacketIns(700)]


def test_another_controllers_row_is_not_touched(world: World, bridge: Bridge) -> None:
    """Ours beside it has the limit, and it goes with it."""
    world.ovs.vsctl("set-controller", BRIDGE, "tcp:127.0.0.1:16660")

    attach(bridge, NOBODY)
    found = {row.target: row.packet_ins for row in bridge.settings().controllers}
    detach(bridge)

    assert found == {NOBODY: DEFAULT, "tcp:127.0.0.1:16660": PacketIns()}
    assert limits(bridge) == [PacketIns()]


def to_controller(port: int, count: int) -> Iterator[str]:
    """So many packets of a port for the controller, as lines of a bundle."""
    line = f"packet-out in_port={port},packet={FRAME},actions=controller"
    return (line for _ in range(count))


def test_one_ports_storm_does_not_push_out_anothers_packets(bridge: Bridge) -> None:
    """The storm loses most of its own; what a node's port brings in the middle comes through.

    The limit is changed on the living connection, which stays.
    """
    with Listening() as controller:
        attach(bridge, controller.target, PacketIns())
        controller.accept()
        bridge.change(VERSION, to_controller(CLIENT_PORT, 400))
        unlimited = controller.count(quiet_s=1)

        attach(bridge, controller.target, PacketIns.limited(100))
        began = time.monotonic()
        storm, answers = to_controller(CLIENT_PORT, 400), to_controller(NODE_PORT, 10)
        bridge.change(VERSION, [*storm, *answers, *to_controller(CLIENT_PORT, 400)])
        limited = controller.count(quiet_s=1)
        took_s = time.monotonic() - began

        assert unlimited == {CLIENT_PORT: 400}
        assert limited[NODE_PORT] == 10
        assert 33 <= limited[CLIENT_PORT] <= 33 + 33 + 100 * took_s
        detach(bridge)


def test_attach_says_how_many_were_dropped(bridge: Bridge) -> None:
    """Exactly those that did not come, once the switch has written it into its database."""
    with Listening() as controller:
        attach(bridge, controller.target, PacketIns.limited(100))
        controller.accept()
        bridge.change(VERSION, to_controller(CLIENT_PORT, 400))
        came = controller.count(quiet_s=1)[CLIENT_PORT]

        def dropped() -> int | None:
            controller.count(quiet_s=0.2)
            link = attach(bridge, controller.target).link
            assert link is not None
            return link.dropped

        eventually(lambda: dropped() == 400 - came > 0)
        message = attach(bridge, controller.target).message
        assert re.search(
            rf"already \(connected for \d+ s, {400 - came} packet-ins dropped\)$", message
        )
        detach(bridge)


def test_attach_counts_nothing_where_nothing_is_limited(bridge: Bridge) -> None:
    """No limit, no queue, no drops; nor is there a number without a connection."""
    attach(bridge, NOBODY, PacketIns())
    eventually(lambda: "not connected: Connection refused" in attach_again(bridge, NOBODY))
    with Listening() as controller:
        attach(bridge, controller.target, PacketIns())
        controller.accept()
        told = r"already \(connected for \d+ s\)$"
        eventually(lambda: re.search(told, attach_again(bridge, controller.target)) is not None)
        detach(bridge)


def attach_again(bridge: Bridge, target: str) -> str:
    """What it says, with no limit set."""
    return attach(bridge, target, PacketIns()).message
