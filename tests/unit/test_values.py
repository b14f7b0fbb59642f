"""core.values: frozen values with some fields replaced."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, dataclass, replace

import pytest

from sncontroller.core.values import changed


@dataclass(frozen=True)
class Pair:
    """Two fields, one of them with a default."""

    left: int
    right: str = "r"


def test_it_is_what_replace_makes() -> None:
    """The fields named are replaced, the others stay, the old value is untouched."""
    before = Pair(1)
    after = changed(before, left=2)
    assert after == replace(before, left=2) == Pair(2, "r")
    assert before == Pair(1, "r")


def test_the_new_value_is_frozen_too() -> None:
    """Nobody changes it by the ordinary way."""
    after = changed(Pair(1), right="x")
    with pytest.raises(FrozenInstanceError):
        after.right = "y"  # type: ignore[misc]  # that is the point


def test_a_name_of_no_field_is_refused() -> None:
    """A typing error does not become an attribute."""
    with pytest.raises(KeyError, match="middle"):
        changed(Pair(1), middle=2)
