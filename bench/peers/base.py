"""What a peer is, where the peers are installed, and what their drivers share."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import venv
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

PROGRAMS = Path(__file__).parent / "programs"
PINNED = Path(__file__).parents[1] / "peers.txt"
RELEASE = "release"
DEADLINE_S = 60.0
_INSTALL_S = 600.0


class Missing(Exception):
    """A peer cannot be measured here; the text says what is missing."""


class Peer(Protocol):
    """A way to change versions. One object is one service, from its start to its stop.

    Args:
        root: an empty directory for all it writes.
        port: of the loopback interface, on which the service is to answer.
    """

    name: str

    def __init__(self, root: Path, port: int) -> None: ...

    @staticmethod
    def install(home: Path) -> None:
        """Put what is needed below `home`, once. Raises Missing."""

    async def start(self) -> None:
        """Start the service, whose release is in the file RELEASE of `root`; its first answer is waited for outside."""

    async def upgrade(self) -> None:
        """Have it run what is in RELEASE now, in the way that its makers document."""

    async def stop(self) -> None:
        """End everything."""


def home() -> Path:
    """Where peers are installed: the user's cache, and no environment of Regrow."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "regrow-bench"


def python(home: Path) -> Path:
    """The interpreter of an environment that has what peers.txt lists; made when it is not there. Raises Missing."""
    where = home / "python"
    made = where / "made-for"
    if not made.exists() or made.read_text() != PINNED.read_text():
        venv.create(where, clear=True, with_pip=True)
        run(where / "bin" / "python", "-m", "pip", "--quiet", "--no-input", "install", "--requirement", PINNED)
        made.write_text(PINNED.read_text())
    return where / "bin" / "python"


def run(*words: str | Path, cwd: Path | None = None, env: Mapping[str, str] | None = None) -> None:
    """Run a command of an installation. Raises Missing with its last words."""
    try:
        subprocess.run(
            [str(word) for word in words], cwd=cwd, env=env, check=True, capture_output=True, text=True,
            timeout=_INSTALL_S, stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise Missing(f"{words[0]} failed: {(error.stderr or error.stdout).strip()[-300:]}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Missing(str(error)) from error


def write_release(root: Path, version: str, port: int, init_s: float, faults: Mapping[str, str]) -> None:
    """Put a release in place, whole: NAME=VALUE lines, which every program in programs/ reads when it starts."""
    wanted = {"TINY_VERSION": version, "TINY_PORT": str(port), "TINY_INIT": str(init_s), **faults}
    new = root / f"{RELEASE}.new"
    new.write_text("".join(f"{name}={value}\n" for name, value in wanted.items()))
    new.rename(root / RELEASE)


class Daemon:
    """A peer's own process, in a session of its own, with its words in a file; its children end with it."""

    def __init__(self, root: Path, *argv: str | Path, env: Mapping[str, str] | None = None) -> None:
        with (root / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [str(word) for word in argv], cwd=root, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip

    async def end(self) -> None:
        """SIGTERM, and SIGKILL to what is left of its session."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            await asyncio.to_thread(self.process.wait, 5.0)
        kill_session(self.process.pid)
        await asyncio.to_thread(self.process.wait, DEADLINE_S)


def kill_session(leader: int) -> None:
    """SIGKILL every process of a session that we started."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError, IndexError):
                if int((entry / "stat").read_text().rpartition(")")[2].split()[3]) == leader:
                    os.kill(int(entry.name), signal.SIGKILL)


async def command(*argv: str | Path, env: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a peer's command to its end. What it says when a release is bad is no error of the bench."""
    process = await asyncio.create_subprocess_exec(
        *(str(word) for word in argv), env={**os.environ, **(env or {})}, cwd=cwd, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        await asyncio.wait_for(process.wait(), DEADLINE_S)
    except TimeoutError:
        process.kill()
        await process.wait()


async def listening(port: int) -> None:
    """Wait until something takes connections. Raises TimeoutError."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            with socket.create_connection(("127.0.0.1", port), 1.0):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise TimeoutError(f"nothing listens on {port}") from None
        await asyncio.sleep(0.02)


def service(interpreter: Path | str = sys.executable) -> list[str]:
    """The command of the same service for those that run any program."""
    return [str(interpreter), "-I", "-S", str(PROGRAMS / "service.py")]
