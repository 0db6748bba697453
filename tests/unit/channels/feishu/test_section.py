"""Who stays when a section is replaced, and how it is written."""

from __future__ import annotations

import tomllib

from regrow.channels.feishu import section
from regrow.config import FeishuSection, PersonSection


def person(name: str, **fields: str) -> PersonSection:
    return PersonSection(**({"id": name, "name": name.title(), "role": "viewer", "open_id": f"ou_{name}"} | fields))  # type: ignore[arg-type]


def settings(*people: PersonSection, app_id: str = "cli_1") -> FeishuSection:
    return FeishuSection(app_id=app_id, app_secret="env:S", proxy="http://p:1", people=people)


OWNER = person("ada", role="owner", union_id="on_ada")


def test_what_is_written_reads_as_what_was_meant() -> None:
    meant = settings(OWNER, person("vera"))
    assert FeishuSection(**tomllib.loads("\n".join(section.lines(meant)))) == meant


def test_the_others_stay_and_the_owner_is_there_once() -> None:
    old = settings(person("vera"), person("old", union_id="on_ada"), person("ada", open_id="ou_another"))
    kept = section.people(old, "cli_1", OWNER)
    assert [(one.id, one.role, one.open_id) for one in kept] == [
        ("ada-2", "owner", "ou_ada"),
        ("vera", "viewer", "ou_vera"),
        ("ada", "viewer", "ou_another"),
    ]
    assert section.people(None, "cli_1", OWNER) == (OWNER,)


def test_with_another_app_only_a_union_id_still_means_somebody() -> None:
    old = settings(person("vera"), person("stan", union_id="on_stan"))
    kept = section.people(old, "cli_2", OWNER)
    assert [(one.id, one.open_id, one.union_id) for one in kept[1:]] == [("stan", "", "on_stan")]


def test_a_name_becomes_an_id() -> None:
    names = ["Ada Lovelace", "张三", "9 lives", "x" * 60, "Ada!"]
    assert [section.name_to_id(one) for one in names] == ["ada-lovelace", "owner", "owner", "x" * 31, "ada"]
