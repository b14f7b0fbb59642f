"""core.scaling.cron: expressions, and when one last fired."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sncontroller.core.scaling import cron

DAY_S = 86400


def at(text: str, zone: str = "UTC") -> float:
    """Epoch seconds of a local time."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def fired(expression: str, now: str, within_s: float = 7 * DAY_S, zone: str = "UTC") -> str | None:
    """When it last fired, as local time."""
    found = cron.last_fired(cron.parsed(expression), ZoneInfo(zone), at(now, zone), within_s)
    return (
        None
        if found is None
        else datetime.fromtimestamp(found, ZoneInfo(zone)).strftime("%a %d %H:%M")
    )


# 2 March 2026 is a Monday.
@pytest.mark.parametrize(
    ("expression", "now", "when"),
    [
        ("0 8 * * *", "2026-03-02T08:00", "Mon 02 08:00"),
        ("0 8 * * *", "2026-03-02T07:59", "Sun 01 08:00"),
        ("0 8 * * mon-fri", "2026-03-01T12:00", "Fri 27 08:00"),
        ("0 8 * * 1-5", "2026-03-02T12:00", "Mon 02 08:00"),
        ("0 8 * * 7", "2026-03-02T12:00", "Sun 01 08:00"),
        ("*/15 9-17/4 * * *", "2026-03-02T16:59", "Mon 02 13:45"),
        ("5,50 * * MAR *", "2026-03-02T16:49", "Mon 02 16:05"),
        ("30/10 12 * * *", "2026-03-02T12:45", "Mon 02 12:40"),
        ("0 0 1 * *", "2026-03-02T16:49", "Sun 01 00:00"),
        ("0 0 28 * sun", "2026-03-02T16:49", "Sun 01 00:00"),
        ("0 0 28 * sat", "2026-03-01T16:49", "Sat 28 00:00"),
        ("0 0 */2 * sun", "2026-03-02T16:49", "Sun 01 00:00"),
        ("0 0 1 jan *", "2026-03-02T16:49", None),
    ],
)
def test_when_it_last_fired(expression: str, now: str, when: str | None) -> None:
    """Fields, names, lists, ranges, steps, and the rule for two restricted day fields."""
    assert fired(expression, now) == when


def test_longer_ago_than_asked_is_not_found() -> None:
    """A floor of an hour ended an hour after it began, to the second."""
    assert fired("0 8 * * *", "2026-03-02T08:59:59", 3600) == "Mon 02 08:00"
    assert fired("0 8 * * *", "2026-03-02T09:00:00", 3600) is None


def test_hours_that_clocks_skip_or_repeat() -> None:
    """A skipped hour does not fire; a repeated one fires the first time."""
    berlin = "Europe/Berlin"
    assert fired("30 2 * * *", "2026-03-29T12:00", zone=berlin) == "Sat 28 02:30"
    repeated = cron.last_fired(
        cron.parsed("30 2 * * *"), ZoneInfo(berlin), at("2026-10-25T12:00", berlin), DAY_S
    )
    assert repeated == datetime(2026, 10, 25, 0, 30, tzinfo=UTC).timestamp()


FIELDS = st.tuples(
    st.sampled_from(["*", "*/7", "0", "3,59", "10-20/5"]),
    st.sampled_from(["*", "*/6", "0", "5-7", "23,1"]),
    st.sampled_from(["*", "1", "*/2", "30,31"]),
    st.sampled_from(["*", "feb", "1-6", "12"]),
    st.sampled_from(["*", "mon", "6,7", "1-5"]),
)


def matches(expression: str, minute_s: int) -> bool:
    """An independent model: does an expression of ``FIELDS`` fire in this minute, in UTC."""
    when = datetime.fromtimestamp(minute_s, UTC)
    texts = expression.replace("mon", "1").replace("feb", "2").split()
    actual = (when.minute, when.hour, when.day, when.month, when.isoweekday() % 7)

    def field(text: str, value: int, low: int) -> bool:
        for part in text.split(","):
            span, _, step = part.partition("/")
            first, _, last = span.partition("-")
            begin = low if span == "*" else int(first)
            end = 99 if span == "*" else int(last or first)
            if begin <= value <= end and (value - begin) % int(step or 1) == 0:
                return True
        return False

    lows = (0, 0, 1, 1, 0)
    fits = [field(*each) for each in zip(texts, actual, lows, strict=True)]
    fits[4] = fits[4] or (actual[4] == 0 and field(texts[4], 7, 0))
    days = fits[2] or fits[4] if "*" not in texts[2][0] + texts[4][0] else fits[2] and fits[4]
    return fits[0] and fits[1] and fits[3] and days


@given(FIELDS, st.integers(1_700_000_000, 1_900_000_000), st.integers(60, 2 * DAY_S))
def test_it_is_what_looking_at_every_minute_finds(
    fields: tuple[str, ...], now: int, within_s: int
) -> None:
    """The last time is the same as by trying the minutes one by one."""
    expression = " ".join(fields)
    minutes = range(now - now % 60, now - within_s, -60)
    slow = next((minute for minute in minutes if matches(expression, minute)), None)
    assert cron.last_fired(cron.parsed(expression), ZoneInfo("UTC"), now, within_s) == slow


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("0 8 * *", "want 5 fields"),
        ("60 8 * * *", "minute '60': want 0 to 59"),
        ("0 x * * *", "hour 'x': want 0 to 23"),
        ("0 0 0 * *", "day of month '0': want 1 to 31"),
        ("0 0 1 foo *", "month 'foo': want 1 to 12"),
        ("0 0 1 * 8", "day of week '8': want 0 to 7"),
        ("5-1 0 1 * *", "minute '5-1': the range runs backwards"),
        ("*/0 0 1 * *", "step of minute '0': want 1 to 59"),
        ("1, 0 1 * *", "minute '': want 0 to 59"),
    ],
)
def test_what_is_no_expression(expression: str, message: str) -> None:
    """The error names the field and what it may hold."""
    with pytest.raises(ValueError, match=message):
        cron.parsed(expression)
