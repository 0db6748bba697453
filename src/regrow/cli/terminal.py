"""The terminal: what it can show, and lines on it. Nothing that others wrote reaches it uncleaned."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

COLOURS = {"red": "31", "green": "32", "yellow": "33", "cyan": "36", "dim": "2", "bold": "1"}

_YES, _NO = {"y", "yes", "是", "好"}, {"n", "no", "否", "不"}

# Escape sequences could hide lines of a diff from the person who approves it, and so could the characters that
# turn the direction of writing (CVE-2021-42574); both are shown instead of obeyed.
_SHOWN = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"}
_SHOWN |= {0x7F: "\u2421"} | dict.fromkeys(range(128, 160), "�")
_SHOWN |= {code: f"<U+{code:04X}>" for code in (*range(0x202A, 0x202F), *range(0x2066, 0x206A), 0x200E, 0x200F, 0x061C)}


def clean(text: str) -> str:
    """`text` with control characters made visible, so that it can only be read."""
    return text.replace("\r\n", "\n").translate(_SHOWN)


def plain() -> bool:
    """Whether output is one line a change: not a terminal, or one that wants no colours and no moving cursor."""
    return not sys.stdout.isatty() or bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM", "dumb") == "dumb"


def can_ask() -> bool:
    """Whether a person is there to answer."""
    return sys.stdin is not None and sys.stdin.isatty() and sys.stdout.isatty()


def ask(question: str) -> str:
    """What a person answers to a question, without the spaces around it."""
    try:
        return input(clean(question)).strip()
    except EOFError:
        raise KeyboardInterrupt from None  # Ctrl-D: nobody will answer


def ask_secret(question: str) -> str:
    """As `ask`, and what is typed is not shown."""
    import getpass

    try:
        return getpass.getpass(clean(question)).strip()
    except EOFError:
        raise KeyboardInterrupt from None


def yes(question: str) -> bool:
    """Ask until the answer is yes or no."""
    while (said := ask(question).lower()) not in _YES | _NO:
        pass
    return said in _YES


def paint(text: str, colour: str) -> str:
    """`text` in `colour` (a key of COLOURS, or "") where the terminal shows colours."""
    return f"\x1b[{COLOURS[colour]}m{text}\x1b[0m" if colour and not plain() else text


def line(text: str = "", colour: str = "") -> None:
    """One line, or more, on standard output, cleaned."""
    sys.stdout.write(paint(clean(text), colour) + "\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """One line beside the result: on standard error, cleaned."""
    sys.stderr.write(clean(text) + "\n")
    sys.stderr.flush()


def document(value: Any) -> None:
    """One JSON document in one line on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def diff(text: str) -> None:
    """A change with colours where there are any."""
    for one in text.splitlines():
        head = one.startswith(("+++", "---", "diff ", "index "))
        colour = "bold" if head else {"+": "green", "-": "red", "@": "cyan"}.get(one[:1], "")
        line(one, colour)


def spell(seconds: float) -> str:
    """A duration as people say it: 0.4 s, 12 s, 3 min 20 s, 2 h 5 min, 3 d 4 h."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    for size, name, smaller, next_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // smaller
            return f"{whole // size} {name}" + (f" {rest} {next_name}" if rest else "")
    return f"{whole} s"


def spell_bytes(count: int) -> str:
    """A size as people say it."""
    size = float(count)
    for unit in ("B", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def write(text: str) -> None:
    """`text` as it is: for what is already clean and painted."""
    sys.stdout.write(text)
    sys.stdout.flush()


def text(content: str, as_json: bool, name: str) -> None:
    """A longer text, or a document with it under `name`."""
    if as_json:
        document({name: content})
    elif content:
        line(content.removesuffix("\n"))
