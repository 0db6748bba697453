"""The tiny service under the systemd driver: its units are installed in the manager that is there."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

from regrow.config import Config
from regrow.places import Places
from regrow.services import units
from regrow.services.systemd import SystemdService
from regrow.testing.service_system import ServiceSystem

_DEADLINE_S = 60.0


class UnitSystem(ServiceSystem):
    """As `ServiceSystem`; `settings` are of the service's section, where the units come from."""

    def __init__(self, root: Path, **settings: Any) -> None:
        self._settings = {"drain": 2.0, "stop_timeout": 2.0} | settings
        super().__init__(root)

    @property
    def config(self) -> Config:
        """What the units are made from."""
        named = {"name": "tiny", "command": ["unused"], "driver": "systemd", "listen": {"http": "127.0.0.1:1"}}
        return Config.model_validate({"service": named | self._settings, "path": self.root / "regrow.toml"})

    @property
    def manager(self) -> units.Manager:
        """Whose units they are."""
        return self.config.service.scope

    @property
    def places(self) -> Places:
        """Where the driver keeps things."""
        return Places(self.root, self.runtime, self.runtime / "daemon.sock")

    @property
    def directory(self) -> Path:
        """The service's state directory, as the units name it."""
        return self.places.service("tiny")

    @directory.setter
    def directory(self, _: Path) -> None:
        """The places say it."""

    def driver(self) -> SystemdService:
        """One more driver of the same service."""
        return SystemdService.of(self.config, self.places, self.directory)

    def install(self) -> None:
        """Write the units and have them read."""
        where = units.directory(self.manager)
        where.mkdir(parents=True, exist_ok=True)
        for unit in (
            units.supervisor(self.config, self.places, self.manager),
            units.releases(self.config, self.places),
        ):
            (where / unit.name).write_text(unit.text)
        self.systemctl("daemon-reload")

    def unit(self, token: str) -> str:
        """The unit of one start."""
        return units.releases_name("tiny").replace("@", f"@{token}")

    def systemctl(self, *words: str, check: bool = True) -> str:
        """What systemctl prints."""
        argv = [*units.manager_argv(self.manager), *words]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_DEADLINE_S, check=False)
        if check and done.returncode:
            raise AssertionError(f"{' '.join(argv)}: {done.stderr}")
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--value", f"--property={name}", unit)

    def await_state(self, unit: str, state: str) -> None:
        """Wait until a unit is "active", "inactive" or "failed"."""
        deadline = time.monotonic() + _DEADLINE_S
        while (now := self.show(unit, "ActiveState")) != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"{unit} is {now} and not {state} after {_DEADLINE_S:g} s")

    async def reopen(self) -> None:
        """Let go of the service as a daemon that ends, and take it up as the next one."""
        await self.service.close(keep_service=True)
        self.service = self.driver()

    async def close(self) -> None:
        """Stop everything, also what was left half done, and take the units away."""
        await self.service.close(keep_service=False)
        supervisor = units.supervisor_name("tiny")
        self.systemctl("stop", supervisor, "regrow-tiny@*.service")
        self.systemctl("reset-failed")
        for name in (supervisor, units.releases_name("tiny")):
            (units.directory(self.manager) / name).unlink()
        self.systemctl("daemon-reload")
