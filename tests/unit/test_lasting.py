"""What a group has learnt outlives its controller."""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import pytest

from sncontroller.core.lasting import Lasting, from_json, lasting, resumed, to_json
from sncontroller.core.scaling import ManualSpec, PredictiveSpec
from sncontroller.core.scaling.pattern import expected, observed
from sncontroller.core.state import Group
from sncontroller.store import Store
from tests.unit.world import World, up

DAY_S = 86400


def learned(**changes: object) -> World:
    """A group that has seen two hours of one day, and was set by hand."""
    world = up(scaling=PredictiveSpec(max=6), **changes).scale(3).wait(3)
    past = world.group.memory.pattern
    for second in range(0, 7200, 10):
        past = observed(past, 2.0 + second / 7200, float(second))
    memory = world.group.memory._replace(pattern=past)
    world.group = replace(world.group, memory=memory, boot_s=17.0)
    return world


def again(world: World, store: Store) -> Group:
    """The group under the next controller, which has seen switch and hypervisor."""
    world.restarted()
    world.group = resumed(World(scaling=world.spec.scaling).group, store.recall("web"))
    return world.connect().wait(3).group


def test_what_was_learnt_is_there_again(tmp_path: Path) -> None:
    """The pattern, the boot's time and the operator's number, found again through a file."""
    world = learned()
    store = Store(str(tmp_path), "lab")
    store.keep([world.group])
    group = again(world, Store(str(tmp_path), "lab"))
    assert (group.override, group.wanted, group.boot_s) == (3, 3, 17.0)
    assert group.memory.reason == "3 found at the start"
    past = group.memory.pattern
    for second in range(DAY_S, DAY_S + 3600, 10):
        past = observed(past, 2.0 + (second - DAY_S) / 7200, float(second))
    soon = expected(past, DAY_S + 3600, DAY_S + 5400, 0.15)
    assert soon == pytest.approx(2.75, abs=0.05)


def test_without_a_directory_it_begins_anew(tmp_path: Path) -> None:
    """Nothing is written, nothing is read, and nobody is disturbed."""
    world = learned()
    store = Store(None, "lab")
    store.keep([world.group])
    store.forget("web")
    group = again(world, store)
    assert (group.override, group.wanted) == (None, 3)
    assert group.memory.pattern.days == ()
    assert list(tmp_path.iterdir()) == []


def test_text_and_back() -> None:
    """All of it; what is no such text is refused."""
    known = lasting(learned().group)
    assert known.pattern.days
    assert from_json(to_json(known)) == known
    with pytest.raises(ValueError, match="validation error"):
        from_json('{"override": "many"}')


def test_a_file_is_written_only_when_there_is_something_new(tmp_path: Path) -> None:
    """And one that nobody is to read any more goes."""
    world, store, path = learned(), Store(str(tmp_path), "lab"), tmp_path / "lab" / "web.json"
    store.keep([world.group])
    path.unlink()
    store.keep([world.group])
    assert not path.exists()
    store.keep([world.scale(None).group])
    assert store.recall("web").override is None
    assert [each.name for each in path.parent.iterdir()] == ["web.json"]
    store.forget("web")
    assert list(path.parent.iterdir()) == []
    assert store.recall("web") == Lasting()


def test_a_file_that_is_damaged_costs_what_was_learnt(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is said, and the group begins as at its first start."""
    (tmp_path / "lab").mkdir()
    (tmp_path / "lab" / "web.json").write_text('{"override": 3, "patt')
    with caplog.at_level(logging.WARNING):
        assert Store(str(tmp_path), "lab").recall("web") == Lasting()
    assert "web: what it had learnt cannot be read" in caplog.text


def test_a_directory_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Not every minute; and again when it failed anew."""
    blocked = tmp_path / "blocked"
    blocked.write_text("")
    world, store = up(scaling=ManualSpec()), Store(str(blocked), "lab")
    for _ in range(3):
        store.keep([world.group])
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "cannot keep what groups learn" in caplog.text
    store.forget("web")
    assert "web: what it had learnt cannot be removed" in caplog.text
    blocked.unlink()
    store.keep([world.group])
    assert (blocked / "lab" / "web.json").exists()
