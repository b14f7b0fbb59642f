"""The worked examples on a real switch: loaded as they are, and dumped again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from flows import examples
from sncontroller.lab.net import isolate
from sncontroller.lab.ovs import PrivateOvs
from tests.switch import dump

FORM = ("-O", "OpenFlow13")


@pytest.fixture(scope="module")
def ovs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateOvs]:
    """A switch of its own."""
    isolate()
    with PrivateOvs(tmp_path_factory.mktemp("ovs")) as ovs:
        yield ovs


def entries(path: Path) -> list[str]:
    """The lines of a compiled file that are entries, sorted."""
    lines = path.read_text().splitlines()
    return sorted(line for line in lines if line and not line.startswith("#"))


@pytest.mark.parametrize("example", examples(), ids=lambda path: path.stem)
def test_an_example_loads_and_dumps_as_it_is(ovs: PrivateOvs, example: Path) -> None:
    """Open vSwitch shows each entry exactly as the example writes it."""
    ovs.add_bridge("br0", fail_mode="secure")
    try:
        ovs.ofctl(*FORM, "add-groups", "br0", str(example.with_suffix(".groups")))
        ovs.ofctl(*FORM, "add-flows", "br0", str(example.with_suffix(".flows")))
        wanted = entries(example.with_suffix(".groups")) + entries(example.with_suffix(".flows"))
        assert list(dump(ovs, "br0")) == wanted
    finally:
        ovs.del_bridge("br0")
