"""supervisord: `supervisorctl restart`. The program is stopped and started; nothing is kept."""

from __future__ import annotations

from pathlib import Path

from bench.peers.base import Daemon, command, listening, python, service

_CONFIG = """\
[unix_http_server]
file = {root}/s.sock
[supervisord]
nodaemon = true
logfile = {root}/supervisord.log
pidfile = {root}/supervisord.pid
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl = unix://{root}/s.sock
[program:tiny]
command = {command}
directory = {root}
"""


class Supervisord:
    name = "supervisord"

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.config = root / "supervisord.conf"
        self.config.write_text(_CONFIG.format(root=root, command=" ".join(service())))

    @staticmethod
    def install(home: Path) -> None:
        """With pip."""
        Supervisord.bin = python(home).parent

    async def start(self) -> None:
        """In the foreground of a session of its own."""
        self.daemon = Daemon(self.root, self.bin / "supervisord", "-c", self.config)
        await listening(self.port)

    async def upgrade(self) -> None:
        """Restart it."""
        await command(self.bin / "supervisorctl", "-c", self.config, "restart", "tiny")

    async def stop(self) -> None:
        """It stops its programs; they are in sessions of their own."""
        await command(self.bin / "supervisorctl", "-c", self.config, "shutdown")
        await self.daemon.end()
