"""When a reminder is due: cron lines in time zones."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from croniter import CroniterError, croniter


class BadSchedule(ValueError):
    """A cron line or a time zone that cannot be used."""


def zone(name: str) -> ZoneInfo:
    """The time zone of an IANA name, as in "Asia/Shanghai".

    Raises BadSchedule when there is none of that name.
    """
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError):
        raise BadSchedule(f"cannot find the time zone {name!r}: use a name like Asia/Shanghai") from None


def next_due(cron: str, zone_name: str, after: datetime) -> datetime:
    """The first time later than `after` that a cron line of five fields names.

    The fields are read on the clock of the zone; the result is in that zone. The search is made in UTC, where
    every minute comes exactly once.
    Raises BadSchedule when the line cannot be read or never comes due.
    """
    if len(cron.split()) != 5:
        raise BadSchedule(f"cannot read the cron line {cron!r}: it needs five fields, as in '0 7 * * *'")
    local = zone(zone_name)
    try:
        due: datetime = croniter(cron, after.astimezone(UTC)).get_next(datetime)
    except CroniterError as error:
        raise BadSchedule(f"cannot use the cron line {cron!r}: {error}") from None
    return due.astimezone(local)
