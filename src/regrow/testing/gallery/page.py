"""The page of all messages, docs/reference/messages.md: English and Chinese beside each other."""

from __future__ import annotations

import html
from collections.abc import Sequence

from regrow.testing.gallery.stage import Message

_HEAD = """\
# The messages

Every kind of message that Regrow sends to a chat, in English and in Chinese. Nothing here was typed by hand: the
messages are rendered by the code that sends them, with a clock and figures that stand still, by `scripts/messages`; a
test fails when this page and that code do not say the same. `[...]` are buttons, `▓` is the bar of a step that runs.
Each text is in a catalogue, and [another language](../how-to/translate.md) is a file.
"""
_BAR = 20


def page(english: Sequence[Message], chinese: Sequence[Message]) -> str:
    """The page as Markdown.

    Args:
        english, chinese: the same messages in both languages.
    """
    parts, section = [_HEAD], ""
    for en, zh in zip(english, chinese, strict=True):
        if en.section != section:
            section = en.section
            parts.append(f"## {section}\n")
        cells = "".join(f'<td width="50%" valign="top"><pre>{_shown(one)}</pre></td>' for one in (en, zh))
        parts.append(f"**{_plain(en.title)}**\n\n<table><tr>{cells}</tr></table>\n")
    return "\n".join(parts)


def _plain(title: str) -> str:
    return html.escape(title, quote=False).replace("_", "\\_").replace("*", "\\*")


def _shown(message: Message) -> str:
    """A message in a cell: a blank line would end the table."""
    lines = [line or " " for line in message.text.splitlines()]
    if message.bar is not None:
        full = round(message.bar * _BAR)
        lines.append("▓" * full + "░" * (_BAR - full))
    if message.buttons:
        lines.append("  ".join(f"[{label}]" for label in message.buttons))
    return "<br>".join(html.escape(line, quote=False) for line in lines)
