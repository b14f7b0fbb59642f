"""Frozen values with some fields replaced.

Owns one function, because the values of a running group have thirty fields and steps replace some
of them thousands of times per second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, TypeVar, cast

T = TypeVar("T")


def changed(value: T, fields: Mapping[str, Any]) -> T:
    """A frozen dataclass with slots, these fields replaced: as ``dataclasses.replace`` does.

    It takes a third of the time, as no ``__init__`` is called. Raises ``KeyError`` for no field's
    name.
    """
    kind: Any = type(value)
    slots = _slots(kind)
    new = object.__new__(kind)
    for name, (read, write) in slots.items():
        write(new, fields[name] if name in fields else read(value))
    if not fields.keys() <= slots.keys():
        raise KeyError(*sorted(fields.keys() - slots.keys()))
    return cast(T, new)


@cache
def _slots(kind: type) -> dict[str, tuple[Callable[[Any], Any], Callable[[Any, Any], None]]]:
    """How each field is read and written, past the guard that makes the class frozen."""
    slots = {name: kind.__dict__[name] for name in kind.__dict__["__slots__"]}
    return {name: (slot.__get__, slot.__set__) for name, slot in slots.items()}
