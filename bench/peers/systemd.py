"""systemd: the seed's unit (Type=simple, Restart=always, RestartSec=3) and `systemctl --user restart`.

In the manager of `regrow.testing.managers`, which knows no unit but this one: a manager with the distribution's own
units would set up, and so clean, directories of the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
from pathlib import Path

from bench.peers.base import DEADLINE_S, Missing, listening, service
from regrow.testing.managers import UNITS, Manager, manager, missing

_UNIT = """\
[Unit]
DefaultDependencies=no
[Service]
Type=simple
Restart=always
RestartSec=3
WorkingDirectory={root}
ExecStart={command}
"""


class Systemd:
    name = "systemd"

    def __init__(self, root: Path, port: int) -> None:
        self.root, self.port = root, port
        self.unit = _UNIT.format(root=root, command=" ".join(service()))
        self.world = contextlib.ExitStack()
        self.manager: Manager | None = None

    @staticmethod
    def install(home: Path) -> None:
        """Nothing is installed: it is there, or it is not."""
        if why := missing():
            raise Missing(f"it {why}")

    async def start(self) -> None:
        """The manager, and then the unit."""
        self.manager = await asyncio.to_thread(self.world.enter_context, manager("user"))
        await self._inside("sh", "-c", 'printf %s "$1" > "$2"', "sh", self.unit, f"{UNITS['user']}/tiny.service")
        await self._inside("systemctl", "--user", "daemon-reload")
        await self._inside("systemctl", "--user", "start", "tiny")
        await listening(self.port)

    async def _inside(self, *words: str) -> None:
        assert self.manager is not None
        process = await asyncio.create_subprocess_exec(
            *self.manager.argv(*words), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        await asyncio.wait_for(process.wait(), DEADLINE_S)

    async def upgrade(self) -> None:
        """As the seed's script does."""
        await self._inside("systemctl", "--user", "restart", "tiny")

    async def stop(self) -> None:
        """With the manager everything in its world ends."""
        await asyncio.to_thread(self.world.close)
