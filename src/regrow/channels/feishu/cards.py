"""Content becomes a card (JSON 2.0), or plain text where a card cannot go.

Whatever the content says, the card keeps the platform's limits and nothing in it can mention anyone, end a block of
code or become an element: text is escaped, code is fenced and its fences are broken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from regrow.channels.base import Choice, Content, Outgoing

CARD_BYTES = 25_000
"""The platform takes 30 KB and may count more than is sent."""
_TEXT_BYTES = 100_000
_LINE = 600  # characters; longer ones are cut
_MOST_BLOCKS = 24
_MOST_CHOICES = 8
_INLINE_LINES = 24  # more are folded away, but for what is to be approved
_SHRINK = (400, 200, 100, 50, 20, 8, 2)  # lines of a block of code
_BAR = 20
_LANGUAGES = frozenset({"diff", "python", "json", "toml", "yaml", "bash", "sh", "go", "rust", "javascript", "sql"})
_STYLES = {"primary": "primary_filled", "danger": "danger", "plain": "default"}
_FENCE = re.compile(r"```([A-Za-z0-9+#._-]*)\s*")
_MARKDOWN = re.compile(r"[&<>*_\[\]#\\`~|]")
_TAG = re.compile(r"<(?=\s*/?\s*(?:at|person)\b)", re.IGNORECASE)
_KEY = re.compile(r"@(?=_all\b|_user_\d)")
_LINK_END = re.compile(r"(https?://[!-~]+)(?=[^\s!-~])")
# Colours of a terminal; control characters; characters that show text in another order than it has.
_UNSEEN = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]|[\u202a-\u202e\u2066-\u2069\u200e\u200f]")


@dataclass(frozen=True)
class _Block:
    """Lines of text, or of code when `code` is a language ("" for none)."""

    lines: tuple[str, ...]
    code: str | None = None


def card(message: Outgoing, budget: int = CARD_BYTES) -> str:
    """The card of a message, as JSON.

    Args:
        message: what is shown; its key goes with every button.
        budget: bytes it may have; code is shortened first, then text.
    """
    blocks = _blocks(message.content.text)
    for most in _SHRINK:
        made = _json(_card(message, blocks, most, 200))
        if len(made.encode()) <= budget:
            return made
    for lines in (60, 20, 6, 1):
        made = _json(_card(message, blocks[:4], 2, lines))
        if len(made.encode()) <= budget:
            return made
    title = _Block((_title(message.content)[:100],))
    return _json(_card(message, [title], 0, 1))


def plain(content: Content) -> str:
    """The same as the content of a text message, as JSON; buttons become what can be said in their place."""
    lines = [_seen(line) for line in content.text.splitlines()]
    if content.bar is not None:
        lines.append(_bar(content.bar))
    if said := [sentence for choice in content.choices if (sentence := _sentence(choice))]:
        lines.append("→ " + " / ".join(said))
    # In a text message a tag can mention, and so can the keys that stand for mentions in what is received.
    text = _KEY.sub("@\u200b", _TAG.sub("<\u200b", "\n".join(lines))) or "…"
    data = text.encode()
    if len(data) > _TEXT_BYTES:
        text = data[:_TEXT_BYTES].decode(errors="ignore") + "\n…"
    return _json({"text": text})


def wants_card(message: Outgoing) -> bool:
    """Whether a message is shown as a card: it will change, be pressed, or has code in it. Answers are plain text."""
    content = message.content
    return message.job is not None or bool(content.choices) or content.bar is not None or "```" in content.text


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _seen(line: str) -> str:
    line = _UNSEEN.sub(lambda match: "" if match[0][0] == "\x1b" else "\ufffd", line)
    return line if len(line) <= _LINE else line[:_LINE] + "…"


def _blocks(text: str) -> list[_Block]:
    """Text and code by turns; a block of code ends at a line that is its fence, or with the text."""
    blocks: list[_Block] = []
    lines: list[str] = []
    code: str | None = None

    def end() -> None:
        if lines:
            blocks.append(_Block(tuple(lines), code))
            lines.clear()

    for raw in text.splitlines():
        fence = _FENCE.fullmatch(raw)
        if fence and code is None:
            end()
            code = fence[1].lower() if fence[1].lower() in _LANGUAGES else ""
        elif fence and not fence[1]:
            end()
            code = None
        else:
            lines.append(_seen(raw))
    end()
    return blocks


def _card(message: Outgoing, blocks: list[_Block], most_code: int, most_text: int) -> dict[str, Any]:
    content = message.content
    title = _title(content)
    elements: list[dict[str, Any]] = []
    rest = list(blocks)
    headed = len(content.text.splitlines()) > 1 and rest and rest[0].code is None
    if headed:
        rest[0] = _Block(rest[0].lines[1:])
    waits = bool(content.choices)
    elements += [_element(block, most_code, most_text, open_=waits) for block in rest[:_MOST_BLOCKS] if block.lines]
    if len(rest) > _MOST_BLOCKS:
        elements.append(_markdown(f"… (+{len(rest) - _MOST_BLOCKS})"))
    if content.bar is not None:
        elements.append(_markdown(_bar(content.bar)))
    if content.choices:
        elements.append(_row(_button(choice, message.key, title) for choice in content.choices[:_MOST_CHOICES]))
    for number, element in enumerate(elements):
        element["element_id"] = f"e{number}"
    made: dict[str, Any] = {
        "schema": "2.0",
        "config": {
            "update_multi": True,
            "enable_forward": False,
            "width_mode": "fill",
            "summary": {"content": title},
        },
        "body": {"elements": elements or [_markdown(_escaped(title))]},
    }
    if headed:
        made["header"] = {"template": _colour(content), "title": {"tag": "plain_text", "content": title}}
    return made


def _title(content: Content) -> str:
    first = next((line for line in content.text.splitlines() if line.strip() and not _FENCE.fullmatch(line)), "…")
    return _seen(first).strip()[:120]


def _colour(content: Content) -> str:
    if any(choice.action.startswith("approve:") for choice in content.choices):
        return "orange"
    # A result keeps its own colour beside the button that undoes it.
    asks = any(not choice.action.startswith("undo:") for choice in content.choices)
    if asks or content.bar is not None:
        return "blue"
    mark = content.text.lstrip()[:1]
    return "green" if mark in {"✅", "👍", "↩"} else "red" if mark in {"❌", "⚠", "✗"} else "grey"


def _element(block: _Block, most_code: int, most_text: int, *, open_: bool) -> dict[str, Any]:
    if block.code is None:
        return _markdown("\n".join(map(_escaped, _cut(block.lines, most_text, tail=False))))
    # The end of a log says what went wrong; the beginning of a change says what it is.
    lines = _cut(block.lines, most_code, tail=block.code != "diff")
    code = "\n".join(_inert(line) for line in lines)
    inner = _markdown(f"```{block.code}\n{code}\n```")
    if len(lines) <= _INLINE_LINES:
        return inner
    name = f"{block.code or 'log'} · {len(block.lines)}"
    return {
        "tag": "collapsible_panel",
        "expanded": open_,
        "header": {"title": {"tag": "plain_text", "content": name}},
        "elements": [inner],
    }


def _cut(lines: tuple[str, ...], most: int, *, tail: bool) -> list[str]:
    if len(lines) <= most:
        return list(lines)
    left = f"… (+{len(lines) - most})"
    return [left, *lines[len(lines) - most :]] if tail else [*lines[:most], left]


def _escaped(line: str) -> str:
    """A line of text that markdown leaves alone."""
    line = _LINK_END.sub(r"\1 ", line)  # a link that runs into other letters makes the whole card fail
    return _MARKDOWN.sub(lambda match: f"&#{ord(match[0])};", line)


def _inert(line: str) -> str:
    """A line of code that cannot end its block, nor mention anyone should a client look for tags in there."""
    return _TAG.sub("<\u200b", line.replace("```", "`\u200b`\u200b`"))


def _bar(value: float) -> str:
    share = min(max(value, 0.0), 1.0)
    full = round(share * _BAR)
    return f"{'█' * full}{'░' * (_BAR - full)} {share:.0%}"


def _markdown(text: str) -> dict[str, Any]:
    return {"tag": "markdown", "content": text}


def _row(buttons: Iterable[dict[str, Any]]) -> dict[str, Any]:
    columns = [{"tag": "column", "width": "auto", "elements": [button]} for button in buttons]
    return {"tag": "column_set", "flex_mode": "flow", "horizontal_spacing": "8px", "columns": columns}


def _button(choice: Choice, key: str, title: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "tag": "button",
        "type": _STYLES[choice.style],
        "text": {"tag": "plain_text", "content": choice.label[:100]},
        # What is pressed goes with the press: job and digest are in the action.
        "behaviors": [{"type": "callback", "value": {"action": choice.action, "key": key}}],
    }
    if choice.style != "plain":
        mark = "?" if choice.label.isascii() else "？"
        made["confirm"] = {
            "title": {"tag": "plain_text", "content": f"{choice.label[:90]}{mark}"},
            "text": {"tag": "plain_text", "content": title},
        }
    return made


def _sentence(choice: Choice) -> str:
    word, _, rest = choice.action.partition(":")
    job = rest.partition(":")[0]
    return f"{choice.label} #{job}" if word in {"approve", "reject", "cancel", "keep", "undo"} and job.isdigit() else ""
