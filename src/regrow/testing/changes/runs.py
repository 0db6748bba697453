"""One change taken through the steps of a repair, and which of them stopped it."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal, cast

from regrow.agents.base import Agent, Event, Outcome, Task
from regrow.config import parse
from regrow.errors import RegrowError
from regrow.gate import PROTECTED, Gate, Limits
from regrow.git import Repository
from regrow.jobs import repair
from regrow.jobs.base import Done
from regrow.jobs.work import Work
from regrow.redact import Redactor
from regrow.risks import WEAK
from regrow.sandboxes.base import Sandbox
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.changes.project import BASE
from regrow.testing.repositories import Checkout
from regrow.verification import TEST_FILES
from regrow.workspaces import Workspaces

Files = Mapping[str, "str | bytes | None"]
Verdict = Literal["accepted", "refused", "person"]
STEPS = ("reproduce", "agent", "gate", "verify")
_SETTINGS = """
[service]
name = "shop"
command = ["{{python}}"]
[source]
repository = "checkout"
[build]
command = {build}
[test]
command = {tests}
timeout = "10s"
reruns = {reruns}
[repair]
agent = "command"
command = ["absent"]
reproduce = "{reproduce}"
allowed = {allowed}
ask = {ask}
max_files = 20
max_lines = 400
max_file_size = "64kB"
"""
UNITTEST = '["/usr/bin/python3", "run_tests.py"]'


@dataclass(frozen=True)
class Case:
    """A change.

    Attributes:
        name: unique.
        kind: of which class it is: one word for the table.
        good: whether a careful person would take it.
        fix: files that the fixer writes; None deletes.
        test: files that are written first, to reproduce.
        script: the reproduction that the report has.
        told: the words of the report.
        hand: further acts on the workspace that are no plain files: links, pipes, modes.
        before: further acts on the checkout before its first commit.
        reproduce, allowed, ask: settings.
        base: files of the service besides, or instead.
        project: the files of the service.
        tests, build: its commands, as TOML.
        reruns: setting.
        by: what is expected to stop it: a step with a rule, "gate:symlink", "verify", or a risk, "risk:shadows".
    """

    name: str
    kind: str
    good: bool
    fix: Files
    test: Files = field(default_factory=dict)
    script: str = ""
    told: str = "it is wrong"
    hand: Callable[[Path], object] | None = None
    before: Callable[[Path], object] | None = None
    reproduce: str = "preferred"
    allowed: str = '["src/**"]'
    ask: str = "[]"
    base: Files = field(default_factory=dict)
    project: Files = field(default_factory=lambda: BASE)
    tests: str = UNITTEST
    build: str = '["/usr/bin/python3", "build.py", "{out}"]'
    reruns: int = 2
    by: str = ""


@dataclass(frozen=True)
class Result:
    """What became of a change.

    Attributes:
        verdict: "accepted": without a person, where the settings ask for none. "person": proved, and yet a person is
            asked whatever the settings say. "refused".
        by: the step that refused it with its rule, "gate:symlink"; or the risks, "risk:shadows"; "" when accepted.
        text: why, in one line.
        log: everything.
    """

    verdict: Verdict
    by: str
    text: str
    log: str


def as_expected(case: Case, result: Result) -> bool:
    """Whether a change was stopped by what is to stop it, by anything where nothing is named; a good one by nothing."""
    if not case.by:
        return (result.verdict == "accepted") == case.good
    step, _, rule = case.by.partition(":")
    stopped, _, rules = result.by.partition(":")
    return stopped == step and (not rule or rule in rules.split("+"))


class Planted:
    """An agent that does what a case says: plain files first, then by hand."""

    name = "command"

    def __init__(self, case: Case) -> None:
        self._case = case

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Write the files of the goal."""
        del sandbox, tell
        files = self._case.test if task.goal == "reproduce" else self._case.fix
        for name, content in files.items():
            path = task.workspace / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)
        if self._case.hand is not None and task.goal == "fix":
            self._case.hand(task.workspace)
        changed = bool(files) or (self._case.hand is not None and task.goal == "fix")
        return Outcome(changed, "done" if changed else "nothing to do", "" if changed else "no_change")


async def run(case: Case, secrets: tuple[str, ...] = ()) -> Result:
    """Take a change through reproduction, gate and verification.

    Args:
        case: the change.
        secrets: values that the redactor knows.
    """
    with tempfile.TemporaryDirectory(prefix="regrow-change-") as name:
        root = Path(os.path.realpath(name))  # noqa: ASYNC240  a test's own directory
        checkout = Checkout(root / "checkout")
        checkout.write({**case.project, **case.base})
        if case.before is not None:
            case.before(checkout.path)
        base = checkout.commit("base")
        settings = _SETTINGS.format(
            build=case.build, tests=case.tests, reruns=case.reruns, reproduce=case.reproduce, allowed=case.allowed,
            ask=case.ask,
        )  # fmt: skip
        config = parse(root / "regrow.toml", settings)
        repository = await Repository.open(checkout.path)
        redactor = Redactor(secrets)
        limits = Limits(config.repair.max_files, config.repair.max_lines, config.repair.max_file_size)
        log: list[str] = []

        def secret(_: str, text: str) -> tuple[str, str] | None:
            return ("secret", "it holds what looks like a secret") if redactor.redact(text) != text else None

        async def good() -> list[Any]:
            return []

        def agents(_: str) -> Agent:
            return Planted(case)

        care = SimpleNamespace(
            config=config,
            repository=repository,
            workspaces=Workspaces(root / "workspaces", repository),
            releases=SimpleNamespace(good=good),
            sandbox=BubblewrapSandbox(),
            agents=agents,
            gate=Gate(
                config.repair.allowed,
                PROTECTED,
                limits,
                [secret],
                ask=config.repair.ask,
                tests=TEST_FILES,
                scripts=("run_tests.py", "build.py", "test.sh"),
            ),
            redactor=redactor,
            cache=root / "cache",
            models=None,
            agent_home=lambda job: root / "agents" / str(job),
        )
        args = {"bug": case.told, **({"reproduction": case.script} if case.script else {})}
        work = SimpleNamespace(
            care=care,
            job=SimpleNamespace(id=1, args=args, language="en"),
            facts={"base": base, "commit": base, "version": "v"},
            log=log.append,
            tell=lambda *_, **__: None,
        )
        return await _through(cast(Work, work), log)


async def _through(work: Work, log: list[str]) -> Result:
    for step in STEPS:
        try:
            outcome = await getattr(repair, step)(work)
        except RegrowError as error:
            refusals = getattr(error, "facts", {}).get("refusals", ())
            rules = "+".join(dict.fromkeys(refusal["rule"] for refusal in refusals)) or error.kind
            return Result("refused", f"{step}:{rules}", str(error), "\n".join(log))
        assert isinstance(outcome, Done), f"{step} waits"
        work.facts = {**work.facts, **outcome.facts}
    risks = sorted({risk["rule"] for risk in work.facts["risks"]} - WEAK)
    text = "; ".join(f"{risk['path']} {risk['detail']}".strip() for risk in work.facts["risks"])
    if risks:
        return Result("person", f"risk:{'+'.join(risks)}", text, "\n".join(log))
    return Result("accepted", "", text, "\n".join(log))
