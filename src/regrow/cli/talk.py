"""A chat of the terminal channel: what is said, which buttons can be pressed by typing them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from regrow.cli import terminal

if TYPE_CHECKING:
    from regrow.api.client import Client
    from regrow.api.types import Button, Message

CHANNEL = "terminal"


class Talk:
    """One chat.

    Args:
        client: the daemon's.
        chat: which chat of the terminal channel.
    """

    def __init__(self, client: Client, chat: str) -> None:
        self.client = client
        self.chat = chat
        self.history = client.messages(CHANNEL, chat)
        self.after = self.history[-1].id if self.history else 0
        self._asking: dict[int, Sequence[Button]] = {}

    def events(self) -> Iterator[Message]:
        """Every message after the history, and every edit, also of the history; remembers the buttons on offer."""
        known = {one.id: one.revision for one in self.history}
        for message in self.client.chat_events(CHANNEL, self.chat, self.after):
            if message.revision > known.get(message.id, -1):
                self.notice(message)
                yield message

    def notice(self, message: Message) -> None:
        """Know the buttons of a message, or that it has none any more."""
        self._asking.pop(message.id, None)
        if message.buttons:
            self._asking[message.id] = message.buttons

    def send(self, line: str) -> Message | str:
        """Press the button that `line` names, else say `line`.

        Returns:
            what was said, or the answer to the press ("" when there is nothing to say).
        """
        from regrow.api.types import ChatBody

        for number, buttons in reversed(list(self._asking.items())):
            if button := chosen(line, buttons):
                result = self.client.press(number, button.action)
                return result.text
        return self.client.say(ChatBody(channel="terminal", chat=self.chat, text=line, key=f"cli-{uuid.uuid4()}"))


def keys(buttons: Sequence[Button]) -> list[str]:
    """One key for each button: its first free letter, else its place."""
    found: list[str] = []
    for place, button in enumerate(buttons, 1):
        letters = (one for one in button.label.lower() if one.isascii() and one.isalpha() and one not in found)
        found.append(next(letters, str(place)))
    return found


def chosen(line: str, buttons: Sequence[Button]) -> Button | None:
    """The button that a typed line names by its key or its label."""
    typed = line.strip().casefold()
    for key, button in zip(keys(buttons), buttons, strict=True):
        if typed in (key, button.label.strip().casefold()):
            return button
    return None


def offer(buttons: Sequence[Button]) -> str:
    """The buttons with their keys: [a]pprove  [1] 批准."""
    shown = []
    for key, button in zip(keys(buttons), buttons, strict=True):
        label = button.label
        place = label.lower().find(key)
        shown.append(f"[{key}] {label}" if place < 0 else f"{label[:place]}[{label[place]}]{label[place + 1 :]}")
    return "  ".join(shown)


def spoken(message: Message) -> str:
    """A message as lines of text, cleaned: who, what, its bar, its buttons."""
    text = f"{message.author}: {message.text}"
    if message.bar is not None:
        full = round(min(max(message.bar, 0.0), 1.0) * 20)
        text += f"\n{'█' * full}{'░' * (20 - full)} {message.bar:.0%}"
    if message.buttons:
        text += f"\n{offer(message.buttons)}"
    return terminal.clean(text)
