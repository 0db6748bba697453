"""`[service] check`: a release that could not run is found out before anything is stopped."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from regrow.testing.world import World

CHECK = """\
test "$(pwd)" = "$1" && test -d "$REGROW_STATE" && test "$REGROW_STATE" = "$2" && test -n "$REGROW_RELEASE" || exit 9
if grep -q bad src/answer.txt; then echo "no such table: users" >&2; exit 3; fi
if grep -q slow src/answer.txt; then sleep 1000; fi
"""


@pytest.fixture
async def world(make_world: Callable[..., Awaitable[World]]) -> World:
    """A service of which only one may run."""
    world = await make_world(up=False, service__listen=None)
    world.configure(
        {
            "service": {
                "handover": "exclusive",
                "standby": "none",
                "probe_socket": False,
                "check": ["/bin/sh", "-c", CHECK, "sh", "{release}", "{state}"],
                "check_timeout": "1s",
            },
            "service.env": {"TINY_PORT": str(world.port)},
            "probe.health": {"target": f"http://127.0.0.1:{world.port}/health"},
        }
    )
    await world.bring_up()
    return world


async def deploy(world: World, answer: str) -> Any:
    world.commit({"src/answer.txt": f"{answer}\n"})
    return await world.ended(await world.request("deploy"))


@pytest.mark.parametrize(
    ("answer", "cause"),
    [("bad", "check: exit code 3: no such table: users"), ("slow", "check: still running after 1 s")],
)
async def test_a_failing_check_stops_nothing(world: World, answer: str, cause: str) -> None:
    pid = await world.pid()
    job = await deploy(world, answer)
    assert (job.status, job.error.kind) == ("failed", "candidate_failed")
    assert cause in job.error.text
    assert await world.pid() == pid


async def test_a_passing_check_lets_it_through(world: World) -> None:
    job = await deploy(world, "fine")
    assert job.status == "done"
