"""The driver for services whose releases are units of systemd, with their own control groups, limits and watchdog.

The supervisor is the same, in a unit of its own, and so are its verbs and its rule; only where the embedded one forks a
release, this one has systemd start `regrow-NAME@TOKEN.service`. Nothing here is needed for the way back.
"""

from __future__ import annotations

from pathlib import Path

from regrow.config import Config
from regrow.errors import ServiceError
from regrow.places import Places
from regrow.pool import in_thread
from regrow.services import units
from regrow.services.embedded import EmbeddedService


class SystemdService(EmbeddedService):
    """One service under systemd.

    Args:
        name: of the service.
        directory: the service's state directory; the supervisor's record lies there.
        runtime_directory: where the control socket goes.
        manager: whose units they are.
        wanted: what must be installed: the supervisor's unit and the releases' template.
    """

    def __init__(
        self, name: str, directory: Path, runtime_directory: Path, manager: units.Manager, wanted: list[units.Unit]
    ) -> None:
        super().__init__(name, directory, runtime_directory)
        self.manager = manager
        self.wanted = wanted

    @classmethod
    def of(cls, config: Config, places: Places, directory: Path) -> SystemdService:
        """The driver of a configured service."""
        manager = config.service.scope
        wanted = [units.supervisor(config, places, manager), units.releases(config, places)]
        return cls(config.service.name, directory, places.runtime, manager, wanted)

    async def _connect_or_start(self) -> None:
        await in_thread(self._check_units)
        await super()._connect_or_start()

    def _units(self) -> str:
        return self.manager

    def _check_units(self) -> None:
        """A unit of other settings would start releases by other rules, and nobody would see it."""
        for unit in self.wanted:
            path = units.directory(self.manager) / unit.name
            try:
                said = "" if unit.agrees(path.read_text("utf-8")) else "is of other settings"
            except OSError:
                said = "is not there"
            if said:
                raise ServiceError(
                    f"cannot care for {self.name}: {path} {said}; run `regrow install --{self.manager}`", kind="units"
                )

    def _bring_up(self) -> str:
        return self._start_unit(self.manager)
