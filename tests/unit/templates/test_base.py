"""Every template, filled in with what its own language's example shows, is a configuration that loads."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from regrow.config import parse
from regrow.errors import Refused
from regrow.templates.base import fill, names

FACTS = {"name": "counter", "branch": "trunk", "address": "127.0.0.1:8731", "binary": "counter", "main": "main.py"}
FACTS["cargo_home"] = "/home/ada/.cargo"


def settings(text: str) -> dict[str, object]:
    return tomllib.loads(text)


@pytest.mark.parametrize("name", names())
def test_every_template_loads_and_says_the_same_in_both_languages(name: str, tmp_path: Path) -> None:
    english, chinese = (fill(name, FACTS, {}, language) for language in ("en", "zh"))
    assert english.files.keys() == chinese.files.keys()
    assert "regrow.toml" in english.files
    config = parse(tmp_path / "regrow.toml", english.files["regrow.toml"])
    assert (config.service.name, config.source.branch) == ("counter", "trunk")
    assert settings(english.files["regrow.toml"]) == settings(chinese.files["regrow.toml"])
    assert not [text for text in english.files.values() if "@" in text.replace("@example.org", "")]


def test_what_a_person_says_wins_and_what_nobody_says_is_named() -> None:
    filled = fill("go", FACTS, {"address": "0.0.0.0:9000"}, "en")
    assert 'http = "0.0.0.0:9000"' in filled.files["regrow.toml"]
    assert "health" in filled.defaults
    assert "address" not in filled.defaults


def test_a_line_with_an_empty_field_is_left_out() -> None:
    assert "readable" not in fill("go", FACTS, {}, "en").files["regrow.toml"]
    assert (
        'readable = ["/usr/local/go"]' in fill("go", FACTS, {"toolchain": "/usr/local/go"}, "en").files["regrow.toml"]
    )


@pytest.mark.parametrize(
    ("name", "facts", "said", "kind"),
    [
        ("cobol", FACTS, {}, "no_template"),
        ("../go", FACTS, {}, "no_template"),
        ("go", FACTS, {"colour": "red"}, "no_field"),
        ("go", {}, {}, "no_field"),
        ("go", FACTS, {"health": '/x"\n[repair]'}, "bad_field"),
        ("go", FACTS, {"name": "Counter"}, "bad_field"),
    ],
)
def test_what_cannot_be_filled_in_is_refused(name: str, facts: dict[str, str], said: dict[str, str], kind: str) -> None:
    with pytest.raises(Refused, match=r"^cannot ") as refused:
        fill(name, facts, said, "en")
    assert refused.value.kind == kind
