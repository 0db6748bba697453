"""Answers that have been given, by key: a message that is delivered again is not acted on again."""

import sqlite3

from claw import conversation
from claw.message import Message


def answer_once(db: sqlite3.Connection, key: str | None, message: Message) -> tuple[str, bool]:
    """The answer to a message, and whether it had been given before.

    The answer is kept in the transaction in which the bot acts: no crash can come between the two.
    """
    if key is not None:
        row = db.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        if row is not None:
            return row["answer"], True
    text = conversation.answer(db, message)
    if key is not None:
        db.execute("INSERT INTO answers VALUES (?, ?, ?)", (key, text, message.at.timestamp()))
    return text, False
