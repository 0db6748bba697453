"""Reminders: kept with their next due time, told through the outbox."""

import re
import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

from claw import schedule, wording
from claw.message import Message

# After a long absence each reminder is told once for all that was missed, not once for every time.
CATCH_UP = timedelta(hours=1)

LIST = re.compile(
    r"^(?:我的提醒|提醒列表|列出提醒|我?有(?:哪些|什么)提醒|(?:list|show|my)\s+(?:my\s+)?reminders)\??$", re.I
)
CANCEL = re.compile(r"^(?:取消提醒|取消|cancel\s+(?:my\s+)?(?:reminder\s+)?)\s*#?(?P<id>\d{1,15})$", re.I)


def answer(db: sqlite3.Connection, message: Message) -> str | None:
    """Add, list or cancel reminders; None when the message asks for none of them."""
    if wording.is_wish(message.words):
        return _add(db, message)
    if LIST.match(message.words):
        return _list(db, message)
    if found := CANCEL.match(message.words):
        return _cancel(db, message, int(found["id"]))
    return None


def pending(db: sqlite3.Connection, now: datetime) -> bool:
    """Whether any reminder is due."""
    (found,) = db.execute("SELECT EXISTS (SELECT 1 FROM reminders WHERE due <= ?)", (now.timestamp(),)).fetchone()
    return bool(found)


def fire(db: sqlite3.Connection, now: datetime, limit: int = 20) -> int:
    """Put due reminders in the outbox and set when they are due again; how many were due.

    Both happen in the transaction of the caller, so that a process that dies, or two that look at the same
    time, lose none and tell none twice.
    """
    rows = db.execute(
        "SELECT * FROM reminders WHERE due <= ? ORDER BY due, id LIMIT ?", (now.timestamp(), limit)
    ).fetchall()
    for row in rows:
        db.execute(
            "INSERT INTO outgoing (reminder, due, chat, text) VALUES (?, ?, ?, ?)",
            (row["id"], row["due"], row["chat"], f"⏰ {row['text']}"),
        )
        after = max(datetime.fromtimestamp(row["due"], UTC), now - CATCH_UP)
        again = schedule.next_due(row["cron"], row["zone"], after)
        db.execute("UPDATE reminders SET due = ? WHERE id = ?", (int(again.timestamp()), row["id"]))
    return len(rows)


def outgoing(db: sqlite3.Connection, after: int, limit: int = 100) -> list[dict[str, Any]]:
    """What the bot has to say of itself, with ids above `after`."""
    rows = db.execute("SELECT * FROM outgoing WHERE id > ? ORDER BY id LIMIT ?", (after, limit)).fetchall()
    return [
        {
            "id": row["id"],
            "chat": row["chat"],
            "text": row["text"],
            "reminder": row["reminder"],
            "due": datetime.fromtimestamp(row["due"], UTC).isoformat(),
        }
        for row in rows
    ]


def _add(db: sqlite3.Connection, message: Message) -> str:
    wish = wording.wish(message.words)
    if wish is None:
        return message.reply(
            "没听懂什么时候。可以说：提醒我 每天 07:00 喝水",
            "I did not understand when. Say: remind me every day at 07:00 to drink water",
        )
    try:
        due = schedule.next_due(wish.cron, wish.zone, message.at)
    except schedule.BadSchedule as error:
        return message.reply(f"这个时间用不了({error})", f"I {error}.")
    number = db.execute(
        "INSERT INTO reminders (chat, sender, text, cron, zone, due) VALUES (?, ?, ?, ?, ?, ?)",
        (message.chat, message.sender, wish.what, wish.cron, wish.zone, int(due.timestamp())),
    ).lastrowid
    when = f"{due:%Y-%m-%d %H:%M} ({wish.zone})"
    return message.reply(
        f"好的，提醒 #{number}：{wish.what}。下一次：{when}",
        f"OK, reminder #{number}: {wish.what}. Next: {when}",
    )


def _list(db: sqlite3.Connection, message: Message) -> str:
    rows = db.execute("SELECT * FROM reminders WHERE chat = ? ORDER BY id", (message.chat,)).fetchall()
    if not rows:
        return message.reply("没有提醒", "There are no reminders.")
    lines = []
    for row in rows:
        due = datetime.fromtimestamp(row["due"], schedule.zone(row["zone"]))
        lines.append(f"#{row['id']} {row['text']}: {due:%Y-%m-%d %H:%M} ({row['zone']})")
    return "\n".join(lines)


def _cancel(db: sqlite3.Connection, message: Message, number: int) -> str:
    known = db.execute("DELETE FROM reminders WHERE id = ? AND chat = ?", (number, message.chat)).rowcount
    if not known:
        return message.reply(f"没有提醒 #{number}", f"There is no reminder #{number}.")
    return message.reply(f"好的，取消了提醒 #{number}", f"OK, reminder #{number} is cancelled.")
