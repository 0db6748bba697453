"""Files of settings: one value changes, everything else stays as a person wrote it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.errors import ConfigError
from regrow.settings import format_of, read
from regrow.settings.env import EnvSettings
from regrow.settings.json import JsonSettings
from regrow.settings.toml import TomlSettings

TOML = """# by hand
[service]  # the one
name   = "claw"     # stays
drain = '10s'
list = [
  1,  # one
  2,
]

[channels.a]
on = true
[[bots]]
name = "x"
"""
NAMES = st.text("abcdef_", min_size=1, max_size=6)
VALUES = st.one_of(
    st.integers(-9, 99), st.booleans(), st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
)


def test_toml_keeps_what_it_does_not_touch() -> None:
    text = TomlSettings(TOML).changed({"service.drain": '"5s"'})
    assert text == TOML.replace("'10s'", '"5s"')
    assert TomlSettings(TOML).changed({"service.name": '"paw"'}) == TOML.replace('"claw"', '"paw"')
    assert TomlSettings(TOML).changed({}) == TOML


def test_toml_adds_and_takes_out() -> None:
    added = TomlSettings(TOML).changed({"service.new": "1", "fresh.table.deep": '"x"'})
    values = tomllib.loads(added)
    assert (values["service"]["new"], values["fresh"]["table"]["deep"]) == (1, "x")
    assert "# stays" in added
    gone = TomlSettings(added).changed({"service.new": None, "nowhere.at.all": None})
    assert "new" not in tomllib.loads(gone)["service"]


def test_toml_says_what_is_there() -> None:
    settings = TomlSettings(TOML)
    assert {"service", "service.drain", "channels", "channels.a", "channels.a.on", "bots.0.name"} <= settings.names()
    assert (settings.get("service.drain"), settings.get("service.none"), settings.get("channels.a.on")) == (
        "'10s'",
        None,
        "true",
    )
    with pytest.raises(KeyError):
        settings.get("service")


@given(
    st.dictionaries(NAMES, st.dictionaries(NAMES, VALUES, min_size=1, max_size=4), min_size=1, max_size=4), st.data()
)
def test_toml_changes_one_value_and_can_change_it_back(
    values: dict[str, dict[str, object]], data: st.DataObject
) -> None:
    text = "".join(
        f"[{table}]\n"
        + "".join(f"{key} = {json.dumps(value, ensure_ascii=False)}  # {key}\n" for key, value in entries.items())
        + "\n"
        for table, entries in values.items()
    )
    table = data.draw(st.sampled_from(sorted(values)))
    key = data.draw(st.sampled_from(sorted(values[table])))
    new = data.draw(VALUES)
    settings = TomlSettings(text)
    before = settings.get(f"{table}.{key}")
    changed = settings.changed({f"{table}.{key}": json.dumps(new, ensure_ascii=False)})
    expected = {name: dict(entries) for name, entries in values.items()}
    expected[table][key] = new
    assert tomllib.loads(changed) == expected
    assert TomlSettings(changed).changed({f"{table}.{key}": before}) == text


def test_env_keeps_remarks_and_exports() -> None:
    text = "# keys\n\nexport A=1\nB = two \nA=3\n"
    assert EnvSettings(text).get("A") == "3"
    assert EnvSettings(text).changed({"A": "4"}) == "# keys\n\nexport A=1\nB = two \nA=4\n"
    assert EnvSettings(text).changed({"B": None, "C": "new"}) == "# keys\n\nexport A=1\nA=3\nC=new\n"
    assert EnvSettings("A=1").changed({"B": "2"}) == "A=1\nB=2\n"
    with pytest.raises(ValueError, match="line 2"):
        EnvSettings("A=1\nwhat\n")
    with pytest.raises(ValueError, match="more than one line"):
        EnvSettings("A=1").changed({"A": "1\nB=2"})


@given(st.dictionaries(NAMES, st.text("abc =#'", max_size=8), max_size=5), NAMES, st.text("xyz=", max_size=5))
def test_env_changes_one_value(values: dict[str, str], name: str, new: str) -> None:
    text = "".join(f"{key}={value}\n" for key, value in values.items())
    after = EnvSettings(EnvSettings(text).changed({name: new}))
    assert after.get(name) == new
    assert all(after.get(key) == value for key, value in values.items() if key != name)


def test_json_keeps_order_and_indentation() -> None:
    text = '{\n    "b": 1,\n    "a": {"x": [1, {"y": 2}]}\n}\n'
    changed = JsonSettings(text).changed({"a.z": '"neu"'})
    assert list(json.loads(changed)) == ["b", "a"]
    assert changed.startswith('{\n    "b": 1')
    assert changed.endswith("}\n")
    assert JsonSettings(text).changed({"b": "1"}) == text
    assert JsonSettings(text).get("a.x.1.y") == "2"
    assert {"a", "a.x", "a.x.1", "a.x.1.y"} <= JsonSettings(text).names()
    with pytest.raises(ValueError, match="an object, not a setting"):
        JsonSettings(text).changed({"a": "1"})


@pytest.mark.parametrize(
    ("name", "text"), [("a.toml", "[a\n"), ("b.json", "{"), ("c.json", "[]"), (".env", "what\n"), ("d.json", "")]
)
def test_a_broken_file_is_named(name: str, text: str) -> None:
    with pytest.raises(ConfigError, match=name.replace(".", r"\.")):
        read(Path("/x") / name, text)


@pytest.mark.parametrize("name", ["a.yaml", "a.ini", "a", "env"])
def test_other_formats_are_not_known(name: str) -> None:
    with pytest.raises(ConfigError, match="only"):
        format_of(Path(name))


def test_names_of_environment_files() -> None:
    assert {format_of(Path(name)) for name in (".env", ".env.local", "prod.env")} == {EnvSettings}
