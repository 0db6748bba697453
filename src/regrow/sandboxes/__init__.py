"""Boxes by name."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

from regrow.config import SandboxSection
from regrow.errors import ConfigError
from regrow.sandboxes.base import NO_MOST, Most, Sandbox

SANDBOXES = {
    "bubblewrap": "regrow.sandboxes.bubblewrap:BubblewrapSandbox",
    "unconfined": "regrow.sandboxes.unconfined:UnconfinedSandbox",
}


def sandbox_of(section: SandboxSection, protected: Sequence[Path]) -> Sandbox:
    """The sandbox of one service.

    Args:
        section: `[sandbox]` of its settings.
        protected: as in `sandbox`.
    """
    most = Most(section.memory, section.processes, section.cpus, section.temporary)
    return sandbox(section.driver, protected, own_user=section.own_user, most=most)


def sandbox(name: str, protected: Sequence[Path] = (), *, own_user: bool = True, most: Most = NO_MOST) -> Sandbox:
    """A sandbox driver.

    Args:
        name: a key of `SANDBOXES`.
        protected: directories with secrets or Regrow's own state, which no box may hold.
        own_user: where the daemon is root, give a box a user of its own.
        most: what any box may use at most.

    Raises:
        ConfigError: there is no such driver.
    """
    if name not in SANDBOXES:
        raise ConfigError(f"cannot use the sandbox {name!r}: it is not one of {', '.join(sorted(SANDBOXES))}")
    module, _, driver = SANDBOXES[name].partition(":")
    made = getattr(import_module(module), driver)
    return cast(Sandbox, made(protected, own=own_user, most=most) if name == "bubblewrap" else made())
