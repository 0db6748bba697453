"""A world for the benches that need the daemon: claw's repository, free ports, a state directory, the real process."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bench import lines
from regrow.api.client import Client
from regrow.api.types import ENDED, Job, RequestBody
from regrow.services.embedded import EmbeddedService
from regrow.testing.ports import free_port

EXAMPLE = Path(__file__).parents[1] / "examples" / "claw"
DEADLINE_S = 120.0
BUG = "Reminders set for 07:00 in Shanghai come at 15:00"
REPRODUCTION = (
    "python -m claw due '0 7 * * *' --tz Asia/Shanghai"
    " --after 2026-01-01T00:00:00+08:00 --expect 2026-01-01T07:00:00+08:00"
)


class World:
    """A daemon that cares for claw, in a directory of its own.

    Args:
        root: an empty directory with a short name (unix sockets lie in it).
        bake_s: seconds of bake.
    """

    def __init__(self, root: Path, bake_s: float = 2.0) -> None:
        self.root = root
        self.clone = root / "claw"
        self.process: subprocess.Popen[bytes] | None = None
        self.client = Client(root / "run" / "daemon.sock")
        self._git("clone", "--quiet", "--bare", str(self._history()), str(root / "claw.git"))
        # The last three commits wait in the clone: a good one, the bug, and one more.
        self.good = self._git("-C", str(self.clone), "rev-parse", "main~3")
        self.tip = self._git("-C", str(self.clone), "rev-parse", "main")
        self.publish(self.good)
        config = (EXAMPLE / "regrow.toml").read_text()
        config = config.replace(":8700", f":{free_port()}")
        config = re.sub(r'(?m)^bake = ".*"', f'bake = "{bake_s:g}s"', config)
        (root / "regrow.toml").write_text(config + f'\n[daemon]\nconsole = "127.0.0.1:{free_port()}"\n')
        self.environment = lines.environment(
            REGROW_STATE_DIR=str(root / "state"),
            REGROW_RUNTIME_DIR=str(root / "run"),
            REGROW_SOCKET=str(root / "run" / "daemon.sock"),
        )

    def _history(self) -> Path:
        subprocess.run(
            [sys.executable, str(EXAMPLE / "history.py"), str(self.clone)],
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )
        return self.clone

    @staticmethod
    def _git(*words: str) -> str:
        done = subprocess.run(["git", *words], check=True, capture_output=True, text=True, timeout=DEADLINE_S)
        return done.stdout.strip()

    def publish(self, commit: str) -> None:
        """What the service's branch shows."""
        self._git("-C", str(self.root / "claw.git"), "update-ref", "refs/heads/main", commit)

    # The daemon

    def start(self) -> float:
        """Start the daemon; the seconds from the start of its process to its READY=1, seen from outside."""
        address = self.root / "ready"
        address.unlink(missing_ok=True)
        argv = [sys.executable, "-P", "-m", "regrow.daemon", "--config", str(self.root / "regrow.toml")]
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hearing,
            (self.root / "daemon.log").open("ab") as log,
        ):
            hearing.bind(str(address))
            began = time.monotonic()
            self.process = subprocess.Popen(
                argv, env={**self.environment, "NOTIFY_SOCKET": str(address)}, stdout=log, stderr=log, cwd=self.root
            )
            ended = os.pidfd_open(self.process.pid)
            try:
                while True:
                    heard, _, _ = select.select([hearing, ended], [], [], DEADLINE_S)
                    if hearing in heard and b"READY=1" in hearing.recv(4096):
                        return time.monotonic() - began
                    if hearing not in heard:
                        told = (self.root / "daemon.log").read_text()[-2000:]
                        raise RuntimeError(f"cannot start the daemon: {told or 'it is not ready and says nothing'}")
            finally:
                os.close(ended)

    def stop(self) -> None:
        """Stop the daemon; the service goes on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(DEADLINE_S)
        self.process = None

    def end(self) -> None:
        """Stop everything."""
        if self.process is None or self.process.poll() is not None:
            # The service and its supervisor outlive a daemon, also one that broke.
            if (self.root / "run" / "claw.sock").exists():
                service = EmbeddedService("claw", self.root / "state" / "claw", self.root / "run")
                asyncio.run(service.close(keep_service=False))
            return
        self.client.stop(services=True)
        self.process.wait(DEADLINE_S)
        self.process = None

    def run(self, *words: str) -> float:
        """One `regrow` command; its seconds from outside."""
        began = time.monotonic()
        subprocess.run(
            [sys.executable, "-P", "-m", "regrow.cli", *words],
            env=self.environment,
            check=True,
            stdout=subprocess.DEVNULL,
            timeout=DEADLINE_S,
        )
        return time.monotonic() - began

    # Jobs

    def idle(self) -> None:
        """Wait until no job runs."""
        deadline = time.monotonic() + DEADLINE_S
        while any(job.status not in ENDED for job in self.client.jobs()):
            if time.monotonic() > deadline:
                raise TimeoutError("a job does not end")
            time.sleep(0.05)

    def ask(self, intent: str, **args: str) -> Job:
        """Do one job to its end, approving what it asks to have approved."""
        accepted = self.client.request(RequestBody(intent=intent, args=args))
        number: int = accepted.job  # type: ignore[union-attr]
        approved = False
        for job in self.client.job_events(number):
            if job.approval is not None and job.approval.state == "open" and not approved:
                approved = True
                self.client.approve(number, job.approval.digest)
        assert job.status == "done", f"{intent}: {job.status}: {job.error}"
        return job


@contextlib.contextmanager
def world(root: Path, bake_s: float = 2.0) -> Iterator[World]:
    """A world that leaves nothing running."""
    made = World(root, bake_s)
    try:
        yield made
    finally:
        made.end()


def resident_mib(pid: int) -> float:
    """What a process holds in memory, in MiB."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def cpu_s(pid: int) -> float:
    """The seconds of processor time that a process has used, its children not counted."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
