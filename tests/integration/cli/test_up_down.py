"""Starting and stopping the daemon as a process; the daemon itself is a small program that speaks the contract."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def config(root: Path) -> str:
    path = root / "regrow.toml"
    path.write_text("")
    return str(path)


def test_up_and_down(command: Any, config: str, fake_daemon: dict[str, str]) -> None:
    up = command.run("up", "--config", config, **fake_daemon)
    assert up.returncode == 0, up.stderr
    assert "regrow 9.9 is up, pid" in up.stdout
    assert "console: http://127.0.0.1" in up.stdout
    again = command.run("up", "--config", config, "--json", **fake_daemon)
    assert (again.returncode, json.loads(again.stdout)["version"]) == (0, "9.9")
    down = command.run("down", "--json")
    assert json.loads(down.stdout) == {"stopped": True, "left": []}
    assert command.run("down").returncode == 69, "nobody can say that the services are down"
    assert command.run("down", "--keep-services").returncode == 0


def test_a_daemon_that_ends_early_gives_its_last_line_and_its_code(
    command: Any, config: str, fake_daemon: dict[str, str]
) -> None:
    ended = command.run("up", "--config", config, **fake_daemon, FAKE_DAEMON_ENDS="78")
    assert ended.returncode == 78
    assert "cannot read regrow.toml: the last line" in ended.stderr


def test_without_a_configuration_is_exit_78(command: Any, root: Path) -> None:
    ended = command.run("up", "--config", str(root / "none.toml"))
    assert ended.returncode == 78
    assert f"cannot find {root}/none.toml" in ended.stderr


def test_foreground_passes_signals_and_ends_with_the_daemon(
    command: Any, config: str, fake_daemon: dict[str, str], root: Path, scripted: Any
) -> None:
    process = command.start("up", "--foreground", "--config", config, environment=fake_daemon)
    scripted.wait_for((root / "d.sock").exists, "the daemon")
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=30)
    assert process.returncode == 7
    assert "ended by signal 15" in out
