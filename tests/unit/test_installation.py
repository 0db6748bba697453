"""What is refused before anything is written; the writing is tested in a real systemd."""

import asyncio
import os

import pytest

from regrow import installation
from regrow.errors import ConfigError, Refused
from regrow.services import units


@pytest.fixture
def reachable(monkeypatch):
    async def yes(_):
        return None

    monkeypatch.setattr(installation, "_check_manager", yes)


def plan(tmp_path, text, *arguments):
    path = tmp_path / "regrow.toml"
    path.write_text(f'[service]\nname = "claw"\ncommand = ["true"]\n{text}')
    return asyncio.run(installation.plan_install([path], *arguments))


def test_only_root_installs_for_the_system(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(Refused) as refused:
        plan(tmp_path, "", "system")
    assert refused.value.kind == "forbidden"


def test_units_of_releases_belong_to_the_manager_that_the_settings_name(tmp_path, reachable):
    with pytest.raises(ConfigError, match='its \\[service\\] scope is "user"'):
        plan(tmp_path, 'driver = "systemd"\n', "system")


def test_a_users_units_run_as_that_user(tmp_path, reachable):
    with pytest.raises(ConfigError, match="use --system"):
        plan(tmp_path, "", "user", "nobody")
    with pytest.raises(ConfigError, match="there is no such user"):
        plan(tmp_path, "", "system", "no-such-user")


def test_a_user_of_the_system_manager_gets_a_narrow_rule(tmp_path, reachable, monkeypatch):
    monkeypatch.setattr(units, "_SYSTEM", tmp_path / "system")
    monkeypatch.setattr(installation, "_POLKIT", tmp_path / "rules.d")
    driver = 'driver = "systemd"\nscope = "system"\n'
    with pytest.raises(Refused) as refused:
        plan(tmp_path, driver, "system", "nobody")
    assert refused.value.kind == "no_polkit"
    (tmp_path / "rules.d").mkdir()
    made = {change.path.name: change.after or "" for change in plan(tmp_path, driver, "system", "nobody").changes}
    assert 'subject.user == "nobody"' in made["50-regrow.rules"]
    assert "regrow-(claw)(@" in made["50-regrow.rules"]
    assert units.is_ours(made["50-regrow.rules"])
    assert "User=nobody\nStateDirectory=regrow\n" in made[units.DAEMON]
    assert "User=nobody\n" in made["regrow-claw@.service"]


def test_a_secret_that_a_unit_does_not_see_is_told_of(tmp_path, reachable, monkeypatch):
    monkeypatch.setattr(units, "_SYSTEM", tmp_path / "system")
    made = plan(tmp_path, '[service.secrets]\nA = "env:A"\nB = "file:/b"\n', "system")
    assert made.notes == (("secret", {"name": "env:A"}),)


def test_a_change_is_shown_as_a_diff(tmp_path):
    change = installation.Change(tmp_path / "a.service", "one\ntwo\n", "one\nthree\n")
    assert change.diff.splitlines()[2:] == ["@@ -1,2 +1,2 @@", " one", "-two", "+three"]
    assert installation.Change(tmp_path / "b", None, "new\n").diff.startswith("--- /dev/null\n")
