"""How far demand rises above what was forecast for it.

Owns one number: the share by which demand passed its forecast of one boot time before, that nine
of ten minutes of the last hour stayed under. It measures noise, drift and the forecast's own
error in one, needs no model of any of them, and leaves out what is rare, as a step or a flash
crowd: against those no headroom helps, only being quick. Below one node's worth it is a share of
one node's worth: what trembles there fits the one node that there always is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MINUTE_S = 60.0
MEMORY_MINUTES = 60
QUANTILE = 0.9
"""Nine of ten: three of four cost 0.2 % less, and let a slow rise pass load 1.0 for seconds."""
FIRST = 0.10
"""Headroom until ten minutes have been seen."""
FIRST_MINUTES = 10
MOST = 0.7
"""Demand that trembles by more than this is not chased: targets stay above 0.58."""


@dataclass(frozen=True, slots=True)
class Forecast:
    """What demand was expected to be from some time on."""

    from_s: float
    value: float


@dataclass(frozen=True, slots=True)
class Headroom:
    """The open minute, the forecasts that are not due yet, and the last hour's errors."""

    share: float = FIRST
    """The result: by what share demand may rise above its forecast."""
    errors: tuple[float, ...] = ()
    pending: tuple[Forecast, ...] = ()
    minute: int | None = None
    peak: float = 0.0
    """Highest demand of the open minute."""
    expected: float | None = None
    """What had been forecast for the open minute's start; None when nothing had."""


def ticked(headroom: Headroom, start_s: float, peak: float, made: Forecast) -> Headroom:
    """The headroom after a tick that began at ``start_s``, rose to ``peak`` and ended with a
    forecast."""
    minute = int(start_s // MINUTE_S)
    if minute != headroom.minute:
        headroom = _next_minute(headroom, minute)
    return Headroom(
        headroom.share,
        headroom.errors,
        (*headroom.pending, made),
        minute,
        max(headroom.peak, peak),
        headroom.expected,
    )


def hidden(headroom: Headroom) -> Headroom:
    """The headroom when demand cannot be seen: the open minute teaches nothing."""
    return Headroom(headroom.share, headroom.errors, headroom.pending, headroom.minute)


def outdated(headroom: Headroom) -> Headroom:
    """The headroom when demand has jumped: one error, and what was forecast before is void."""
    return Headroom(
        headroom.share,
        headroom.errors,
        minute=headroom.minute,
        peak=headroom.peak,
        expected=headroom.expected,
    )


def _next_minute(headroom: Headroom, minute: int) -> Headroom:
    """The headroom with the open minute's error taken in and the next minute's forecast found."""
    errors = headroom.errors
    if headroom.expected is not None:
        error = max(0.0, headroom.peak - headroom.expected) / max(1.0, headroom.expected)
        errors = (*errors[1 - MEMORY_MINUTES :], error)
    due = [made for made in headroom.pending if made.from_s <= minute * MINUTE_S]
    later = tuple(made for made in headroom.pending if made.from_s > minute * MINUTE_S)
    return Headroom(
        share=_quantile(errors),
        errors=errors,
        pending=later,
        minute=minute,
        expected=due[-1].value if due else None,
    )


def _quantile(errors: tuple[float, ...]) -> float:
    """The error that nine of ten stay under; the first guess while there are few."""
    if len(errors) < FIRST_MINUTES:
        return FIRST
    return min(MOST, sorted(errors)[math.ceil(QUANTILE * len(errors)) - 1])
