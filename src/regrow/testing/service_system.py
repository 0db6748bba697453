"""A tiny service under the embedded driver in a directory of its own, with clients that hammer it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.services.base import Probe, ReleaseSpec, Socket
from regrow.services.embedded import EmbeddedService
from regrow.testing import tiny_service
from regrow.testing.ports import free_port


@dataclass
class Traffic:
    """What a few clients saw: answers by version, refused connections, and requests cut after they were sent."""

    answers: dict[str, int] = field(default_factory=dict)
    refused: int = 0
    cut: int = 0


class ServiceSystem:
    """Directories, a free port and a driver; `release` makes specs of the tiny service.

    Args:
        root: an empty directory.
        program: the supervisor's main file, if it is another one.
    """

    def __init__(self, root: Path, program: Path | None = None) -> None:
        self.root = root
        self.program = program
        self.directory = root / "state"
        self.runtime = root / "run"
        self.port = free_port()
        self.service = self.driver()

    def driver(self) -> EmbeddedService:
        """One more driver of the same service."""
        driver = EmbeddedService("tiny", self.directory, self.runtime)
        driver.program = self.program or driver.program
        return driver

    def release(self, version: str, env: dict[str, str] | None = None, **changes: Any) -> ReleaseSpec:
        """A spec of the tiny service that reports `version`."""
        wanted: dict[str, Any] = {
            "id": f"r{version}",
            "digest": hashlib.sha256(version.encode()).hexdigest(),
            "commit": hashlib.sha1(version.encode(), usedforsecurity=False).hexdigest(),
            "version": version,
            "argv": (sys.executable, "-I", "-S", tiny_service.__file__),
            "env": {"TINY_VERSION": version, **(env or {})},
            "log": str(self.root / "logs" / f"{version}.log"),
            "sockets": (Socket("http", f"127.0.0.1:{self.port}"),),
            "probe_socket": True,
            "probes": (Probe("health", "http", "/health", interval_s=0.05, strikes=3, version_json="version"),),
            "drain_timeout_s": 2.0,
            "stop_timeout_s": 2.0,
        }
        return ReleaseSpec(**{**wanted, **changes})

    def record(self) -> dict[str, Any]:
        """The supervisor's record as it is on disk."""
        data: dict[str, Any] = json.loads((self.directory / "supervisor.json").read_text())
        return data

    async def ask(self) -> str:
        """The version that answers now."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b"GET / HTTP/1.0\r\n\r\n")
            answer = await reader.read()
        finally:
            writer.close()
        return str(json.loads(answer.partition(b"\r\n\r\n")[2])["version"])

    @contextlib.asynccontextmanager
    async def traffic(self, clients: int = 3, pace_s: float = 0.0) -> AsyncIterator[Traffic]:
        """Clients that ask again and again, each on a new connection, until the block ends; `pace_s` seconds between
        two requests of one leave the machine to what is tested."""
        seen = Traffic()
        over = asyncio.Event()

        async def client() -> None:
            while not over.is_set():
                try:
                    async with asyncio.timeout(10.0):
                        version = await self.ask()
                    seen.answers[version] = seen.answers.get(version, 0) + 1
                except ConnectionRefusedError:
                    seen.refused += 1
                except (OSError, ValueError):
                    seen.cut += 1
                await asyncio.sleep(pace_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(client())
            try:
                yield seen
            finally:
                over.set()
