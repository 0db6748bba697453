"""Patterns over words, without the phrases of Regrow."""

from __future__ import annotations

import pytest

from regrow.patterns import Part, Scan, Slot, Word, Words, parse


def matcher(pattern: str) -> tuple[Part, Words]:
    words = Words()
    words.add("act", ["restart", "roll back", "重启"])
    words.add("it", ["it", "服务"])
    slots: dict[str, Part] = {
        "ref": Slot(r"(?P<ref>r\d+)(?!\w)"),
        "who": Slot(r"(?P<who>[\u3400-\u9fff]{2,8})", shorter=2),
    }
    return parse(pattern, Word, slots, words), words


def covers(pattern: str, text: str) -> dict[str, str] | None:
    part, words = matcher(pattern)
    values = Scan(text, words).match(part, 0).get(len(text))
    return None if values is None else dict(values)


@pytest.mark.parametrize(
    ("pattern", "text", "values"),
    [
        ("<act> [<it>]", "restart", {}),
        ("<act> [<it>]", "restart it", {}),
        ("<act> [<it>]", "roll  back it", {}),
        ("<act> [<it>]", "rollback it", {}),
        ("<act> [<it>]", "重启服务", {}),
        ("<act> [<it>]", "restarts", None),
        ("<act> [<it>]", "restart item", None),
        ("<act> <it>", "restart", None),
        ("(please|pls do) <act>", "pls do restart", {}),
        ("(please|pls do) <act>", "do restart", None),
        ("<act> to? {ref}", "roll back to r12", {"ref": "r12"}),
        ("<act> to? {ref}", "roll back r12", {"ref": "r12"}),
        ("<act> to? {ref}", "roll back r12x", None),
        ("请 {who} 移除", "请李四移除", {"who": "李四"}),
    ],
)
def test_a_pattern_covers_a_text_or_not(pattern: str, text: str, values: dict[str, str] | None) -> None:
    assert covers(pattern, text) == values


def test_a_part_that_matches_nothing_leaves_the_blanks() -> None:
    part, words = matcher("<act> [<it>]")
    assert set(Scan("restart now", words).match(part, 0)) == {7}


def test_words_lead_on_from_both_sides_over_marks() -> None:
    words = Words()
    words.add("nice", ["please", "谢谢"])
    scan = Scan("please, please restart! 谢谢", words)
    assert scan.after(0, len(scan.text), frozenset({"nice"}))[-1] == scan.text.index("restart")
    assert scan.text.index("!") in scan.before(0, len(scan.text), frozenset({"nice"}))
    assert not scan.covered(0, len(scan.text), frozenset({"nice"}))


@pytest.mark.parametrize("text", ["重启" * 20_000, "it " * 20_000, " ," * 20_000, "r" * 50_000])
def test_a_long_text_costs_no_more_than_its_length(text: str) -> None:
    part, words = matcher("[<act>] [<it>] [<act>] [<it>] {ref}")
    assert Scan(text, words).match(part, 0) == {}
