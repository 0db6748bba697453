"""What the platform refuses in a card, with the codes of both faces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from regrow.testing.feishu import cards
from regrow.testing.feishu.cards import Limits, parse
from regrow.testing.feishu.codes import CardError
from regrow.testing.feishu.conversation import CARD

LIMITS = Limits(card_bytes=30 * 1024, elements=200, depth=5, tables=5)


def md(content: str = "x", **more: Any) -> dict[str, Any]:
    return {"tag": "markdown", "content": content, **more}


def panel(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"tag": "collapsible_panel", "elements": list(elements)}


def nested(depth: int) -> dict[str, Any]:
    element = md()
    for _ in range(depth):
        element = panel(element)
    return element


def button(**more: Any) -> dict[str, Any]:
    return {"tag": "button", "text": {"tag": "plain_text", "content": "Go"}, **more}


def form(*elements: dict[str, Any], name: str | None = "f") -> dict[str, Any]:
    return {"tag": "form", "elements": list(elements), **({"name": name} if name else {})}


def table() -> dict[str, Any]:
    return {"tag": "table", "columns": [{"name": "a", "data_type": "text"}], "rows": [{"a": "x"}]}


SUBMIT = button(name="s", form_action_type="submit")
ROWS = "|a|b|\n|---|---|\n|1|2|\n"


def body(*elements: dict[str, Any]) -> dict[str, Any]:
    return {"schema": "2.0", "body": {"elements": list(elements)}}


@pytest.mark.parametrize(
    "card",
    [
        CARD,
        {"schema": "2.0", "header": {"title": {"tag": "plain_text", "content": "only a title"}}},
        body(nested(5)),
        body(*[table()] * 5),
        body(md(ROWS * 3)),
        body(md("```\n" + ROWS * 5 + "```")),
        body(form(SUBMIT, {"tag": "input", "name": "reason"})),
        body({"tag": "column_set", "columns": [{"tag": "column", "elements": [button(), button()]}]}),
        body(md(element_id="a" * 20)),
        body(md("```diff\n-old\n+new\n```"), {"tag": "hr"}, {"tag": "div", "text": {"tag": "lark_md", "content": "x"}}),
        {"elements": [{"tag": "note", "elements": []}], "header": {}},
    ],
)
def test_good_cards_pass(card: dict[str, Any]) -> None:
    assert parse(json.dumps(card), LIMITS) == card


@pytest.mark.parametrize(
    ("card", "inner", "kit"),
    [
        ("{", 200621, 200621),
        ([], 200621, 200621),
        ({}, 200621, 300307),
        (body(), 200621, 300307),
        ({"schema": "3.0"}, 200621, 200621),
        ({"elements": []}, 200621, 300303),
        (body({"tag": "note", "elements": []}), 200861, 200861),
        (body({"tag": "action", "actions": []}), 200861, 200861),
        (body({"tag": "blink"}), 200861, 200861),
        (body(md(href={})), 200621, 200621),
        ({**body(md()), "elements": []}, 200621, 200621),
        ({**body(md()), "config": {"wide_screen_mode": True}}, 200621, 200621),
        ({**body(md()), "config": {"update_multi": False}}, 200621, 300302),
        ({**body(md()), "header": {"template": "pink"}}, 200621, 200621),
        (body(*[md()] * 201), 11310, 300305),
        (body(*[button()] * 101), 11310, 300305),
        (body(md(element_id="a"), panel(md(element_id="a"))), 200621, 300301),
        (body(md(element_id="1a")), 200621, 200621),
        (body(md(element_id="a" * 21)), 200621, 200621),
        (body(nested(6)), 11310, 11310),
        (body(*[table()] * 6), 11310, 11310),
        (body(panel(table())), 200621, 200621),
        (body(md(ROWS * 4)), 11310, 11310),
        (body(panel(form(SUBMIT))), 200621, 200621),
        (body(form(SUBMIT, name=None)), 200530, 200530),
        (body(form({"tag": "input", "name": "a"})), 200621, 200621),
        (body(form(SUBMIT, {"tag": "input"})), 200530, 200530),
        (body(form(SUBMIT, {"tag": "input", "name": "s"})), 200621, 200621),
        (body({"tag": "input", "max_length": 1001}), 200621, 200621),
        (body(button(confirm={"text": {"tag": "plain_text", "content": "x"}})), 200621, 200621),
        (body(button(text={"tag": "plain_text", "content": "x" * 101})), 200621, 200621),
        (body(button(behaviors=[{"type": "callback"}])), 200621, 200621),
        (body({"tag": "markdown"}), 200621, 200621),
        (body({"content": "no tag"}), 200621, 200621),
        (body(panel({"content": "no tag"})), 200621, 200621),
    ],
)
def test_bad_cards_are_refused_with_the_code_of_each_face(card: Any, inner: int, kit: int) -> None:
    text = card if isinstance(card, str) else json.dumps(card)
    with pytest.raises(CardError) as refused:
        parse(text, LIMITS, schema_2_only=True)
    assert refused.value.for_kit().code == kit
    message = refused.value.for_message()
    assert (message.code, f"ErrCode: {inner};" in message.msg) == (230099, True)


def test_size_is_counted_in_bytes_and_has_codes_of_its_own() -> None:
    text = json.dumps(body(md("汉" * 10_300)), ensure_ascii=False)
    assert len(text) < LIMITS.card_bytes < len(text.encode())
    with pytest.raises(CardError) as refused:
        parse(text, LIMITS)
    assert (refused.value.for_message().code, refused.value.for_kit().code) == (230025, 200860)


def test_mentions_count_outside_of_fences_only() -> None:
    card = body(md("<at id=ou_1></at> <at ids=ou_2,ou_3></at>"), md("```\n<at id=all></at>\n```\n<at id='ou_4'></at>"))
    assert cards.mentioned(card) == ["ou_1", "ou_2", "ou_3", "ou_4"]


def test_values_of_callbacks_are_no_elements() -> None:
    card = body(button(behaviors=[{"type": "callback", "value": {"tag": "note"}}]))
    assert parse(json.dumps(card), LIMITS) == card


def test_a_card_is_read_as_people_read_it() -> None:
    assert cards.reading(CARD) == "# Fix web\nworking\n[Approve]"
