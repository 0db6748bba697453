import unittest
from datetime import UTC, datetime, timedelta

from claw import schedule

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)


class ScheduleTest(unittest.TestCase):
    def test_is_due_at_the_time_of_the_line(self):
        self.assertEqual(schedule.next_due("0 7 * * *", "UTC", NEW_YEAR), datetime(2026, 1, 1, 7, tzinfo=UTC))
        self.assertEqual(schedule.next_due("30 9 * * 1", "UTC", NEW_YEAR), datetime(2026, 1, 5, 9, 30, tzinfo=UTC))

    def test_is_due_later_and_later(self):
        for zone in ("UTC", "Asia/Shanghai", "Europe/Berlin"):
            at = NEW_YEAR
            for _ in range(400):
                due = schedule.next_due("0 7 * * *", zone, at)
                self.assertTrue(at < due <= at + timedelta(hours=25), f"{due} after {at}")
                at = due

    def test_is_due_on_the_night_that_skips_its_time(self):
        # Berlin goes from 02:00 to 03:00 on this day.
        night = datetime(2026, 3, 28, 23, tzinfo=UTC)
        due = schedule.next_due("30 2 * * *", "Europe/Berlin", night)
        self.assertTrue(night < due <= night + timedelta(hours=24))

    def test_says_the_time_in_the_zone(self):
        due = schedule.next_due("*/30 * * * *", "Asia/Shanghai", NEW_YEAR)
        self.assertEqual(due.utcoffset(), timedelta(hours=8))

    def test_refuses_what_it_cannot_use(self):
        for cron, zone in (
            ("0 7 * *", "UTC"),
            ("0 7 * * * 5", "UTC"),
            ("99 7 * * *", "UTC"),
            ("soon", "UTC"),
            ("0 0 30 2 *", "UTC"),
            ("0 7 * * *", "Asia/Atlantis"),
            ("0 7 * * *", "../../etc/passwd"),
            ("0 7 * * *", "Asia"),
            ("0 7 * * *", ""),
        ):
            with self.subTest(cron=cron, zone=zone), self.assertRaisesRegex(schedule.BadSchedule, "^cannot"):
                schedule.next_due(cron, zone, NEW_YEAR)
