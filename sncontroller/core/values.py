"""Frozen values with some fields replaced.

Owns one function, because the values of a running group have thirty fields and steps replace some
of them thousands of times per second.
"""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


def changed(value: T, **fields: Any) -> T:
    """A frozen dataclass without slots, these fields replaced: as ``dataclasses.replace`` does.

    It takes an eighth of the time: the fields are copied as one dictionary, not one by one, and no
    ``__init__`` is called. Of the values of one class the dictionaries share their keys. Raises
    ``KeyError`` for no field's name.
    """
    old = vars(value)
    new = object.__new__(type(value))
    own = vars(new)
    own.update(old)
    own.update(fields)
    if len(own) != len(old):
        raise KeyError(*sorted(fields.keys() - old.keys()))
    return new
