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


def test_only_what_may_be_said_holds_once_the_file_was_read_again(config: Config, tmp_path: Path) -> None:
    text = TEXT.replace('name = "claw"', 'name = "other"\ndrain = "3s"\nstandby = "none"')
    text = text.replace('ZONE = "UTC"', 'ZONE = "CET"').replace('target = "/health"', 'target = "/else"\nstrikes = 7')
    text += '[probe.fresh]\ntarget = "/"\n[sandbox]\nown_user = false\n[repair]\napprove = "never"\nattempts = 2\n'
    now = settable.live(config, parse(tmp_path / "regrow.toml", text))
    assert (now.service.name, now.service.standby, now.sandbox.own_user) == ("claw", "running", True)
    assert (now.repair.approve, now.probe["health"].target, set(now.probe)) == ("always", "/health", {"health", "port"})
    assert (now.service.drain, now.service.env, now.probe["health"].strikes) == (3.0, {"ZONE": "CET"}, 7)
    assert now.repair.attempts == 2


def test_what_was_not_set_stays_not_set(tmp_path: Path) -> None:
    """A probe of a chat is asked less often unless its interval is written out."""
    text = TEXT + '[chat]\nforward = "http://127.0.0.1:1/chat"\n[probe.talk]\ntype = "chat"\ntarget = "hello"\n'
    before = parse(tmp_path / "regrow.toml", text)
    now = settable.live(before, parse(tmp_path / "regrow.toml", text.replace('"hello"', '"hello"\nstrikes = 2')))
    assert (now.probe["talk"].strikes, now.probe["talk"].every) == (2, before.probe["talk"].every)


def test_what_systemd_holds_to_is_changed_by_an_installation(tmp_path: Path) -> None:
    path = tmp_path / "regrow.toml"
    now = parse(path, TEXT.replace('command = ["x"]', 'command = ["x"]\ndriver = "systemd"'))
    for word in ("drain", "service.start_timeout", "排空时间", "stop timeout"):
        with pytest.raises(Refused) as refused:
            settable.find(word, now)
        assert refused.value.kind == "in_units"
    assert not settable.IN_UNITS & set(settable.names(now))
    assert settable.find("bake", now) == "switch.bake"
    edited = parse(path, TEXT.replace('command = ["x"]', 'command = ["x"]\ndriver = "systemd"\ndrain = "1s"'))
    assert settable.live(now, edited).service.drain == now.service.drain
