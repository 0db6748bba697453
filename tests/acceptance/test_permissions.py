"""The installed program: who may do what, a freeze over the daemon's end, and what the audit log keeps of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from regrow.cli import exits
from regrow.testing.world import DEADLINE_S, World

REGROW = Path(sys.executable).with_name("regrow")

pytestmark = pytest.mark.skipif(
    not REGROW.exists(), reason="regrow is not installed beside this Python; scripts/test installs it"
)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    made = World(tmp_path, {"permissions": {"per_minute": 5}, 'permissions.chats."web:wall"': {"read_only": True}})
    yield made
    await made.close()


async def regrow(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    """Run the installed program as a person does, from the directory of the configuration."""
    return await asyncio.to_thread(
        subprocess.run,
        (str(REGROW), *words),
        env=world.environment(),
        cwd=world.root,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )


async def test_a_freeze_from_the_first_word_to_the_last_row(world: World) -> None:
    assert (await regrow(world, "up")).returncode == exits.DONE
    await world.settled()

    table = (await regrow(world, "permissions")).stdout
    assert "deploy      maintainer" in table
    assert "web:wall" in table
    there = json.loads((await regrow(world, "permissions", "--chat", "web:wall", "--person", "local", "--json")).stdout)
    assert {right["intent"] for right in there["rights"] if right["allowed"]} >= {"status", "logs"}
    assert not {right["intent"] for right in there["rights"] if right["allowed"]} & {"restart", "deploy", "freeze"}
    assert (await regrow(world, "permissions", "--person", "nobody-here")).returncode == exits.REFUSED

    assert (await regrow(world, "freeze", "quarter close")).returncode == exits.DONE
    assert (await regrow(world, "down", "--keep-services")).returncode == exits.DONE
    assert (await regrow(world, "up")).returncode == exits.DONE
    before = await world.pid()
    for words in (("deploy",), ("restart",), ("restart", "--when", "force")):
        refused = await regrow(world, *words)
        assert (refused.returncode, "quarter close" in refused.stderr) == (exits.REFUSED, True), refused
    assert "quarter close" in (await regrow(world, "status")).stdout
    assert await world.pid() == before

    assert (await regrow(world, "unfreeze")).returncode == exits.DONE
    assert (await regrow(world, "restart")).returncode == exits.DONE
    rows = (await regrow(world, "audit")).stdout
    assert "freeze quarter close” (cli)" in rows
    assert (await regrow(world, "audit", "--verify")).returncode == exits.DONE

    world.config.write_text(world.config.read_text() + "\n[permissions.channels.webb]\n")
    assert (await regrow(world, "down", "--keep-services")).returncode == exits.DONE
    wrong = await regrow(world, "up")
    assert wrong.returncode != exits.DONE
    assert 'did you mean "web"' in wrong.stdout + wrong.stderr
