"""What people have told the bot to remember."""

import re
import sqlite3

from claw.message import Message

REMEMBER = (
    re.compile(r"^(?:请|帮我)?记住[,:\s]*(?:我的)?\s*(?P<name>.+?)\s*(?:是|=|:)\s*(?P<value>.+)$"),
    re.compile(r"^(?:please\s+)?remember\s+(?:that\s+)?my\s+(?P<name>.+?)\s+is\s+(?P<value>.+)$", re.I),
)
RECALL = (
    re.compile(r"^我的\s*(?P<name>.+?)\s*是(?:什么|多少|啥|谁)\??$"),
    re.compile(r"^(?:what|who)(?:\s+is|'s)\s+my\s+(?P<name>.+?)\s*\??$", re.I),
)
FORGET = (
    re.compile(r"^(?:请)?忘(?:记|掉|了)\s*(?:我的)?\s*(?P<name>.+)$"),
    re.compile(r"^(?:please\s+)?forget\s+(?:my\s+)?(?P<name>.+)$", re.I),
)


def answer(db: sqlite3.Connection, message: Message) -> str | None:
    """Remember, recall or forget; None when the message asks for none of them."""
    if found := _match(REMEMBER, message.words):
        name, value = found["name"], message.text[found.start("value") : found.end("value")]
        db.execute(
            "INSERT OR REPLACE INTO memories VALUES (?, ?, ?, ?, ?)",
            (message.chat, message.sender, name.casefold(), value, message.at.timestamp()),
        )
        return message.reply(f"好的，记住了：你的{name}是 {value}", f"OK, I will remember: your {name} is {value}.")
    if found := _match(RECALL, message.words):
        name = found["name"]
        row = db.execute(
            "SELECT value FROM memories WHERE chat = ? AND sender = ? AND name = ?",
            (message.chat, message.sender, name.casefold()),
        ).fetchone()
        if row is None:
            return message.reply(
                f"我不知道你的{name}。可以说：记住 我的{name}是 …",
                f"I do not know your {name}. Say: remember my {name} is …",
            )
        return message.reply(f"你的{name}是 {row['value']}", f"Your {name} is {row['value']}.")
    if found := _match(FORGET, message.words):
        name = found["name"]
        known = db.execute(
            "DELETE FROM memories WHERE chat = ? AND sender = ? AND name = ?",
            (message.chat, message.sender, name.casefold()),
        ).rowcount
        if not known:
            return message.reply(f"我本来就不知道你的{name}", f"I did not know your {name} anyway.")
        return message.reply(f"好的，忘记了你的{name}", f"OK, I have forgotten your {name}.")
    return None


def _match(patterns: tuple[re.Pattern[str], ...], text: str) -> re.Match[str] | None:
    return next((found for pattern in patterns if (found := pattern.match(text))), None)
