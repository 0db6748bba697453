"""One walk through the whole life of an agent, for any driver."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal, Protocol

from regrow.agents.base import Agent, Event, Outcome, Task
from regrow.sandboxes.base import Sandbox

_DEADLINE_S = 90.0
_LOOK_S = 0.02

Plan = Literal["mends", "nothing", "hangs", "dies", "fails", "answers"]


class Life(Protocol):
    """An agent that can be told what to do, and a task for it.

    Attributes:
        sandbox: the box.
        resumes: whether it can go on with a session.
    """

    sandbox: Sandbox
    resumes: bool

    async def prepare(self, plan: Plan) -> tuple[Agent, Task]:
        """An agent that will mend the bug, find nothing, hang, be killed, fail, or answer in a session, and a task in
        a workspace made anew, in which `src/answer.txt` holds "bad" and is to hold "good"."""

    async def busy(self) -> None:
        """Wait until the agent of "hangs" hangs."""

    def remembers(self, words: str) -> bool:
        """Whether the conversation that goes on holds these words."""


async def drive_agent(life: Life) -> None:
    """Walk a driver through a repair, one that changes nothing, its time limit, an abort, its death, a failure and,
    where it can, a session that goes on.

    Raises:
        AssertionError: the driver does not keep a promise of `Agent`.
    """
    events: list[Event] = []

    async def repair(plan: Plan, **changes: object) -> tuple[Outcome, Task]:
        events.clear()
        agent, task = await life.prepare(plan)
        task = replace(task, **changes)  # type: ignore[arg-type]
        async with asyncio.timeout(_DEADLINE_S):
            outcome = await agent.repair(task, life.sandbox, events.append)
        await nothing_left(task.workspace)
        return outcome, task

    mended, task = await repair("mends")
    assert mended.changed, (mended, events)
    assert mended.reason == ""
    assert mended.summary
    assert (task.workspace / "src/answer.txt").read_text() == "good\n"
    assert events, "it said nothing while it worked"

    nothing, task = await repair("nothing")
    assert (nothing.changed, bool(nothing.reason), bool(nothing.summary)) == (False, True, True), nothing
    assert (task.workspace / "src/answer.txt").read_text() == "bad\n"

    failed, _ = await repair("fails")
    assert not failed.changed, failed
    assert failed.reason not in {"", "timeout"}, failed
    assert failed.summary

    died, _ = await repair("dies")
    assert not died.changed, died
    assert died.reason not in {"", "timeout"}, died

    late, _ = await repair("hangs", timeout_s=6.0)
    assert (late.changed, late.reason) == (False, "timeout"), late

    await aborted(life)

    if life.resumes:
        assert mended.session
        again, _ = await repair("answers", session=mended.session)
        assert again.session == mended.session
        assert life.remembers("the first words"), "it does not know what was said before"


async def aborted(life: Life) -> None:
    """Cancel a repair in the middle: everything that it started ends with it."""
    agent, task = await life.prepare("hangs")
    working = asyncio.create_task(agent.repair(task, life.sandbox, lambda _: None))
    busy = asyncio.create_task(life.busy())
    async with asyncio.timeout(_DEADLINE_S):
        await asyncio.wait({working, busy}, return_when=asyncio.FIRST_COMPLETED)
        assert not working.done(), working.result()
        await busy
        working.cancel()
        await asyncio.wait({working})
    assert working.cancelled(), "an abort is no outcome"
    await nothing_left(task.workspace)


async def nothing_left(workspace: Path) -> None:
    """Wait until no process names the workspace any more; a box names it to bwrap, and ends with that."""
    async with asyncio.timeout(_DEADLINE_S):
        while await asyncio.to_thread(_named, str(workspace)):  # noqa: ASYNC110  the kernel tells nobody
            await asyncio.sleep(_LOOK_S)


def _named(words: str) -> list[int]:
    found = []
    for directory in Path("/proc").iterdir():
        if re.fullmatch(r"\d+", directory.name):
            try:
                if words.encode() in (directory / "cmdline").read_bytes():
                    found.append(int(directory.name))
            except OSError:
                continue
    return found
