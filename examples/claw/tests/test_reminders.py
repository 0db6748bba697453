import asyncio
from datetime import UTC, datetime, timedelta

from support import BotTest

from claw import conversation, reminders
from claw.message import Message

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


class RemindersTest(BotTest):
    def tell(self, text, at=NOON, chat="family"):
        """Say something at a given time."""
        return self._write(lambda db: conversation.answer(db, Message(chat, "ann", text, at)))

    def fire(self, at):
        """Tell what is due at a given time, as the scheduler does; how many times it had something to tell."""
        rounds = 0
        while self._write(lambda db: reminders.fire(db, at)):
            rounds += 1
        return rounds

    def outbox(self, after=0):
        return self.client.get(f"/outbox?after={after}").json()["messages"]

    def _write(self, work):
        return asyncio.run(self.store.write(work))

    def test_are_understood_in_both_languages(self):
        self.assertRegex(self.tell("提醒我 每天 07:00 喝水"), "#1.*喝水")
        self.assertRegex(self.tell("remind me every day at 07:00 in Europe/Berlin to drink water"), "#2: drink water")

    def test_say_what_was_not_understood(self):
        self.assertIn("07:00", self.tell("提醒我 改天 喝水"))
        self.assertIn("cannot find the time zone", self.tell("remind me every day at 07:00 in Asia/Atlantis to swim"))
        self.assertIn("cannot use the cron line", self.tell("提醒我 每天 27:00 喝水"))

    def test_are_told_when_due_and_again_the_next_time(self):
        self.tell("remind me every minute to breathe")
        self.assertEqual(self.fire(NOON + timedelta(seconds=59)), 0)
        self.assertEqual(self.fire(NOON + timedelta(seconds=60)), 1)
        self.assertEqual(self.fire(NOON + timedelta(seconds=61)), 0)
        self.assertEqual(self.fire(NOON + timedelta(seconds=120)), 1)
        first, second = self.outbox()
        self.assertEqual(
            (first["chat"], first["text"], first["due"]), ("family", "⏰ breathe", "2026-03-01T12:01:00+00:00")
        )
        self.assertEqual(second["due"], "2026-03-01T12:02:00+00:00")
        self.assertEqual(self.outbox(after=first["id"]), [second])
        self.assertEqual(self.client.get("/outbox?after=x").status_code, 400)

    def test_missed_ones_are_told_after_a_restart_each_once(self):
        self.tell("remind me every minute to breathe")
        self.store.close()
        self.open()
        self.fire(NOON + timedelta(minutes=3, seconds=30))
        self.assertEqual([line["due"][14:16] for line in self.outbox()], ["01", "02", "03"])

    def test_after_a_long_absence_only_the_last_hour_is_told_in_full(self):
        self.tell("remind me every hour to stretch")
        self.fire(NOON + timedelta(days=2, minutes=30))
        self.assertEqual([line["due"][8:13] for line in self.outbox()], ["01T13", "03T12"])

    def test_are_listed_and_cancelled_in_their_chat(self):
        self.assertEqual(self.tell("list reminders"), "There are no reminders.")
        self.tell("remind me every day at 07:00 in UTC to drink water")
        self.tell("remind me every hour to stretch", chat="work")
        self.assertEqual(self.tell("list reminders"), "#1 drink water: 2026-03-02 07:00 (UTC)")
        self.assertEqual(self.tell("我的提醒"), "#1 drink water: 2026-03-02 07:00 (UTC)")
        self.assertIn("no reminder #2", self.tell("cancel reminder 2"))
        self.assertIn("#1", self.tell("取消提醒 1"))
        self.assertEqual(self.tell("我的提醒"), "没有提醒")
        self.fire(NOON + timedelta(days=1))
        self.assertEqual({line["chat"] for line in self.outbox()}, {"work"})
