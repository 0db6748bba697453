"""pm2 in cluster mode (node): `pm2 reload`, with the documented `wait_ready`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from bench.peers.base import PROGRAMS, Missing, command, kill_session, listening, run

_VERSION = "7.0.4"


class Pm2:
    name = "pm2"

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.env = {"PM2_HOME": str(root / "pm2"), "HOME": str(root)}
        app = {
            "name": "tiny", "script": str(PROGRAMS / "service.js"), "cwd": str(root), "exec_mode": "cluster",
            "instances": 1, "wait_ready": True,
        }  # fmt: skip
        (root / "apps.json").write_text(json.dumps({"apps": [app]}))

    @staticmethod
    def install(home: Path) -> None:
        """With npm."""
        if shutil.which("node") is None or shutil.which("npm") is None:
            raise Missing("node and npm are not installed")
        where = home / f"pm2-{_VERSION}"
        Pm2.program = where / "node_modules" / ".bin" / "pm2"
        if not Pm2.program.exists():
            where.mkdir(parents=True, exist_ok=True)
            run("npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", where, f"pm2@{_VERSION}")

    async def start(self) -> None:
        """Its daemon detaches itself and writes down its pid."""
        await self._pm2("start", str(self.root / "apps.json"))
        await listening(self.port)

    async def _pm2(self, *words: str) -> None:
        await command(self.program, *words, env=self.env, cwd=self.root)

    async def upgrade(self) -> None:
        """A new process beside the old one; then the old one is stopped."""
        await self._pm2("reload", "tiny")

    async def stop(self) -> None:
        """The daemon and all it started."""
        pid = int((self.root / "pm2" / "pm2.pid").read_text())
        await self._pm2("kill")
        kill_session(pid)
