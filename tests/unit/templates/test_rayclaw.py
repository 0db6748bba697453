"""The template for RayClaw: its files as RayClaw reads them, and its commands as they are run."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from regrow import catalogue
from regrow.api import mcp as tools
from regrow.config import Config, parse
from regrow.templates.base import fill

FACTS = {"branch": "main", "name": "rayclaw", "toolchain": "/opt/rust", "cargo_home": "/home/a/.cargo"}
SCHEMA = """
CREATE TABLE chats (chat_id INTEGER PRIMARY KEY, chat_title TEXT, chat_type TEXT NOT NULL DEFAULT 'private',
    last_message_time TEXT NOT NULL, channel TEXT, external_chat_id TEXT);
CREATE TABLE messages (id TEXT NOT NULL, chat_id INTEGER NOT NULL, sender_name TEXT NOT NULL, content TEXT NOT NULL,
    is_from_bot INTEGER NOT NULL DEFAULT 0, timestamp TEXT NOT NULL, PRIMARY KEY (id, chat_id));
"""
"""As src/db.rs of 0.2.5 makes them."""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return parse(tmp_path / "regrow.toml", fill("rayclaw", FACTS, {"chat": "oc_1"}, "en").files["regrow.toml"])


def run(argv: list[str], cwd: Path, path: str = "") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PATH": f"{path}:{os.environ['PATH']}", "CARGO_NET_OFFLINE": "true"}
    return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=60)


# What RayClaw reads


def test_the_skill_is_one_that_rayclaw_finds() -> None:
    text = fill("rayclaw", FACTS, {}, "en").files["rayclaw.data/skills/regrow/SKILL.md"]
    opening, head, body = re.split(r"(?m)^---\n", text, maxsplit=2)
    assert opening == ""
    # Plain scalars and flow lists only: what its YAML reader makes of each line is what is written.
    rows = dict(line.split(": ", 1) for line in head.splitlines())
    assert rows["name"] == "regrow"
    assert rows["platforms"] == "[linux]"
    assert ": " not in rows["description"]
    assert " #" not in rows["description"]
    assert "重启" in rows["description"]
    assert body.strip().startswith("# ")


def test_the_skill_names_tools_that_there_are_as_rayclaw_names_them() -> None:
    text = fill("rayclaw", FACTS, {}, "en").files["rayclaw.data/skills/regrow/SKILL.md"]
    named = set(re.findall(r"`mcp_regrow_(\w+)`", text))
    assert {"restart", "deploy", "repair", "rollback", "status", "cancel"} <= named
    for name in named:
        assert callable(getattr(tools.Tools, name))
    for forbidden in ("bash", "systemctl", "kill", "rayclaw gateway", "rayclaw update", "hot-reload.sh"):
        assert f"`{forbidden}`" in text


def test_the_servers_entry_is_one_that_rayclaw_starts() -> None:
    files = fill("rayclaw", FACTS, {"chat": "oc_1"}, "en").files
    entry = json.loads(files["regrow/mcp.json"])["mcpServers"]["regrow"]
    assert entry == {"command": "regrow", "args": ["mcp", "--chat", "feishu:oc_1"]}


def test_the_rule_for_sudo_allows_three_commands_and_no_pattern() -> None:
    text = fill("rayclaw", FACTS, {"user": "ubuntu"}, "en").files["regrow/sudoers"]
    (rule,) = [line for line in text.splitlines() if line and not line.startswith("#")]
    who, commands = rule.split(" NOPASSWD: ")
    assert who == "ubuntu ALL=(root)"
    assert commands.split(", ") == [
        f"/usr/bin/systemctl {verb} regrow.service" for verb in ("start", "stop", "restart")
    ]
    assert "*" not in commands
    if checker := shutil.which("visudo", path="/usr/sbin:/usr/bin"):
        done = subprocess.run([checker, "-cf", "-"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_settings_say_what_was_measured_of_rayclaw(config: Config) -> None:
    assert config.service.effective_handover == "exclusive"
    assert config.repair.allowed == ("src/**/*.rs",)
    assert config.state.sqlite == ("rayclaw.data/runtime/rayclaw.db",)
    assert config.mcp is not None
    assert config.mcp.notify == ("feishu:oc_1",)
    assert not config.build.egress


@pytest.mark.parametrize("language", ["en", "zh"])
def test_what_is_left_to_do_is_said_with_what_was_filled_in(language: str) -> None:
    values = fill("rayclaw", FACTS, {"name": "claw"}, language).values
    assert "claw" in catalogue.say_fitting(language, "init.next_rayclaw", **values)


# What is run


def busy(config: Config, state: Path) -> int:
    done = run(config.expand(config.service.idle_command, state=str(state)), state)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout)["conversations"])


def database(state: Path) -> sqlite3.Connection:
    folder = state / "rayclaw.data" / "runtime"
    folder.mkdir(parents=True)
    data = sqlite3.connect(folder / "rayclaw.db", isolation_level=None)
    data.executescript(SCHEMA)
    return data


def test_a_conversation_that_waits_for_its_answer_is_counted(config: Config, tmp_path: Path) -> None:
    data = database(tmp_path)
    chats = [(1, "feishu_dm"), (2, "feishu_group"), (3, "feishu_group"), (4, "feishu_dm"), (5, "feishu_dm")]
    data.executemany("INSERT INTO chats (chat_id, chat_type, last_message_time) VALUES (?, ?, '')", chats)
    assert busy(config, tmp_path) == 0
    now = datetime.now(UTC)

    def say(chat: int, text: str, age_s: float, bot: int = 0) -> None:
        at = (now - timedelta(seconds=age_s)).isoformat().replace("+00:00", "000+00:00")  # nanoseconds, as Rust has it
        data.execute(
            "INSERT INTO messages VALUES (?, ?, 'x', ?, ?, ?)", (f"{chat}{text}{age_s}{bot}", chat, text, bot, at)
        )

    say(1, "hello", 5)
    say(2, "not for the bot", 5)
    say(4, "long ago", 3600)
    say(5, "answered", 9)
    say(5, "an answer", 4, bot=1)
    assert busy(config, tmp_path) == 1
    say(3, "@_user_1 restart", 2)
    assert busy(config, tmp_path) == 2
    say(1, "an answer", 1, bot=1)
    assert busy(config, tmp_path) == 1
    data.close()


@pytest.fixture
def cargo(tmp_path: Path) -> Path:
    """Stands for cargo: writes down where it ran and with which words, and makes a program."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "cargo"
    program.write_text(
        '#!/bin/sh\necho "$(pwd) $*" >>"$(dirname "$0")/calls"\nls tests src >"$(dirname "$0")/seen" 2>&1\n'
        'mkdir -p "$CARGO_TARGET_DIR/release/deps"; echo built >"$CARGO_TARGET_DIR/release/rayclaw"\n'
    )
    program.chmod(0o755)
    return folder


def tree(place: Path, *names: str) -> Path:
    for name in names:
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_text(name)
    return place


def test_a_build_happens_in_the_same_folder_each_time_and_touches_only_what_changed(
    config: Config, tmp_path: Path, cargo: Path
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "out"
    out.mkdir()
    argv = config.expand(config.build.command, out=str(out), cache=str(cache))
    first = run(argv, tree(tmp_path / "one", "Cargo.toml", "src/main.rs", "src/old.rs", "src/a name.rs"), str(cargo))
    assert first.returncode == 0, first.stderr
    assert (out / "rayclaw").read_text() == "built\n"
    kept = cache / "source"
    os.utime(kept / "src/main.rs", (1, 1))
    second = tree(tmp_path / "two", "Cargo.toml", "src/main.rs", "src/a name.rs", "src/new.rs")
    (second / "src/a name.rs").write_text("changed")
    assert run(argv, second, str(cargo)).returncode == 0
    assert sorted(path.name for path in (kept / "src").iterdir()) == ["a name.rs", "main.rs", "new.rs"]
    assert (kept / "src/main.rs").stat().st_mtime == 1
    assert (kept / "src/a name.rs").read_text() == "changed"
    words = "build --release --locked --no-default-features --features feishu,web"
    assert (cargo / "calls").read_text().splitlines() == [f"{kept} {words}"] * 2


def test_tests_wait_for_a_build_and_for_a_test(config: Config, tmp_path: Path, cargo: Path) -> None:
    cache = tmp_path / "cache"
    argv = config.expand(config.test.command, cache=str(cache))
    assert "not tested" in run(argv, tree(tmp_path / "one", "src/main.rs"), str(cargo)).stdout
    tree(cache, "target/release/deps/libserde.rlib")
    assert "no tests/" in run(argv, tmp_path / "one", str(cargo)).stdout
    assert not (cargo / "calls").exists()


def started(config: Config, tmp_path: Path, state: Path) -> list[str]:
    """What a program prints that stands for RayClaw, started as the settings say."""
    release = tmp_path / "release"
    release.mkdir(exist_ok=True)
    (release / "rayclaw").write_text('#!/bin/sh\necho "$(pwd) $RAYCLAW_CONFIG $*"\n')
    (release / "rayclaw").chmod(0o755)
    return run(
        config.expand(config.service.command, release=str(release), state=str(state)), tmp_path
    ).stdout.splitlines()


def test_it_starts_where_its_settings_are_and_on_a_copy_with_those_of_the_build(config: Config, tmp_path: Path) -> None:
    release = tmp_path / "release"
    own, copy = tree(tmp_path / "own", "rayclaw.config.yaml"), tmp_path / "copy"
    copy.mkdir()
    for state, settings in ((own, ""), (copy, f"{release}/trial.yaml")):
        *said, last = started(config, tmp_path, state)
        assert last == f"{state} {settings} start"
        assert all("cannot look" in line for line in said), "there is no database yet"


def test_what_came_in_its_last_seconds_and_has_no_answer_is_forgotten(config: Config, tmp_path: Path) -> None:
    """Its duplicate filter would drop what the platform sends again; what is older may have been acted upon."""
    data = database(tmp_path)
    now = datetime.now(UTC)

    def say(message: str, chat: int, age_s: float, bot: int = 0) -> None:
        row = (message, chat, message, bot, (now - timedelta(seconds=age_s)).isoformat())
        data.execute("INSERT INTO messages VALUES (?, ?, 'x', ?, ?, ?)", row)

    say("cut off", 1, -20)  # from the future: however slow this machine is
    say("asked for a restart", 2, 60)
    say("answered", 3, -20)
    say("its answer", 3, -30, bot=1)
    assert started(config, tmp_path, tmp_path)[0].startswith(str(tmp_path))
    left = {row[0] for row in data.execute("SELECT id FROM messages")}
    assert left == {"asked for a restart", "answered", "its answer"}
    data.close()


def test_the_interpreter_of_the_idle_command_is_regrows_own(config: Config) -> None:
    assert config.expand(config.service.idle_command, state="/s")[0] == sys.executable
