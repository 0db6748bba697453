from __future__ import annotations

import re
from pathlib import Path

import pytest

from regrow.catalogue import accepted_language
from regrow.web import words

WEB = Path(words.__file__).parent


def test_every_text_that_a_page_asks_for_exists() -> None:
    pages = [*WEB.glob("templates/*.html"), *WEB.glob("static/*.js")]
    asked = {key for page in pages for key in re.findall(r"""\bsay\(["'](\w+)["'][,)]""", page.read_text("utf-8"))}
    assert len(asked) > 60
    assert asked - set(words.words("en")) == set()


@pytest.mark.parametrize(
    ("seconds", "en", "zh"),
    [
        (0, "0 s", "0 秒"),
        (-3, "0 s", "0 秒"),
        (0.004, "0.1 s", "0.1 秒"),
        (0.44, "0.4 s", "0.4 秒"),
        (0.97, "1 s", "1 秒"),
        (72.2, "1 min 12 s", "1 分 12 秒"),
        (120, "2 min", "2 分"),
        (3600 + 5, "1 h", "1 小时"),
        (273_720, "3 d 4 h", "3 天 4 小时"),
    ],
)
def test_durations_read_as_people_say_them(seconds: float, en: str, zh: str) -> None:
    assert (words.duration("en", seconds), words.duration("zh", seconds)) == (en, zh)


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("en-GB,en;q=0.9,zh;q=0.8", "en"),
        ("fr-FR,fr;q=0.9,zh;q=0.5,en;q=0.3", "zh"),
        ("en;q=0.2, zh_TW;q=0.7", "zh"),
        ("en;q=0", None),
        ("zh;q=much", None),
        ("fr", None),
        ("", None),
    ],
)
def test_the_browser_chooses_the_language(header: str, language: str | None) -> None:
    assert accepted_language(header) == language


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (38_000_000, "38 MB"), (2.5e9, "2.5 GB")]
)
def test_sizes(number: float, text: str) -> None:
    assert words.size(number) == text
