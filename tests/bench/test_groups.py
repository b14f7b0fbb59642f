"""The control plane's rig: what it measures is the product, and everything really happens."""

from __future__ import annotations

from typing import Any

import pytest

from bench import controlplane
from bench.controlplane import groups
from sncontroller import config
from sncontroller.lab.isolation import isolate


@pytest.fixture(scope="module", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture(scope="module")
def measured() -> dict[str, Any]:
    """Three groups of four nodes, measured in a hurry."""
    with pytest.MonkeyPatch.context() as changes:
        changes.setattr(groups, "QUICK_CHANGES", 6)
        changes.setattr(groups, "QUICK_WATCH_S", 2.5)
        return groups.measured(3, 4, True)


def test_the_configuration_is_valid() -> None:
    """As ``sncontroller check`` sees it; every group has its own number and address."""
    parsed = config.parse(groups.configuration(300, 16)).groups
    assert len({group.zone for group in parsed}) == len({group.address for group in parsed}) == 300


def test_every_way_ends_with_everything_in_place(measured: dict[str, Any]) -> None:
    """From nothing, after the switch forgot all, and with everything there, which sends nothing."""
    phases = [measured[name] for name in ("first_start", "cold_push", "restart")]
    assert [phase["settled"] for phase in phases] == [True] * 3
    first, push, restart = (phase["operations"] for phase in phases)
    assert first >= push > measured["entries"] > 0
    assert restart == 0


def test_changes_were_confirmed(measured: dict[str, Any]) -> None:
    """None of them ran into its time limit; polls came round."""
    assert measured["change_ms"]["most"] < 10_000
    assert measured["polls_per_s"] > 0
    assert measured["core_share"] > 0


def test_a_size_that_did_not_settle_is_shown_as_such() -> None:
    """And its target is missed, not unmeasured."""
    phase = {"settled": False, "took_s": 3.0, "tables_confirmed": 7, "longest_stall_s": 9.0}
    size = {"groups": 1000, "nodes": 16, "configuration_read_s": 1.0, "controller_mib": 200.0}
    sizes = {controlplane.LARGEST: {**size, "first_start": phase}}
    assert f"**not in {groups.WITHIN_S:.0f} s** (7 tables)" in controlplane._sizes(sizes)[2]
    target = controlplane._pushed(sizes[controlplane.LARGEST])
    assert (target["met"], target["found"]) == (False, groups.WITHIN_S)
