"""Plays the whole story against a real daemon in a world of its own, and checks how each scene ends.

python examples/claw/tour [--json]

Exit code 0 when everything held, 1 when something did not, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import psutil

from conversation import Channel, Conversation, NotHeard
from regrow.api.client import Client
from regrow.api.types import ENDED
from regrow.cli import terminal
from regrow.errors import RegrowError
from scenes import SCENES, Check, Scene, Stage
from traffic import Traffic, ask
from world import REGROW, World, free_addresses

UP_S = 90.0
DOWN_S = 60.0
LOOK_S = 0.05


class Stopped(Exception):
    """A signal asked for the end."""


class Screen:
    """What a person sees of the tour; nothing with --json."""

    def __init__(self, silent: bool) -> None:
        self._silent = silent
        self._lock = threading.Lock()
        self._since = time.monotonic()

    def scene(self, number: int, title: str) -> None:
        """A scene begins, and its clock."""
        self._since = time.monotonic()
        self._write(f"\n━━ {number} · {title} ━━")

    def said(self, author: str, text: str, edited: bool) -> None:
        """Somebody said something."""
        head = f"{time.monotonic() - self._since:6.1f} s  {author:<17} "
        lines = terminal.clean(text).split("\n")
        mark = "✎ " if edited else ""
        self._write("\n".join([f"{head} {mark}{lines[0]}", *(" " * (len(head) + 1) + line for line in lines[1:])]))

    def note(self, text: str) -> None:
        """Something worth a line that nobody said."""
        self._write(f"   {text}")

    def _write(self, text: str) -> None:
        if not self._silent:
            with self._lock:
                print(text, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/run --tour", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="one line of JSON a scene, and nothing else")
    given = parser.parse_args()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _stop)
    try:
        return 0 if tour(given.json) else 1
    except Stopped:
        return 130
    except (RegrowError, NotHeard) as error:
        print(error, file=sys.stderr)
        return 1


def _stop(number: int, frame: FrameType | None) -> None:
    # Cleaning up is not to be interrupted by the second Ctrl-C of an impatient person.
    for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(each, signal.SIG_IGN)
    raise Stopped


def tour(as_json: bool) -> bool:
    """Play everything; whether everything held."""
    began = time.monotonic()
    screen = Screen(silent=as_json)
    left: list[str] = []
    held = True
    with world(screen, left) as place:
        names: tuple[Channel, ...] = ("web", "terminal")
        chats = {name: Conversation(place.socket, name, screen.said) for name in names}
        traffic = Traffic(place.address)
        traffic.start()
        try:
            for number, scene in enumerate(SCENES, 1):
                screen.scene(number, scene.title)
                talk = chats[scene.channel]
                elsewhere = next(one for one in chats.values() if one is not talk)
                stage = Stage(place, talk, elsewhere, traffic)
                figures = play(scene, stage, screen)
                held = held and figures["ok"]
                if as_json:
                    print(json.dumps(figures, ensure_ascii=False), flush=True)
        finally:
            traffic.stop()
    if left:
        held = False
        print(f"✗ end: nothing is left running: {'; '.join(left)}", file=sys.stderr)
    screen.note(
        f"\n   {'everything held' if held else 'something did not hold'}, {time.monotonic() - began:.0f} s in all"
    )
    return held


def play(scene: Scene, stage: Stage, screen: Screen) -> dict[str, Any]:
    """Play one scene; its figures."""
    try:
        scene.play(stage)
    except (NotHeard, RegrowError, OSError, StopIteration) as error:
        stage.expect("the scene can be played to its end", f"{type(error).__name__}: {error}", False)
    stage.see_traffic()
    seconds = time.monotonic() - stage.begun
    figures, job, version = stage.traffic.figures(stage.begun), stage.job, stage.serving
    missed = [check for check in stage.checks if not check.held]
    for check in missed:
        print(f"✗ {scene.name}: expected: {check.expected}; seen: {check.seen}", file=sys.stderr, flush=True)
    screen.note(
        f"{'✗' if missed else '✓'} {job.status if job else 'no job'} · {version} serves · {seconds:.1f} s · "
        f"{figures.requests} requests, {figures.failed} failed, longest gap {figures.longest_gap_ms} ms · "
        f"{len(stage.checks)} checks"
    )
    return {
        "scene": scene.name,
        "ok": not missed,
        "seconds": round(seconds, 2),
        "job": job.id if job else None,
        "status": job.status if job else None,
        "version": version,
        "versions": figures.versions,
        "requests": figures.requests,
        "failed": figures.failed,
        "longest_gap_ms": figures.longest_gap_ms,
        "checks": len(stage.checks),
        "missed": [_missed(check) for check in missed],
    }


def _missed(check: Check) -> dict[str, str]:
    return {"expected": check.expected, "seen": check.seen}


@contextlib.contextmanager
def world(screen: Screen, left: list[str]) -> Iterator[World]:
    """A world in a temporary directory with the service up; afterwards nothing of it is left.

    Args:
        screen: told of what happens.
        left: is given what was still running at the end, though it should not.
    """
    directory = Path(tempfile.mkdtemp(prefix="regrow-tour-"))
    place = World(directory)
    try:
        place.prepare()
        for name, address in zip(("http", "console"), free_addresses(2), strict=True):
            place.set(name, address)
        began = time.monotonic()
        _regrow(place, "up", "--config", str(place.config))
        client = Client(place.socket)
        _wait(lambda: bool(ask(place.address).version), "the service", place)
        _wait(lambda: all(one.status in ENDED for one in client.jobs()), "the first job", place)
        screen.note(
            f"claw {ask(place.address).version} is up at {place.address} after {time.monotonic() - began:.1f} s"
        )
        yield place
        _regrow(place, "down")
        left += [_line(process) for process in _processes(directory)]
    finally:
        while processes := _processes(directory):
            _end(processes)
        shutil.rmtree(directory, ignore_errors=True)


def _regrow(place: World, *arguments: str) -> None:
    """Run the installed `regrow`; raises RegrowError with what it said."""
    done = subprocess.run(
        [str(REGROW), *arguments],
        env=place.environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=UP_S,
        check=False,
    )
    if done.returncode:
        raise RegrowError(f"cannot go on: regrow {arguments[0]} ended with {done.returncode}: {done.stdout.strip()}")


def _wait(is_so: Callable[[], bool], what: str, place: World) -> None:
    deadline = time.monotonic() + UP_S
    while not is_so():
        if time.monotonic() > deadline:
            log = (place.state / "daemon.log").read_text(errors="replace").splitlines()[-5:]
            raise RegrowError(f"cannot see {what} within {UP_S:.0f} s: {log}")
        time.sleep(LOOK_S)


def _processes(directory: Path) -> list[psutil.Process]:
    """Every process that has to do with a directory: by its arguments, variables or current directory."""
    found = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        with contextlib.suppress(psutil.Error, OSError):
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(directory) in word for word in words):
                found.append(process)
    return found


def _line(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.pid} {' '.join(process.cmdline())}"
    return str(process.pid)


def _end(processes: list[psutil.Process]) -> None:
    """End what is left of a tour that was broken off: the daemon and the supervisor in good order, then by force."""
    for process in processes:
        with contextlib.suppress(psutil.Error):
            process.terminate()
    _, alive = psutil.wait_procs(processes, DOWN_S / 4)
    for process in alive:
        with contextlib.suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(alive, DOWN_S / 4)


if __name__ == "__main__":
    raise SystemExit(main())
