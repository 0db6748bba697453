"""gunicorn with one worker: HUP to its master, or USR2 (a second master beside it) and then TERM to the first."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

from bench.peers.base import PROGRAMS, Daemon, kill_session, listening, python

_OVERLAP_S = 2.0
"""From USR2 to TERM, as in gunicorn's own description: somebody looks whether the new one is good."""


class _Gunicorn:
    name = ""

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port

    @staticmethod
    def install(home: Path) -> None:
        """With pip."""
        _Gunicorn.python = python(home)

    async def start(self) -> None:
        """One master, one worker."""
        words = ("--bind", f"127.0.0.1:{self.port}", "--workers", "1", "--pid", "pid", "--chdir", str(self.root))
        at = ("--pythonpath", str(PROGRAMS))
        self.daemon = Daemon(self.root, self.python, "-m", "gunicorn", *words, *at, "app:application")
        await listening(self.port)

    async def stop(self) -> None:
        """Both masters; they share a session."""
        for name in ("pid", "pid.2"):
            with contextlib.suppress(OSError, ValueError):
                os.kill(int((self.root / name).read_text()), signal.SIGTERM)
        await self.daemon.end()
        kill_session(self.daemon.process.pid)


class GunicornHup(_Gunicorn):
    name = "gunicorn_hup"

    async def upgrade(self) -> None:
        """Workers are replaced by workers that read the release anew."""
        self.daemon.process.send_signal(signal.SIGHUP)


class GunicornUsr2(_Gunicorn):
    name = "gunicorn_usr2"

    async def upgrade(self) -> None:
        """A second master on the same socket; if it is still there after two seconds, the first is told to stop."""
        self.daemon.process.send_signal(signal.SIGUSR2)
        await asyncio.sleep(_OVERLAP_S)
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.root / "pid.2").read_text()), 0)
            self.daemon.process.send_signal(signal.SIGTERM)
