"""Which event is whose, what an operator may ask, and what a reload changes."""

from __future__ import annotations

import pytest

from sncontroller.config import parse
from sncontroller.controller import ConflictError, Controller, UnknownError
from sncontroller.core import commands as cmd
from sncontroller.core import events as ev
from sncontroller.core import group as machine
from sncontroller.core.entries import EMPTY
from sncontroller.core.group import CALM_TICK_S, TICK_S
from sncontroller.core.lifecycle import State
from sncontroller.core.model import Config
from sncontroller.northbound import views
from tests.unit.world import BASE, up

TWO = """
groups:
  web:
    match: {address: 10.0.0.10, ports: [80]}
    primary: {port: vm1, mac: '02:00:00:00:00:01'}
    health: {kind: none}
    scaling: {policy: manual, min: 1, max: 1}
  dns:
    match: {address: 10.0.0.20, protocol: udp, ports: [53]}
    primary: {port: vm2, mac: '02:00:00:00:00:02'}
    health: {kind: none}
    scaling: {policy: manual, min: 1, max: 1}
"""
PORTS = (
    ev.Port(1, "vm1", "02:00:00:00:00:01", True),
    ev.Port(2, "vm2", "02:00:00:00:00:02", True),
)


class Effects:
    """Remembers what was to be carried out."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, cmd.Command]] = []

    def carry_out(self, group: str, command: cmd.Command) -> None:
        """Remember it."""
        self.seen.append((group, command))

    def applied(self, group: str) -> list[cmd.Apply]:
        """The tables a group wanted on its switch."""
        return [c for g, c in self.seen if g == group and isinstance(c, cmd.Apply)]


@pytest.fixture
def effects() -> Effects:
    """Where commands go."""
    return Effects()


@pytest.fixture
def controller(effects: Effects) -> Controller:
    """Two groups on one connected switch."""
    controller = Controller(parse(TWO), effects, 100.0)
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 100.0)
    return controller


def zone(config: Config, name: str) -> int:
    """A group's number."""
    group = config.group(name)
    assert group is not None
    return group.zone


def test_each_group_gets_its_own_table(controller: Controller, effects: Effects) -> None:
    """A switch with both primaries carries both groups."""
    for name in ("web", "dns"):
        (apply,) = effects.applied(name)
        assert apply.zone == zone(controller.config, name)
        assert apply.desired.groups


def test_a_primary_that_is_plugged_in_later_starts_its_group(effects: Effects) -> None:
    """The group lives where its primary's port appears, whenever that is, and once."""
    controller = Controller(parse(TWO), effects, 100.0)
    controller.handle(ev.SwitchUp(7, "br0", PORTS[:1], {}), 100.0)
    controller.handle(ev.SwitchUp(8, "br1", (), {}), 100.0)
    assert not effects.applied("dns")
    controller.handle(ev.PortSeen(8, PORTS[1]), 101.0)
    (apply,) = effects.applied("dns")
    assert apply.datapath == 8
    assert apply.desired.groups
    controller.handle(ev.PortSeen(8, PORTS[1]), 102.0)
    assert len(effects.applied("dns")) == 1


def test_a_port_event_reaches_only_the_group_it_concerns(
    controller: Controller, effects: Effects
) -> None:
    """Work for one group costs nothing in another."""
    effects.seen.clear()
    controller.handle(ev.PortSeen(7, ev.Port(2, "vm2", "02:00:00:00:00:02", False)), 101.0)
    assert {group for group, _ in effects.seen} == {"dns"}


def test_events_of_nobody_change_nothing(controller: Controller, effects: Effects) -> None:
    """A foreign port, a foreign switch and an unknown group are no one's business."""
    effects.seen.clear()
    controller.handle(ev.PortSeen(7, ev.Port(9, "eth0", "02:00:00:00:00:09", True)), 101.0)
    controller.handle(ev.SwitchDown(8), 101.0)
    controller.handle(ev.Applied(7, ev.Zone(1), 5), 101.0)
    assert not effects.seen


def test_time_goes_on_for_every_group(controller: Controller) -> None:
    """A tick says when the next is due, and it is not long."""
    assert 0 < controller.tick(200.0) - 200.0 <= CALM_TICK_S


def test_a_poll_of_a_calm_group_is_no_look(controller: Controller, effects: Effects) -> None:
    """It comes when it is due, and not sooner."""
    while controller.tick(200.0) <= 200.0:
        pass
    web = zone(controller.config, "web")
    controller.handle(ev.Polled(7, ev.Zone(web), 201.0, {}), 201.0)
    assert controller.tick(201.5) == 200.0 + CALM_TICK_S
    assert controller.groups[web].looked_s == 200.0


def test_groups_are_given_an_event_one_by_one(controller: Controller, effects: Effects) -> None:
    """Who drives the controller may do something else in between; a group may be gone by then."""
    again = ev.SwitchUp(7, "br0", PORTS, {})
    zones = controller.received(again, 102.0)
    assert set(zones) == set(controller.groups)
    effects.seen.clear()
    controller.give(zones[0], again, 102.0)
    assert {name for name, _ in effects.seen} == {controller.groups[zones[0]].spec.name}
    controller.give(ev.Zone(1), again, 102.0)


def test_a_group_that_comes_back_is_ticked_once(controller: Controller) -> None:
    """Removed and added again before its time came: there is still one time for it."""
    both = controller.config
    alone = both.model_copy(update={"groups": both.groups[:1]})
    controller.reconfigure(alone, 103.0)
    controller.reconfigure(both, 103.1)
    while controller.tick(110.0) <= 110.0:
        pass
    assert sorted(zone for _, zone in controller._due) == sorted(controller.groups)
    controller.reconfigure(alone, 111.0)
    while controller.tick(120.0) <= 120.0:
        pass
    assert {zone for _, zone in controller._due} == set(controller.groups)


def test_a_tick_that_is_needed_sooner(effects: Effects) -> None:
    """What happens to a calm group may make its next look due before the one it waited for."""
    controller = Controller(parse(BASE), effects, 100.0)
    (web,) = controller.groups
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 100.0)
    listed = ev.HypervisorResult(web, ev.Call.LIST, None, (), None, False, 0.1)
    controller.handle(listed, 100.1)
    assert controller.tick(100.2) == 100.1 + CALM_TICK_S
    controller.scale("web", 2, 101.0)
    assert controller.tick(101.0) == 101.0 + TICK_S
    assert controller.tick(101.0 + TICK_S) == 101.0 + 2 * TICK_S
    assert controller.groups[web].looked_s == 101.0 + TICK_S


def test_a_step_that_fails_is_not_the_last(
    controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should there be one after all: the group is ticked again, and the others meanwhile."""
    with monkeypatch.context() as patch:
        patch.setattr(machine, "step", None)
        for _ in controller.groups:
            with pytest.raises(TypeError):
                controller.tick(200.0)
    while controller.tick(202.0) <= 202.0:
        pass
    assert {group.looked_s for group in controller.groups.values()} == {202.0}


def test_an_operator_reads_which_names_there_are(controller: Controller) -> None:
    """Unknown groups and nodes are answered with the known ones."""
    with pytest.raises(UnknownError, match="dns, web"):
        controller.scale("wep", 1, 101.0)
    with pytest.raises(UnknownError, match="web-1"):
        controller.ask("web", "web-7", ev.Verb.DRAIN, 101.0)


def test_an_operator_reads_why_something_cannot_be_done(controller: Controller) -> None:
    """Bounds and states are explained."""
    with pytest.raises(ConflictError, match="between 1 and 1"):
        controller.scale("web", 3, 101.0)
    alone = "web-1 is active: cannot drain it, no other node is left"
    with pytest.raises(ConflictError, match=alone):
        controller.ask("web", "web-1", ev.Verb.DRAIN, 101.0)
    with pytest.raises(ConflictError, match="web-1 is active: cannot undrain it"):
        controller.ask("web", "1", ev.Verb.UNDRAIN, 101.0)


def test_an_operator_can_fail_the_primary_and_take_it_back(controller: Controller) -> None:
    """What an operator calls dead stays so until he says otherwise."""
    web = zone(controller.config, "web")
    controller.ask("web", "web-1", ev.Verb.FAIL, 101.0)
    controller.tick(150.0)
    assert controller.groups[web].nodes[1].state is State.FAILED
    controller.ask("web", "web-1", ev.Verb.UNDRAIN, 151.0)
    assert controller.groups[web].nodes[1].state is State.ACTIVE


def test_reload_changes_what_changed_and_nothing_else(
    controller: Controller, effects: Effects
) -> None:
    """A new capacity reaches its group; the other is not touched."""
    effects.seen.clear()
    changed = parse(
        TWO.replace("health: {kind: none}", "health: {kind: none}", 1).replace(
            "ports: [80]}", "ports: [80]}\n    capacity: {bits_per_s: 5}"
        )
    )
    assert controller.refusals(changed) == ()
    assert controller.reconfigure(changed, 102.0) == ("web",)
    assert {group for group, _ in effects.seen} == {"web"}


def test_reload_refuses_what_would_break_flows(controller: Controller) -> None:
    """Every problem at once, by its path."""
    changed = parse(
        TWO.replace("ports: [80]", "ports: [81]")
        .replace("primary: {port: vm2,", "pinning: learn\n    primary: {port: vm2,")
        .replace("groups:", "controller: other\ngroups:", 1)
    )
    paths = [refusal.path for refusal in controller.refusals(changed)]
    assert paths == ["controller", "groups.web.match", "groups.dns.pinning"]


def test_a_removed_group_leaves_the_switch_and_a_new_one_comes(
    controller: Controller, effects: Effects
) -> None:
    """Removal hands the address back to the primary: nothing of ours stays."""
    config = parse(TWO)
    dns = zone(config, "dns")
    alone = config.model_copy(update={"groups": config.groups[:1]})
    assert controller.reconfigure(alone, 102.0) == ("dns",)
    assert effects.applied("dns")[-1].desired == EMPTY
    assert dns not in controller.groups
    effects.seen.clear()
    assert controller.reconfigure(config, 103.0) == ("dns",)
    assert effects.applied("dns")[-1].desired.groups


def test_a_group_that_is_removed_while_its_switch_is_away(
    controller: Controller, effects: Effects
) -> None:
    """It stays until the switch can be told; one whose switch was never there does not."""
    both = controller.config
    dns = zone(both, "dns")
    controller.handle(ev.SwitchDown(7), 102.0)
    controller.reconfigure(both.model_copy(update={"groups": both.groups[:1]}), 102.0)
    controller.tick(150.0)
    assert dns in controller.groups
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 151.0)
    assert effects.applied("dns")[-1].desired == EMPTY
    assert dns not in controller.groups
    alone = Controller(both, effects, 200.0)
    alone.reconfigure(both.model_copy(update={"groups": ()}), 201.0)
    assert not alone.groups


def test_a_group_that_comes_back_takes_up_nothing_of_before(effects: Effects) -> None:
    """What its switch held when it connected is gone with the group that it was of."""
    config, world = parse(BASE), up().scale(2)
    web = world.group.spec.zone
    foreign = ev.Port(world.ports["sn4e1b-2"].number, "tap7", "02:aa:00:00:00:07", True)
    controller = Controller(config, effects, 100.0)
    held = {web: world.installed}
    controller.handle(ev.SwitchUp(7, "br0", (PORTS[0],), held), 100.0)
    controller.reconfigure(config.model_copy(update={"groups": ()}), 101.0)
    controller.handle(ev.PortSeen(7, foreign), 102.0)
    controller.reconfigure(config, 103.0)
    assert set(controller.groups[web].nodes) == {1}


def test_a_switch_that_went_before_it_confirmed_a_groups_end_is_told_again(
    controller: Controller, effects: Effects
) -> None:
    """Until it has; not where the group came back meanwhile."""
    both = controller.config
    alone = both.model_copy(update={"groups": both.groups[:1]})
    controller.reconfigure(alone, 102.0)
    last = effects.applied("dns")[-1]
    for confirmed in (False, True, True):
        effects.seen.clear()
        controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 103.0)
        controller.handle(ev.SwitchUp(8, "br1", (), {}), 103.0)
        assert effects.applied("dns") == ([] if confirmed else [last])
        controller.handle(ev.Applied(7, last.zone, last.version - confirmed), 103.1)
    controller.reconfigure(both, 104.0)
    controller.reconfigure(alone, 105.0)
    controller.reconfigure(both, 106.0)
    effects.seen.clear()
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 107.0)
    assert EMPTY not in [command.desired for command in effects.applied("dns")]


@pytest.mark.parametrize("changes", [{}, {"id": 7}, {"name": "dns"}])
def test_a_group_that_is_leaving_has_its_name_and_number(
    effects: Effects, changes: dict[str, object]
) -> None:
    """Its nodes, at the switch and at the hypervisor, would be another group's meanwhile."""
    config = parse(BASE)
    (spec,) = config.groups
    again = spec.model_copy(update={"id": spec.zone, **changes})
    controller = Controller(config, effects, 100.0)
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 100.0)
    listed = ev.HypervisorResult(spec.zone, ev.Call.LIST, None, (), None, False, 0.1)
    controller.handle(listed, 100.1)
    controller.scale("web", 2, 101.0)
    controller.reconfigure(config.model_copy(update={"groups": ()}), 102.0)
    (refusal,) = controller.refusals(config.model_copy(update={"groups": (again,)}))
    assert refusal.path == f"groups.{again.name}"
    assert "still leaving" in refusal.message


@pytest.mark.parametrize("other", [None, "podman"])
def test_a_plugin_keeps_its_nodes(effects: Effects, other: str | None) -> None:
    """No reload leaves nodes behind that only the plugin of before could destroy."""
    config = parse(BASE)
    (spec,) = config.groups
    assert spec.hypervisor is not None
    section = spec.hypervisor.model_copy(update={"plugin": other}) if other else None
    changed = config.model_copy(
        update={"groups": (spec.model_copy(update={"hypervisor": section}),)}
    )
    controller = Controller(config, effects, 100.0)
    controller.handle(ev.SwitchUp(7, "br0", PORTS, {}), 100.0)
    assert controller.refusals(changed) == ()
    listed = ev.HypervisorResult(spec.zone, ev.Call.LIST, None, (), None, False, 0.1)
    controller.handle(listed, 100.1)
    controller.scale("web", 2, 101.0)
    (refusal,) = controller.refusals(changed)
    assert refusal.path == "groups.web.hypervisor"
    assert "netns's nodes" in refusal.message


def test_the_status_is_plain_json(controller: Controller) -> None:
    """Every group and node is in it, by name."""
    status = views.status("lab", "1", controller.groups.values(), 104.0)
    assert [group["name"] for group in status["groups"]] == ["dns", "web"]
    (node,) = status["groups"][1]["nodes"]
    assert (node["name"], node["role"], node["slots"]) == ("web-1", "primary", 256)
    assert status["groups"][1]["events"][-1]["kind"] == "active"
