"""Runs of `lives` while the supervisor dies, fails and hangs, and their verdicts.

An event may be told again after a supervisor was killed, and is never left out.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import random
import signal
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from regrow.services.base import CandidateFailed, ServiceError, ServiceEvent
from regrow.testing.faulty_supervisor import FAULTS, INSTANTS, MET
from regrow.testing.lives import DISK, TABLE, Life, Service
from regrow.testing.service_system import Traffic

DEADLINE_S = 120.0
_LOOK_S = 0.02
_PACE_S = 0.01
_OFTEN = 3  # deaths at one instant after which "for ever" is over
_NEVER_FAIL = ("end", "send")
_BESIDE = ("supervisor_started",)


@dataclass(frozen=True)
class Faults:
    """What goes wrong in a run.

    Attributes:
        fault: kill, error or hang.
        at: names of instants, or "everywhere".
        ever: each time, and not only the first; lifted after some times, as nobody would wait for ever.
        killed_after: seconds after the beginning at which the supervisor is killed, whatever it is doing.
    """

    fault: str = "kill"
    at: Collection[str] | str = ()
    ever: bool = False
    killed_after: tuple[float, ...] = ()


def put(service: Service, faults: Faults) -> None:
    """Have these faults happen from now on."""
    at = faults.at if isinstance(faults.at, str) else list(faults.at)
    if at:
        file = service.directory / FAULTS
        file.with_suffix(".new").write_text(json.dumps({"fault": faults.fault, "at": at, "ever": faults.ever}))
        file.with_suffix(".new").rename(file)


def copies(root: Path) -> list[int]:
    """Pids of the processes whose output goes to a file under `root`, as that of a service does."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            out = str(Path(f"/proc/{process.pid}/fd/1").readlink())
            if out.startswith(f"{root}/") and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


# One run of a life, and its verdict


@dataclass
class Outcome:
    """What came of one run.

    Attributes:
        kills: how often the supervisor was killed, or met another fault.
        instants: the instants that were passed, by name.
        met: those at which a fault was.
        seconds: how long the life took.
        refused: connections refused while a good release was there to take them.
        wrong_release, second_copy: 1 where the end was not as the row says.
        untold: events that the row has and the journal has not, or has in another order.
        why: all that is wrong, in words.
    """

    kills: int = 0
    instants: list[str] = field(default_factory=list)
    met: set[str] = field(default_factory=set)
    seconds: float = 0.0
    refused: int = 0
    wrong_release: int = 0
    second_copy: int = 0
    untold: int = 0
    why: list[str] = field(default_factory=list)


async def run(life: Life, root: Path, faults: Faults) -> Outcome:
    """Live it once, with faults, and judge the end."""
    service = Service(root, life.handover)
    outcome = Outcome()
    nurse = asyncio.create_task(_nurse(service, faults, outcome))
    try:
        async with asyncio.timeout(DEADLINE_S):
            await _live(life, service, faults, outcome)
            await _judge(life, service, outcome)
    except (ServiceError, TimeoutError, AssertionError, ExceptionGroup) as error:
        outcome.wrong_release = 1
        outcome.why.append(f"it never came to its end: {error!r}")
    finally:
        _read(service, outcome)  # what comes now is the service's stop, which is no part of the life
        service.lift()
        await service.system.service.close(keep_service=False)
        nurse.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await nurse
    if left := copies(service.system.root / "logs"):
        outcome.second_copy = 1
        outcome.why.append(f"processes {left} outlived their supervisor")
    return outcome


async def _live(life: Life, service: Service, faults: Faults, outcome: Outcome) -> None:
    began = time.monotonic()
    if faults.fault != "error":
        put(service, faults)
    await service.first()
    put(service, faults)  # without a release that serves, a full disk refuses the first one, and that is all
    async with service.system.traffic(1, _PACE_S) as seen:
        await _through_full_disks(life, service)
    outcome.seconds = time.monotonic() - began
    if life.handover.handover == "socket" and seen.refused:
        outcome.refused = seen.refused
        outcome.why.append(f"{seen.refused} connections were refused: {_brief(seen)}")


async def _through_full_disks(life: Life, service: Service) -> None:
    """A start that a full disk refuses is no fault of the release: it is deployed again, and the life begins anew."""
    while True:
        before = (await service.status()).seq
        try:
            await life.live(service)
            return
        except CandidateFailed as error:
            if not error.cause.startswith(DISK):
                raise
        await service.back()
        service.refused.update(range(before + 1, (await service.status()).seq + 1))


async def _nurse(service: Service, faults: Faults, outcome: Outcome) -> None:
    """Wake or kill what hangs, lift what would go on for ever, and kill at the chosen times."""
    began = asyncio.get_running_loop().time()
    due = sorted(faults.killed_after)
    while True:
        pid = _supervisor(service)
        if faults.fault == "hang" and pid is not None and _stopped(pid):
            os.kill(pid, signal.SIGKILL if faults.ever else signal.SIGCONT)
        if faults.ever and len(_lines(service.directory / MET)) >= _OFTEN * len(faults.at):
            service.lift()
        if due and pid is not None and asyncio.get_running_loop().time() - began >= due[0]:
            due.pop(0)
            os.kill(pid, signal.SIGKILL)
            outcome.kills += 1
        await asyncio.sleep(_LOOK_S / 2)


def _supervisor(service: Service) -> int | None:
    """Who holds the service's lock, or None: /proc/locks names the holder, also of one that does not answer."""
    with contextlib.suppress(FileNotFoundError):
        inode = (service.directory / "supervisor.lock").stat().st_ino
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if words[1] != "FLOCK" or not words[5].endswith(f":{inode}"):
                continue
            # Another file system may have a file of that number: only ours is told of our directory.
            if str(service.directory).encode() in Path(f"/proc/{words[4]}/cmdline").read_bytes().split(b"\0"):
                return int(words[4])
    return None


def _stopped(pid: int) -> bool:
    with contextlib.suppress(psutil.Error):
        return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)
    return False


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except FileNotFoundError:
        return []


def _read(service: Service, outcome: Outcome) -> None:
    outcome.instants = list(dict.fromkeys(_lines(service.directory / INSTANTS)))
    met = _lines(service.directory / MET)
    outcome.met = {line.partition(" ")[2] for line in met}
    outcome.kills += len(met)


async def _judge(life: Life, service: Service, outcome: Outcome) -> None:
    service.lift()
    await service.quiet()
    status = await service.status()
    active = status.active
    bad = tuple(pin["id"] for pin in status.pins)
    if active is None or status.state != "running" or active.release != life.serves or bad != life.bad:
        outcome.wrong_release = 1
        outcome.why.append(f"{active and active.release} serves, {status.state}, pinned {bad}")
    elif (answers := await service.system.ask()) != life.serves.removeprefix("r"):
        outcome.wrong_release = 1
        outcome.why.append(f"version {answers} answers")
    if (there := copies(service.system.root / "logs")) != [active and active.pid]:
        outcome.second_copy = 1
        outcome.why.append(f"processes {there} are there, not just {active and active.pid}")
    wrong = untold(life, await service.told(status.seq))
    outcome.untold = len(wrong)
    outcome.why += wrong


def untold(life: Life, events: list[ServiceEvent]) -> list[str]:
    """Compare what was told with a row: for each release its own chain.

    Returns:
        What is wrong, one text for each chain. An event that was told before may be told again if a supervisor was
        started in between, and any other way to differ is wrong.
    """
    told = [(event.event, str(event.data.get("release", ""))) for event in events]
    wrong = []
    for release, row in life.told.items():
        chain = [event for event, of in told if of == release or event in _BESIDE]
        if (why := _differs(row.split(), chain)) is not None:
            wrong.append(f"{release}: {why}")
    others = sorted({f"{event} {of}" for event, of in told if of not in life.told and event not in _BESIDE})
    return [*wrong, *(f"nobody expected {other}" for other in others)]


def _differs(row: list[str], chain: list[str]) -> str | None:
    place, fresh = 0, False  # fresh: a supervisor was started since the last new event
    for event in chain:
        if event in _BESIDE:
            fresh = True
        elif place < len(row) and event == row[place]:
            place, fresh = place + 1, False
        elif not (fresh and event in row[:place]):
            return f"{event} after {' '.join(row[:place])}, in {_short(chain)}"
    return None if place == len(row) else f"{' '.join(row[place:])} was never told, in {_short(chain)}"


def _short(chain: list[str]) -> str:
    """A chain with a bar for each time that a supervisor was started, or several in a row."""
    marks = ["|" if event in _BESIDE else event for event in chain]
    return " ".join(mark for mark, before in zip(marks, ["", *marks], strict=False) if mark != "|" or before != "|")


def _brief(seen: Traffic) -> str:
    return ", ".join(f"{count} of version {version}" for version, count in seen.answers.items())


# Many runs


async def run_all(plan: Mapping[Life, Faults], root: Path, at_once: int = 4) -> dict[Life, Outcome]:
    """Run lives with their faults, some at once: each is a service of its own and does not disturb another."""
    free = asyncio.Semaphore(at_once)
    outcomes = {}

    async def one(life: Life, faults: Faults) -> None:
        async with free:
            outcomes[life] = await run(life, root / str(life), faults)

    async with asyncio.TaskGroup() as group:
        for life, faults in plan.items():
            group.create_task(one(life, faults), name=str(life))
    return {life: outcomes[life] for life in plan}


async def survey(root: Path) -> dict[Life, Outcome]:
    """Every life without a fault: what there is to choose from."""
    return await run_all({life: Faults() for life in TABLE}, root)


def at_states(lives: Mapping[Life, Outcome], count: int, seed: int, fault: str = "kill") -> dict[Life, Faults]:
    """Faults at instants of the lives surveyed: at a step of every state write that there is, in one of the lives that
    have it, and then at any others, `count` in all or as many as there are writes; the same ones for the same seed."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    places: dict[str, list[tuple[Life, str]]] = {}
    for life, outcome in lives.items():
        for name in outcome.instants:
            if fault != "error" or name.rpartition(": ")[2] not in _NEVER_FAIL:
                places.setdefault(name.rpartition(": ")[0], []).append((life, name))
    picked = [dice.choice(found) for found in places.values()]
    rest = [place for found in places.values() for place in found if place not in picked]
    dice.shuffle(rest)
    picked += rest[: max(0, count - len(picked))]
    at: dict[Life, list[str]] = {}
    for life, name in picked:
        at.setdefault(life, []).append(name)
    return {life: Faults(fault, names) for life, names in at.items()}


def at_random(lives: Mapping[Life, Outcome], count: int, seed: int) -> dict[Life, Faults]:
    """Kills at any time of the lives surveyed, `count` in all, evenly over the lives."""
    dice = random.Random(seed)  # noqa: S311 - no secret
    order = list(lives)
    dice.shuffle(order)
    times: dict[Life, list[float]] = {}
    for life, _ in zip(itertools.cycle(order), range(count), strict=False):
        times.setdefault(life, []).append(dice.uniform(0, 0.8 * lives[life].seconds))
    return {life: Faults(killed_after=tuple(each)) for life, each in times.items()}
