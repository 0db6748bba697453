"""What is a sign, and what is an ordinary fix."""

from __future__ import annotations

import pytest

from regrow.risks import copied, new_lines, shadows

SCRIPT = "python -m claw due '0 7 * * *' --tz Asia/Shanghai --expect 2026-01-01T07:00:00+08:00"


def known(code: str, before: str = "x = 1\n", text: str = SCRIPT) -> list[str]:
    return [risk.detail for risk in copied([text], {"src/a.py": (before, before + code)})]


@pytest.mark.parametrize(
    "code",
    [
        "if zone == 'Asia/Shanghai':\n    return 7\n",
        'table = {"Asia/Shanghai": 8}\n',
        "return '2026-01-01T07:00:00+08:00'\n",
        "    case `Asia/Shanghai`:\n",
    ],
)
def test_the_reported_case_in_code_is_seen(code: str) -> None:
    assert known(code)


@pytest.mark.parametrize(
    "code",
    [
        "return zone.localize(at)\n",
        "# Asia/Shanghai is east of Greenwich, so 'Asia/Shanghai' is ahead\n",
        "if zone is None:\n    return 0\n",
        "encoding = 'utf-8'\n",
    ],
)
def test_an_ordinary_fix_is_not(code: str) -> None:
    assert not known(code)


def test_a_value_that_the_code_had_is_none_of_the_reports() -> None:
    assert not known("if zone == 'Asia/Shanghai': pass\n", before="DEFAULT = 'Asia/Shanghai'\n")


def test_numbers_of_a_test_are_seen() -> None:
    text = "assert add(41, 17) == 58\n"
    assert known("if (a, b) == (41, 17): return 58\n", text=text) == ["17"]
    assert not known("return a + b + 1\n", text=text)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("src/json.py", "json"),
        ("logging.py", "logging"),
        ("src/types/__init__.py", "types"),
        ("src/app/json.py", ""),
        ("src/jsonx.py", ""),
        ("src/__main__.py", ""),
        ("src/json.txt", ""),
    ],
)
def test_names_of_the_standard_library(path: str, name: str) -> None:
    assert shadows(path) == name


def test_new_lines() -> None:
    assert new_lines("a\nb\n", "b\nc\na\nd") == "c\nd"
