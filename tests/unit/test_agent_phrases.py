"""Which agent a message names, and what goes on with a repair."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.agent_phrases import again, chosen, goes_on

NAMES = ("revert", "claude", "opencode", "open-code")


@pytest.mark.parametrize(
    ("text", "name", "rest"),
    [
        ("let opencode fix it", "opencode", "fix it"),
        ("Please let OpenCode fix this bug: the chat hangs", "opencode", "fix this bug: the chat hangs"),
        ("@regrow have claude fix the bug: x", "claude", "fix the bug: x"),
        ("use claude to fix this bug: x", "claude", "fix this bug: x"),
        ("fix this bug with opencode: the chat hangs", "opencode", "fix this bug: the chat hangs"),
        ("try again with opencode", "opencode", ""),
        ("try opencode", "opencode", ""),
        ("让 opencode 来修", "opencode", "修"),
        ("让opencode来修一下这个bug: 答案不对", "opencode", "修一下这个bug: 答案不对"),
        ("请用 claude 修复 bug：答案不对", "claude", "修复 bug：答案不对"),
        ("换 opencode 试试", "opencode", "试试"),
        ("let open-code fix it", "open-code", "fix it"),
    ],
)
def test_an_agent_is_named(text: str, name: str, rest: str) -> None:
    assert chosen(text, NAMES) == (name, rest)


@pytest.mark.parametrize(
    "text",
    [
        "fix this bug: opencode does not start",
        "fix it",
        "修一下这个 bug: 用 claude 聊天时会崩溃",
        "claude is slow today",
        "opencode 怎么样",
        "restart",
        "let me fix it",
        "let opencoder fix it",
        "",
    ],
)
def test_no_agent_is_named(text: str) -> None:
    assert chosen(text, NAMES) == ("", text)


@pytest.mark.parametrize(
    "text", ["fix it", "修", "修一下", "试试", "", "try it again", "再修一次", "fix this.", "fix it!"]
)
def test_the_same_once_more(text: str) -> None:
    assert again(text)


@pytest.mark.parametrize("text", ["fix this bug: x", "修一下这个bug: 答案不对", "restart", "deploy it"])
def test_something_else(text: str) -> None:
    assert not again(text)


@pytest.mark.parametrize(
    "text",
    [
        "not quite, also the title is wrong",
        "Also the title",
        "still wrong",
        "还是不行",
        "不对，标题也错了",
        "另外标题也要改",
    ],
)
def test_it_goes_on(text: str) -> None:
    assert goes_on(text)


@pytest.mark.parametrize(
    "text", ["restart", "fix this bug: also the title", "thanks", "好的", "status", "今天天气不错", "notquite", ""]
)
def test_it_does_not_go_on(text: str) -> None:
    assert not goes_on(text)


@given(st.text(max_size=2000))
def test_any_text_is_taken(text: str) -> None:
    name, rest = chosen(text, NAMES)
    assert name in (*NAMES, "")
    assert rest == text or name
    goes_on(text)
    again(text)
