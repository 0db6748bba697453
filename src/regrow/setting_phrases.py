"""What a message says about settings: which one is to have which value.

A small table beside phrases.toml, because it needs what that cannot know: what the settings are called. A whole message
has to be one of these; and since a change of settings is always asked back with what it would change, a message that
was meant otherwise changes nothing.
"""

from __future__ import annotations

import re

_NAME = r"(?P<name>[\w.*: \-]{2,60}?)"
_VALUE = r"(?P<value>\S(?:.{0,200}\S)?)"
_CHANGES = tuple(
    re.compile(rf"\s*(?:@\S+\s+)*{pattern}\s*[.。!！]?\s*", re.IGNORECASE)
    for pattern in (
        rf"(?:please\s+|pls\s+)?(?:set|change|put)\s+(?:the\s+)?{_NAME}\s+(?:to|=|as)\s+{_VALUE}",
        rf"(?:please\s+|pls\s+)?set\s+{_NAME}\s*=\s*{_VALUE}",
        rf"(?:请|麻烦|帮我|帮忙|麻烦帮我)?\s*(?:把|将)?\s*{_NAME}\s*的?值?\s*"
        rf"(?:改成|改为|改到|设成|设为|设置为|设置成|设到|调成|调到|调整为|调整到|调为)\s*[:：]?\s*{_VALUE}",
        rf"(?:请|麻烦|帮我|帮忙|麻烦帮我)?\s*(?:设置|修改)\s*{_NAME}\s*(?:=|为|成)\s*{_VALUE}",
    )
)
# What is asked about, put off, supposed or told is no order.
_NO_ORDER = re.compile(
    r"了|别|不|勿|为什么|怎么|谁|何时|什么|如果|要是|假如|万一|\b(?:not|never|don't|why|who|when|if)\b", re.IGNORECASE
)
_ASKED = re.compile(r"[?？]\s*\Z|[吗呢]\s*\Z")
_UNITS = (
    (r"毫秒|milliseconds?", "ms"),
    (r"秒钟?|seconds?|secs?", "s"),
    (r"分钟?|minutes?|mins?", "m"),
    (r"个?小时|钟头|hours?|hrs?", "h"),
    (r"天|日|days?", "d"),
)
_DURATION = re.compile(
    r"(?P<number>\d+(?:\.\d+)?)\s*(?P<unit>" + "|".join(one for one, _ in _UNITS) + ")", re.IGNORECASE
)
_YES = {"开": "true", "打开": "true", "on": "true", "关": "false", "关闭": "false", "off": "false"}


def change(text: str) -> tuple[str, str] | None:
    """The setting that a message names and the value it is to have, as regrow.toml writes such values.

    Args:
        text: the message, as it was said.

    Returns:
        Name and value; None when the message is about something else.
    """
    for pattern in _CHANGES:
        if found := pattern.fullmatch(text):
            before, after = text[: found.start("value")], found["value"]
            if _NO_ORDER.search(before) or _ASKED.search(text) or after.startswith("了"):
                return None
            return found["name"].strip(), value(after)
    return None


def value(words: str) -> str:
    """A value as people say it: "5 秒" and "5 seconds" are 5s."""
    words = words.strip().strip("`'\"“”「」。.！!")
    if found := _DURATION.fullmatch(words):
        unit = next(short for one, short in _UNITS if re.fullmatch(one, found["unit"], re.IGNORECASE))
        return f"{found['number']}{unit}"
    return _YES.get(words.lower(), words)
