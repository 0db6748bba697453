"""The steps that make and prove a change, with a real program as the agent, in the real box."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from regrow.agents.command import CommandAgent
from regrow.attempts import Attempt, hopeless, smallest
from regrow.catalogue import texts
from regrow.config import parse
from regrow.gate import Gate
from regrow.git import Repository
from regrow.jobs import repair
from regrow.jobs.base import Done, StepFailed
from regrow.jobs.work import Work
from regrow.redact import Redactor
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing import scripted_agent
from regrow.testing.repositories import Checkout
from regrow.verification import TEST_FILES
from regrow.workspaces import Workspaces

WRONG = "def add(a, b):\n    return a - b\n"
RIGHT = {"replace": "src/add.py", "old": "a - b", "new": "a + b"}
HEAD = "import sys, unittest\nsys.path.insert(0, 'src')\nfrom add import add\n\n\nclass Adding(unittest.TestCase):\n"
ZERO = "    def test_zero(self):\n        self.assertEqual(add(0, 0), 0)\n"
TWO = "    def test_two(self):\n        self.assertEqual(add(2, 2), 4)\n"
NEW = "tests/test_two.py"
TEST = {"write": NEW, "text": HEAD + TWO}
NAME = "test_two (test_two.Adding.test_two)"
SCRIPT = 'test "$(python3 -c "import sys; sys.path[0] = \'src\'; import add; print(add.add(2, 2))")" = 4'
SETTINGS = """
[service]
name = "tiny"
command = ["{python}"]
[source]
repository = "checkout"
[test]
command = ["/usr/bin/python3", "-m", "unittest", "discover", "-v", "-s", "tests"]
timeout = "20s"
[sandbox]
readable = ["agent"]
[repair]
agent = "command"
command = ["/usr/bin/python3"]
"""


class Bench:
    """A service with a bug, and an agent that does what a script says."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkout = Checkout(root / "checkout")
        self.base = self.checkout.commit("base", {"src/add.py": WRONG, "tests/test_zero.py": HEAD + ZERO})
        (root / "agent").mkdir()
        shutil.copy(scripted_agent.__file__, root / "agent" / "agent.py")
        self.told: list[str] = []
        self.started = 0

    async def work(self, script: Mapping[str, Any], settings: str = "", **args: str) -> Work:
        """What a step of a job is given."""
        (self.root / "agent" / "script.json").write_text(json.dumps(script))
        config = parse(self.root / "regrow.toml", SETTINGS + settings)
        repository = await Repository.open(self.checkout.path)
        command = ("/usr/bin/python3", str(self.root / "agent/agent.py"), str(self.root / "agent/script.json"))

        def agents(_: str) -> CommandAgent:
            self.started += 1
            return CommandAgent(command)

        async def good() -> list[Any]:
            return []

        care = SimpleNamespace(
            config=config,
            repository=repository,
            workspaces=Workspaces(self.root / "workspaces", repository),
            releases=SimpleNamespace(good=good),
            sandbox=BubblewrapSandbox(),
            agents=agents,
            gate=Gate(config.repair.allowed, ask=config.repair.ask, tests=TEST_FILES),
            redactor=Redactor(),
            cache=self.root / "cache",
            models=None,
            agent_home=lambda job: self.root / "agents" / str(job),
        )
        job = SimpleNamespace(id=7, args={"bug": "adding is wrong", **args}, language="en")
        facts = {"base": self.base, "commit": self.base, "version": "v"}
        log: list[str] = []
        made = SimpleNamespace(care=care, job=job, facts=facts, log=log.append, lines=log,
                               tell=lambda detail=None, **_: self.told.append(detail))  # fmt: skip
        return cast(Work, made)


async def through(work: Work, *steps: str) -> dict[str, Any]:
    """Do steps, each with the facts of those before."""
    for step in steps:
        outcome = await getattr(repair, step)(work)
        assert isinstance(outcome, Done)
        work.facts = {**work.facts, **outcome.facts}
    return dict(work.facts)


ALL = ("reproduce", "agent", "gate", "verify")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_test_first_and_then_the_fix(bench: Bench) -> None:
    work = await bench.work(
        {"reproduce": [TEST], "fix": [{"save_task": "src/task.json"}, RIGHT, {"delete": "src/task.json"}]}
    )
    facts = await through(work, "reproduce")
    assert (facts["reproduced_by"], facts["reproducing_tests"], facts["test_files"]) == ("test", [NAME], [NEW])
    assert "AssertionError: 0 != 4" in facts["failing"]
    facts = await through(work, "agent", "gate", "verify")
    assert (facts["files"], facts["test_files"]) == (["src/add.py", NEW], [NEW])
    assert (facts["added"], facts["removed"], facts["tests_added"]) == (1, 1, 8)
    assert (facts["reproduced"], facts["proving_tests"], facts["risks"]) == (True, [NAME], [])
    patch = await repair.patch(work)
    assert patch.index("src/add.py") < patch.index("# tests") < patch.index(NEW)


async def test_what_the_agent_is_told_in_each_phase(bench: Bench) -> None:
    script = {"reproduce": [{"save_task": "tests/task.json"}, TEST], "fix": [{"save_task": "src/task.json"}]}
    work = await bench.work(script)
    await through(work, "reproduce", "agent")
    first = json.loads(work.care.workspaces.root.joinpath("7/workspace/tests/task.json").read_text())
    second = json.loads(work.care.workspaces.root.joinpath("7/attempt-1/src/task.json").read_text())
    assert (first["goal"], second["goal"]) == ("reproduce", "fix")
    assert "tests/**" in first["allowed"]
    assert second["allowed"] == ["src/**"]
    assert "0 != 4" in second["failing"]


@pytest.mark.parametrize(
    ("steps", "why"),
    [
        ([], "no_test"),
        ([{"write": NEW, "text": HEAD + ZERO}], "passes"),
        ([{"write": NEW, "text": "import absent\n" + HEAD + TWO}], "broken"),
        ([{"write": NEW, "text": HEAD + "    def test_two(self)\n        self.fail()\n"}], "broken"),
        ([{"write": NEW, "text": HEAD + "    def test_two(self):\n        ad(2, 2)\n"}], "broken"),
        ([TEST, {"link": "tests/out", "to": "/etc/passwd"}], "refused"),
        ([TEST, {"write": "tests/test_zero.py", "text": HEAD + ZERO + TWO}], "refused"),
        ([TEST, {"delete": "tests/test_zero.py"}], "refused"),
        ([TEST, {"write": "tests/test_a.py", "text": HEAD + "    pass\n\nimport add\nadd.add = 0\n"}], "breaks_others"),
    ],
)  # fmt: skip
async def test_what_reproduces_nothing(bench: Bench, steps: list[Any], why: str) -> None:
    script = {"reproduce": [*steps, {"say": "summary", "text": "I looked at add.py"}]}
    work = await bench.work(script)
    facts = await through(work, "reproduce")
    assert (facts["reproduced_by"], facts["unreproduced"]) == ("", why), work.lines  # type: ignore[attr-defined]
    assert facts["diagnosis"] == "I looked at add.py"
    assert [risk["rule"] for risk in facts["risks"]] == ["not_reproduced"]
    work = await bench.work(script, 'reproduce = "required"\n')
    with pytest.raises(StepFailed) as failed:
        await through(work, "reproduce")
    assert failed.value.kind == "nothing_reproduced"
    assert "I looked at add.py" in failed.value.fields["cause"]


async def test_a_second_try_is_told_why_the_first_was_none(bench: Bench) -> None:
    work = await bench.work({"reproduce": [{"write": NEW, "text": HEAD + ZERO}], "reproduce 2": [TEST]})
    facts = await through(work, "reproduce")
    assert facts["reproduced_by"] == "test"


async def test_an_error_of_another_kind_is_not_what_was_reported(bench: Bench) -> None:
    odd = {"write": NEW, "text": HEAD + "    def test_two(self):\n        add('a', 1)\n"}
    work = await bench.work({"reproduce": [odd]}, bug="it ends with ZeroDivisionError")
    assert (await through(work, "reproduce"))["unreproduced"] == "other_reason"
    work = await bench.work({"reproduce": [odd]}, bug="it ends with TypeError")
    shutil.rmtree(bench.root / "workspaces")
    assert (await through(work, "reproduce"))["reproduced_by"] == "test"


async def test_a_command_of_the_report_is_the_reproduction(bench: Bench) -> None:
    work = await bench.work({"reproduce": [{"exit": 9}], "fix": [RIGHT]}, reproduction=SCRIPT)
    facts = await through(work, *ALL)
    assert (facts["reproduced_by"], facts["reproduced"], bench.started) == ("command", True, 2)
    for script, kind in (("true", "not_reproduced"), ("exit 125", "no_reproduction")):
        with pytest.raises(StepFailed) as failed:
            await through(await bench.work({}, reproduction=script), "reproduce")
        assert failed.value.kind == kind


async def test_tests_are_fixed_while_the_fix_is_made(bench: Bench) -> None:
    weaker = {"write": NEW, "text": HEAD + ZERO}
    work = await bench.work({"reproduce": [TEST], "fix": [RIGHT, weaker]}, 'allowed = ["**"]\n')
    with pytest.raises(StepFailed) as failed:
        await through(work, *ALL)
    assert failed.value.kind == "gate"
    assert f"• {NEW}: is a test" in failed.value.fields["cause"]
    assert failed.value.facts["refusals"] == [{"rule": "sealed", "path": NEW, "detail": ""}]


async def test_a_fix_of_the_reported_case_alone_goes_to_a_person(bench: Bench) -> None:
    cheat = {
        "replace": "src/add.py",
        "old": "    return",
        "new": "    if (a, b) == (22, 20):\n        return 42\n    return",
    }
    test = {"write": NEW, "text": HEAD + TWO.replace("2, 2", "22, 20").replace("4)", "42)")}
    facts = await through(await bench.work({"reproduce": [test], "fix": [cheat]}), *ALL)
    assert [(risk["rule"], risk["path"]) for risk in facts["risks"]] == [("knows_the_case", "src/add.py")]


async def test_a_part_that_the_proof_does_not_need_goes_to_a_person(bench: Bench) -> None:
    more = {"write": "src/more.py", "text": "LIMIT = 0\n"}
    for args in ({}, {"reproduction": SCRIPT}):
        facts = await through(await bench.work({"reproduce": [TEST], "fix": [RIGHT, more]}, **args), *ALL)
        assert [(risk["rule"], risk["path"]) for risk in facts["risks"]] == [("unneeded", "src/more.py")]
        shutil.rmtree(bench.root / "workspaces")


async def test_a_test_that_only_asks_for_what_the_fix_brings_goes_to_a_person(bench: Bench) -> None:
    test = {
        "write": NEW,
        "text": HEAD.replace("from add", "import add as m\nfrom add")
        + "    def test_two(self):\n        self.assertTrue(hasattr(m, 'MENDED'))\n",
    }
    fix = {"replace": "src/add.py", "old": "def add", "new": "MENDED = True\n\n\ndef add"}
    facts = await through(await bench.work({"reproduce": [test], "fix": [fix]}), *ALL)
    assert [(risk["rule"], risk["detail"]) for risk in facts["risks"]] == [("test_knows_fix", "MENDED")]


async def test_off_proves_by_what_the_fix_brings(bench: Bench) -> None:
    settings = 'reproduce = "off"\nallowed = ["src/**", "tests/**"]\n'
    facts = await through(await bench.work({"fix": [RIGHT, TEST]}, settings), *ALL)
    assert (facts["reproduced_by"], facts["reproduced"], facts["proving_tests"]) == ("", True, [NAME])


# Several attempts


BIG = {"write": "src/add.py", "text": "def add(a, b):\n    first = a\n    second = b\n    return first + second\n"}
WORSE = {"write": "src/add.py", "text": "def add(a, b):\n    return 4\n"}
WORST = {"write": "src/add.py", "text": "def add(a, b):\n    return 2 + 2\n"}


@pytest.mark.parametrize("parallel", [1, 3])
async def test_the_smallest_proved_change_wins(bench: Bench, parallel: int) -> None:
    script = {"reproduce": [TEST], "fix 1": [BIG], "fix 2": [RIGHT], "fix 3": [WORSE]}
    work = await bench.work(script, f"attempts = 3\nattempts_parallel = {parallel}\n")
    facts = await through(work, *ALL)
    assert (facts["attempt"], facts["added"]) == (2, 1)
    assert [(one["number"], one["state"]) for one in facts["attempts"]] == [(1, "proved"), (2, "proved"), (3, "failed")]
    assert "test_zero" in facts["attempts"][2]["text"]
    assert facts["reproduced"] is True


async def test_no_further_attempt_after_a_proved_one(bench: Bench) -> None:
    work = await bench.work({"reproduce": [TEST], "fix": [BIG]}, 'attempts = 3\nattempts_until = "proved"\n')
    facts = await through(work, *ALL)
    assert [one["state"] for one in facts["attempts"]] == ["proved"]


@pytest.mark.parametrize(
    ("fixes", "given_up", "made"),
    [
        ({"fix": []}, "no_change", 2),
        ({"fix 1": [WORSE], "fix 2": [WORST], "fix 3": [RIGHT]}, "same_failure", 2),
        ({"fix": [WORSE]}, "same_change", 2),
    ],
)
async def test_hopeless_ones_are_given_up_early(bench: Bench, fixes: dict[str, Any], given_up: str, made: int) -> None:
    work = await bench.work({"reproduce": [TEST], **fixes}, "attempts = 3\n")
    with pytest.raises(StepFailed) as failed:
        await through(work, *ALL)
    assert failed.value.kind == "no_attempt"
    assert (failed.value.facts["given_up"], len(failed.value.facts["attempts"])) == (given_up, made)
    assert f"given up after {made} of 3" in failed.value.fields["cause"]


def test_hopeless() -> None:
    def failed(number: int, why: str, **more: Any) -> Attempt:
        return Attempt(number, "failed", why=why, text=why, **more)

    assert hopeless([]) == ""
    assert hopeless([failed(1, "gate")]) == ""
    assert hopeless([failed(1, "budget")]) == "final"
    assert hopeless([failed(1, "gate"), failed(2, "verify_tests_failed")]) == ""
    assert hopeless([failed(1, "gate", tree="a"), failed(2, "timeout"), failed(3, "gate", tree="a")]) == "same_change"
    proved = Attempt(2, "proved", lines=3, paths=("a", "b"))
    assert smallest([Attempt(1, "proved", lines=4), proved, dataclasses.replace(proved, number=3)]) is proved
    assert smallest([failed(1, "gate")]) is None


# A daemon that was killed in the middle


async def test_what_was_done_is_found_again(bench: Bench) -> None:
    script = {"reproduce": [TEST], "fix 1": [BIG], "fix 2": [RIGHT]}
    settings = "attempts = 2\n"
    first = await through(await bench.work(script, settings), *ALL)
    started = bench.started
    told = len(bench.told)
    again = await through(await bench.work({"reproduce": [{"exit": 1}], "fix": [{"exit": 1}]}, settings), *ALL)
    assert again == first
    assert bench.started == started + 1, "only the driver's name was asked for"
    assert not [text for text in bench.told[told:] if text.startswith("tests:")]


async def test_an_attempt_that_was_cut_off_begins_again(bench: Bench) -> None:
    """What it left half-done is in no change."""
    half = [{"write": "src/half.py", "text": "half\n"}, {"say": "running", "text": "waiting"}, {"hang": True}]
    work = await bench.work({"reproduce": [TEST], "fix": half})
    await through(work, "reproduce")
    task = asyncio.create_task(repair.agent(work))
    async with asyncio.timeout(60):
        while not any("waiting" in (told or "") for told in bench.told):
            await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    facts = await through(await bench.work({"fix": [RIGHT]}), *ALL)
    assert facts["files"] == ["src/add.py", NEW]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_rule_has_its_words(language: Any) -> None:
    source = (Path(repair.__file__).parents[1] / "gate.py").read_text()
    source += (Path(repair.__file__).parents[1] / "risks.py").read_text()

    rules = set(re.findall(r'Refusal\(\s*"(\w+)"', source))
    known = texts(language)
    assert {f"gate.{rule}" for rule in rules} <= set(known)
    signs = set(re.findall(r'Risk\("(\w+)"', source)) | set(re.findall(r'^    \(\s*"(\w+)",', source, re.M))
    assert {f"risk.{rule}" for rule in signs} <= set(known)
