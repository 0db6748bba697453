"""Kill -9 and full disks, in the middle of every kind of job: what is lost, what is done twice, who was down.

Cases:
    sqlite/sweep      the daemon, before and after the commits of its store, one after the other
    sqlite/random     the daemon, at random instants
    postgres/sweep    as the first two, with the store on a PostgreSQL server of the bench's own; left out where its
    postgres/random   programs are not installed
    machine/random    daemon, supervisor and service together, at random instants
    enospc/sweep      the disk fills as each step begins, and has room again later (root only: it needs a tmpfs)

kills             daemons that were killed, or that ended because the disk was full
jobs              jobs that this happened to
lost_jobs         of these, the ones that did not end, or did not end well
doubled_effects   more than one candidate, release, commit or confirmation of a job
down_instants     requests that nobody answered while a good release was there (not counted for machine/random)
went_back_jobs    machine/random alone: jobs whose release was on trial when everything died, and that ended with a good
                  release serving and the person told so (the fallback rule); they are not among the lost ones
recovery_p50_ms   from the start of the next daemon to the first thing it did for the job

Broken off by Ctrl-C it prints what the case had come to, with "broken_off".
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from bench import lines
from regrow.api.types import ENDED, Accepted, Answer, Job, Notify, RequestBody
from regrow.errors import RegrowError
from regrow.testing import mortal, postgres
from regrow.testing.world import World, eventually

REPRODUCE = "```sh\ngrep -q good src/answer.txt\n```"
KINDS = ("restart", "deploy", "repair", "rollback", "configure")
SECONDS = {"restart": 1.0, "rollback": 1.0, "deploy": 1.6, "repair": 3.0, "configure": 1.2}
TMPFS_BYTES = 192 * 1024**2
DEADLINE_S = 120.0
LOOK_S = 0.005
Harm = Callable[[asyncio.Task[int]], Awaitable[bool]]


@dataclass(frozen=True)
class Size:
    """How much: every `every`-th commit, so many random kills, machine-wide kills, and every `steps`-th step; of which
    kinds (on a server `on_server`), and from which commit on, so that several runs can share a sweep."""

    every: int
    random: int
    machine: int
    steps: int
    kinds: tuple[str, ...] = KINDS
    on_server: tuple[str, ...] = KINDS
    first: int = 1


SIZES = {
    "smoke": Size(100, 1, 1, 20, on_server=("deploy",)),
    "default": Size(9, 24, 12, 3),
    "nightly": Size(1, 200, 60, 1),
}


@dataclass
class Tally:
    """What happened in a case."""

    kills: int = 0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    down: int = 0
    went_back: int = 0
    recovery_ms: list[float] = field(default_factory=list)

    def put(self, out: lines.Lines, case: str, **more: bool) -> None:
        """The lines of the case."""
        for metric, value, unit in (
            *(("kills", self.kills, "times"), ("jobs", self.jobs, "jobs"), ("lost_jobs", self.lost, "jobs")),
            *(("doubled_effects", self.doubled, "effects"), ("down_instants", self.down, "requests")),
        ):
            out.put(case, metric, value, unit, **more)
        if case.startswith("machine/"):
            out.put(case, "went_back_jobs", self.went_back, "jobs", **more)
        if self.recovery_ms:
            worst = round(max(self.recovery_ms), 2)
            out.put(case, "recovery_p50_ms", statistics.median(self.recovery_ms), "ms", worst=worst, **more)


class Story:
    """Jobs of all kinds in one world, each hurt in its own way.

    Args:
        world: up, with a good release.
        tally: of the case.
    """

    def __init__(self, world: World, tally: Tally) -> None:
        self.world = world
        self.tally = tally
        self._number = 0
        self._plain = True  # the daemon that runs dies of nothing

    async def prepare(self, kind: str) -> str:
        """Make the world ready for a job of a kind, and return the words that ask for it."""
        self._number += 1
        world, count = self.world, f"{self._number}\n"
        if kind == "restart":
            return "重启一下"
        if kind == "configure":
            return f"drain={1000 + self._number}ms"
        if kind == "rollback":
            world.commit({"src/answer.txt": "good\n", "src/count.txt": count})
            await world.say("编译重启")
            return "回滚"
        if kind == "deploy":
            world.commit({"src/answer.txt": "good\n", "src/count.txt": count})
            return "编译重启"
        world.commit({"src/answer.txt": "good\n", "src/count.txt": count})
        world.commit({"src/answer.txt": "bad\n"})
        await world.say("编译重启")
        return f"修一下这个 bug: 答案不对\n{REPRODUCE}"

    async def hurt(self, kind: str, harm: Harm, env: dict[str, str], *, machine: bool = False) -> bool:
        """Ask for a job, do it harm, bring the daemon back, and count what came of it.

        Args:
            kind: of the job.
            harm: is given the request under way, and returns whether anything was killed.
            env: of the first daemon.
            machine: whether the harm kills the service and its supervisor, too.

        Returns:
            Whether anything was killed; a job that came to its end before that counts for nothing.
        """
        world = self.world
        if not self._plain or world.process is None:
            await world.start_daemon()
        words = await self.prepare(kind)
        self._plain = False
        await world.start_daemon(env, "regrow.testing.mortal")
        Path(env[mortal.DIED], "armed").touch()
        async with world.traffic() as seen, asyncio.TaskGroup() as group:
            asking = group.create_task(self._asked(kind, words))
            approving = group.create_task(self._approve(asking))
            if killed := await harm(asking):
                await self._recover(asking)
            number, job = await asking, None
            while job is None and (job := await self._ended(number)) is None and self._is_dead():
                killed = True  # by a kill at the job's very end, or after it
                await self._next_daemon()
            approving.cancel()
            if self._is_dead():
                killed = True
                await self._next_daemon()
        if not killed:
            return False
        self.tally.kills += 1
        self.tally.jobs += 1
        self.tally.down += seen.refused + seen.cut
        if machine:
            # A job that had ended before everything died says nothing of when the service is back.
            await eventually(self._is_up, "the service is up again")
        if machine and job is not None and await self._went_back(job):
            self.tally.went_back += 1
        elif job is None or not await self._well(job):
            self.tally.lost += 1
            print(f"lost: {kind} {job and (job.id, job.status, job.error)}", file=sys.stderr)
        if job is not None:
            # What died with everything is started once more: that is no second copy.
            self.tally.doubled += max(0, await self._doubled(job) - machine)
        return True

    async def _asked(self, kind: str, words: str) -> int:
        """Ask in a chat, and where that would ask back first, over the API with the answer told in a chat."""
        if kind != "configure":
            return await self.world.asked_of_the_dying(words)
        notify = Notify(channel="web", chat=self.world.new_chat())
        body = RequestBody(intent=kind, args={"set": words}, key=uuid.uuid4().hex, notify=notify)

        async def there() -> Accepted | Answer:
            return await asyncio.to_thread(lambda: self.world.client().request(body))

        accepted = await eventually(there, f"a job for {words!r}")
        assert isinstance(accepted, Accepted)
        return accepted.job

    def _is_dead(self) -> bool:
        return self.world.process is not None and self.world.process.poll() is not None

    async def _next_daemon(self) -> None:
        """Start the daemon after one that died by itself."""
        await self.world.daemon_ended()
        self._plain = True
        await self.world.start_daemon()

    async def _approve(self, asking: asyncio.Task[int]) -> None:
        """A person who says yes as soon as there is a question."""
        number = await asyncio.shield(asking)
        while True:
            with contextlib.suppress(RegrowError, OSError):
                approval = (await self.world.job(number)).approval
                if approval is not None and approval.state == "open":
                    await asyncio.to_thread(self.world.client().approve, number, approval.digest)
                    return
            await asyncio.sleep(0.05)

    async def _recover(self, asking: asyncio.Task[int]) -> None:
        """Start the daemon again, and take the time until it has done something for the job."""
        number = asking.result() if asking.done() else 0
        query = f"select steps, status from jobs where id = {number}"
        before = self.world.rows(query)
        began = time.monotonic()
        self._plain = True
        starting = asyncio.create_task(self.world.start_daemon())
        while before and before[0][1] not in ENDED and time.monotonic() < began + DEADLINE_S:
            if self.world.rows(query) != before:
                self.tally.recovery_ms.append((time.monotonic() - began) * 1000)
                break
            await asyncio.sleep(LOOK_S)
        await starting

    async def _ended(self, number: int) -> Job | None:
        """The job once it has ended; None when it does not, or its daemon is dead."""

        async def there() -> Job | bool:
            if self._is_dead():
                return True
            job = await self.world.job(number)
            return job if job.status in ENDED else False

        try:
            found = await eventually(there, f"job {number} ends", DEADLINE_S)
        except AssertionError:
            return None
        return found if isinstance(found, Job) else None

    async def _well(self, job: Job) -> bool:
        """Whether it did what it was asked for, and what it says is what serves."""
        service = (await self.world.status()).services[0]
        if job.kind == "configure":
            # Written once, and what serves was started with it.
            value = next(one["after"] for one in job.result.get("changed", ({"after": ""},)))
            record = json.loads((self.world.directory / "supervisor.json").read_text())
            drains = [
                one["spec"]["drain_timeout_s"] for one in record["instances"].values() if one["state"] == "active"
            ]
            wanted = f"drain = {value}"
            if self.world.config.read_text().count(wanted) != 1 or f'"{drains[0] * 1000:.0f}ms"' != value:
                return False
        return job.status == "done" and service.state == "up" and (await self.world.version()) == job.result["version"]

    async def _is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return (await self.world.status()).services[0].state == "up" and bool(await self.world.version())
        return False

    async def _went_back(self, job: Job) -> bool:
        """Whether the job was taken back by the fallback rule, and says truly what serves."""
        service = (await self.world.status()).services[0]
        told = job.status == "undone" and job.error is not None and job.error.kind == "fell_back"
        return told and service.state == "up" and await self.world.version() == job.result.get("serving")

    async def _doubled(self, job: Job) -> int:
        world = self.world
        told = len(await world.said(job.id)) - 2
        releases = len(world.rows(f"select 1 from releases where job = {job.id}")) - (job.kind in {"deploy", "repair"})
        grep = f"--grep=Regrow-Job: {job.id}$"
        commits = len(world.checkout.git("--git-dir", str(world.bare), "log", "--all", "--format=%H", grep).split())
        journal = (world.directory / "events.jsonl").read_text().splitlines()
        events = [json.loads(line) for line in journal if line.strip()]
        token = f"job-{job.id}"
        starts = [one for one in events if one["event"] == "starting" and one.get("token") == token]
        return told + releases + commits - (job.kind == "repair") + max(0, len(starts) - 1)


@contextlib.asynccontextmanager
async def story(root: Path, tally: Tally, database: str = "") -> AsyncIterator[Story]:
    """A world of its own for a case, with its store in a file or in a database."""
    settings = {"switch": {"bake": "100ms", "restart_bake": "100ms"}, "service": {"restart_limit": 0}}
    world = World(root, settings, database)
    try:
        await world.bring_up()
        yield Story(world, tally)
    finally:
        await world.close()


def once(root: Path, **more: str) -> dict[str, str]:
    """Variables of one mortal daemon."""
    return {mortal.DIED: tempfile.mkdtemp(dir=root), **more}


async def sweep(root: Path, tally: Tally, size: Size, database: str = "") -> None:
    """Before and after the commits of each kind of job, until a job has no commit of the number."""
    async with story(root, tally, database) as told:
        for kind in size.on_server if database else size.kinds:
            for number in itertools.count(size.first, size.every):
                if not await both(told, root, kind, number):
                    print(f"{kind}: no commit {number}", file=sys.stderr)
                    break


async def both(told: Story, root: Path, kind: str, number: int) -> bool:
    """Before and after one commit; whether there was such a commit."""
    killed = []
    for when in ("before", "after"):
        env = once(root, **{mortal.COMMIT: f"{number}:{when}"})
        killed.append(await told.hurt(kind, lambda asking, env=env: died(told.world, env, asking), env))  # type: ignore[misc]
    return any(killed)


async def served(measure: Callable[[str], Awaitable[None]]) -> None:
    """A case with a PostgreSQL server of its own; it is given the address of an empty database."""
    server = await asyncio.to_thread(postgres.Server)
    try:
        await asyncio.to_thread(server.start)
        await measure(await asyncio.to_thread(server.database))
    finally:
        await asyncio.to_thread(server.close)


async def died(world: World, env: dict[str, str], asking: asyncio.Task[int]) -> bool:
    """Wait for the daemon's own end, or for the end of the job."""
    deadline = time.monotonic() + DEADLINE_S
    while time.monotonic() < deadline:
        assert world.process is not None
        if world.process.poll() is not None:
            assert await world.daemon_ended() == -signal.SIGKILL
            return True
        if asking.done() and world.rows(f"select status from jobs where id = {asking.result()}")[0][0] in ENDED:
            return False
        await asyncio.sleep(0.02)
    raise AssertionError("the daemon neither died nor came to an end")


async def at_random(root: Path, tally: Tally, size: Size, *, machine: bool, database: str = "") -> None:
    """At random instants of jobs of random kinds."""
    dice = random.Random(20260101)
    async with story(root, tally, database) as told:
        for _ in range(size.machine if machine else size.random):
            kind = dice.choice(size.kinds)
            moment = dice.uniform(0.0, SECONDS[kind])
            await told.hurt(
                kind,
                lambda asking, moment=moment: killed(told.world, moment, machine),  # type: ignore[misc]
                once(root),
                machine=machine,
            )
    if machine:
        tally.down = 0  # everything was killed: nobody could answer


async def killed(world: World, moment: float, machine: bool) -> bool:
    """Kill the daemon after a while; and with it, at once, everything else."""
    await asyncio.sleep(moment)
    if machine:
        await world.kill_everything()
    else:
        await world.kill_daemon()
    return True


async def full(root: Path, tally: Tally, size: Size) -> None:
    """The disk fills as each step of a deploy begins; when it has room again the job goes on or has ended with undo."""
    from regrow.jobs.plans import plan

    with tmpfs(root):
        async with story(root, tally) as told:
            for step in plan("deploy", data=False)[:: size.steps]:
                await one_full(told, root, step)


async def one_full(told: Story, root: Path, step: str) -> None:
    world, tally = told.world, told.tally
    before = await world.version()
    words = await told.prepare("deploy")
    ballast = root / "ballast"
    with tempfile.TemporaryDirectory() as elsewhere:
        env = {mortal.DIED: elsewhere, mortal.FILL: f"deploy:{step} {ballast}"}
        await world.start_daemon(env, "regrow.testing.mortal")
        async with world.traffic() as seen:
            number = await world.asked_of_the_dying(words)
            deadline = time.monotonic() + 10.0
            while time.monotonic() < deadline and world.process is not None:
                if world.process.poll() is not None:
                    tally.kills += 1
                    await world.daemon_ended()
                    break
                rows = world.rows(f"select status from jobs where id = {number}")
                if rows and rows[0][0] in ENDED:
                    break
                await asyncio.sleep(0.05)
            ballast.unlink(missing_ok=True)
            if world.process is None:
                await world.start_daemon()
            job = await told._ended(number)
    tally.jobs += 1
    tally.down += seen.refused + seen.cut
    serves = await world.version()
    # Either it did what it was asked for, or it said that it did not and nothing has changed.
    right = job is not None and serves == (job.result["version"] if job.status == "done" else before)
    if not right:
        tally.lost += 1
        print(f"wrong after a full disk in {step}: {job and (job.status, job.error)} serves {serves}", file=sys.stderr)
    if job is not None and job.status == "done":
        tally.doubled += await told._doubled(job)


@contextlib.contextmanager
def tmpfs(path: Path) -> Iterator[None]:
    """A small file system for the length of the block."""
    path.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={TMPFS_BYTES}", "tmpfs", str(path)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)


def main() -> None:
    """Print the lines."""
    parser = lines.arguments(__doc__ or "")
    parser.add_argument("--only", default="", metavar="PREFIX", help="cases whose name begins like this")
    parser.add_argument("--kinds", default="", help="of jobs, by commas; all of the size")
    parser.add_argument("--first", type=int, default=1, help="the first commit of a sweep")
    parser.add_argument("--every", type=int, default=0, help="every how many commits; 0: as the size says")
    options = parser.parse_args()
    size = SIZES[options.size]
    kinds = tuple(options.kinds.split(",")) if options.kinds else ()
    if unknown := set(kinds) - set(KINDS):
        parser.error(f"cannot kill jobs of the kind {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
    size = replace(size, first=options.first, every=options.every or size.every)
    if kinds:
        size = replace(size, kinds=kinds, on_server=kinds)
    out = lines.Lines("kill")
    cases: dict[str, Callable[[Path, Tally], Awaitable[None]]] = {
        "sqlite/sweep": lambda root, tally: sweep(root, tally, size),
        "sqlite/random": lambda root, tally: at_random(root, tally, size, machine=False),
        "postgres/sweep": lambda root, tally: served(lambda database: sweep(root, tally, size, database)),
        "postgres/random": lambda root, tally: served(
            lambda database: at_random(root, tally, size, machine=False, database=database)
        ),
        "machine/random": lambda root, tally: at_random(root, tally, size, machine=True),
    }
    if os.geteuid() == 0:
        cases["enospc/sweep"] = lambda root, tally: full(root, tally, size)
    else:
        print("enospc/sweep is left out: only root can make a small file system", file=sys.stderr)
    if postgres.programs() is None:
        del cases["postgres/sweep"], cases["postgres/random"]
        print("postgres/* is left out: PostgreSQL's programs are not installed", file=sys.stderr)
    for case, measure in cases.items():
        if not case.startswith(options.only):
            continue
        with tempfile.TemporaryDirectory(prefix="rk-") as root:
            tally = Tally()
            try:
                asyncio.run(measure(Path(root), tally))  # type: ignore[arg-type]
            except KeyboardInterrupt:
                tally.put(out, case, broken_off=True)
                raise SystemExit(130) from None
            tally.put(out, case)


if __name__ == "__main__":
    main()
