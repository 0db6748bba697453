"""Conversations: every message and every answer, chat by chat."""

import sqlite3
from typing import Any

from claw import memory, reminders
from claw.message import Message

ENDINGS = " .!~。"
GREETINGS = {"hi", "hello", "你好", "您好", "在吗"}
PARTS = (memory.answer, reminders.answer)


def answer(db: sqlite3.Connection, message: Message) -> str:
    """Act on a message and return the answer; both are kept."""
    text = next((said for part in PARTS if (said := part(db, message)) is not None), None) or _small_talk(message)
    for sender, line in ((message.sender, message.text), ("claw", text)):
        db.execute(
            "INSERT INTO messages (chat, sender, text, at) VALUES (?, ?, ?, ?)",
            (message.chat, sender, line, message.at.timestamp()),
        )
    return text


def history(db: sqlite3.Connection, chat: str, limit: int = 50) -> list[dict[str, Any]]:
    """The last messages of a chat, the oldest first."""
    rows = db.execute(
        "SELECT id, sender, text FROM messages WHERE chat = ? ORDER BY id DESC LIMIT ?", (chat, limit)
    ).fetchall()
    return [dict(row) for row in reversed(rows)]


def _small_talk(message: Message) -> str:
    if message.words.strip(ENDINGS).casefold() in GREETINGS:
        return message.reply("你好！", "Hello!")
    return message.reply(
        "没听懂。我会：记住 我的航班是 CA1234;我的航班是什么；提醒我 每天 07:00 喝水；我的提醒；取消提醒 1",
        "I did not understand. I can: remember my flight is CA1234; what is my flight; "
        "remind me every day at 07:00 to drink water; list reminders; cancel reminder 1",
    )
