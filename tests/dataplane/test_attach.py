"""Attach and detach on a real bridge: nothing foreign changes, and no connection notices."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sncontroller import attach as effects
from sncontroller import bridge as live
from sncontroller.attach import attach, detach, require_primaries_alone
from sncontroller.bridge import Bridge, Entries, Switch
from sncontroller.controller_row import require_target
from sncontroller.errors import OperatorError, RefusedError
from sncontroller.offline import answered_by_switch, entries, handbacks
from tests.dataplane.configured import configured
from tests.dataplane.listening import Listening
from tests.dataplane.world import BRIDGE, Client, World, eventually, group_spec

NOBODY = "tcp:127.0.0.1:16653"
"""Where no controller listens."""
VERSION = "OpenFlow15"
FOREIGN = """\
meter=7 kbps burst bands=type=drop rate=1000 burst_size=50
group add group_id=1,type=select,selection_method=hash,fields(ip_src),bucket=weight:5,output:1
group add group_id=3,type=ff,bucket=watch_group:2,actions=group:2
group add group_id=2,type=all,bucket=output:1,bucket=output:2
flow add table=3,priority=7,cookie=0x5,idle_timeout=600,hard_timeout=900,importance=9,\
send_flow_rem,tcp,tp_dst=81,actions=meter:7,group:1
flow add priority=9,cookie=0x6,tcp,tp_dst=82,reg0=5,actions=learn(table=5,hard_timeout=10,\
NXM_OF_VLAN_TCI[0..11],output:NXM_OF_IN_PORT[]),note:01.02,clone(output:5),resubmit(,3)
flow add priority=8,udp,tp_dst=5353,actions=ct(commit,zone=3,exec(set_field:5->ct_mark)),group:3
flow add priority=61000,cookie=0x534e000100010000,udp,tp_dst=99,actions=drop
"""
"""What others may have on a bridge; the last one has a cookie of ours, as handback leaves them."""


@pytest.fixture
def bridge(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bridge]:
    """The world's bridge; afterwards no backup file may be left."""
    directory = tmp_path / "backups"
    directory.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield Switch(world.ovs.db).bridge(BRIDGE)
    assert list(directory.iterdir()) == []


def populate(world: World, bridge: Bridge) -> Entries:
    """Put foreign entries on the bridge; all that is there then."""
    meter, _, changes = FOREIGN.partition("\n")
    bridge.set_meters(VERSION, [",".join(meter.split()).replace("bands=,", "bands=")])
    bridge.change(VERSION, changes.splitlines())
    return bridge.entries(VERSION)


def notes(bridge: Bridge) -> dict[str, str]:
    """What is remembered in the bridge's row."""
    return dict(bridge.settings().external_ids)


@pytest.mark.parametrize("fail_mode", ["", "standalone", "secure"])
def test_everything_foreign_comes_back(world: World, bridge: Bridge, fail_mode: str) -> None:
    """Flows, groups and meters are the same before, between and after; so are the settings."""
    set_fail_mode(world, fail_mode)
    before = populate(world, bridge)
    assert str(before) == "5 flows, 3 groups, 1 meter"

    outcome = attach(bridge, NOBODY)

    settings = bridge.settings()
    assert outcome.changed
    assert outcome.kept == before == bridge.entries(VERSION)
    assert settings.fail_mode == "secure"
    assert [(c.target, c.ours) for c in settings.controllers] == [(NOBODY, True)]

    bridge.change(VERSION, ["flow delete cookie=0x534e000100010000/-1"])
    outcome = detach(bridge)

    settings = bridge.settings()
    assert outcome.changed
    assert bridge.entries(VERSION) == before.foreign
    assert settings.fail_mode == fail_mode
    assert settings.controllers == ()
    assert settings.external_ids == {}


def set_fail_mode(world: World, fail_mode: str) -> None:
    """Make it the bridge's; empty for unset. This flushes the bridge."""
    command = ["set-fail-mode", BRIDGE, fail_mode] if fail_mode else ["del-fail-mode", BRIDGE]
    world.ovs.vsctl(*command)


def test_a_flow_that_was_deleted_does_not_come_back(world: World, bridge: Bridge) -> None:
    """Open vSwitch's own NORMAL flow appears with every flush of a standalone bridge; not here."""
    set_fail_mode(world, "standalone")
    bridge.change(VERSION, ["flow delete", "flow add priority=5,actions=NORMAL"])

    attach(bridge, NOBODY)
    between = bridge.entries(VERSION).flows
    detach(bridge)

    assert between == bridge.entries(VERSION).flows == {"priority=5 actions=NORMAL"}


def test_twice_is_once(world: World, bridge: Bridge) -> None:
    """A second attach and a second detach change nothing and say so."""
    attach(bridge, NOBODY)

    again = attach(bridge, NOBODY)

    assert not again.changed
    assert again.message.startswith(f"{BRIDGE} has the controller {NOBODY} already (not connected")
    detach(bridge)
    again = detach(bridge)
    assert not again.changed
    assert again.message == f"nothing of sncontroller's is on {BRIDGE}"


def test_the_bridge_soon_asks_again_for_its_controller(world: World, bridge: Bridge) -> None:
    """Every second, not after up to eight, as Open vSwitch does by itself."""
    attach(bridge, NOBODY)
    shown = world.ovs.vsctl("--bare", "--columns=max_backoff", "list", "controller")
    assert shown.strip() == "1000"


def test_another_target_moves_the_row(world: World, bridge: Bridge) -> None:
    """Attach with another target changes our controller, without a flush."""
    attach(bridge, NOBODY)
    before = populate(world, bridge)

    outcome = attach(bridge, "tcp:127.0.0.1:16654")

    assert outcome.away_s == 0
    assert not attach(bridge).changed  # who only looks does not take it away from there
    assert [c.target for c in bridge.settings().controllers] == ["tcp:127.0.0.1:16654"]
    assert bridge.entries(VERSION) == before
    bridge.change(VERSION, ["flow delete cookie=0x534e000100010000/-1"])


STAYS = (
    "; its fail_mode stays standalone: without a controller it soon forwards like a plain switch "
    "(ovs-vsctl set-fail-mode br0 secure)"
)


@pytest.mark.parametrize("fail_mode", ["", "secure"])
def test_beside_another_controller(world: World, bridge: Bridge, fail_mode: str) -> None:
    """A bridge with a controller keeps it, its fail mode, and its entries without a flush."""
    set_fail_mode(world, fail_mode)
    with Listening() as other:
        world.ovs.set_controller(BRIDGE, other.target)
        other.accept()
        eventually(lambda: bridge.settings().controllers[0].link.connected)
        before = populate(world, bridge)

        attached = attach(bridge, NOBODY)
        between = bridge.settings()
        detached = detach(bridge)

        assert attached.message == (
            f"{BRIDGE}: controller {NOBODY} added beside {other.target}{'' if fail_mode else STAYS}"
        )
        assert {c.target for c in between.controllers} == {NOBODY, other.target}
        assert between.fail_mode == fail_mode
        assert [c.target for c in bridge.settings().controllers] == [other.target]
        assert (attached.away_s, detached.away_s) == (0, 0)
        assert bridge.entries(VERSION) == before.foreign


@pytest.mark.parametrize("fail_mode", ["", "standalone"])
def test_beside_a_controller_that_is_not_there(
    world: World, bridge: Bridge, fail_mode: str
) -> None:
    """Open vSwitch forwards by itself then, and would stop when ours connects: refused."""
    set_fail_mode(world, fail_mode)
    world.ovs.set_controller(BRIDGE, "tcp:127.0.0.1:16660")

    with pytest.raises(OperatorError, match=r"^br0 forwards by itself while tcp:127.0.0.1:16660"):
        attach(bridge, NOBODY)

    assert [c.target for c in bridge.settings().controllers] == ["tcp:127.0.0.1:16660"]


@pytest.mark.parametrize(
    "target",
    [
        "foo",
        "",
        "127.0.0.1:6653",
        "tcp:",
        "tcp::6653",
        "tcp:h:66530",
        "tcp:h:0",
        "tcp:a:b:1",
        "udp:h",
    ],
)
def test_a_target_that_is_none(bridge: Bridge, target: str) -> None:
    """Open vSwitch takes any text and would leave the controller that it has for it."""
    attach(bridge, NOBODY)

    with pytest.raises(OperatorError) as caught:
        attach(bridge, target)

    assert str(caught.value) == (
        f"'{target}' is no place that a bridge can connect to; give it as tcp:127.0.0.1:6653"
    )
    assert [c.target for c in bridge.settings().controllers] == [NOBODY]
    detach(bridge)


@pytest.mark.parametrize(
    "target", ["tcp:10.0.0.1", "ssl:[fd00::1]:6653", "tcp:sn.example:6653", "ptcp:6653", "unix:/x"]
)
def test_targets_of_all_kinds(target: str) -> None:
    """As ovs-vswitchd.conf.db(5) has them."""
    require_target(target)


def test_a_controller_set_by_hand(world: World, bridge: Bridge) -> None:
    """It is left alone by attach, and by detach unless named."""
    world.ovs.set_controller(BRIDGE, NOBODY)
    before = populate(world, bridge)

    assert not attach(bridge, NOBODY).changed
    detach(bridge)
    assert [c.target for c in bridge.settings().controllers] == [NOBODY]

    detach(bridge, target=NOBODY)
    assert bridge.settings().controllers == ()
    assert bridge.settings().fail_mode == "secure"
    assert bridge.entries(VERSION) == before.foreign


def fails_once(method: Callable[..., None], error: BaseException) -> Callable[..., None]:
    """The method, which fails at its first call."""
    calls = iter([error])

    def failing(*args: object) -> None:
        for first in calls:
            raise first
        method(*args)

    return failing


@pytest.fixture
def little_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A file system of one page for temporary files."""
    directory = tmp_path / "full"
    directory.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4k", "none", str(directory)]
    subprocess.run(mount, check=True)
    monkeypatch.setattr("tempfile.tempdir", str(directory))
    yield directory
    subprocess.run(["umount", str(directory)], check=True)


def test_no_room_for_what_is_saved(world: World, bridge: Bridge, little_room: Path) -> None:
    """Neither attach nor detach begins, and the line names the directory."""
    many = [f"flow add priority=5,tcp,tp_dst={port},actions=drop" for port in range(200)]
    line = f"cannot keep the bridge's entries in {little_room} meanwhile: No space left on device"
    attach(bridge, NOBODY)
    bridge.change(VERSION, many)
    before = bridge.entries(VERSION), bridge.settings().external_ids

    with pytest.raises(OperatorError, match=f"^{line}"):
        detach(bridge)

    assert (bridge.entries(VERSION), bridge.settings().external_ids) == before
    assert [c.target for c in bridge.settings().controllers] == [NOBODY]
    assert list(little_room.iterdir()) == []

    world.ovs.vsctl("del-controller", BRIDGE)
    bridge.change(VERSION, many)
    before = bridge.entries(VERSION), bridge.settings().external_ids
    with pytest.raises(OperatorError, match=f"^{line}"):
        attach(bridge, NOBODY)
    assert (bridge.entries(VERSION), bridge.settings().external_ids) == before
    assert list(little_room.iterdir()) == []


def test_a_failure_leaves_the_bridge_as_it_was(
    world: World, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the entries cannot be put back at first, attach undoes itself and says so."""
    set_fail_mode(world, "standalone")
    before = populate(world, bridge)
    failing = fails_once(Bridge.change, OperatorError("the switch said no"))
    monkeypatch.setattr(Bridge, "change", failing)

    with pytest.raises(
        OperatorError, match=r"^attach failed, br0 is as it was: the switch said no$"
    ):
        attach(bridge, NOBODY)

    settings = bridge.settings()
    assert bridge.entries(VERSION) == before
    assert (settings.controllers, settings.fail_mode) == ((), "standalone")
    assert settings.external_ids == {}


@pytest.mark.parametrize("again", [attach, detach])
def test_a_killed_attach_is_finished_by_the_next_run(
    world: World, bridge: Bridge, monkeypatch: pytest.MonkeyPatch, again: Callable[..., object]
) -> None:
    """Between flush and restore the entries are in a file that the bridge's row names."""
    set_fail_mode(world, "standalone")
    before = populate(world, bridge)
    with monkeypatch.context() as patch:
        patch.setattr(Bridge, "change", fails_once(Bridge.change, SystemExit()))
        with pytest.raises(SystemExit):
            attach(bridge, NOBODY)
    assert bridge.entries(VERSION).flows == set()

    again(bridge)
    detach(bridge)

    assert bridge.entries(VERSION) == before.foreign
    assert bridge.settings() == live.Settings("standalone", (), (), {})


def test_a_killed_detach_is_finished_by_the_next_run(
    world: World, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on the way back."""
    before = populate(world, bridge)
    attach(bridge, NOBODY)
    with monkeypatch.context() as patch:
        patch.setattr(effects, "_put_back", fails_once(effects._put_back, SystemExit()))
        with pytest.raises(SystemExit):
            detach(bridge)
    assert bridge.entries(VERSION).flows == set()

    assert detach(bridge).changed

    assert bridge.entries(VERSION) == before.foreign
    assert notes(bridge) == {}


@pytest.mark.parametrize("protocols", ["OpenFlow10", "OpenFlow10,OpenFlow15"])
def test_a_bridge_that_does_not_speak_1_3(world: World, bridge: Bridge, protocols: str) -> None:
    """The controller would never be heard. The line says how to allow it; nothing is touched."""
    world.ovs.vsctl("set", "bridge", BRIDGE, f"protocols={protocols}")
    line = (
        f"bridge br0 speaks only {protocols.replace(',', ', ')}; allow 1.3: "
        "ovs-vsctl add bridge br0 protocols OpenFlow13"
    )

    with pytest.raises(OperatorError) as caught:
        attach(bridge, NOBODY)
    assert str(caught.value) == line
    with pytest.raises(OperatorError) as caught:
        entries(bridge)
    assert str(caught.value) == line
    assert bridge.settings().controllers == ()


@pytest.mark.parametrize("protocols", ["OpenFlow13", "OpenFlow10,OpenFlow13,OpenFlow14"])
def test_other_versions_of_openflow(world: World, bridge: Bridge, protocols: str) -> None:
    """Entries come back whatever version the bridge allows."""
    before = populate(world, bridge)
    world.ovs.vsctl("set", "bridge", BRIDGE, f"protocols={protocols}")

    attach(bridge, NOBODY)
    detach(bridge)

    world.ovs.vsctl("clear", "bridge", BRIDGE, "protocols")
    after = bridge.entries(VERSION)
    lost = before.foreign - after
    importance = {line for line in lost.flows if "importance" in line}
    assert lost.flows == importance  # 1.3 cannot say it
    assert "OpenFlow14" in protocols or lost.groups  # nor selection methods


# With traffic -----------------------------------------------------------------------------------


def clients(world: World) -> tuple[Client, int]:
    """Held connections that ask without a pause; the number of the running command."""
    client = world.client()
    made = client.do("open", address="10.0.0.10", port=80, count=20)
    assert made["failed"] == 0
    return client, client.start("churn", rounds=60, pause_s=0.05)


def assert_nobody_noticed(client: Client, held: int) -> None:
    """All connections are there, at the primary, and answer."""
    found = client.do("check")
    assert (found["held"], found["broken"], found["moved"]) == (held, 0, 0)
    assert found["nodes"] == {"web-1": held}


@pytest.mark.parametrize("fail_mode", ["", "secure"])
def test_no_connection_to_the_primary_notices(world: World, bridge: Bridge, fail_mode: str) -> None:
    """Held connections ask on through attach, the group's life, and detach."""
    set_fail_mode(world, fail_mode)
    if fail_mode:
        bridge.change(VERSION, ["flow add priority=0,actions=NORMAL"])
    spec = group_spec()
    world.add_nodes(spec, 1)
    client, running = clients(world)

    attached = attach(bridge, NOBODY)
    world.install(spec)
    client.do("open", address="10.0.0.10", port=80, count=5)
    detached = detach(bridge)

    client.wait(running)
    assert_nobody_noticed(client, 25)
    assert bridge.entries(VERSION).ours == Entries()
    assert detached.removed
    print(f"away: attach {attached.away_s * 1000:.0f} ms, detach {detached.away_s * 1000:.0f} ms")


def test_an_address_of_the_switch_stays_reachable(world: World, bridge: Bridge) -> None:
    """With ``arp: switch`` the handback flows stay: held and new connections reach the primary."""
    spec = group_spec(arp="switch")
    world.add_nodes(spec, 1)
    attach(bridge, NOBODY)
    world.install(spec)
    client, running = clients(world)
    config = configured(spec)

    keep = handbacks(config, bridge)
    outcome = detach(bridge, keep)

    client.do("open", address="10.0.0.10", port=80, count=5)
    client.wait(running)
    assert_nobody_noticed(client, 25)
    assert bridge.entries("OpenFlow13").ours.flows == keep
    assert len(keep) == 3
    assert outcome.changed
    assert handbacks(config, bridge) == keep
    assert not detach(bridge, keep).changed
    assert answered_by_switch(bridge.entries("OpenFlow13").ours) == {spec.zone}
    detach(bridge)


def test_attach_keeps_what_was_handed_back(world: World, bridge: Bridge) -> None:
    """After a detach the address goes on through the next attach."""
    spec = group_spec(arp="switch")
    world.add_nodes(spec, 1)
    world.install(spec)
    detach(bridge, handbacks(configured(spec), bridge))
    client, running = clients(world)

    attach(bridge, NOBODY)

    client.wait(running)
    assert_nobody_noticed(client, 20)
    detach(bridge)


def test_secondaries_hold_a_detach_back(world: World, bridge: Bridge) -> None:
    """Their connections would break; the line says what to do first."""
    spec = group_spec()
    world.add_nodes(spec, 1, 2)
    world.install(spec)

    with pytest.raises(RefusedError) as caught:
        require_primaries_alone(bridge)

    assert str(caught.value) == (
        "1 secondary on br0 would lose their connections; scale the groups to 1 first "
        "(sncontroller scale GROUP 1), or give --now"
    )
    detach(bridge)
    require_primaries_alone(bridge)
