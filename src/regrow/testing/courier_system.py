"""The example bot Courier under the embedded driver, with the toy platform that it is connected to."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

from regrow.services.base import ReleaseSpec
from regrow.testing.chat_platform import ChatPlatform
from regrow.testing.service_system import ServiceSystem


class CourierSystem(ServiceSystem):
    """Directories and a driver; `courier` makes specs of the bot.

    Args:
        root: an empty directory.
        example: the directory of the example, `examples/courier`.
        platform: what it connects to; entered already.
    """

    def __init__(self, root: Path, example: Path, platform: ChatPlatform) -> None:
        super().__init__(root)
        self.example = example
        self.platform = platform
        self.state = root / "courier"

    def courier(self, version: str, **changes: Any) -> ReleaseSpec:
        """A release of the bot; its name on the platform begins with "rVERSION"."""
        wanted: dict[str, Any] = {
            "argv": (sys.executable, "-m", "courier"),
            "cwd": str(self.example),
            "env": {
                "COURIER_PLATFORM": f"127.0.0.1:{self.platform.port}",
                "REGROW_STATE": str(self.state),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            "sockets": (),
            "probe_socket": False,
            "probes": (),
            "handover": "overlap",
            "drain_timeout_s": 600.0,  # to be ended sooner it must say that it is done
        }
        return dataclasses.replace(self.release(version), **{"version": None, **wanted, **changes})
