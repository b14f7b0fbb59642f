"""Numbers that look random and are not: the same for the same arguments, in every process.

What is to be spread in time or over ports is spread by these, so that a step of the core has no
hidden input.
"""

from __future__ import annotations

_MASK64 = 0xFFFFFFFFFFFFFFFF


def mixed(*numbers: int) -> int:
    """64 well-mixed bits of all ``numbers`` (the finaliser of splitmix64, after each)."""
    bits = 0
    for number in numbers:
        bits = (bits ^ number) + 0x9E3779B97F4A7C15 & _MASK64
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & _MASK64
        bits ^= bits >> 31
    return bits


def chance(*numbers: int) -> float:
    """A share in [0, 1) that belongs to these numbers."""
    return (mixed(*numbers) >> 32) / 2.0**32
