import asyncio
import contextlib
import sqlite3
import tempfile
import threading
import time
import unittest
from datetime import timedelta
from pathlib import Path

from support import DEADLINE_S, Bot

from claw import conversation
from claw.message import Message, now
from claw.store import Store

COUNT = 600


class RestartTest(unittest.TestCase):
    def test_a_kill_and_two_bots_at_once_lose_no_reminder_and_tell_none_twice(self):
        with tempfile.TemporaryDirectory() as directory, contextlib.ExitStack() as open_:
            state = Path(directory)
            self.set(state)
            db = open_.enter_context(contextlib.closing(sqlite3.connect(state / "claw.db")))
            first = open_.enter_context(Bot(state, "--bind", "127.0.0.1:0"))
            self.wait(lambda: self.told(db) > 0)
            first.signal(9)
            first.ended()
            for _ in range(2):
                open_.enter_context(Bot(state, "--bind", "127.0.0.1:0"))
            self.wait(lambda: self.waiting(db) == 0)
            self.assertEqual(self.told(db), COUNT)
            (different,) = db.execute("SELECT count(DISTINCT reminder) FROM outgoing").fetchone()
            self.assertEqual(different, COUNT)

    def set(self, state):
        """Reminders that were due once while the bot was away, half a year ago."""
        month = (now().month + 5) % 12 + 1
        long_ago = now() - timedelta(days=360)

        def add(db):
            for _ in range(COUNT):
                text = f'remind me cron "0 0 1 {month} *" in UTC to pay'
                conversation.answer(db, Message("family", "ann", text, long_ago))

        store = Store.open(state)
        asyncio.run(store.write(add))
        store.close()

    def waiting(self, db):
        return db.execute("SELECT count(*) FROM reminders WHERE due < ?", (time.time(),)).fetchone()[0]

    def told(self, db):
        return db.execute("SELECT count(*) FROM outgoing").fetchone()[0]

    def wait(self, condition):
        until = time.monotonic() + DEADLINE_S
        pause = threading.Event()
        while not condition():
            self.assertLess(time.monotonic(), until, "it took too long")
            pause.wait(0.002)
