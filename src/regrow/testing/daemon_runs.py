"""Jobs whose daemon is killed, at every step of theirs and at any time: the same verdicts as in `fault_runs`.

`regrow.testing.mortal` is the daemon that dies at a step; the world is a whole one, with git, builds and a chat.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from regrow.api.types import ENDED, Job, Kind
from regrow.errors import RegrowError
from regrow.jobs.plans import plan
from regrow.testing import mortal
from regrow.testing.fault_runs import Outcome, copies
from regrow.testing.world import DEADLINE_S, World, eventually

_LOOK_S = 0.02


@dataclass(frozen=True)
class Task:
    """A row of the table.

    Attributes:
        name: of the row.
        kind: of the job.
        said: what asks for it.
        faults: of the commit that is deployed, as the tiny service has them; None: nothing is committed before.
        status: how the job ends.
        serves: which release serves then: "new", "same" (another process may serve it) or "first".
    """

    name: str
    kind: Kind
    said: str
    faults: str | None
    status: str
    serves: str

    def __str__(self) -> str:
        return self.name

    @property
    def points(self) -> list[str]:
        """Every place where `mortal` can kill the daemon in this job."""
        planned = plan(self.kind, data=False)
        steps = (*planned, "conclude")
        whens = ("begin", "end")
        back = [f"{self.kind}:{step}:{when}" for step in planned for when in ("undo", "undone")]
        forth = [f"{self.kind}:{step}:{when}" for step in steps for when in whens]
        return forth if self.status == "done" else [*forth, *back]


TABLE = (
    Task("deploy", "deploy", "build and restart", "", "done", "new"),
    Task("deploy_dies_at_start", "deploy", "build and restart", "TINY_DIE_AT_START=1\n", "failed", "same"),
    Task("deploy_dies_in_bake", "deploy", "build and restart", "TINY_DIE_AFTER=0.2\n", "undone", "same"),
    Task("restart", "restart", "restart", None, "done", "same"),
    Task("rollback", "rollback", "roll back", "", "done", "first"),
)


async def run(task: Task, root: Path, points: tuple[str, ...] = (), killed_after: tuple[float, ...] = ()) -> Outcome:
    """Do one job while its daemon dies at these points, or so many seconds after it was asked for; judge the end.

    A point that the job does not come to kills nobody; `met` says which did.
    """
    world, outcome = World(root), Outcome()
    try:
        await world.bring_up()
        if task.name == "rollback":
            world.commit({"src/more.txt": "more\n"}, "More")
            await world.say("build and restart")
        same, wanted = await world.version(), world.short(world.first)
        if task.faults is not None and task.serves != "first":
            wanted = world.short(world.commit({"src/more.txt": "again\n", "faults": task.faults}, "Change"))
        wanted = same if task.serves == "same" else wanted
        died = root / "died"
        died.mkdir()
        env = {mortal.POINTS: ",".join(points), mortal.DIED: str(died)}
        if points:
            await world.start_daemon(env, "regrow.testing.mortal")
        async with world.traffic() as seen:
            job = await _through(task, world, env if points else None, killed_after, outcome)
        async with _kept_alive(world):
            await _judge(task, world, job, wanted, outcome)
        outcome.met = {path.name for path in died.iterdir()}
        outcome.kills += len(outcome.met)
        if seen.refused:
            outcome.refused = seen.refused
            outcome.why.append(f"{seen.refused} connections were refused")
    except AssertionError as error:
        outcome.wrong_release = 1
        outcome.why.append(f"it never came to its end: {error}")
    finally:
        await world.close()
    return outcome


async def _through(
    task: Task, world: World, env: Mapping[str, str] | None, times: tuple[float, ...], outcome: Outcome
) -> Job:
    number = await world.asked_of_the_dying(task.said)
    began = time.monotonic()
    due = sorted(times)
    module = "regrow.testing.mortal" if env else "regrow.daemon"

    async def next_life() -> Job | None:
        assert world.process is not None
        if due and time.monotonic() - began >= due[0]:
            due.pop(0)
            outcome.kills += 1
            await world.kill_daemon(signal.SIGKILL)
            await world.start_daemon()
        elif world.process.poll() is not None:
            await world.daemon_ended()
            await world.start_daemon(env, module)
        job = await world.job(number)
        # The daemon may die once more where the job ends; it is up when it has told of the end.
        return job if job.status in ENDED and world.process.poll() is None else None

    job = await eventually(next_life, f"job {number} has ended", 5 * DEADLINE_S)
    outcome.seconds = time.monotonic() - began
    return job


@contextlib.asynccontextmanager
async def _kept_alive(world: World) -> AsyncIterator[None]:
    """A job has ended before the daemon has told of it: one that dies in between is started again, to go on."""
    over = asyncio.Event()

    async def look() -> None:
        while not over.is_set():
            if world.process is not None and world.process.poll() is not None:
                await world.daemon_ended()
                await world.start_daemon()
            await asyncio.sleep(_LOOK_S)

    task = asyncio.create_task(look(), name="the daemon is kept alive")
    try:
        yield
    finally:
        over.set()
        await task


async def _judge(task: Task, world: World, job: Job, wanted: str, outcome: Outcome) -> None:
    async def quiet() -> bool:
        service = (await world.status()).services[0]
        return service.state == "up" and not (service.candidate or service.standby or service.job or service.queue)

    await eventually(quiet, "one release serves and nothing is under way")
    serves = await world.version()
    if serves != wanted or job.status != task.status:
        outcome.wrong_release = 1
        outcome.why.append(f"{serves} serves, not {wanted}; the job is {job.status}: {job.error}")
    expected = [await world.pid()]
    with contextlib.suppress(AssertionError):
        await eventually(lambda: _same(world, expected), "no other process is there", 10.0)
    if (found := copies(world.directory / "logs")) != expected:
        outcome.second_copy = 1
        outcome.why.append(f"processes {found} are there, not just {expected}")
    if (told := len(await world.said(job.id))) != 2:
        outcome.untold = 1
        outcome.why.append(f"{told} messages tell of the job, not a receipt and a result")


async def _same(world: World, expected: list[int]) -> bool:
    return await asyncio.to_thread(copies, world.directory / "logs") == expected


async def run_all(plan: Mapping[Task, Mapping[str, tuple[object, ...]]], root: Path) -> dict[Task, Outcome]:
    """Two worlds at a time."""
    free = asyncio.Semaphore(2)
    outcomes = {}

    async def one(task: Task, how: Mapping[str, tuple[object, ...]]) -> None:
        async with free:
            outcomes[task] = await run(task, root / str(task), **how)  # type: ignore[arg-type]

    async with asyncio.TaskGroup() as group:
        for task, how in plan.items():
            group.create_task(one(task, how), name=str(task))
    return {task: outcomes[task] for task in plan}


def at_states(count: int, seed: int) -> dict[Task, Mapping[str, tuple[object, ...]]]:
    """`count` points of the whole table, or all there are."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    every = [(task, point) for task in TABLE for point in task.points]
    some = dice.sample(every, min(count, len(every)))
    return {task: {"points": points} for task in TABLE if (points := tuple(p for t, p in some if t is task))}


def at_random(count: int, seed: int, within_s: float = 6.0) -> dict[Task, Mapping[str, tuple[object, ...]]]:
    """`count` kills, evenly over the table, in the first seconds after the job was asked for."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    times: dict[Task, list[float]] = {task: [] for task in TABLE}
    for number in range(count):
        times[TABLE[number % len(TABLE)]].append(dice.uniform(0, within_s))
    return {task: {"killed_after": tuple(each)} for task, each in times.items() if each}


async def through_kills(world: World, text: str, points: list[str], yes: str = "") -> Job:
    """Ask for a job of a daemon that is killed at every one of `points` and started again each time.

    Args:
        world: up.
        text: what is said.
        points: as in `regrow.testing.mortal`; the job must come to each of them. What it asks for is approved.
        yes: the answer, where it is asked back first.
    """
    died = Path(tempfile.mkdtemp(dir=world.root))
    env = {mortal.POINTS: ",".join(points), mortal.DIED: str(died)}
    await world.start_daemon(env, "regrow.testing.mortal")
    number = await world.asked_of_the_dying(text, yes)

    async def next_life() -> Job | None:
        assert world.process is not None
        if world.process.poll() is not None:
            assert await world.daemon_ended() == -signal.SIGKILL
            await world.start_daemon(env, "regrow.testing.mortal")
            return None
        job = await world.job(number)
        if job.approval is not None and job.approval.state == "open":
            digest = job.approval.digest
            with contextlib.suppress(RegrowError):  # one that died of the answer is started again, and asked again
                await asyncio.to_thread(lambda: world.client().approve(number, digest))
        alive = _names(died) == set(points) and world.process.poll() is None
        return job if job.status in ENDED and alive else None

    job = await eventually(next_life, f"job {number} has ended after {len(points)} kills", 5 * DEADLINE_S)
    assert _names(died) == set(points)
    return job


def _names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}
