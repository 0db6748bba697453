"""Every driver through its whole life, with real agents in the real box; the model is the scripted one."""

from __future__ import annotations

import asyncio
import json
import secrets
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from regrow.agents.acp import AcpAgent
from regrow.agents.base import Agent, Door, Span, Task
from regrow.agents.claude import ClaudeAgent
from regrow.agents.command import CommandAgent
from regrow.agents.revert import RevertAgent
from regrow.config import ModelSection
from regrow.git import Repository
from regrow.models.gateway import ModelGateway
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing import scripted_agent
from regrow.testing.agent_driver import Plan, drive_agent
from regrow.testing.model_api import Call, ModelApi, Turn
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces

MODEL = "claude-sonnet-4-5"


@dataclass(frozen=True)
class Place:
    """A repository with a bug, and room beside it."""

    root: Path
    repository: Repository
    checkout: Checkout
    good: str


@pytest.fixture
async def place(tmp_path: Path) -> Place:
    checkout = Checkout(tmp_path / "live")
    checkout.commit("Begin", {"src/answer.txt": "good\n", "src/other.txt": "other\n"})
    good = checkout.git("rev-parse", "HEAD")
    checkout.commit("Break it", {"src/answer.txt": "bad\n"})
    (tmp_path / "home").mkdir()
    return Place(tmp_path, await Repository.open(checkout.path), checkout, good)


class Stand:
    """The life of an agent at a place."""

    resumes = False

    def __init__(self, place: Place) -> None:
        self.root, self.repository, self.checkout, self.good = place.root, place.repository, place.checkout, place.good
        self.workspaces = Workspaces(self.root / "workspaces", self.repository)
        self.sandbox = BubblewrapSandbox()
        self.door: Door | None = None

    async def task(self, **more: Any) -> Task:
        """A task in a workspace made anew, always at the same place."""
        await self.workspaces.discard(1)
        made = await self.workspaces.make(1, "main")
        return Task(
            bug="the answer is wrong; these are the first words",
            workspace=made.path,
            git_directory=self.checkout.git_dir,
            allowed=["src/**"],
            readable=INTERPRETER,
            timeout_s=60.0,
            door=self.door,
            home=self.root / "home",
            **more,
        )

    def remembers(self, words: str) -> bool:
        """Only a model does."""
        raise NotImplementedError


class WithModel(Stand):
    """An agent that asks the model."""

    resumes = True
    shell: str

    def __init__(self, place: Place, make: Callable[[], Agent]) -> None:
        super().__init__(place)
        self.make = make
        self.api: ModelApi

    async def busy(self) -> None:
        """The model was asked, and does not answer."""
        await self.api.until(lambda: bool(self.api.asked), 60)

    def remembers(self, words: str) -> bool:
        """Whether a request holds what was said before."""
        return any(words in json.dumps(asked.body["messages"]) for asked in self.api.asked)

    def edit(self, path: str) -> Call:
        """A change of the answer in the words of this agent's tools."""
        raise NotImplementedError

    async def prepare(self, plan: Plan) -> tuple[Agent, Task]:
        task = await self.task()
        path = str(task.workspace / "src/answer.txt")
        end = Turn("The cause was the last commit. I put the answer right.")
        kill = Call(self.shell, {"command": "sleep 0.2; kill -9 -1", "description": "end"})
        turns = {
            "mends": [Turn("I look.", [self.look(path)]), Turn(calls=[self.edit(path)]), end],
            "nothing": [Turn("I cannot find anything.")],
            "answers": [Turn("I know.")],
            "hangs": [Turn(hang=True, repeat=10)],
            "dies": [Turn(calls=[kill]), end],
            "fails": [Turn(status=401, message="invalid x-api-key", repeat=100)],
        }[plan]
        self.api.say(turns)
        self.api.asked.clear()
        return self.make(), task

    def look(self, path: str) -> Call:
        """Read a file."""
        raise NotImplementedError


class Claude(WithModel):
    shell = "Bash"

    def look(self, path: str) -> Call:
        return Call("Read", {"file_path": path})

    def edit(self, path: str) -> Call:
        return Call("Edit", {"file_path": path, "old_string": "bad", "new_string": "good"})


class OpenCode(WithModel):
    shell = "bash"

    def look(self, path: str) -> Call:
        return Call("read", {"filePath": path})

    def edit(self, path: str) -> Call:
        return Call("edit", {"filePath": path, "oldString": "bad", "newString": "good"})


class Scripted(Stand):
    """The command agent."""

    async def prepare(self, plan: Plan) -> tuple[Agent, Task]:
        steps: list[dict[str, Any]] = {
            "mends": [
                {"say": "editing", "text": "src/answer.txt"},
                {"replace": "src/answer.txt", "old": "bad", "new": "good"},
            ],
            "nothing": [{"say": "thinking", "text": "nothing to be found"}],
            "hangs": [{"run": ["touch", str(self.root / "home" / "busy")]}, {"hang": True}],
            "dies": [{"run": ["sh", "-c", "kill -9 $PPID"]}],
            "fails": [{"print": "it is broken"}, {"exit": 3}],
        }[plan]
        tools = self.root / "tools"
        tools.mkdir(exist_ok=True)
        shutil.copy(scripted_agent.__file__, tools / "scripted_agent.py")
        for step in steps:
            if "run" in step:
                step["run"] = [word.replace(str(self.root / "home"), "/home/agent") for word in step["run"]]
        (tools / "script.json").write_text(json.dumps(steps))
        command = [sys.executable, str(tools / "scripted_agent.py"), str(tools / "script.json")]
        return CommandAgent(command, readable=[tools]), await self.task()

    async def busy(self) -> None:
        """It says so by a file."""
        while not (self.root / "home" / "busy").exists():
            await asyncio.sleep(0.01)


class Revert(Stand):
    """The agent without a model: its life is that of the reproduction."""

    async def prepare(self, plan: Plan) -> tuple[Agent, Task]:
        script = {
            "mends": "grep -q good src/answer.txt",
            "nothing": "true",
            "hangs": "sleep 1000",
            "dies": "kill -9 $$",
            "fails": "grep -q missing src/answer.txt",
        }[plan]
        task = await self.task(reproduction=script, spans=(Span(self.good, await self.repository.resolve("main")),))
        return RevertAgent(repository=self.repository, workspaces=self.workspaces), task

    async def busy(self) -> None:
        """The reproduction runs."""
        while not any(
            b"sleep\x001000" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
        ):
            await asyncio.sleep(0.01)


@asynccontextmanager
async def modelled(stand: WithModel, kind: str = "anthropic") -> AsyncIterator[None]:
    """A model behind the real gateway, which alone has the key."""
    key = secrets.token_hex(16)
    (stand.root / "key").write_text(key)
    # A title, which some agents ask for beside their work, takes no turn.
    async with ModelApi(key=key, aside=Turn("A title")) as api:
        stand.api = api
        settings = ModelSection.model_validate(
            {
                "kind": kind,
                "models": [MODEL],
                "base_url": api.base_url + ("/v1" if kind == "openai" else ""),
                "key": f"file:{stand.root / 'key'}",
                "prices": {MODEL: {"input": 3.0, "output": 15.0}},
            }
        )
        (stand.root / "doors").mkdir()
        async with ModelGateway(settings, {}, stand.root / "doors").serve("job-1") as door:
            stand.door = door
            yield


@pytest.mark.parametrize("relay", [False, True], ids=["socket", "relay"])
async def test_claude_lives(place: Place, relay: bool) -> None:
    life = Claude(place, lambda: ClaudeAgent(relay=relay))
    async with modelled(life):
        await drive_agent(life)


async def test_claude_agent_acp_lives(place: Place, programs: Path) -> None:
    life = Claude(place, lambda: AcpAgent([str(programs / "claude-agent-acp")]))
    async with modelled(life):
        await drive_agent(life)


@pytest.mark.parametrize("kind", ["anthropic", "openai"])
async def test_opencode_lives(place: Place, programs: Path, kind: str) -> None:
    life = OpenCode(place, lambda: AcpAgent([str(programs / "opencode"), "acp"], name="opencode"))
    async with modelled(life, kind):
        await drive_agent(life)


async def test_a_command_lives(place: Place) -> None:
    await drive_agent(Scripted(place))


async def test_revert_lives(place: Place) -> None:
    await drive_agent(Revert(place))
