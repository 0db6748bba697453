"""`regrow audit` and `regrow backup`, of a real daemon."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.testing.world import World


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """A service that was restarted once."""
    made = World(tmp_path_factory.mktemp("world"))

    async def begin() -> None:
        await made.bring_up()
        await made.say("重启一下")

    asyncio.run(begin())
    yield made
    asyncio.run(made.close())


async def test_audit_shows_who_asked_for_what_and_how_it_ended(world: World) -> None:
    done = await world.cli("audit")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert [line.split()[3] for line in lines] == ["started", "asked", "ended", "asked", "ended"]
    assert "local via web  " in lines[3]
    assert "intent=restart" in lines[3]
    assert "status=done" in lines[4]


async def test_audit_of_one_job_one_person_and_one_time(world: World) -> None:
    async def numbers(*words: str) -> list[int]:
        done = await world.cli("audit", "--json", *words)
        assert done.returncode == 0, done.stderr
        return [row["id"] for row in json.loads(done.stdout)]

    assert await numbers() == [1, 2, 3, 4, 5]
    assert await numbers("--job", "2") == [4, 5]
    assert await numbers("--who", "local", "--since", "1h", "-n", "1") == [4]
    assert await numbers("--since", "2999-01-01") == []
    done = await world.cli("audit", "--since", "yesterday")
    assert done.returncode == 64


async def test_audit_is_exported_as_lines_that_can_be_checked_elsewhere(world: World, tmp_path: Path) -> None:
    target = tmp_path / "audit.jsonl"
    done = await world.cli("audit", "--export", str(target))
    assert done.returncode == 0
    assert f"5 rows are in {target}" in done.stderr
    assert target.stat().st_mode & 0o777 == 0o600
    again = await world.cli("audit", "--export", "-")
    assert again.stdout == target.read_text()
    # As docs/reference/audit.md says it, with nothing of Regrow's.
    check = (
        "import hashlib, json, sys\n"
        "previous = ''\n"
        "for line in open(sys.argv[1], encoding='utf-8'):\n"
        "    row = json.loads(line)\n"
        "    hash = row.pop('hash')\n"
        "    text = json.dumps(row | {'previous': previous}, sort_keys=True, separators=(',', ':'))\n"
        "    assert hashlib.sha256(text.encode()).hexdigest() == hash, row['id']\n"
        "    previous = hash\n"
    )
    checked = await world.run("-I", "-c", check, str(target))
    assert (checked.returncode, checked.stderr) == (0, "")
    refused = await world.cli("audit", "--export", str(tmp_path / "none" / "file"))
    assert refused.returncode == 64


async def test_audit_is_verified(world: World) -> None:
    done = await world.cli("audit", "--verify", env={"LANG": "zh_CN.UTF-8"})
    assert (done.returncode, done.stdout) == (0, "✅ 审计日志完整: 共 5 条，逐条校验通过\n")
    done = await world.cli("audit", "--verify", "--json")
    assert json.loads(done.stdout) == {"rows": 5, "broken": None, "reason": ""}


async def test_backups_are_listed_with_and_without_a_daemon(world: World) -> None:
    assert (await world.cli("backup")).stdout == "nothing yet\n"
    done = await world.cli("backup", "now")
    assert done.returncode == 0
    listed = json.loads((await world.cli("backup", "list", "--json")).stdout)
    assert len(listed) == 1
    assert f"{listed[0]['path']} (" in done.stdout
    await world.kill_daemon()
    assert json.loads((await world.cli("backup", "list", "--json")).stdout) == listed
    missing = await world.cli("backup", "restore", "regrow-none.db")
    assert missing.returncode == 5
    assert "`regrow backup list`" in missing.stderr
