"""Agents by the names that the settings give them."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from regrow.agents import agent, agent_of
from regrow.agents.acp import AcpAgent
from regrow.agents.base import Task
from regrow.agents.briefing import briefing
from regrow.agents.claude import ClaudeAgent
from regrow.agents.command import CommandAgent
from regrow.agents.revert import RevertAgent
from regrow.agents.workplace import located, parts_of
from regrow.config import Config, parse
from regrow.errors import ConfigError, Refused
from regrow.git import Repository
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces

SERVICE = '[service]\nname = "tiny"\ncommand = ["x"]\n'
MODEL = '[model]\nkind = "anthropic"\nmodels = ["m"]\nbudget = 0\n'
AGENTS = (
    '[agent.open]\ndriver = "acp"\ncommand = ["opencode", "acp"]\n[agent.mine]\ndriver = "command"\ncommand = ["m"]\n'
)


def settings(text: str) -> Config:
    return parse(Path("/etc/regrow.toml"), SERVICE + text)


@pytest.fixture
async def parts(tmp_path: Path) -> tuple[Repository, Workspaces]:
    checkout = Checkout(tmp_path / "live")
    checkout.commit("Begin", {"a": "a\n"})
    repository = await Repository.open(checkout.path)
    return repository, Workspaces(tmp_path / "workspaces", repository)


async def test_names_lead_to_drivers(parts: tuple[Repository, Workspaces]) -> None:
    config = settings(MODEL + AGENTS + '[repair]\nagent = "open"\ncommand = ["c"]\n')
    kinds = {"": AcpAgent, "revert": RevertAgent, "command": CommandAgent, "claude": ClaudeAgent, "open": AcpAgent}
    for name, kind in {**kinds, "mine": CommandAgent}.items():
        made = agent_of(config, name, *parts)
        assert isinstance(made, kind)
        assert made.name == (name or "open")
    with pytest.raises(Refused, match="it is none of revert, claude, open, mine") as caught:
        agent_of(config, "genius", *parts)
    assert caught.value.kind == "no_such_agent"


async def test_an_agent_that_needs_a_model_is_refused_without_one(parts: tuple[Repository, Workspaces]) -> None:
    for name in ("claude", "open"):
        with pytest.raises(Refused) as caught:
            agent_of(settings(AGENTS), name, *parts)
        assert caught.value.kind == "no_model"
    assert agent_of(settings(AGENTS), "mine", *parts).name == "mine"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('[repair]\nagent = "genius"\n', "is not known: it is one of revert, command, claude"),
        ('[agent.revert]\ndriver = "claude"\n', "is taken"),
        ('[agent.a]\ndriver = "acp"\n', "needs `command`"),
        ('[agent.a]\ndriver = "claude"\ncommand = ["claude", "--x"]\n', "takes the program alone"),
        ('[agent.a]\ndriver = "robot"\n', "agent.a.driver"),
    ],
)
def test_settings_that_cannot_work_are_refused_when_they_are_read(text: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        settings(text)


def test_a_library_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for name, library, given in (
        ("claude", "claude-agent-sdk", {}),
        ("acp", "agent-client-protocol", {"command": ["x"]}),
    ):
        with pytest.raises(ConfigError, match=rf"{library} is not installed; install regrow\[{name}\]") as caught:
            agent(name, given)
        assert caught.value.kind == "agent_missing"


def test_a_program_that_is_not_installed_is_named() -> None:
    with pytest.raises(
        ConfigError, match=r"/nowhere/x is not installed; install it, or correct \[agent.mine\]"
    ) as caught:
        located("/nowhere/x", "mine")
    assert caught.value.kind == "agent_missing"
    assert located(sys.executable, "mine").is_file()


def test_what_a_program_consists_of_is_seen() -> None:
    assert parts_of(Path("/usr/bin/agent")) == ()
    assert parts_of(Path("/opt/agent/bin/agent")) == (Path("/opt/agent/bin"),)
    assert parts_of(Path("/o/node_modules/a/node_modules/b/cli.js")) == (Path("/o/node_modules"),)


def test_the_briefing_holds_the_words_as_they_were_written() -> None:
    task = Task(bug="{it} breaks: @.env /context", workspace=Path("/w"), git_directory=Path("/g"), allowed=["src/**"])
    assert "{it} breaks: @.env /context" in briefing(task)
    assert "src/**" in briefing(task)
    again = Task(bug="still", workspace=Path("/w"), git_directory=Path("/g"), allowed=[], session="s", reproduction="x")
    assert "answered" in briefing(again)
    assert "<script>\nx\n</script>" in briefing(again)


def test_the_briefing_forbids_tests_only_to_whom_they_are_sealed() -> None:
    """With `reproduce = "off"` the gate lets a test through, and it may be the only proof there is."""
    task = Task(bug="it breaks", workspace=Path("/w"), git_directory=Path("/g"), allowed=["src/**", "tests/**"])
    sealed = "Tests are not yours to change"
    assert sealed in briefing(task)
    assert sealed not in briefing(replace(task, sealed=False))
    assert sealed not in briefing(replace(task, goal="reproduce"))
    assert "Do not weaken, skip or delete tests" in briefing(replace(task, sealed=False))
