"""What the platform's codes mean for us. Codes are per call, so a row may name the call it is about."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Literal

from regrow.errors import RegrowError

Meaning = Literal[
    "busy",  # a rate limit: wait and say it again
    "quota",  # the month's calls are used up
    "token",  # get another token
    "gone",  # the message, chat or person is no longer there, or we may not speak there
    "content",  # this very content is refused: shrink it or say it plainly
    "old",  # the card can no longer be changed
    "locked",  # a click on the card is being answered
    "scope",  # a permission is missing
    "no_bot",  # the app has no bot ability, or not in its published version
    "config",  # the app is disabled, its secret or domain wrong
    "unavailable",  # the platform did not answer, or not in its own words
    "fault",  # anything else: a mistake of ours
]

_MEANINGS: Mapping[int, Meaning] = {
    **dict.fromkeys((99991400, 230020, 230049, 11232), "busy"),
    99991403: "quota",
    **dict.fromkeys((99991661, 99991663, 99991671), "token"),
    **dict.fromkeys((230002, 230011, 230110, 230013, 230029, 232009, 230018, 230035, 230053), "gone"),
    **dict.fromkeys((99992351, 99992354, 99992361), "gone"),
    **dict.fromkeys((230001, 230025, 230099, 230022, 230028), "content"),
    230031: "old",
    200810: "locked",
    **dict.fromkeys((99991672, 230027), "scope"),
    **dict.fromkeys((99991662, 10003, 10014, 10015, 99991401), "config"),
    212100: "config",  # not installed in the tenant
    **dict.fromkeys((11205, 230006), "no_bot"),  # asked for itself; sending
}
_OF_CALL: Mapping[tuple[str, int], Meaning] = {
    ("edit", 230072): "old",  # twenty edits of a text
    ("edit", 230075): "old",
    ("edit", 230071): "gone",
    ("reply", 230071): "content",  # no topics here: say it in the chat instead
    ("reply", 230072): "content",
}
_INNER = re.compile(r"ErrCode:\s*(\d+)")


class FeishuError(RegrowError):
    """The platform refused a call, or could not be asked.

    Args:
        message: one sentence that starts with "cannot"; holds no secret.
        meaning: what to do about it; also the error's kind as "feishu_MEANING".
        code: the platform's own code, 0 when it gave none.
        after_s: seconds to wait before another try, where the platform said so.
    """

    def __init__(self, message: str, *, meaning: Meaning, code: int = 0, after_s: float = 0.0) -> None:
        super().__init__(message, kind=f"feishu_{meaning}")
        self.meaning = meaning
        self.code = code
        self.after_s = after_s


def meaning_of(call: str, code: int, status: int, text: str) -> Meaning:
    """Classify an answer.

    Args:
        call: send, reply, patch, edit, history or other.
        code: the JSON body's code; 0 when there is none.
        status: the HTTP status.
        text: the body's message: a refused card says its real reason there.
    """
    if code == 230099 and "action is lock" in text:
        return "locked"
    if code:
        return _OF_CALL.get((call, code)) or _MEANINGS.get(code, "busy" if status == 429 else "fault")
    return "busy" if status == 429 else "unavailable"


def inner_code(text: str) -> int:
    """The reason inside a 230099, 0 when it names none."""
    found = _INNER.search(text)
    return int(found[1]) if found else 0
