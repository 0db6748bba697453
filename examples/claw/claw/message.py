"""What a person has said, and in which language to answer."""

from dataclasses import dataclass
from datetime import UTC, datetime


def now() -> datetime:
    """The time of the machine, in UTC."""
    return datetime.now(UTC)


# Chinese keyboards type the wide forms of ASCII; they mean the same.
NARROW = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)}


@dataclass(frozen=True)
class Message:
    chat: str
    sender: str
    text: str
    at: datetime

    @property
    def words(self) -> str:
        """The text with narrow punctuation and digits, letter by letter in the same place."""
        return self.text.translate(NARROW)

    def reply(self, chinese: str, english: str) -> str:
        """The one of two texts that is in the language of the message."""
        return chinese if any("\u4e00" <= letter <= "\u9fff" for letter in self.text) else english
