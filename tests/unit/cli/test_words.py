from __future__ import annotations

import re
from pathlib import Path

import pytest

from regrow import catalogue
from regrow.cli import words

CALLS = [path.read_text("utf-8") for path in Path(words.__file__).parent.glob("*.py")]


def test_every_text_is_said_somewhere() -> None:
    statuses = {"todo", "doing", "waiting", "undoing", "done", "failed", "undone", "cancelled"}
    quoted = set(re.findall(r"""["'](\w+)["']""", "\n".join(CALLS)))
    assert {key.removeprefix("cli.") for key in catalogue.texts("en", "cli")} - statuses - quoted == set()


@pytest.mark.parametrize(
    ("variables", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({}, "en"),
    ],
)
def test_the_language_of_the_terminal(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], language: str
) -> None:
    for name in ("LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    words.language.cache_clear()
    assert words.language() == language
    words.language.cache_clear()
