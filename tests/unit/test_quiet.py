"""Quiet hours on the clock of a place, over midnight and over the changes of that clock."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.quiet import Quiet, period

HOUR_S = 3600.0


def at(text: str, zone: str, fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


@pytest.mark.parametrize(
    ("now", "until"),
    [
        ("2026-03-02T22:59:59", None),
        ("2026-03-02T23:00:00", "2026-03-03T07:00:00"),
        ("2026-03-02T23:59:59", "2026-03-03T07:00:00"),
        ("2026-03-03T00:00:00", "2026-03-03T07:00:00"),
        ("2026-03-03T06:59:59", "2026-03-03T07:00:00"),
        ("2026-03-03T07:00:00", None),
        ("2026-03-03T12:30:00", "2026-03-03T13:00:00"),
    ],
)
def test_hours_over_midnight_and_at_noon(now: str, until: str | None) -> None:
    zone = "Asia/Shanghai"
    quiet = Quiet(["23:00-07:00", "12:30-13:00"], zone)
    assert quiet.until(at(now, zone)) == (None if until is None else at(until, zone))


def test_the_zone_is_the_one_that_is_set() -> None:
    morning = at("2026-03-03T06:00:00", "Asia/Shanghai")
    assert Quiet(["23:00-07:00"], "Asia/Shanghai").until(morning) is not None
    assert Quiet(["23:00-07:00"], "Europe/London").until(morning) is None, "there it is 22:00"
    assert Quiet([]).until(morning) is None


def test_one_period_goes_on_in_the_next() -> None:
    quiet = Quiet(["22:00-02:00", "01:00-06:00"], "Asia/Shanghai")
    assert quiet.until(at("2026-03-02T22:30", "Asia/Shanghai")) == at("2026-03-03T06:00", "Asia/Shanghai")


def test_the_hour_that_comes_twice_is_no_second_period() -> None:
    """In New York 01:00 to 02:00 comes twice on 2026-11-01; the quiet hours end at the first 01:30 and stay over."""
    zone = "America/New_York"
    quiet = Quiet(["22:00-01:30"], zone)
    end = at("2026-11-01T01:30", zone, fold=0)
    assert quiet.until(end - 1) == end
    assert quiet.until(end) is None
    assert quiet.until(at("2026-11-01T01:10", zone, fold=1)) is None


def test_an_end_that_the_clock_leaves_out_comes_nevertheless() -> None:
    """In New York 02:00 to 03:00 does not come on 2026-03-08."""
    zone = "America/New_York"
    quiet = Quiet(["22:00-02:30"], zone)
    late = at("2026-03-08T01:59", zone)
    until = quiet.until(late)
    assert until is not None
    assert late < until <= at("2026-03-08T03:30", zone)
    assert quiet.until(until) is None


def test_a_short_night_and_a_long_one() -> None:
    zone = "Europe/Berlin"
    quiet = Quiet(["23:00-07:00"], zone)
    for evening, hours in (("2026-03-28T23:00", 7), ("2026-10-24T23:00", 9), ("2026-06-01T23:00", 8)):
        begin = at(evening, zone)
        assert quiet.until(begin) == begin + hours * HOUR_S


@given(
    st.sampled_from(["Asia/Shanghai", "America/New_York", "Europe/Berlin", "Australia/Lord_Howe", "UTC", ""]),
    st.integers(0, 1439),
    st.integers(0, 1439),
    st.floats(1.7e9, 1.9e9, allow_nan=False),
)
def test_the_end_is_later_and_not_quiet(zone: str, begin: int, end: int, now: float) -> None:
    if begin == end:
        return
    quiet = Quiet([f"{begin // 60}:{begin % 60:02}-{end // 60}:{end % 60:02}"], zone)
    until = quiet.until(now)
    if until is not None:
        assert now < until <= now + 25 * HOUR_S
        assert quiet.until(until) is None


@pytest.mark.parametrize("text", ["", "23-7", "24:00-07:00", "23:00-07:60", "07:00-07:00", "23:00 - 07:00", "23:00-"])
def test_what_is_no_period_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="hours"):
        period(text)
