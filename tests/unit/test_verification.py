from __future__ import annotations

from pathlib import Path

import pytest

from regrow.git import Repository
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.repositories import Checkout
from regrow.verification import Conditions, Verification, reproduce, verify
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
        )


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


async def test_a_true_fix_is_verified_and_nothing_is_left(bench: Bench) -> None:
    found = await bench.verify(FIX)
    assert (found.verdict, found.passed) == ("verified", True)
    assert (found.reproduced_before, found.passes_after, found.tests_after) == (True, True, True)
    assert found.tests_before is None
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
    assert (found.verdict, found.base_tests_after) == ("verified", None)


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
