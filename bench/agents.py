"""What box and gateway add to a whole run of a real agent: the CLI of claude-agent-sdk with a scripted model.

The agent mends a bug in TURNS answers of the model: it reads, searches, edits and runs tests with its own tools. The
model has a realistic pace: the first event of an answer comes after FIRST_S, its pieces PIECE_S apart. The same run is
made bare (the library starts the CLI, which asks the model on the loopback) and as a repair makes it (through the
driver: its box with filter, own user and masks, the wrapper, the socket, the gateway in a process of its own). Both
have a home of their own each time; they take turns, and which goes first alternates.

run/claude          `run_s` is the median length of a run, of each way as `way`; `share_pct` is the median of the
                    differences within a pair, in percent of the bare run; `spread_pct` is how much the bare runs differ
"""

from __future__ import annotations

import asyncio
import dataclasses
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import structlog

from bench import lines
from bench.gateway import FIRST_S, PIECE_S, process, until_stopped
from regrow.agents.base import Door, Task
from regrow.agents.briefing import briefing
from regrow.agents.claude import ENV, ClaudeAgent
from regrow.git import Repository
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.model_api import Call, ModelApi, Turn, by_conversation
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces

MODEL = "claude-sonnet-4-5"
PYTHON = "/usr/bin/python3"  # named, so that no shim of the bare shell makes it slower there
TURNS = 12
WORDS = "The zone of the clock is not the zone of the table, so the job at seven does not run. "
SIZES = {"smoke": 1, "default": 8, "nightly": 40}
"""Pairs of runs."""
_RUN_S = 120.0
_SOURCE = "".join(f"def part_{n}():\n    return {n}\n\n\n" for n in range(200)) + "def answer():\n    return 'bad'\n"
_TEST = "from app import answer\n\nassert answer() == 'good'\n"


def turns(workspace: str) -> list[Turn]:
    """What the model says: a repair with the tools that agents use most."""
    app = f"{workspace}/src/app.py"
    shell = {"description": "see"}

    def edit(old: str, new: str) -> Call:
        return Call("Edit", {"file_path": app, "old_string": f"return '{old}'", "new_string": f"return '{new}'"})

    calls = [
        [Call("Bash", {"command": "git log --oneline -5; ls -la", **shell})],
        [Call("Grep", {"pattern": "def answer", "path": workspace})],
        [Call("Read", {"file_path": app})],
        [Call("Bash", {"command": f"{PYTHON} src/test_app.py", **shell})],
        [edit("bad", "better")],
        [Call("Bash", {"command": f"{PYTHON} src/test_app.py", **shell})],
        [Call("Read", {"file_path": app}), Call("Glob", {"pattern": "**/*.py", "path": workspace})],
        [edit("better", "good")],
        [Call("Bash", {"command": f"{PYTHON} src/test_app.py", **shell})],
        [Call("Bash", {"command": "git diff --stat", **shell})],
        [Call("Read", {"file_path": app})],
    ]
    paced = {"delay_s": FIRST_S, "pause_s": PIECE_S, "piece": 8}
    said = [Turn(WORDS * 5, calls=one, **paced) for one in calls]  # type: ignore[arg-type]
    return [*said, Turn("The zone was wrong. " + WORDS * 5, **paced)]  # type: ignore[arg-type]


@dataclass(frozen=True)
class Way:
    """The door to the model, as the process of the gateway has opened it."""

    socket: Path
    kind: str = "anthropic"
    model: str = MODEL
    trouble: None = None


class Bench:
    """A repository with a bug, and both ways to have it mended.

    Args:
        root: an empty directory.
        model: the model's address.
        door: the gateway's.
    """

    def __init__(self, root: Path, model: str, door: Door) -> None:
        self._root, self._model, self._door = root, model, door
        self._checkout = Checkout(root / "live")
        self._checkout.commit("Begin", {"src/app.py": _SOURCE, "src/test_app.py": _TEST})
        self._agent = ClaudeAgent(model=MODEL)
        self._sandbox = BubblewrapSandbox()
        self._count = 0

    async def task(self, door: Door | None) -> Task:
        """A task in a workspace made anew, always at the same place, with an empty home."""
        self._count += 1
        workspaces = Workspaces(self._root / "workspaces", await Repository.open(self._checkout.path))
        await workspaces.discard(1)
        made = await workspaces.make(1, "main")
        home = self._root / f"home-{self._count}"
        home.mkdir(mode=0o700)
        return Task(
            bug=WORDS,
            workspace=made.path,
            git_directory=self._checkout.git_dir,
            allowed=["src/**"],
            readable=INTERPRETER,
            timeout_s=_RUN_S,
            door=door,
            home=home,
        )

    async def boxed(self) -> float:
        """A run as a repair makes it, in seconds."""
        task = await self.task(self._door)
        began = time.perf_counter()
        outcome = await self._agent.repair(task, self._sandbox, lambda _: None)
        took = time.perf_counter() - began
        if not outcome.changed:
            raise SystemExit(f"cannot measure: the agent in its box did not mend it: {outcome}")
        self._mended(task)
        return took

    async def bare(self) -> float:
        """The same with nothing of Regrow around it."""
        from claude_agent_sdk import ClaudeSDKClient

        task = await self.task(None)
        git = {"GIT_DIR": str(task.git_directory), "GIT_WORK_TREE": str(task.workspace)}
        env = {**ENV, **git, "GIT_INDEX_FILE": str(task.home) + "-index"}
        env |= {"ANTHROPIC_BASE_URL": self._model, "HOME": str(task.home), "PYTHONDONTWRITEBYTECODE": "1"}
        program = self._agent.find()
        began = time.perf_counter()
        options = dataclasses.replace(self._agent.options(task, program), env=env)
        async with asyncio.timeout(_RUN_S), ClaudeSDKClient(options) as client:
            await client.query(briefing(task))
            async for _ in client.receive_response():
                pass
        took = time.perf_counter() - began
        self._mended(task)
        return took

    @staticmethod
    def _mended(task: Task) -> None:
        if "return 'good'" not in (task.workspace / "src/app.py").read_text():
            raise SystemExit("cannot measure: the bug is still there")


async def measure(out: lines.Lines, pairs: int) -> None:
    """Both ways in turn, after one of each that warms the files of the program."""
    with tempfile.TemporaryDirectory(prefix="ra-") as directory:
        async with (
            process("--model", f"{directory}/workspaces/1/workspace", module=__spec__.name) as (url, _),
            process("--gateway", url, MODEL) as (socket, _),
        ):
            bench = Bench(Path(directory), url, Way(Path(socket)))
            ways = {"bare": bench.bare, "boxed": bench.boxed}
            took: dict[str, list[float]] = {way: [] for way in ways}
            for way in ways.values():
                await way()
            for number in range(pairs):
                for way in sorted(ways, reverse=bool(number % 2)):
                    took[way].append(await ways[way]())
                    print(f"{number + 1}/{pairs} {way}: {took[way][-1]:.2f} s", file=sys.stderr)
    bare = statistics.median(took["bare"])
    for way, lengths in took.items():
        out.put("run/claude", "run_s", statistics.median(lengths), "s", way=way)
    added = [boxed - plain for boxed, plain in zip(took["boxed"], took["bare"], strict=True)]
    out.put("run/claude", "runs", 2 * pairs, "runs", answers=TURNS)
    out.put("run/claude", "added_s", statistics.median(added), "s")
    out.put("run/claude", "share_pct", statistics.median(added) / bare * 100, "%")
    out.put("run/claude", "spread_pct", (max(took["bare"]) - min(took["bare"])) / bare * 100, "%")


async def model(workspace: str) -> None:
    """The process of the model."""
    async with ModelApi(by_conversation(turns(workspace)), aside=Turn("A title")) as api:
        await until_stopped(api.base_url, forget=api)


def main() -> None:
    """Print the lines, or be the model."""
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    if sys.argv[1:2] == ["--model"]:
        asyncio.run(model(sys.argv[2]))
    else:
        asyncio.run(measure(lines.Lines("agents"), SIZES[lines.size(__doc__ or "")]))


if __name__ == "__main__":
    main()
