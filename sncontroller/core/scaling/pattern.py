"""What the same minute was like yesterday and a week ago.

Owns eight days of minute means and the judgement which of them to believe. A past day is believed
as long as it explained the last half hour; a day that did not is no help, and predicting falls back
to measuring. Days are counted in UTC from the epoch: a daily rhythm shows whatever its phase.
"""

from __future__ import annotations

from dataclasses import dataclass

MINUTE_S = 60.0
DAY_MINUTES = 1440
DAYS_BACK = (1, 7)
"""Yesterday, and the same day of the week before."""
DIGITS = 4
"""Of a minute's mean: eight days in JSON take 80 kB then."""
ERROR_WEIGHT = 1 / 20
"""Share of the newest minute in the running error of a day: half is forgotten in 14 minutes."""

Minutes = tuple[float | None, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """The minute means of one day; None where nothing was seen."""

    number: int
    minutes: Minutes


@dataclass(frozen=True, slots=True)
class Fit:
    """How well the day so many days back explains today."""

    back: int
    error: float
    """Running mean of the relative error, after scaling."""
    scale: float
    """Running mean of today's demand over that day's."""


@dataclass(frozen=True, slots=True)
class Pattern:
    """The days seen, the open minute, and how well each day back fits."""

    days: tuple[Day, ...] = ()
    """Oldest first; the last one is today."""
    minute: int | None = None
    """The open minute, counted from the epoch."""
    total: float = 0.0
    count: int = 0
    fits: tuple[Fit, ...] = ()


def observed(pattern: Pattern, demand: float, now: float) -> Pattern:
    """The pattern after one more sample of demand, in nodes' worth."""
    minute = int(now // MINUTE_S)
    if pattern.minute == minute:
        total, count = pattern.total + demand, pattern.count + 1
        return Pattern(pattern.days, minute, total, count, pattern.fits)
    if pattern.minute is None or minute < pattern.minute:
        return Pattern(pattern.days, minute, demand, 1, pattern.fits)
    mean = round(pattern.total / pattern.count, DIGITS)
    closed = _closed(pattern, pattern.minute, mean)
    return Pattern(closed.days, minute, demand, 1, closed.fits)


def expected(pattern: Pattern, from_s: float, until_s: float, trust: float) -> float | None:
    """The highest minute mean expected between two times; None when no day can be trusted.

    ``trust`` is the mean relative error above which a day is not believed.
    """
    believed = [fit for fit in pattern.fits if fit.error <= trust]
    for fit in sorted(believed, key=lambda fit: fit.error):
        past = fit.back * DAY_MINUTES
        first, last = int(from_s // MINUTE_S) - past, int(until_s // MINUTE_S) - past
        known = _between(pattern.days, first, last)
        if len(known) == last - first + 1:
            return max(known) * fit.scale
    return None


def _closed(pattern: Pattern, minute: int, mean: float) -> Pattern:
    """The pattern with a minute's mean added and every fit judged by it."""
    fits = []
    for back in DAYS_BACK:
        past = _at(pattern.days, minute - back * DAY_MINUTES)
        if past:
            fits.append(_judged(pattern.fits, back, mean / past))
    return Pattern(_with(pattern.days, minute, mean), fits=tuple(fits))


def _judged(fits: tuple[Fit, ...], back: int, ratio: float) -> Fit:
    """The fit of a day after one more minute, in which demand was ``ratio`` times that day's."""
    for fit in fits:
        if fit.back == back:
            error = abs(ratio / fit.scale - 1)
            scale = fit.scale + ERROR_WEIGHT * (min(max(ratio, 0.5), 2.0) - fit.scale)
            return Fit(back, fit.error + ERROR_WEIGHT * (min(error, 1.0) - fit.error), scale)
    return Fit(back, min(abs(ratio - 1), 1.0), 1.0)


def _with(days: tuple[Day, ...], minute: int, mean: float) -> tuple[Day, ...]:
    """The days with one more minute; those too old to be used are gone."""
    number, of_day = divmod(minute, DAY_MINUTES)
    kept = tuple(day for day in days if number - max(DAYS_BACK) <= day.number < number)
    today = next((day.minutes for day in days if day.number == number), ())
    gap = (None,) * (of_day - len(today))
    return (*kept, Day(number, (*today[:of_day], *gap, mean)))


def _between(days: tuple[Day, ...], first: int, last: int) -> list[float]:
    """The means of the minutes from ``first`` to ``last`` that were seen."""
    found: list[float] = []
    for day in days:
        begin = day.number * DAY_MINUTES
        if begin <= last and first < begin + DAY_MINUTES:
            span = day.minutes[max(0, first - begin) : last - begin + 1]
            found += [mean for mean in span if mean is not None]
    return found


def _at(days: tuple[Day, ...], minute: int) -> float | None:
    """The mean of a minute counted from the epoch; None when it was not seen."""
    number, of_day = divmod(minute, DAY_MINUTES)
    for day in days:
        if day.number == number:
            return day.minutes[of_day] if of_day < len(day.minutes) else None
    return None
