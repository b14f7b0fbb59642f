"""The hash-space comparison: the models are what they stand for."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from bench.disruption import hashing
from sncontroller.lab.ovs import PrivateOvs

BRIDGE = "hashbr"


@pytest.fixture(scope="module")
def ovs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateOvs]:
    """A switch with a datapath that forwards nothing, and a group to be filled."""
    with PrivateOvs(tmp_path_factory.mktemp("ovs")) as running:
        running.add_bridge(BRIDGE, datapath_type="dummy", fail_mode="secure")
        running.ofctl("add-group", BRIDGE, "group_id=1,type=select,bucket=actions=drop")
        running.ofctl("add-flow", BRIDGE, "actions=group:1")
        yield running


@pytest.mark.parametrize("nodes", [1, 2, 3, 5, 12, 16, 17])
def test_the_native_group_is_open_vswitchs(ovs: PrivateOvs, nodes: int) -> None:
    """Every hash value goes to the bucket that the real switch translates it to."""
    for port in range(2, nodes + 2):
        ovs.add_port(BRIDGE, f"h{port}", type="dummy", ofport=port)
    buckets = "".join(f",bucket=actions=output:{port}" for port in range(2, nodes + 2))
    group = f"group_id=1,type=select,selection_method=dp_hash{buckets}"
    ovs.ofctl("-O", "OpenFlow15", "mod-group", BRIDGE, group)
    model = hashing.NativeGroup().owners(range(2, nodes + 2))
    for value in range(1, 40):  # dp_hash=0 means that there is none yet
        flow = f"in_port=1,dp_hash={value},tcp,nw_src=10.0.0.1,nw_dst=10.0.0.2"
        said = re.findall(r"Datapath actions: (\d+)", ovs.appctl("ofproto/trace", BRIDGE, flow))
        assert said == [str(model[value])], value


@pytest.mark.parametrize("name", sorted(hashing.METHODS))
def test_every_node_gets_a_share(name: str) -> None:
    """No method forgets a node or invents one."""
    nodes = [3, 5, 8, 13]
    assert set(np.unique(hashing.METHODS[name]().owners(nodes))) == set(nodes)


@pytest.mark.parametrize("name", ["maglev", "rendezvous"])
def test_a_table_does_not_depend_on_what_was_before(name: str) -> None:
    """Methods without a memory are functions of the nodes alone."""
    method = hashing.METHODS[name]()
    before = method.owners([1, 2, 3])
    method.owners([1, 2, 3, 4])
    assert (method.owners([1, 2, 3]) == before).all()


def test_rendezvous_moves_only_the_leavers_keys() -> None:
    """What makes it the yardstick: nobody else's keys move."""
    method = hashing.Rendezvous()
    before, after = method.owners([1, 2, 3, 4]), method.owners([1, 2, 4])
    assert (before[before != after] == 3).all()
    assert 3 not in after


def test_table_and_plot(tmp_path: Path) -> None:
    """A run's section can be shown."""
    section = hashing.run(True)
    shown = hashing.table(section)
    assert "| 3 | 33.3% | 68.8% |" in shown  # ours, native: when one of three leaves
    hashing.plot(section, tmp_path / "hashing.png")
    assert (tmp_path / "hashing.png").read_bytes().startswith(b"\x89PNG")
