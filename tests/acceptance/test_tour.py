"""The whole story, as `scripts/run --tour --json` plays it against the installed program."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

CHECKOUT = Path(__file__).resolve().parents[2]
TOUR = [sys.executable, str(CHECKOUT / "examples/claw/tour")]
ENDINGS = {
    "restart": "done",
    "build_and_restart": "done",
    "repair": "done",
    "cannot_start": "failed",
    "dies_later": "undone",
    "rollback": "done",
    "build_fails": "failed",
    "conversation": "done",
}

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "regrow").exists(),
    reason="regrow is not installed beside this Python; scripts/test installs it",
)


def mentioning(directory: Path) -> list[str]:
    """Processes that have to do with a directory."""
    found = []
    for process in psutil.process_iter():
        try:
            words = [*process.cmdline(), *process.environ().values(), process.cwd()]
            if process.status() != psutil.STATUS_ZOMBIE and any(str(directory) in word for word in words):
                found.append(f"{process.pid} {' '.join(process.cmdline())}")
        except psutil.Error:
            continue
    return found


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[subprocess.CompletedProcess[str], Path]]:
    directory = tmp_path_factory.mktemp("t")
    done = subprocess.run(
        [*TOUR, "--json"],
        env={**os.environ, "TMPDIR": str(directory)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    yield done, directory


def figures(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {one["scene"]: one for one in map(json.loads, done.stdout.splitlines())}


def test_everything_is_played_in_order(played: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, _ = played
    assert list(figures(done)) == list(ENDINGS), done.stderr


@pytest.mark.parametrize("scene", ENDINGS)
def test_a_scene(played: tuple[subprocess.CompletedProcess[str], Path], scene: str) -> None:
    one = figures(played[0])[scene]
    assert one["missed"] == []
    assert (one["ok"], one["status"], one["failed"]) == (True, ENDINGS[scene], 0)
    assert one["requests"] > 0
    assert one["checks"] > 3


def test_nothing_is_left(played: tuple[subprocess.CompletedProcess[str], Path]) -> None:
    done, directory = played
    assert (done.returncode, done.stderr) == (0, "")
    assert list(directory.iterdir()) == []
    assert mentioning(directory) == []


def test_it_can_be_broken_off(tmp_path: Path) -> None:
    process = subprocess.Popen(
        TOUR,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout
        # In the middle of the second scene tests or a build are running.
        assert any("开始编译" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, errors) == (130, "")
    assert list(tmp_path.iterdir()) == []
    assert mentioning(tmp_path) == []
