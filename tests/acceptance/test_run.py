"""What `scripts/run` starts: the example service under care, until Ctrl-C."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from regrow.testing.ports import free_port

CHECKOUT = Path(__file__).resolve().parents[2]
DEMO = CHECKOUT / "examples/claw/tour/demo.py"
DEADLINE_S = 60.0

pytestmark = pytest.mark.skipif(
    not (Path(sys.executable).parent / "regrow").exists(),
    reason="regrow is not installed beside this Python; scripts/test installs it",
)


@pytest.fixture
def place(tmp_path: Path) -> tuple[Path, int]:
    """A directory for the demonstration with ports of its own, and the service's port."""
    directory, port = tmp_path / "d", free_port()
    directory.mkdir()
    text = (CHECKOUT / "examples/claw/regrow.toml").read_text()
    text = text.replace("127.0.0.1:8700", f"127.0.0.1:{port}")
    (directory / "regrow.toml").write_text(f'{text}\n[daemon]\nconsole = "127.0.0.1:{free_port()}"\n')
    return directory, port


@contextlib.contextmanager
def running(directory: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, str(DEMO)],
        env={**os.environ, "REGROW_DEMO_DIR": str(directory)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.communicate(timeout=DEADLINE_S)


def health(port: int) -> dict[str, Any] | None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health")
        return dict(json.loads(connection.getresponse().read()))
    except OSError:
        return None
    finally:
        connection.close()


def comes_up(port: int, process: subprocess.Popen[str]) -> dict[str, Any]:
    deadline = time.monotonic() + DEADLINE_S
    while (now := health(port)) is None:
        assert process.poll() is None, process.stdout and process.stdout.read()
        assert time.monotonic() < deadline, "the service does not come up"
        time.sleep(0.05)
    return now


def interrupted(process: subprocess.Popen[str]) -> str:
    """Ctrl-C: the terminal sends it to everything in the foreground; what was printed."""
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=DEADLINE_S)
    assert process.returncode == 0, output
    return output


def mentioning(directory: Path) -> list[int]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.status() != psutil.STATUS_ZOMBIE and process.environ().get("REGROW_STATE_DIR", "").startswith(
                str(directory)
            ):
                found.append(process.pid)
    return found


def git(directory: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(directory), *arguments], capture_output=True, text=True, timeout=30, check=True
    )
    return done.stdout.strip()


def test_the_service_starts_good_and_newer_commits_wait(place: tuple[Path, int]) -> None:
    directory, port = place
    with running(directory) as process:
        first = comes_up(port, process)
        assert mentioning(directory)
        output = interrupted(process)
    assert f"http://127.0.0.1:{port}" in output
    assert re.search(r"http://127\.0\.0\.1:\d+/login\?token=", output)
    assert mentioning(directory) == []
    tip, bare = git(directory / "claw", "rev-parse", "main"), git(directory / "claw.git", "rev-parse", "main")
    assert bare == tip
    assert git(directory / "claw", "rev-parse", "main~3").startswith(first["version"])

    with running(directory) as process:
        assert comes_up(port, process)["version"] == first["version"]
        interrupted(process)
    assert mentioning(directory) == []


def test_a_port_in_use_is_replaced_and_said(place: tuple[Path, int]) -> None:
    directory, port = place
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        with running(directory) as process:
            assert process.stdout
            said = process.stdout.readline()
            found = re.search(rf"127\.0\.0\.1:{port} is in use, so claw listens on 127\.0\.0\.1:(\d+)", said)
            assert found, said
            comes_up(int(found[1]), process)
            interrupted(process)


def test_an_unusable_directory_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env={**os.environ, "REGROW_DEMO_DIR": str(tmp_path / "file")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot ")
    assert len(done.stderr.splitlines()) == 1
