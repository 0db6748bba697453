from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from regrow.agents import AGENTS, agent
from regrow.agents.base import Event, Outcome, Span, Task
from regrow.agents.command import CommandAgent
from regrow.agents.workplace import writable_directories
from regrow.errors import ConfigError, Refused
from regrow.gate import Gate
from regrow.git import Repository
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing import scripted_agent
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspace, Workspaces

PYTHON = "/usr/bin/python3"


class Bench:
    """A job with a scripted agent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.live = Checkout(root / "live")
        self.live.commit("base", {"src/app.py": "x = 1\n", "docs/a.md": "a\n", ".env": "VALUE=canary\n"})
        self.tools = root / "tools"
        self.tools.mkdir()
        shutil.copy(scripted_agent.__file__, self.tools / "scripted_agent.py")
        self.events: list[Event] = []
        self.repository: Repository
        self.workspace: Workspace

    async def prepare(self) -> None:
        self.repository = await Repository.open(self.live.path)
        self.workspace = await Workspaces(self.root / "workspaces", self.repository).make(1, "main")

    async def repair(self, *steps: dict[str, object], timeout_s: float = 20) -> Outcome:
        script = self.tools / "script.json"
        script.write_text(json.dumps(steps))
        task = Task(
            bug="它坏了",
            workspace=self.workspace.path,
            git_directory=self.live.git_dir,
            allowed=["src/**"],
            spans=[Span("a", "b")],
            readable=[self.tools],
            env=(("COLOUR", "green"),),
            timeout_s=timeout_s,
        )
        command = [PYTHON, str(self.tools / "scripted_agent.py"), str(script)]
        return await CommandAgent(command).repair(task, BubblewrapSandbox(), self.events.append)


@pytest.fixture
async def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    await bench.prepare()
    return bench


async def test_an_edit_is_a_change_with_its_events(bench: Bench) -> None:
    outcome = await bench.repair(
        {"say": "thinking", "text": "hm"},
        {"replace": "src/app.py", "old": "1", "new": "2", "must": True},
        {"say": "editing", "text": "src/app.py"},
        {"print": "plain"},
        {"print": '{"event": "unknown", "text": "odd"}'},
        {"say": "summary", "text": "set x to 2"},
    )
    assert (outcome.changed, outcome.summary, outcome.reason) == (True, "set x to 2", "")
    assert bench.events == [
        Event("thinking", "hm"),
        Event("editing", "src/app.py"),
        Event("log", "plain"),
        Event("log", '{"event": "unknown", "text": "odd"}'),
    ]
    report = await Gate(["src/**"]).check(bench.repository, bench.workspace.commit, bench.workspace.path)
    assert report.passed
    assert [change.path for change in report.changes] == ["src/app.py"]


async def test_the_task_arrives_and_the_environment_is_that_of_the_box(bench: Bench) -> None:
    outcome = await bench.repair(
        {"save_task": "src/task.json", "must": True},
        {
            "run": [
                "sh",
                "-c",
                "git log --format=%s -1; git status --short; echo $COLOUR; cat .env; cat $GIT_DIR/config",
            ]
        },
    )
    assert outcome.changed
    assert json.loads((bench.workspace.path / "src/task.json").read_text()) == {
        "bug": "它坏了",
        "workspace": str(bench.workspace.path),
        "git_directory": str(bench.live.git_dir),
        "allowed": ["src/**"],
        "goal": "fix",
        "reproduction": "",
        "failing": "",
        "earlier": [],
        "attempt": 1,
        "sealed": True,
        "spans": [{"good": "a", "bad": "b"}],
        "timeout_s": 20,
    }
    said = [event.text for event in bench.events]
    assert said[0] == "base"
    assert said[-1] == "green", "what is masked reads as empty"
    assert "canary" not in outcome.log


async def test_only_what_is_allowed_can_be_written(bench: Bench) -> None:
    before = {path: path.read_bytes() for path in bench.live.path.rglob("*") if path.is_file()}
    outcome = await bench.repair(
        {"write": "docs/a.md", "text": "evil"},
        {"write": "top.txt", "text": "evil"},
        {"write": ".git/config", "text": "evil"},
        {"write": str(bench.live.path / "src/app.py"), "text": "evil"},
        {"write": str(bench.live.git_dir / "hooks/pre-commit"), "text": "evil"},
        {"delete": ".env"},
        {"link": "src/secret", "to": "/etc/shadow"},
    )
    assert outcome.changed  # the link is in the writable directory; the gate refuses it
    # Writing into the live checkout "works" inside, in an empty directory of the box's own, or is refused; never here.
    assert {path: path.read_bytes() for path in bench.live.path.rglob("*") if path.is_file()} == before
    report = await Gate(["src/**"]).check(bench.repository, bench.workspace.commit, bench.workspace.path)
    assert [(refusal.rule, refusal.path) for refusal in report.refusals] == [("symlink", "src/secret")]


async def test_no_change_is_told(bench: Bench) -> None:
    outcome = await bench.repair({"write": "src/app.py", "text": "x = 1\n"})
    assert (outcome.changed, outcome.reason) == (False, "no_change")


async def test_a_failure_is_told_with_its_last_line(bench: Bench) -> None:
    outcome = await bench.repair({"write": "src/app.py", "text": "x\n"}, {"say": "log", "text": "no key"}, {"exit": 4})
    assert (outcome.changed, outcome.reason) == (False, "agent_failed")
    assert "exit code 4: no key" in outcome.summary


async def test_a_program_that_is_not_there_fails(bench: Bench) -> None:
    task = Task("bug", bench.workspace.path, bench.live.git_dir, ["src/**"])
    for program in ("absent-agent", "/nowhere/agent"):
        with pytest.raises(ConfigError, match=f"{program} is not installed") as raised:
            await CommandAgent([program]).repair(task, BubblewrapSandbox(), bench.events.append)
        assert raised.value.kind == "agent_missing"
    outcome = await CommandAgent(["./absent"]).repair(task, BubblewrapSandbox(), bench.events.append)
    assert outcome.reason == "agent_failed"
    assert "./absent" in outcome.summary


async def test_a_program_that_is_killed_says_so(bench: Bench) -> None:
    task = Task("bug", bench.workspace.path, bench.live.git_dir, ["src/**"])
    outcome = await CommandAgent(["sh", "-c", "kill -9 $$"]).repair(task, BubblewrapSandbox(), bench.events.append)
    assert outcome.reason == "agent_killed"


async def test_a_hanging_program_is_ended(bench: Bench) -> None:
    outcome = await bench.repair({"print": "begun"}, {"hang": True}, timeout_s=2)
    assert (outcome.changed, outcome.reason) == (False, "timeout")
    assert "begun" in outcome.log


def test_writable_directories_are_the_fixed_parts_of_the_patterns(tmp_path: Path) -> None:
    root = tmp_path.resolve() / "w"
    (root / "src" / "app").mkdir(parents=True)
    (root / "src" / "main.py").write_text("")
    (root / "lib").mkdir()

    def of(*patterns: str) -> list[str]:
        return [str(path.relative_to(root)) for path in writable_directories(root, patterns)]

    assert of("src/**") == ["src"]
    assert of("/src/", "src/app/*.py", "!src/x", "# note", "") == ["src"]
    assert of("lib", "src/app/**/x.py") == ["lib", "src/app"]
    assert of("src/main.py") == ["src"]
    assert of("*.py") == ["."]
    assert of("new/deep/**") == ["new/deep"]
    assert of() == []
    (root / "out").symlink_to(tmp_path)
    for bad in ("../x/**", "out/**", "src/../../x/**"):
        with pytest.raises(Refused) as caught:
            of(bad)
        assert caught.value.kind == "box_path"


def test_agents_by_name() -> None:
    assert agent("command", {"command": ["x"]}).name == "command"
    assert set(AGENTS) >= {"command", "revert"}
    for name, settings in (("absent", {}), ("command", {}), ("command", {"command": "x y"}), ("command", {"odd": 1})):
        with pytest.raises(ConfigError, match="cannot use the agent"):
            agent(name, settings)
