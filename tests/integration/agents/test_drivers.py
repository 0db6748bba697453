"""Every driver through its whole life, with real agents in the real box; the model is the scripted one."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from regrow.agents.acp import AcpAgent
from regrow.agents.base import Agent, Span, Task
from regrow.agents.claude import ClaudeAgent
from regrow.agents.command import CommandAgent
from regrow.agents.revert import RevertAgent
from regrow.errors import RegrowError
from regrow.git import Repository
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing import scripted_agent
from regrow.testing.agent_driver import Plan, drive_agent
from regrow.testing.model_api import Call, ModelApi, Turn
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces

MODEL = "claude-sonnet-4-5"


class Stand:
    """A repository with a bug, workspaces, and a model behind a door."""

    def __init__(self, root: Path, repository: Repository, checkout: Checkout, good: str) -> None:
        self.root, self.repository, self.checkout, self.good = root, repository, checkout, good
        self.workspaces = Workspaces(root / "workspaces", repository)
        self.sandbox = BubblewrapSandbox()
        self.api: ModelApi
        self.door: Any = None
        self.resumes = True
        (root / "home").mkdir()

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

    async def busy(self) -> None:
        """The model was asked, and does not answer."""
        await self.api.until(lambda: bool(self.api.asked), 60)

    def remembers(self, words: str) -> bool:
        """Whether the last request holds what was said before."""
        return words in json.dumps(self.api.asked[-1].body["messages"])


@pytest.fixture
async def stand(tmp_path: Path) -> Stand:
    checkout = Checkout(tmp_path / "live")
    checkout.commit("Begin", {"src/answer.txt": "good\n", "src/other.txt": "other\n"})
    good = checkout.git("rev-parse", "HEAD")
    checkout.commit("Break it", {"src/answer.txt": "bad\n"})
    return Stand(tmp_path, await Repository.open(checkout.path), checkout, good)


class WithModel(Stand):
    """An agent that asks the model."""

    make: Callable[[], Agent]
    tool: str
    shell: str

    def edit(self, path: str) -> Call:
        """A change of the answer in the words of this agent's tools."""
        raise NotImplementedError

    async def prepare(self, plan: Plan) -> tuple[Agent, Task]:
        task = await self.task()
        path = str(task.workspace / "src/answer.txt")
        end = Turn("The cause was the last commit. I put the answer right.")
        kill = Call(self.shell, {"command": "sleep 0.2; kill -9 -1", "description": "end"})
        self.api.script = {
            "mends": [Turn("I look.", [self.look(path)]), Turn(calls=[self.edit(path)]), end],
            "nothing": [Turn("I cannot find anything.")],
            "answers": [Turn("I know.")],
            "hangs": [Turn(hang=True, repeat=10)],
            "dies": [Turn(calls=[kill]), end],
            "fails": [Turn(status=401, message="invalid x-api-key", repeat=100)],
        }[plan]
        self.api._said = 0
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
        while not (self.root / "home" / "busy").exists():  # noqa: ASYNC110
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
        while not any(  # noqa: ASYNC110
            b"sleep\x001000" in path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()
        ):
            await asyncio.sleep(0.01)


class PlainDoor:
    """Bytes to the scripted model, uncounted."""

    kind, model = "anthropic", MODEL
    trouble: RegrowError | None = None

    def __init__(self, socket: Path) -> None:
        self.socket = socket


@asynccontextmanager
async def opened(stand: Stand) -> AsyncIterator[None]:
    """A model, and a door to it."""
    async with ModelApi() as api:
        stand.api = api
        port = int(api.base_url.rpartition(":")[2])

        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            up_reader, up_writer = await asyncio.open_connection("127.0.0.1", port)

            async def pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
                try:
                    while chunk := await source.read(65536):
                        sink.write(chunk)
                        await sink.drain()
                except OSError:
                    pass
                finally:
                    sink.close()

            await asyncio.gather(pump(reader, up_writer), pump(up_reader, writer))

        path = stand.root / "model.sock"
        server = await asyncio.start_unix_server(carry, path)
        async with server:
            stand.door = PlainDoor(path)
            yield


async def test_claude_lives(stand: Stand) -> None:
    life = Claude(stand.root / "1", stand.repository, stand.checkout, stand.good) if False else stand
    life.__class__ = Claude
    async with opened(life):
        life.make = ClaudeAgent
        await drive_agent(life)


async def test_claude_agent_acp_lives(stand: Stand, programs: Path) -> None:
    stand.__class__ = Claude
    async with opened(stand):
        stand.make = lambda: AcpAgent([str(programs / "claude-agent-acp")])
        await drive_agent(stand)


async def test_opencode_lives(stand: Stand, programs: Path) -> None:
    stand.__class__ = OpenCode
    async with opened(stand):
        stand.make = lambda: AcpAgent([str(programs / "opencode"), "acp"], name="opencode")
        await drive_agent(stand)


async def test_a_command_lives(stand: Stand) -> None:
    stand.__class__ = Scripted
    stand.resumes = False
    await drive_agent(stand)


async def test_revert_lives(stand: Stand) -> None:
    stand.__class__ = Revert
    stand.resumes = False
    await drive_agent(stand)
