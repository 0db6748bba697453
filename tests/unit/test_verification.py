from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regrow.git import Repository
from regrow.process import Completed
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.repositories import Checkout
from regrow.verification import LOST, Conditions, Runs, Verification, reproduce, verify
from regrow.workspaces import Workspaces

REPRODUCTION = 'test "$(sh src/add.sh 2 2)" = 4'
BASE = {"src/add.sh": "echo $(($1 - $2))\n", "tests/run.sh": 'test "$(sh src/add.sh 0 0)" = 0\n'}
FIX = {"src/add.sh": "echo $(($1 + $2))\n"}
TESTS = ("/bin/sh", "tests/run.sh")


class Bench:
    def __init__(self, root: Path) -> None:
        self.checkout = Checkout(root / "live")
        self.base = self.checkout.commit("base", BASE)
        self.root = root
        self.workspaces: Workspaces

    async def verify(
        self,
        change: dict[str, str | bytes | None],
        reproduction: str = REPRODUCTION,
        tests: tuple[str, ...] = TESTS,
        timeout_s: float = 20,
        **more: Any,
    ) -> Verification:
        commit = self.checkout.commit("change", change)
        repository = await Repository.open(self.checkout.path)
        self.workspaces = Workspaces(self.root / "workspaces", repository)
        return await verify(
            BubblewrapSandbox(),
            self.workspaces,
            1,
            self.base,
            commit,
            test_command=tests,
            reproduction=reproduction,
            conditions=Conditions(timeout_s=timeout_s),
            **more,
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_true_fix_is_verified_and_nothing_is_left(bench: Bench) -> None:
    found = await bench.verify(FIX)
    assert (found.verdict, found.passed) == ("verified", True)
    assert (found.reproduced_before, found.passes_after, found.tests_after) == (True, True, True)
    assert found.tests_before is True
    assert "== reproduction on base: fails" in found.log
    assert list((bench.workspaces.root / "1" / "fresh").iterdir()) == []


async def test_what_does_not_fail_before_is_not_reproduced(bench: Bench) -> None:
    found = await bench.verify(FIX, reproduction="true")
    assert (found.verdict, found.reproduced_before, found.passes_after) == ("not_reproduced", False, None)


@pytest.mark.parametrize("script", ["exit 125", "absent-program", "exit 126"])
async def test_a_reproduction_that_cannot_run_proves_nothing(bench: Bench, script: str) -> None:
    found = await bench.verify(FIX, reproduction=script)
    assert (found.verdict, found.reproduced_before, found.passed) == ("not_reproduced", None, False)


async def test_a_change_that_does_not_help_is_still_failing(bench: Bench) -> None:
    found = await bench.verify({"src/add.sh": "echo 5\n"})
    assert (found.verdict, found.reproduced_before, found.passes_after) == ("still_failing", True, False)


async def test_an_overfit_change_fails_the_tests(bench: Bench) -> None:
    found = await bench.verify({"src/add.sh": "echo 4\n"})
    assert (found.verdict, found.passes_after, found.tests_after, found.tests_before) == (
        "tests_failed",
        True,
        False,
        True,
    )


async def test_a_hanging_change_times_out(bench: Bench) -> None:
    found = await bench.verify({"src/add.sh": "sleep 1000\n"}, timeout_s=1)
    assert (found.verdict, found.reproduced_before, found.passes_after) == ("timeout", True, None)
    found = await bench.verify({"src/add.sh": FIX["src/add.sh"], "tests/run.sh": "sleep 1000\n"}, timeout_s=1)
    assert (found.verdict, found.passes_after, found.tests_after) == ("timeout", True, None)


async def test_a_hang_that_is_mended_is_verified(bench: Bench) -> None:
    bench.base = bench.checkout.commit("base", {"src/add.sh": "sleep 1000\n"})
    found = await bench.verify(FIX, timeout_s=1)
    assert found.verdict == "verified"


async def test_a_weakened_test_does_not_count(bench: Bench) -> None:
    """F40: the base's tests decide when the change edits or deletes tests."""
    found = await bench.verify({"src/add.sh": "echo 4\n", "tests/run.sh": "true\n"})
    assert (found.verdict, found.tests_after, found.base_tests_after) == ("tests_failed", True, False)
    found = await bench.verify({**FIX, "tests/run.sh": BASE["tests/run.sh"] + "true\n"})
    assert (found.verdict, found.base_tests_after) == ("verified", True)


async def test_a_new_test_is_no_weakened_one(bench: Bench) -> None:
    found = await bench.verify({**FIX, "tests/more.sh": "true\n"})
    assert (found.verdict, found.base_tests_after) == ("verified", True)


async def test_without_a_reproduction_the_tests_decide(bench: Bench) -> None:
    found = await bench.verify(FIX, reproduction="")
    assert (found.verdict, found.passed, found.reproduced_before) == ("tests_passed", True, None)
    found = await bench.verify(FIX, reproduction="", tests=())
    assert (found.verdict, found.passed) == ("unproven", False)


async def test_nothing_carries_over_from_one_command_to_the_next(bench: Bench) -> None:
    script = "test ! -e /tmp/mark; test ! -e $HOME/mark; touch /tmp/mark $HOME/mark; ! touch src/x 2>/dev/null; "
    found = await bench.verify(FIX, reproduction=script + REPRODUCTION, tests=("/bin/sh", "-eu", "-c", script))
    assert found.verdict == "verified", found.log


async def test_a_failing_pipe_of_commands_fails(bench: Bench, tmp_path: Path) -> None:
    export = tmp_path / "export"
    export.mkdir()
    sandbox = BubblewrapSandbox()
    for script, finding in (
        ("false; true", "fails"),
        ("echo $absent", "fails"),
        ("true", "passes"),
        ("sleep 99", "hangs"),
    ):
        trial = await reproduce(sandbox, export, script, Conditions(timeout_s=2))
        assert trial.finding == finding, (script, trial)


# Tests that are known by their names


UNITTEST = ("/usr/bin/python3", "-m", "unittest", "discover", "-v", "-s", "tests")
ADD = "def add(a, b):\n    return a - b\n"
FIXED = ADD.replace("a - b", "a + b")
HEAD = (
    "import os, sys, unittest\nsys.path.insert(0, 'src')\nfrom add import add\n\n\nclass Adding(unittest.TestCase):\n"
)
ZERO = "    def test_zero(self):\n        self.assertEqual(add(0, 0), 0)\n"
SMALL = "    def test_small(self):\n        self.assertEqual(add(3, 0), 3)\n"
NEW = "    def test_two(self):\n        self.assertEqual(add(2, 2), 4)\n"
PYTHON = {"src/add.py": ADD, "tests/test_add.py": HEAD + ZERO + SMALL}
ADDED = "tests/test_new.py"


@pytest.fixture
def named(bench: Bench) -> Bench:
    """A service whose tests have names."""
    bench.base = bench.checkout.commit("python", {**dict.fromkeys(BASE), **PYTHON})
    return bench


async def proved(bench: Bench, change: dict[str, str | bytes | None], **more: Any) -> Verification:
    return await bench.verify(change, **{"reproduction": "", "tests": UNITTEST, **more})


async def test_a_new_test_that_fails_without_the_fix_is_a_proof(named: Bench) -> None:
    found = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + NEW + ZERO})
    assert (found.verdict, found.proving) == ("verified", ("test_two (test_new.Adding.test_two)",)), found.log
    assert (found.base_tests_after, found.lost, found.flaky, found.doubts) == (True, (), (), ())


async def test_a_new_test_that_passes_without_the_fix_proves_nothing(named: Bench) -> None:
    found = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + ZERO})
    assert (found.verdict, found.proving) == ("toothless", ())


async def test_a_new_test_that_cannot_be_loaded_without_the_fix_proves_nothing(named: Bench) -> None:
    """An import error is no failure for the reason reported."""
    helped = FIXED + "def double(a):\n    return add(a, a)\n"
    text = (
        HEAD.replace("import add\n", "import double\n")
        + "    def test_d(self):\n        self.assertEqual(double(2), 4)\n"
    )
    found = await proved(named, {"src/add.py": helped, ADDED: text})
    assert (found.verdict, found.doubts) == ("tests_passed", ("new_test_broken",))


@pytest.mark.parametrize(
    ("change", "lost"),
    [
        ({"src/add.py": "def add(a, b):\n    return 4\n"}, "test_zero (test_add.Adding.test_zero)"),
        ({"tests/test_add.py": HEAD + SMALL, "src/add.py": "def add(a, b):\n    return 3\n"}, "test_zero*"),
        ({"tests/test_add.py": None, "src/add.py": "def add(a, b):\n    return 4\n"}, "test_zero*"),
        ({"src/add.py": "import os\nos._exit(0)\n"}, LOST),
        ({"src/add.py": FIXED, ADDED: HEAD + "    def test_x(self):\n        1 / 0\n"}, "test_x (test_new.*"),
    ],
)  # fmt: skip
async def test_what_passed_before_must_pass(named: Bench, change: dict[str, str | bytes | None], lost: str) -> None:
    found = await proved(named, change)
    assert found.verdict == "tests_failed", found.log
    assert any(name.startswith(lost.removesuffix("*")) for name in found.lost), found.lost


async def test_a_test_that_new_test_files_turn_off_is_lost(named: Bench) -> None:
    off = "import sys, unittest\nsys.path.insert(0, 'src')\nunittest.TestCase.run = lambda *a: None\n"
    found = await proved(named, {"src/add.py": "def add(a, b):\n    return 4\n", "tests/test_a.py": off})
    assert found.verdict == "tests_failed"


async def test_a_test_that_failed_before_blocks_nothing(named: Bench) -> None:
    named.base = named.checkout.commit(
        "red", {"tests/test_red.py": HEAD + "    def test_red(self):\n        self.fail()\n"}
    )
    found = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + NEW})
    assert (found.verdict, found.failed_before, found.tests_after) == ("verified", 1, False), found.log
    found = await proved(named, {"src/add.py": "def add(a, b):\n    return 4\n", ADDED: HEAD + NEW})
    assert found.verdict == "tests_failed"


async def test_a_flaky_test_is_named_and_does_not_decide(named: Bench) -> None:
    flaky = (
        "import random, unittest\n\n\nclass Luck(unittest.TestCase):\n    def test_luck(self):\n"
        "        self.assertLess(random.random(), 0.5)\n"
    )
    named.base = named.checkout.commit("flaky", {"tests/test_luck.py": flaky})
    luck = "test_luck (test_luck.Luck.test_luck)"
    for _ in range(20):
        found = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + NEW}, reruns=12)
        assert found.verdict == "verified", found.log
        if found.flaky:
            break
    assert luck in found.flaky
    assert "flaky" in found.doubts


async def test_what_varies_only_with_the_change_is_not_flaky(named: Bench) -> None:
    found = await proved(
        named, {"src/add.py": "import random\ndef add(a, b):\n    return a + b + random.choice([7, 8])\n"}
    )
    assert (found.verdict, found.flaky) == ("tests_failed", ())


async def test_the_expected_test_must_pass(named: Bench) -> None:
    name = "test_two (test_new.Adding.test_two)"
    found = await proved(named, {ADDED: HEAD + NEW, "src/add.py": ADD + "\n"}, expected=[name])
    assert found.verdict == "still_failing"
    assert "AssertionError: 0 != 4" in found.failing
    found = await proved(named, {"src/add.py": FIXED}, expected=[name])
    assert found.verdict == "verified"
    found = await proved(named, {ADDED: HEAD + NEW.replace("4)", "add(2, 2))")}, expected=[name])
    assert found.verdict == "toothless"


async def test_a_change_that_does_not_build_is_refused(named: Bench) -> None:
    async def build(path: Path) -> Completed:
        assert (path / "src/add.py").read_text() == FIXED
        return Completed(("build",), 3, "no compiler", 0.1)

    found = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + NEW}, build=build)
    assert (found.verdict, found.built, found.failing) == ("build_failed", False, "no compiler")


async def test_runs_are_found_again_by_their_tree(named: Bench, tmp_path: Path) -> None:
    """A daemon that was killed in between does not run them a second time."""
    kept = tmp_path / "runs.json"
    first = await proved(named, {"src/add.py": FIXED, ADDED: HEAD + NEW}, runs=Runs(kept))
    told: list[str] = []
    again = await proved(named, {}, runs=Runs(kept), tell=lambda word, _: told.append(word))
    assert (again.verdict, again.proving) == (first.verdict, first.proving)
    assert told == []
    await proved(named, {}, runs=Runs(kept), tests=(*UNITTEST, "-b"), tell=lambda word, _: told.append(word))
    assert told != []
