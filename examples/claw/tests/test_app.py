import os
import sqlite3
import unittest
from unittest import mock

from support import BotTest

from claw.store import MIGRATIONS, Store


class AppTest(BotTest):
    def test_says_what_it_is(self):
        self.assertEqual(self.client.get("/").text.count("\n"), 1)
        self.assertEqual(self.client.get("/version").json(), {"version": "dev"})

    def test_greets_in_the_language_of_the_message(self):
        self.assertEqual(self.say("Hello!"), "Hello!")
        self.assertIn("你好", self.say("你好"))

    def test_says_what_it_can_do_when_it_did_not_understand(self):
        self.assertIn("remember my flight is", self.say("fetch me a coffee"))
        self.assertIn("记住", self.say("给我一杯咖啡"))

    def test_keeps_conversations_apart(self):
        self.say("hello", chat="family")
        self.say("hi", chat="work", sender="bob")
        messages = self.client.get("/conversations/work").json()["messages"]
        self.assertEqual([(line["sender"], line["text"]) for line in messages], [("bob", "hi"), ("claw", "Hello!")])

    def test_refuses_what_is_not_a_message(self):
        for body in (b"", b"[]", b"{", b"\xff", b'{"chat": "c", "sender": "s"}', b'{"chat": 1}', b" " * 70_000):
            response = self.client.post("/chat", content=body)
            self.assertEqual(response.status_code, 400, body[:20])
            self.assertIn("cannot", response.json()["error"]["text"])

    def test_health_names_the_release_and_asks_the_database(self):
        with mock.patch.dict(os.environ, REGROW_RELEASE="r7"):
            health = self.client.get("/health")
        self.assertEqual(
            health.json(), {"status": "ok", "version": "dev", "release": "r7", "pid": os.getpid(), "db": "ok"}
        )
        with sqlite3.connect(self.state / "claw.db") as db:
            db.execute("DROP TABLE messages")
        db.close()
        with self.assertLogs("claw", "WARNING"):
            health = self.client.get("/health")
        self.assertEqual((health.status_code, health.json()["db"]), (503, "failing"))


class StoreTest(BotTest):
    def test_is_at_the_latest_schema(self):
        db = sqlite3.connect(self.state / "claw.db")
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (len(MIGRATIONS),))
        self.assertEqual(db.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        db.close()

    def test_is_migrated_from_the_first_schema_and_keeps_what_it_has(self):
        old = self.state / "old"
        old.mkdir()
        db = sqlite3.connect(old / "claw.db")
        db.executescript(MIGRATIONS[0])
        db.execute("INSERT INTO messages VALUES (1, 'family', 'ann', 'hello', 0)")
        db.execute("PRAGMA user_version = 1")
        db.commit()
        db.close()
        Store.open(old).close()
        db = sqlite3.connect(old / "claw.db")
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (len(MIGRATIONS),))
        self.assertEqual(db.execute("SELECT text FROM messages").fetchall(), [("hello",)])
        db.close()

    def test_of_a_newer_release_is_left_as_it_is(self):
        db = sqlite3.connect(self.state / "claw.db")
        db.execute("PRAGMA user_version = 99")
        Store.open(self.state).close()
        self.assertEqual(db.execute("PRAGMA user_version").fetchone(), (99,))
        db.close()


if __name__ == "__main__":
    unittest.main()
