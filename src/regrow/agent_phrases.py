"""What a message says about agents: which one is to repair, and that a repair is to go on.

A small table beside phrases.toml, because it needs what that cannot know: the names in the settings.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_VERB = r"(?:fix|repair|debug|mend|solve|try|retry|take|handle|修|解决|处理|试|重试|再)"
_OPENINGS = (
    r"(?:please\s+|pls\s+)?(?:let|have|ask|get|tell|make)\s+{name}\s+(?:to\s+)?(?={verb})",
    r"(?:please\s+|pls\s+)?(?:use|with|using)\s+{name}\s*(?:to|and|[,:])?\s*(?={verb})",
    r"(?:try|retry)(?:\s+(?:it|again|it\s+again))?\s+(?:with\s+)?{name}\s*[.!]*\s*\Z",
    r"(?:请|麻烦|帮我|帮忙)?\s*(?:让|叫|请|用|使用|由|换成|换|改用)\s*{name}\s*(?:来|去)?\s*(?={verb})",
)
_WITHIN = r"\A(?P<head>\s*(?:fix|repair|debug)\b[^:：\n]*?)\s+(?:with|using)\s+{name}(?=\s*(?:[:：,，.!]|\n|\Z))"
# The whole of what is left: the same repair once more.
_AGAIN = re.compile(
    r"(?:(?:fix|repair|debug|mend|solve|handle|take)(?:\s+(?:it|this|that|the\s+bug|care\s+of\s+it))?(?:\s+again)?"
    r"|(?:re)?try(?:\s+(?:it|this|that))?(?:\s+again)?"
    r"|再?(?:修|修复|解决|处理)(?:一下|一次|一遍|吧|这个|它|这个bug|这个问题)*|(?:再|重)?试(?:试|一下|一次|一遍)?(?:看)?|重试|再来(?:一次)?)?",
    re.IGNORECASE,
)
_GOES_ON = re.compile(
    r"\s*(?:@\S+\s+)*(?:"
    r"not\s+(?:quite|yet|really|exactly|fixed|right|enough)\b|(?:it|that)(?:'s|\s+is|\s+was)?\s+(?:still|not)\b"
    r"|(?:it|that)\s+(?:doesn't|does\s+not|didn't|did\s+not)\b|still\b|also\b|and\s+also\b|almost\b|better,?\s+but\b"
    r"|no,\s|wrong\b|one\s+more\s+thing\b|you\s+(?:forgot|missed)\b|what\s+about\b"
    r"|不对|不太对|不是(?:这个|这样)|还不行|还是|还有|仍然|依然|另外|而且|没修好|没有修好|没好|还没|差一点|差不多了|漏了|你漏"
    r"|好一点了|也要|同时|顺便)",
    re.IGNORECASE,
)
_EDGES = " \t\r\n.,!?;:~。，！？；：…、"


def chosen(text: str, names: Iterable[str]) -> tuple[str, str]:
    """Which agent a message names for a repair, and the message without the words that say so.

    Args:
        text: the message.
        names: of the agents in the settings.

    Returns:
        The agent's name, "" when none is named, and what is left of the text.
    """
    for name in sorted(names, key=len, reverse=True):
        fields = {"name": rf"(?<![a-z0-9_-]){re.escape(name)}(?![a-z0-9_-])", "verb": _VERB}
        for pattern in _OPENINGS:
            found = re.match(rf"\s*(?:@\S+\s+)*{pattern.format_map(fields)}", text, re.IGNORECASE)
            if found:
                return name, text[found.end() :]
        if found := re.match(_WITHIN.format_map(fields), text, re.IGNORECASE):
            return name, found["head"] + text[found.end() :]
    return "", text


def again(text: str) -> bool:
    """Whether what is left of a message that names an agent only asks for the same repair once more."""
    return bool(_AGAIN.fullmatch(text.strip(_EDGES)))


def goes_on(text: str) -> bool:
    """Whether a message, said where a repair was told of, is about what that repair has not done."""
    return bool(_GOES_ON.match(text))
