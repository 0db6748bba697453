"""`regrow init` as somebody types it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from regrow.testing.repositories import Checkout

SERVER = 'if __name__ == "__main__":\n    HTTPServer(("127.0.0.1", 8080), H).serve_forever()\n'


@pytest.fixture
def shop(root: Path) -> Path:
    Checkout(root / "shop").commit("Begin", {"serve.py": SERVER})
    return root / "shop"


def test_it_is_shown_and_asked_about(shop: Path, terminal: Any) -> None:
    told = terminal("init", str(shop))
    told.expect(r"command = \[\"\{python\}\", \"serve.py\"\]")
    told.expect(r"write that\? \[y/n\] ")
    told.type("n\n")
    assert told.end() == 6
    assert not (shop / "regrow.toml").exists()
    again = terminal("init", str(shop), LANG="zh_CN.UTF-8")
    again.expect(r"要写入吗？\[y/n\] ")
    again.type("是\n")
    assert again.end() == 0
    assert "regrow up" in again.seen
    assert "# 运行" not in (shop / "regrow.toml").read_text()
    assert "直接运行 serve.py 就会提供服务" in (shop / "regrow.toml").read_text()


def test_without_anybody_there_it_must_be_said(shop: Path, command: Any) -> None:
    done = command.run("init", str(shop))
    assert (done.returncode, (shop / "regrow.toml").exists()) == (64, False)
    assert "--yes or --dry-run" in done.stderr
    assert command.run("init", str(shop), "--dry-run").returncode == 0
    assert not (shop / "regrow.toml").exists()


def test_json_says_each_setting_with_its_reason(shop: Path, command: Any) -> None:
    document = json.loads(command.run("init", str(shop), "--json", "--yes").stdout)
    assert (document["language"], document["done"]) == ("python", True)
    rows = {row["name"]: row for row in document["settings"]}
    assert rows["service.command"]["value"] == ["{python}", "serve.py"]
    assert rows["service.command"]["why"] == "serve.py serves when it is run"
    assert rows["probe.health.target"]["asked"] is True
    assert document["files"][0]["text"] == (shop / "regrow.toml").read_text()
    done = command.run("init", str(shop), "--json", "--template", "go", "--yes")
    assert (done.returncode, json.loads(done.stderr)["kind"]) == (5, "exists")


def test_the_templates_are_listed_with_what_they_are_for(command: Any) -> None:
    listed = command.run("init", "--list").stdout.splitlines()
    assert any(line.split()[:4] == ["go", "a", "Go", "module"] for line in listed)
    rows = json.loads(command.run("init", "--list", "--json", LANG="zh_CN.UTF-8").stdout)
    assert {"python", "node", "go", "rust"} <= {row["name"] for row in rows}
    assert all(row["text"] for row in rows)


def test_a_template_says_which_values_are_its_own(shop: Path, command: Any) -> None:
    done = command.run("init", str(shop), "--template", "node", "--set", "main=bot.js", "--yes")
    assert done.returncode == 0
    assert "health = /health is the template's own value" in done.stderr
    assert "main =" not in done.stderr
    assert 'command = ["node", "bot.js"]' in (shop / "regrow.toml").read_text()
    (shop / "regrow.toml").unlink()
    unknown = command.run("init", str(shop), "--template", "cobol", "--yes")
    assert unknown.returncode == 5
    assert all(name in unknown.stderr for name in ("go", "node", "python", "rust"))
