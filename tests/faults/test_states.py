"""A table of lives of a service, each lived while its supervisor is killed, fails to write and hangs, in every state.

The rows are in `regrow.testing.lives`: for each kind of upgrade and of handover the events that are told of each
release, in order, and the release that serves at the end (F4, F8, F9, F25). `scripts/bench faults` runs more.
"""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from regrow.services.base import ServiceEvent
from regrow.testing import daemon_runs, fault_runs, lives
from regrow.testing.fault_runs import Faults, Outcome
from regrow.testing.lives import TABLE, Life

KILLS, RANDOM = 60, 60
SEED = 1
OFTEN = [
    "tell starting r2: open",
    "tell held r2: end",
    "tell proved r2: open",
    "tell switched r2: end",
    "tell promoted r2: open",
    "tell candidate_failed r2: end",
    "tell fell_back r1: open",
]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> dict[Life, Outcome]:
    """Every life without a fault."""
    return asyncio.run(fault_runs.survey(tmp_path_factory.mktemp("clean")))


def holds(outcomes: Mapping[Life, Outcome]) -> None:
    """Everything was as the rows say."""
    wrong = {str(life): outcome.why for life, outcome in outcomes.items() if outcome.why}
    assert not wrong


def unmet(plan: Mapping[Life, Faults], outcomes: Mapping[Life, Outcome]) -> dict[str, set[str]]:
    """Faults that never were, by life."""
    left = {str(life): set(plan[life].at) - outcome.met for life, outcome in outcomes.items()}
    return {life: names for life, names in left.items() if names}


def test_without_faults(clean: Mapping[Life, Outcome]) -> None:
    holds(clean)
    writes = {name.rpartition(": ")[0] for outcome in clean.values() for name in outcome.instants}
    for state in ("starting", "proved", "active", "standby", "stopping", "held", "trial", "falling", "bad", "crashes"):
        assert any(state in write for write in writes if write.startswith("save ")), f"no record has {state}"


async def test_killed_in_every_state(clean: Mapping[Life, Outcome], tmp_path: Path) -> None:
    plan = fault_runs.at_states(clean, KILLS, SEED)
    outcomes = await fault_runs.run_all(plan, tmp_path)
    holds(outcomes)
    assert not unmet(plan, outcomes)
    assert sum(outcome.kills for outcome in outcomes.values()) >= KILLS


async def test_killed_at_any_time(clean: Mapping[Life, Outcome], tmp_path: Path) -> None:
    outcomes = await fault_runs.run_all(fault_runs.at_random(clean, RANDOM, SEED), tmp_path)
    holds(outcomes)


async def test_hangs_in_every_state(clean: Mapping[Life, Outcome], tmp_path: Path) -> None:
    plan = fault_runs.at_states(clean, 0, SEED, "hang")
    outcomes = await fault_runs.run_all(plan, tmp_path)
    holds(outcomes)
    assert not unmet(plan, outcomes)


async def test_a_full_disk_in_every_state(clean: Mapping[Life, Outcome], tmp_path: Path) -> None:
    """Refused, or gone on without the write; lived again with space, it ends as ever (F14)."""
    outcomes = await fault_runs.run_all(fault_runs.at_states(clean, 0, SEED, "error"), tmp_path)
    holds(outcomes)
    assert sum(outcome.kills for outcome in outcomes.values()) > 0


@pytest.mark.parametrize("fault", ["kill", "hang"])
async def test_again_and_again_in_one_state(clean: Mapping[Life, Outcome], tmp_path: Path, fault: str) -> None:
    """For ever, as far as the service can tell: until a person ends what is wrong with the machine."""
    plan = {}
    for number, life in enumerate(life for life in TABLE if life.handover.name in ("paused", "exclusive")):
        turn = OFTEN[number % len(OFTEN) :] + OFTEN[: number % len(OFTEN)]
        if there := [point for point in turn if point in clean[life].instants]:
            plan[life] = Faults(fault, there[:1], ever=True)
    outcomes = await fault_runs.run_all(plan, tmp_path)
    holds(outcomes)
    assert not unmet(plan, outcomes)


# What the table found: each was wrong once

_TO_COME = "trial r2 to come"
FOUND = {
    # The child waits for the word to go and ends with its supervisor: that is no failure of the release, which was
    # called failed, and pinned bad when it was on trial.
    "killed before the first program ran": ("upgrade-paused", "kill", "save r1 starting: end"),
    "killed before the candidate ran": ("upgrade-paused", "kill", "save r1 active, r2 starting, good r1: end"),
    "killed before what is on trial ran": (
        "upgrade-exclusive", "kill", f"save r2 starting, {_TO_COME}, untold ended, good r1: end",
    ),
    # The record had the start of the new one, and no longer the old one, whose end was yet to be told.
    "killed before the old one's end was told": (
        "restart-exclusive", "kill", "save r1 starting, trial r1 to come, untold ended, good r1: end",
    ),
    # An internal error, and a candidate that nobody had started and that was in the way of the next.
    "no space to hold a candidate": (
        "upgrade-exclusive", "error", "save r1 active, r2 held unborn, untold held, good r1: open",
    ),
    # The disk was full, and the release was pinned bad for it.
    "no space to start what is on trial": (
        "upgrade-exclusive", "error", f"save r2 starting, {_TO_COME}, untold ended, good r1: open",
    ),
    # The line was lost, and whoever asked afterwards waited for an event that never came.
    "no space for a line of the journal": ("upgrade-paused", "error", "tell proved r2: open"),
}  # fmt: skip


@pytest.mark.parametrize("case", FOUND)
async def test_found(tmp_path: Path, case: str) -> None:
    row, fault, point = FOUND[case]
    life = next(life for life in TABLE if str(life) == row)
    outcome = await fault_runs.run(life, tmp_path, Faults(fault, [point]))
    assert not outcome.why
    assert outcome.met == {point}


async def test_ready_was_said_while_no_supervisor_listened(tmp_path: Path) -> None:
    """It was called not ready for it. Nobody can tell that it is, so it is started once more."""
    service = lives.Service(tmp_path, lives.HANDOVERS["exclusive"])
    driver = service.system.service
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    release = service.release("1", probes=(), start_timeout_s=2.0)
    argv = ("/bin/sh", "-c", f"cat {gate}; exec {' '.join(release.argv)}")
    try:
        starting = asyncio.create_task(driver.start(dataclasses.replace(release, argv=argv), "active", "a"))
        first = (await service.until(lambda s: s.active is not None and s.active.pid is not None)).supervisor_pid
        assert first is not None
        os.kill(first, signal.SIGSTOP)
        await asyncio.to_thread(gate.write_text, "")
        async with asyncio.timeout(60):
            while (await answered(service)) is None:
                await asyncio.sleep(0.01)
        os.kill(first, signal.SIGKILL)
        writing = asyncio.create_task(asyncio.to_thread(gate.write_text, ""))
        assert (await asyncio.wait_for(starting, 60)).state == "active"
        await writing
        assert len(fault_runs.copies(tmp_path / "logs")) == 1
    finally:
        await driver.close(keep_service=False)


async def answered(service: lives.Service) -> str | None:
    """The version that answers, if one does."""
    try:
        return await service.system.ask()
    except OSError:
        return None


async def test_the_daemon_is_killed_in_jobs_of_every_kind(tmp_path: Path) -> None:
    """`test_daemon.py` kills it at every step of a deploy and of a repair; here are the ways that end otherwise."""
    failing = ("candidate:end", "candidate:undo", "conclude:begin")
    # After the last of these the new release has died, and the old one serves again, before the switch is recorded.
    steps = {"deploy_dies_at_start": failing, "deploy_dies_in_bake": (*failing, "switch:end")}
    plan = {}
    for task in daemon_runs.TABLE[1:]:
        points = steps.get(task.name, ("switch:end", "promote:begin"))
        plan[task] = {"points": tuple(f"{task.kind}:{point}" for point in points)}
    outcomes = await daemon_runs.run_all(plan, tmp_path)
    assert not {str(task): outcome.why for task, outcome in outcomes.items() if outcome.why}
    assert all(outcome.kills >= 2 for outcome in outcomes.values())


# What the comparison itself can tell


def told(*events: str) -> list[ServiceEvent]:
    """Events of release r1, by name."""
    return [ServiceEvent(seq, 0.0, name, {"release": "r1"}) for seq, name in enumerate(events, 1)]


@pytest.mark.parametrize(
    ("events", "wrong"),
    [
        ("starting proved up", 0),
        ("starting supervisor_started starting proved supervisor_started proved up", 0),
        ("starting starting proved up", 1),
        ("starting up", 1),
        ("starting proved", 1),
        ("starting proved up crashed", 1),
        ("supervisor_started proved starting up", 1),
    ],
)
def test_untold(events: str, wrong: int) -> None:
    life = Life("life", lives.HANDOVERS["paused"], lives.upgrade, {"r1": "starting proved up"})
    assert len(fault_runs.untold(life, told(*events.split()))) == wrong
    if not wrong:
        other = ServiceEvent(99, 0.0, "crashed", {"release": "r2"})
        assert len(fault_runs.untold(life, [*told(*events.split()), other])) == 1
