"""Service drivers by name: the dotted name of each class, imported only when it is chosen."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from regrow.config import Config
    from regrow.places import Places
    from regrow.services.base import Service

DRIVERS = {
    "embedded": "regrow.services.embedded:EmbeddedService",
    "systemd": "regrow.services.systemd:SystemdService",
}


def service(config: Config, places: Places, directory: Path) -> Service:
    """The driver that a service's settings name.

    Args:
        config: of the service.
        places: of the daemon.
        directory: the service's state directory.
    """
    module, _, name = DRIVERS[config.service.driver].partition(":")
    return cast("Service", getattr(import_module(module), name).of(config, places, directory))
