from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.cli import terminal


@given(st.text())
def test_what_others_wrote_cannot_steer_the_terminal(text: str) -> None:
    cleaned = terminal.clean(text)
    assert not [one for one in cleaned if one not in "\n\t" and (ord(one) < 32 or 0x7F <= ord(one) < 0xA0)]
    assert not set(cleaned) & set("\u202e\u202d\u2066\u2067\u2068\u2069\u202a\u202b\u202c")


def test_the_hidden_is_shown() -> None:
    assert terminal.clean("a\x1b[2Kb\u202ec\r\nd\te") == "a␛[2Kb<U+202E>c\nd\te"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0.0 s"), (0.44, "0.4 s"), (9.96, "10.0 s"), (12, "12 s"), (59.6, "1 min"), (72, "1 min 12 s"),
        (3600, "1 h"), (7500, "2 h 5 min"), (273_600, "3 d 4 h"),
    ],
)  # fmt: skip
def test_durations_as_people_say_them(seconds: float, text: str) -> None:
    assert terminal.spell(seconds) == text


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (38_000_000, "38 MB"), (1_250_000_000, "1.2 GB")])
def test_sizes_as_people_say_them(count: int, text: str) -> None:
    assert terminal.spell_bytes(count) == text
