"""Agents by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from regrow.agents.base import Agent
from regrow.errors import ConfigError

# Dotted names, so that a driver with a large library is imported only where it is used.
AGENTS = {
    "acp": "regrow.agents.acp:AcpAgent",
    "claude": "regrow.agents.claude:ClaudeAgent",
    "command": "regrow.agents.command:CommandAgent",
    "revert": "regrow.agents.revert:RevertAgent",
}


def agent(name: str, settings: Mapping[str, object] | None = None) -> Agent:
    """An agent driver.

    Args:
        name: a key of `AGENTS`.
        settings: the keyword arguments of the driver's class.

    Raises:
        ConfigError: there is no such driver, a setting of it is wrong, or its library is not installed.
    """
    if name not in AGENTS:
        raise ConfigError(f"cannot use the agent {name!r}: it is not one of {', '.join(sorted(AGENTS))}")
    module, _, driver = AGENTS[name].partition(":")
    try:
        made = getattr(import_module(module), driver)(**(settings or {}))
    except ImportError as error:
        raise ConfigError(
            f"cannot use the agent {name!r}: {error}; install regrow[{name}]", kind="agent_missing"
        ) from error
    except TypeError as error:
        raise ConfigError(f"cannot use the agent {name!r}: {error}; correct its settings") from error
    return cast(Agent, made)
