"""circus: `circusctl reload` of a watcher whose socket circus holds; connections wait in its queue meanwhile."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Daemon, command, listening, python, service

_CONFIG = """\
[circus]
endpoint = ipc://{root}/control
pubsub_endpoint = ipc://{root}/events
stats_endpoint = ipc://{root}/stats
statsd = False
[watcher:tiny]
cmd = {command} $(circus.sockets.web)
use_sockets = True
copy_env = True
numprocesses = 1
working_dir = {root}
[socket:web]
host = 127.0.0.1
port = {port}
backlog = 2048
"""


class Circus:
    name = "circus"

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.config = root / "circus.ini"
        self.config.write_text(_CONFIG.format(root=root, port=port, command=" ".join(service())))

    @staticmethod
    def install(home: Path) -> None:
        """With pip."""
        Circus.bin = python(home).parent

    async def start(self) -> None:
        """In a session of its own; the socket is there at once, so the first answer is waited for outside."""
        self.daemon = Daemon(self.root, self.bin / "circusd", self.config)
        await listening(self.port)

    async def upgrade(self) -> None:
        """Reload the watcher, and wait until circus says that it is done."""
        await self._control("reload", "--waiting", "tiny")

    async def _control(self, *words: str) -> None:
        await command(self.bin / "circusctl", "--endpoint", f"ipc://{self.root}/control", *words)

    async def stop(self) -> None:
        """It stops its programs."""
        await self._control("quit", "--waiting")
        await self.daemon.end()
