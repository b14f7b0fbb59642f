"""Cron expressions: when did one last fire.

Owns the five fields of crontab(5): numbers, names, ``*``, lists, ranges, steps; when both day
fields are restricted, either one matches. Written here because a floor needs one question only
("did it fire within the last N seconds"), which takes no dependency. Calendar arithmetic on
``now``, no clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")


@dataclass(frozen=True, slots=True)
class _Field:
    """One field: its name in messages, its bounds and its names for numbers."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, MONTHS),
    _Field("day of week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True, slots=True)
class Cron:
    """A parsed expression: the numbers that each field allows."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """0 is Sunday."""
    either_day: bool
    """Both day fields are restricted: one of them is enough."""


@lru_cache(maxsize=256)
def parsed(text: str) -> Cron:
    """The expression as a value; raises ``ValueError`` with the field at fault."""
    parts = text.lower().split()
    if len(parts) != len(_FIELDS):
        raise ValueError(f"cron {text!r}: want 5 fields (minute hour day month weekday)")
    minutes, hours, days, months, weekdays = (
        _allowed(part, field) for part, field in zip(parts, _FIELDS, strict=True)
    )
    return Cron(
        tuple(sorted(minutes)),
        tuple(sorted(hours)),
        days,
        months,
        frozenset(day % 7 for day in weekdays),
        either_day=not parts[2].startswith("*") and not parts[4].startswith("*"),
    )


def zone_of(name: str) -> tzinfo:
    """The time zone called so; ``UTC`` needs no database. Raises ``ValueError``."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"no time zone {name!r} here; is tzdata installed?") from None


def last_fired(cron: Cron, zone: tzinfo, now: float, within_s: float) -> float | None:
    """When the expression last fired at or before ``now``, in epoch seconds; None if longer ago
    than ``within_s``.

    An hour that the clocks skip does not fire; one that they repeat fires the first time.
    """
    at_s = _last_fired(cron, zone, now // 60 * 60, int(within_s // 86400) + 2)
    return at_s if at_s is not None and now - at_s < within_s else None


@lru_cache(maxsize=256)
def _last_fired(cron: Cron, zone: tzinfo, minute_s: float, days: int) -> float | None:
    """When the expression last fired at or before a full minute, looking at so many days.

    Kept, for nothing fires within a minute and the question comes at every poll.
    """
    today = datetime.fromtimestamp(minute_s, zone).date()
    for back in range(days):
        day = today - timedelta(days=back)
        if not _on_day(cron, day.day, day.month, day.isoweekday() % 7):
            continue
        for hour in reversed(cron.hours):
            for minute in reversed(cron.minutes):
                local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=zone)
                at_s = local.timestamp()
                if at_s > minute_s or datetime.fromtimestamp(at_s, zone).hour != hour:
                    continue
                return at_s
    return None


def _on_day(cron: Cron, day: int, month: int, weekday: int) -> bool:
    """Whether the day fields allow a date."""
    if month not in cron.months:
        return False
    if cron.either_day:
        return day in cron.days or weekday in cron.weekdays
    return day in cron.days and weekday in cron.weekdays


def _allowed(text: str, field: _Field) -> frozenset[int]:
    """The numbers that one field's text allows."""
    return frozenset().union(*(_part(part, field) for part in text.split(",")))


def _part(text: str, field: _Field) -> frozenset[int]:
    """The numbers of one element of a list: ``*``, ``n``, ``a-b``, each with ``/step``."""
    span, slash, step_text = text.partition("/")
    step = _number(step_text, _Field(f"step of {field.name}", 1, field.high)) if slash else 1
    if span == "*":
        return frozenset(range(field.low, field.high + 1, step))
    first, dash, last = span.partition("-")
    low = _number(first, field)
    high = _number(last, field) if dash else (field.high if slash else low)
    if high < low:
        raise ValueError(f"cron {field.name} {text!r}: the range runs backwards")
    return frozenset(range(low, high + 1, step))


def _number(text: str, field: _Field) -> int:
    """A number or a name of the field."""
    if text in field.names:
        return field.names.index(text) + field.low
    if not (text.isdecimal() and field.low <= int(text) <= field.high):
        raise ValueError(f"cron {field.name} {text!r}: want {field.low} to {field.high}")
    return int(text)
