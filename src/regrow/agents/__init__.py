"""Agents by name."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import cast

from regrow.agents.base import Agent
from regrow.config import AgentSection, Config
from regrow.errors import ConfigError, Refused
from regrow.git import Repository
from regrow.workspaces import Workspaces

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


def agent_of(config: Config, name: str, repository: Repository, workspaces: Workspaces) -> Agent:
    """The agent of a name, set up as the settings say.

    Args:
        config: the service's settings.
        name: revert, command, or one of `config.agents`; "" for the one that is set.
        repository, workspaces: of the service.

    Raises:
        Refused: kind "no_such_agent", or "no_model" for an agent that needs one where none is set.
        ConfigError: kind "agent_missing", when its library is not installed.
    """
    name = name or config.repair.agent
    if name == "revert":
        return agent("revert", {"repository": repository, "workspaces": workspaces})
    section = config.agents.get(name)
    if name == "command" and config.repair.command:
        section = AgentSection(driver="command", command=config.repair.command)
    if section is None:
        names = ", ".join(("revert", *config.agents))
        raise Refused(
            f"cannot repair with {name}: it is none of {names}; name one of them", kind="no_such_agent", names=names
        )
    command = config.expand(section.command)
    env = tuple(section.env.items())
    readable = tuple((config.path.parent / path).resolve() for path in section.readable)
    if section.driver == "command":
        return agent("command", {"command": command, "env": env, "name": name, "readable": readable})
    if config.model is None:
        raise Refused(
            f"cannot repair with {name}: it needs a model, and no [model] is set; add it, or use revert",
            kind="no_model",
        )
    asked = {"name": name, "model": section.model, "max_turns": section.max_turns, "env": env, "readable": readable}
    if section.driver == "claude":
        return agent("claude", {**asked, "program": command[0] if command else "", "relay": section.relay})
    return agent("acp", {**asked, "command": command})
