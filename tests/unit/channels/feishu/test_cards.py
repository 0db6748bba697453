"""C31, C35: cards keep their limits whatever they are given, and nothing in them acts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.channels.base import Address, Choice, Content, Outgoing
from regrow.channels.feishu import cards

LIMIT = 30 * 1024
PIECES = st.lists(
    st.sampled_from(
        ["```", "```diff", "`", "<at id=all></at>", '<AT user_id="all">', "< at id=1>", "中文", "\n", "\n```\n"]
    )
    | st.sampled_from(
        ["**b**", "[x](http://a)", "| a | b |\n|---|---|", "<person id=1>", "# h", "\x1b[31m", "\u202e", "&copy"]
    )
    | st.text(max_size=30),
    max_size=40,
).map("".join)
CHOICES = st.lists(
    st.builds(Choice, st.text(max_size=200), st.text(max_size=50), st.sampled_from(["primary", "danger", "plain"])),
    max_size=12,
).map(tuple)
CONTENTS = st.builds(Content, PIECES, CHOICES, st.none() | st.floats(-1, 2))


def outgoing(text: str, *choices: Choice, bar: float | None = None, job: int | None = 7) -> Outgoing:
    return Outgoing("job-7-live", Address("feishu", "oc_1", "om_1"), Content(text, choices, bar), job)


def elements(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "tag" in value:
            yield value
        for inner in value.values():
            yield from elements(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from elements(inner)


def check(made: str) -> dict[str, Any]:
    """The rules every card keeps."""
    card: dict[str, Any] = json.loads(made)
    assert len(made.encode()) <= LIMIT
    assert card["schema"] == "2.0"
    assert card["config"]["update_multi"] is True
    assert card["config"]["enable_forward"] is False
    found = list(elements(card))
    assert len(card["body"]["elements"]) > 0
    assert len(found) <= 200
    known = {"markdown", "button", "plain_text", "column_set", "column", "collapsible_panel"}
    assert {element["tag"] for element in found} <= known
    ids = [element["element_id"] for element in found if "element_id" in element]
    assert len(ids) == len(set(ids))
    assert all(re.fullmatch(r"[A-Za-z]\w{0,19}", one) for one in ids)
    for element in found:
        if element["tag"] == "button":
            assert len(element["text"]["content"]) <= 100
            assert "confirm" not in element or element["confirm"]["title"]["content"]
        if element["tag"] == "markdown":
            check_markdown(element["content"])
    return card


def check_markdown(text: str) -> None:
    """No tag that mentions; code has one fence at each end; text outside has no sign that markdown knows."""
    assert not re.search(r"<\s*/?\s*(at|person)\b", text, re.IGNORECASE)
    if text.startswith("```"):
        lines = text.split("\n")
        assert lines[-1] == "```"
        assert re.fullmatch(r"```[a-z]*", lines[0])
        assert not any("```" in line for line in lines[1:-1])
    else:
        assert not re.search(r"[<>*_\[\]\\`~|]", text)
        assert not re.search(r"&(?!#\d+;)", text)
        assert not re.search(r"(?<!&)#", text)


@settings(max_examples=150, deadline=None)
@given(CONTENTS)
def test_c35_whatever_the_content_says_the_card_keeps_the_rules(content: Content) -> None:
    check(cards.card(Outgoing("k", Address("feishu", "oc", "om"), content, 1)))
    text = json.loads(cards.plain(content))["text"]
    assert text
    assert not re.search(r"<\s*/?\s*(at|person)\b", text, re.IGNORECASE)


@pytest.mark.parametrize(
    "text",
    [
        "📝\n```diff\n" + "\n".join(f"+line {n} " + "中" * 40 for n in range(2000)) + "\n```",
        "\n".join("段落 " * 50 for _ in range(3000)),
        "\n".join(f"```\n{n}\n```" for n in range(400)),
        "a" * 500_000,
        "\n".join(["😀" * 600] * 400),
        "",
        "```",
    ],
    ids=["long diff", "long text", "many blocks", "long line", "four bytes each", "nothing", "one fence"],
)
def test_c31_a_card_is_small_by_construction(text: str) -> None:
    check(cards.card(outgoing(text, Choice("批准", "approve:7:d", "primary"))))
    check(cards.card(outgoing(text), 0))


def test_the_end_of_a_log_and_the_beginning_of_a_change_survive() -> None:
    lines = [f"line {n} " + "x" * 200 for n in range(1000)]
    log = cards.card(outgoing("failed\n```\n" + "\n".join(lines) + "\n```"))
    diff = cards.card(outgoing("approve\n```diff\n" + "\n".join(lines) + "\n```"))
    assert "line 999 " in log
    assert "line 0 " not in log
    assert "line 0 " in diff
    assert "line 999 " not in diff
    assert "(+" in log
    assert "(+" in diff


def test_a_job_has_a_head_a_bar_and_buttons_that_carry_job_and_digest() -> None:
    card = check(
        cards.card(
            outgoing(
                "🤖 正在让 revert 分析问题...\n✓ 分析问题 1.2s\n```diff\n-old_name\n+new_name\n```",
                Choice("批准", "approve:7:9f86d0", "primary"),
                Choice("拒绝", "reject:7:9f86d0", "danger"),
                bar=0.5,
            )
        )
    )
    assert card["header"]["title"]["content"] == "🤖 正在让 revert 分析问题..."
    assert card["header"]["template"] == "orange"
    contents = [element["content"] for element in elements(card["body"]) if element["tag"] == "markdown"]
    assert contents == ["✓ 分析问题 1.2s", "```diff\n-old_name\n+new_name\n```", "██████████░░░░░░░░░░ 50%"]
    buttons = [element for element in elements(card) if element["tag"] == "button"]
    assert [button["text"]["content"] for button in buttons] == ["批准", "拒绝"]
    value = buttons[0]["behaviors"][0]["value"]
    assert value == {"action": "approve:7:9f86d0", "key": "job-7-live"}
    assert buttons[0]["confirm"]["title"]["content"] == "批准？"


def test_c35_a_link_does_not_run_into_chinese() -> None:
    assert "http://127.0.0.1:8710/jobs/7 查看" in cards.card(outgoing("x\n见 http://127.0.0.1:8710/jobs/7查看"))


def test_plain_text_says_what_can_be_said_in_place_of_a_button() -> None:
    content = Content("确认?", (Choice("批准", "approve:7:9f"), Choice("拒绝", "reject:7:9f")), 0.25)
    text = json.loads(cards.plain(content))["text"]
    assert text.splitlines() == ["确认?", "█████░░░░░░░░░░░░░░░ 25%", "→ 批准 #7 / 拒绝 #7"]
    assert len(cards.plain(Content("中" * 200_000)).encode()) < 150_000


def test_what_will_change_is_a_card_and_an_answer_is_text() -> None:
    assert cards.wants_card(outgoing("x"))
    assert not cards.wants_card(outgoing("x", job=None))
    assert cards.wants_card(outgoing("```\nlog\n```", job=None))
    assert cards.wants_card(outgoing("x", bar=0.0, job=None))


@pytest.mark.parametrize(
    ("text", "action", "colour"),
    [
        ("✅ Bug 已修复并部署！\n- 已合并到 main", "undo:7", "green"),
        ("⚠️ 已部署，但问题还在。\n- 没有合并", "undo:7", "red"),
        ("✅ 已重新上线\n- 请确认", "keep:7", "blue"),
        ("❌ 没有成功\n原因: 超时", "", "red"),
    ],
)
def test_a_result_has_the_colour_of_what_came_of_it(text: str, action: str, colour: str) -> None:
    choices = [Choice("撤销", action, "danger")] if action else []
    assert check(cards.card(outgoing(text, *choices)))["header"]["template"] == colour
