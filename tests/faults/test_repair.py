"""The daemon dies while a bug is reproduced, in the middle of an attempt, and where each is over (F4, F10).

What was found out is found again: no attempt is made twice, and what one that was cut off left behind is in no commit.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import Job
from regrow.testing import scripted_agent
from regrow.testing.daemon_runs import through_kills
from regrow.testing.world import World, eventually

TESTS = """\
for test in tests/*.sh; do
  if sh "$test"; then echo "ok - $test"; else echo "not ok - $test"; bad=1; fi
done
test -z "${bad:-}"
"""
NEW = {"write": "tests/answer.sh", "text": 'test "$(cat src/answer.txt)" = good\n'}
MEND = {"write": "src/answer.txt", "text": "good\n"}
"""What the agent does; the second attempt is smaller."""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    agent = tmp_path / "agent"
    agent.mkdir()
    shutil.copy(scripted_agent.__file__, agent / "agent.py")
    made = World(tmp_path)
    made.configure(
        {
            "repair": {
                "agent": "command",
                "command": ["/usr/bin/python3", str(agent / "agent.py"), str(agent / "script.json")],
                "allowed": ["src/**"],
                "attempts": 2,
            },
            "sandbox": {"readable": ["{python}", "gates", "agent"]},
        }
    )
    made.commit({"test.sh": TESTS, "tests/there.sh": "test -s src/answer.txt\n"}, "Tests with names")
    try:
        await made.bring_up()
        made.commit({"src/answer.txt": "bad\n"}, "Break it")
        await made.say("build and restart")
        yield made
    finally:
        await made.close()


def script(world: World, **goals: Any) -> None:
    (world.root / "agent" / "script.json").write_text(json.dumps(goals))


def runs_of_the_agent(world: World, job: int) -> int:
    return (world.directory / "jobs" / f"{job}.log").read_text().count("the agent changed the workspace")


async def whole(world: World, job: Job) -> None:
    """The smaller change is committed, once, with its test and nothing else."""
    assert job.status == "done", job.error
    assert (job.result["attempt"], job.result["files"]) == (2, ["src/answer.txt", "tests/answer.sh"])
    assert job.result["proving_tests"] == ["tests/answer.sh"]
    git = ("--git-dir", str(world.bare))
    made = world.checkout.git(*git, "log", "--all", "--format=%H", f"--grep=Regrow-Job: {job.id}$").split()
    assert len(made) == 1
    shown = world.checkout.git(*git, "show", "--name-only", "--format=", made[0]).split()
    assert shown == ["src/answer.txt", "tests/answer.sh"]
    _, result = await world.said(job.id)
    assert "tests/answer.sh fails without the fix and passes with it" in result.text


async def test_killed_where_each_phase_begins_and_ends(world: World) -> None:
    script(world, reproduce=[NEW], **{"fix 1": [{**MEND, "text": "good\n\n\n"}], "fix 2": [MEND]})
    points = [f"repair:{step}:{when}" for step in ("reproduce", "agent", "gate", "verify") for when in ("begin", "end")]
    job = await through_kills(world, "fix this bug: the answer is wrong", points)
    await whole(world, job)
    assert runs_of_the_agent(world, job.id) == 3, "one reproduction and two attempts"


async def test_killed_in_the_middle_of_an_attempt(world: World) -> None:
    wait = {"run": ["/bin/sh", "-c", f"while [ -e {world.gates}/agent ]; do sleep 0.02; done"]}
    half = [{"write": "src/half.txt", "text": "half\n"}, {"say": "running", "text": "half-way"}, wait]
    script(world, reproduce=[NEW], **{"fix 1": [{**MEND, "text": "good\n\n\n"}], "fix 2": [*half, {"exit": 1}]})
    world.hold("agent")
    number = await world.asked("fix this bug: the answer is wrong")

    async def half_way() -> bool:
        return any("half-way" in step.detail for step in (await world.job(number)).steps)

    await eventually(half_way, "the second attempt is under way")
    await world.kill_daemon()
    script(world, reproduce=[{"exit": 1}], **{"fix 1": [{"exit": 1}], "fix 2": [MEND]})
    world.let_go("agent")
    await world.start_daemon()
    await world.approve(number)
    await whole(world, await world.ended(number))
