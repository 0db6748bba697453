"""A further language is a file that is dropped in: here one that a machine has made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from regrow import catalogue
from regrow.catalogue import LANGUAGES, answer_language, help_text, known_language, languages, say, texts, translation
from regrow.cli import words as terminal
from regrow.config import load
from regrow.doctor import findings
from regrow.errors import ConfigError
from regrow.places import Places
from regrow.web import words as pages

PARTS = ("", "cli", "web", "setup", "init")


def write(directory: Path, language: str, found: dict[str, str]) -> Path:
    """A catalogue of one file."""
    directory.mkdir(exist_ok=True)
    path = directory / f"{language}.toml"
    path.write_text(
        "".join(f"{json.dumps(key)} = {json.dumps(text, ensure_ascii=False)}\n" for key, text in found.items())
    )
    return path


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("REGROW_CATALOGUES", str(tmp_path / "catalogues"))
    return tmp_path / "catalogues"


def everything() -> dict[str, str]:
    """Every text of Regrow, as somebody who cannot be misunderstood would translate it."""
    return {key: f"⟦{text}⟧" for part in PARTS for key, text in texts("en", part).items()}


def test_a_file_is_a_language(directory: Path) -> None:
    assert languages() == LANGUAGES
    write(directory, "eo", everything())
    assert languages() == (*LANGUAGES, "eo")
    assert translation("eo").problems == ()
    assert translation("eo").missing == frozenset()
    for part in PARTS:
        assert all(text.startswith("⟦") for text in texts("eo", part).values())
    assert say("eo", "result.deploy", version="1") == "⟦✅ Back online, version: 1⟧"
    assert help_text("eo", ["restart"]).startswith("⟦You can tell me:⟧")
    assert pages.say("eo", "missing_job", id=7) == "⟦There is no job #7.⟧"
    assert catalogue.duration_text("eo", 72) == "⟦1m 12s⟧"


def test_what_a_file_leaves_out_is_said_in_english(directory: Path) -> None:
    write(directory, "eo", {"result.restart": "✅ Denove rulas"})
    assert say("eo", "result.restart") == "✅ Denove rulas"
    assert say("eo", "result.repair") == "✅ Bug fixed and deployed!"
    assert "result.repair" in translation("eo").missing


def test_what_is_wrong_in_a_file_is_told_and_said_in_english(directory: Path) -> None:
    wrong = {"result.deploy": "{verison}", "result.nothing": "x", "result.repair": " ", "result.first": "{version"}
    write(directory, "eo", wrong | {"result.version": "versio"})
    problems = translation("eo").problems
    assert [line.partition(":")[0] for line in problems] == list(wrong)
    assert say("eo", "result.deploy", version="1") == "✅ Back online, version: 1"
    assert say("eo", "result.version", version="1") == "versio", "a translation may leave a field out"
    (directory / "xx.toml").write_text("no = such = thing")
    assert "cannot read xx.toml" in translation("xx").problems[0]
    assert say("xx", "result.repair") == say("en", "result.repair")


def test_a_programs_own_fault_is_found_in_any_language(directory: Path) -> None:
    write(directory, "eo", everything())
    with pytest.raises(TypeError):
        say("eo", "result.restart", version="1")
    with pytest.raises(KeyError):
        say("eo", "result.deploy")


def test_only_the_name_of_a_language_is_one(directory: Path) -> None:
    write(directory, "eo", everything())
    write(directory, "pt-BR", everything())
    for name in ("README", "x", "a.b"):
        write(directory, name, everything())
    assert languages() == (*LANGUAGES, "eo", "pt-BR")
    assert known_language("eo-XX") == "eo"
    assert known_language("pt_br") == "pt-BR"
    assert known_language("pt") is None
    assert catalogue.accepted_language("fr, eo;q=0.9, en;q=0.1") == "eo"


def test_a_language_of_ones_own_is_spoken_to_everybody(directory: Path) -> None:
    assert [answer_language("zh", "en"), answer_language("en", "zh"), answer_language("zh", "eo")] == ["zh", "en", "eo"]


def test_the_terminal_speaks_it_where_the_locale_asks_for_it(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(directory, "eo", everything())
    monkeypatch.setenv("LC_ALL", "eo_XX.UTF-8")
    terminal.language.cache_clear()
    assert terminal.say("stopped") == "⟦stopped; nothing is left running⟧"
    terminal.language.cache_clear()


def test_the_setting_names_a_language_that_can_be_spoken(directory: Path, tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    path = tmp_path / "regrow.toml"
    lines = ["[service]", 'name = "tiny"', 'command = ["x"]', "[service.listen]", 'http = "127.0.0.1:8700"']
    probe = ["[probe.health]", 'target = "/health"', "[daemon]", 'language = "eo"']
    path.write_text("\n".join([*lines, *probe]))
    with pytest.raises(ConfigError, match=r"eo\.toml"):
        load(path)
    write(directory, "eo", everything())
    assert load(path).daemon.language == "eo"


async def test_the_doctor_tells_what_a_file_lacks(directory: Path, tmp_path: Path) -> None:
    write(directory, "eo", {"result.restart": "x", "result.deploy": "{verison}"})
    (found,) = [one for one in await findings(Places(tmp_path, tmp_path, tmp_path), {}, {}) if "language" in one.name]
    assert (found.name, found.ok) == ("language eo", False)
    assert found.detail.startswith("1 texts, ")
    assert "result.deploy: it has no field verison" in found.detail
