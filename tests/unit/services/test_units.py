"""The texts of unit files."""

import shlex
from pathlib import Path

import pytest

from regrow.config import Config
from regrow.places import Places
from regrow.services import units

PLACES = Places(Path("/var/lib/re grow"), Path("/run/regrow"), Path("/run/regrow/daemon.sock"))


def config(**service):
    named = {"name": "claw", "command": ["true"]}
    return Config.model_validate({"service": named | service, "path": "/srv/50%/regrow.toml"})


def lines(unit, key):
    return [line.partition("=")[2] for line in unit.text.splitlines() if line.startswith(f"{key}=")]


def test_the_embedded_driver_needs_the_daemon_and_a_supervisor():
    made = units.units([config()], PLACES, "user")
    assert [unit.name for unit in made] == ["regrow.service", "regrow-claw.supervisor.service"]
    assert all(units.is_ours(unit.text) for unit in made)
    assert lines(made[0], "KillMode") == lines(made[1], "KillMode") == ["process"]  # F1
    assert "--units" not in made[1].text


def test_the_systemd_driver_has_a_template_of_releases_beside_them():
    made = units.units([config(driver="systemd", drain=3, stop_timeout=4, watchdog=5)], PLACES, "system", "bot")
    assert [unit.name for unit in made][2:] == ["regrow-claw@.service"]
    assert lines(made[2], "TimeoutStopSec") == ["7s"]
    assert lines(made[2], "WatchdogSec") == ["5s"]
    assert lines(made[2], "OnFailure") == [made[1].name]
    assert lines(made[2], "StartLimitIntervalSec") == ["0"]  # F8
    assert [lines(unit, "User") for unit in made] == [["bot"]] * 3
    assert lines(made[1], "WantedBy") == ["multi-user.target"]
    assert made[1].text.count("--units system") == 1


def test_words_stand_for_themselves():
    daemon, supervisor = units.units([config()], PLACES, "user")
    assert "--config /srv/50%%/regrow.toml" in lines(daemon, "ExecStart")[0]
    assert '--dir "/var/lib/re grow/claw" --socket' in lines(supervisor, "ExecStart")[0]
    assert shlex.split(lines(daemon, "Environment")[0])[0] == "REGROW_STATE_DIR=/var/lib/re grow"


@pytest.mark.parametrize(
    ("said", "agrees"),
    [
        (lambda text: text, True),
        (lambda text: text.replace("Environment=", "Environment=A=b "), True),
        (lambda text: text.replace("Type=", "User=bot\nType="), True),
        (lambda text: text.replace("RestartSec=100ms", "RestartSec=1s"), False),
        (lambda _: "", False),
    ],
)
def test_an_installed_unit_agrees_in_all_that_rules_a_release(said, agrees):
    unit = units.supervisor(config(), PLACES, "user")
    assert unit.agrees(said(unit.text)) is agrees


def test_a_supervisors_unit_counts_only_for_its_own_directory(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    where = units.directory("user")
    where.mkdir(parents=True)
    unit = units.supervisor(config(), PLACES, "user")
    path = where / unit.name
    assert units.installed_supervisor("claw", PLACES.service("claw")) is None
    path.write_text(unit.text)
    assert units.installed_supervisor("claw", PLACES.service("claw")) == "user"
    assert units.installed_supervisor("claw", PLACES.service("cla")) is None
    path.write_text(unit.text.replace(units.MARK, "Mine."))
    assert units.installed_supervisor("claw", PLACES.service("claw")) is None
