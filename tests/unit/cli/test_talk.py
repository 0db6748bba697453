from __future__ import annotations

import pytest

from regrow.api.types import Button, Message
from regrow.cli import talk
from regrow.cli.talk_screen import wrapped

BUTTONS = [Button(label=label, action=label) for label in ("Approve", "Abort", "拒绝")]


def test_every_button_has_its_own_key() -> None:
    assert talk.keys(BUTTONS) == ["a", "b", "3"]
    assert talk.offer(BUTTONS) == "[A]pprove  A[b]ort  [3] 拒绝"


@pytest.mark.parametrize(
    ("line", "label"),
    [
        ("a", "Approve"),
        (" B \n", "Abort"),
        ("abort", "Abort"),
        ("3", "拒绝"),
        ("拒绝", "拒绝"),
        ("x", None),
        ("", None),
    ],
)
def test_a_typed_line_names_a_button(line: str, label: str | None) -> None:
    button = talk.chosen(line, BUTTONS)
    assert (button.label if button else None) == label


def test_a_message_as_text() -> None:
    message = Message(
        id=1, channel="terminal", chat="main", author="regrow", mine=False, text="building\x1b[2J", at=0, bar=0.5
    )
    assert talk.spoken(message) == "regrow: building␛[2J\n" + "█" * 10 + "░" * 10 + " 50%"


def test_rows_are_counted_in_cells() -> None:
    assert wrapped("编译完成编译完成\n\nab", 10) == ["编译完成编", "译完成", "", "ab"]
