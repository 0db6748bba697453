"""Which settings may be changed by saying so."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow import settable
from regrow.catalogue import LANGUAGES
from regrow.config import Config, parse
from regrow.errors import Refused
from regrow.permissions import Role

TEXT = """
[service]
name = "claw"
command = ["x"]
[service.env]
ZONE = "UTC"
[probe.health]
target = "/health"
[probe.port]
type = "tcp"
target = "127.0.0.1:1"
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(tmp_path / "regrow.toml", TEXT)


def test_every_entry_of_the_table_is_a_setting_with_a_title(config: Config) -> None:
    known = set(settable._every(Config, ""))
    for pattern in settable.SETTABLE:
        assert pattern.replace(".*.", ".").removesuffix(".*") in known, pattern
        for language in LANGUAGES:
            assert settable.title(pattern, language), (pattern, language)


@pytest.mark.parametrize(
    "name",
    [
        *(
            "sandbox.driver",
            "sandbox.own_user",
            "repair.approve",
            "repair.four_eyes",
            "repair.allowed",
            "repair.denied",
        ),
        *("service.command", "service.secrets.KEY", "build.command", "build.egress", "test.command", "model.key"),
        *("model.budget", "daemon.console", "daemon.store", "mcp.role", "mcp.notify", "channels.feishu.people"),
        *("service.env", "probe.health.target", "probe.health.command", "config.files", "agent.x.command", "path"),
    ],
)
def test_what_weakens_the_box_or_decides_who_may_do_what_is_changed_by_hand(config: Config, name: str) -> None:
    assert settable.role_of(name) is None
    with pytest.raises(Refused):
        settable.find(name, config)


def test_variables_of_the_environment_take_an_owner() -> None:
    assert settable.role_of("service.env.LD_PRELOAD") is Role.owner
    assert settable.role_of("service.drain") is Role.maintainer


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("drain", "service.drain"),
        ("service.drain", "service.drain"),
        ("stop timeout", "service.stop_timeout"),
        ("Drain Time", "service.drain"),
        ("排空时间", "service.drain"),
        ("probe.health.strikes", "probe.health.strikes"),
        ("zone", "service.env.ZONE"),
        ("`bake`", "switch.bake"),
    ],
)
def test_what_people_call_a_setting(config: Config, word: str, name: str) -> None:
    assert settable.find(word, config) == name


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("strikes", "which_setting"),
        ("timeout", "which_setting"),
        ("driver", "not_settable"),
        ("sandbox.driver", "not_settable"),
        ("alarm", "no_such_setting"),
        ("", "no_such_setting"),
    ],
)
def test_what_is_unclear_or_unknown(config: Config, word: str, kind: str) -> None:
    with pytest.raises(Refused) as refused:
        settable.find(word, config)
    assert refused.value.kind == kind


def test_no_title_names_two_settings() -> None:
    for language in LANGUAGES:
        seen: dict[str, str] = {}
        for pattern in settable.SETTABLE:
            for word in settable.texts(language)[f"setting.{pattern}"].split("|"):
                assert seen.setdefault(word.strip().lower(), pattern) == pattern
