"""The data plane's tests run in a network namespace of their own, beside whatever is installed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sncontroller.lab.net import isolate
from tests.dataplane.world import World


@pytest.fixture(scope="session", autouse=True)
def _isolated() -> None:
    isolate()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """A bridge without anything of ours yet."""
    with World(tmp_path) as made:
        yield made
