"""What test runners print, read. The outputs are those of the runners themselves, shortened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.test_results import COMMAND, Mark, is_broken, other_reason, read, section

UNITTEST = """\
test_doc (test_a.T.test_doc)
A doc line. ... ok
test_err (test_a.T.test_err) ... ERROR
test_fail (test_a.T.test_fail) ... FAIL
test_ok (test_a.T.test_ok) ... hello
ok
test_skip (test_a.T.test_skip) ... skipped 'why'
test_b (unittest.loader._FailedTest.test_b) ... ERROR

======================================================================
ERROR: test_err (test_a.T.test_err)
----------------------------------------------------------------------
Traceback (most recent call last):
ZeroDivisionError: division by zero

======================================================================
ERROR: test_b (unittest.loader._FailedTest.test_b)
----------------------------------------------------------------------
ImportError: Failed to import test module: test_b
ModuleNotFoundError: No module named 'nothing_here'

----------------------------------------------------------------------
Ran 6 tests in 0.005s

FAILED (failures=1, errors=2, skipped=1)
"""
QUIET = UNITTEST[UNITTEST.index("\n====") :]
PYTEST = """\
test_a.py::T::test_fail FAILED                                           [ 60%]
test_a.py::T::test_ok[a b] PASSED                                        [ 80%]
test_a.py::T::test_skip SKIPPED (why)                                    [100%]
=================================== FAILURES ===================================
_________________________________ T.test_fail __________________________________
E   AssertionError: 1 != 2
test_a.py:4: AssertionError
=========================== short test summary info ============================
FAILED test_a.py::T::test_fail - AssertionError: 1 != 2
==================== 1 failed, 1 passed, 1 skipped in 0.12s ====================
"""
COLLECTING = """\
==================================== ERRORS ====================================
__________________________ ERROR collecting test_b.py __________________________
E   ModuleNotFoundError: No module named 'nothing_here'
=========================== short test summary info ============================
ERROR test_b.py
1 error in 2.54s
"""
GO = (
    "=== RUN   TestA\n    a_test.go:9: got 1\n--- FAIL: TestA (0.00s)\n"
    "--- PASS: TestB (0.01s)\n    --- SKIP: TestB/x (0.00s)\nFAIL\n"
)
CARGO = (
    "running 3 tests\ntest tests::a ... ok\ntest tests::b ... FAILED\ntest tests::c ... ignored\n\n"
    "test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out\n"
)
TAP = "TAP version 13\nok 1 - adds\nnot ok 2 - subtracts\nok 3 - divides # SKIP later\n# pass 1\n"
JEST = "  ✓ adds (3 ms)\n  ✕ subtracts\n  ○ skipped divides\nTests:       1 failed, 1 skipped, 1 passed, 3 total\n"


@pytest.mark.parametrize(
    ("output", "marks", "passed"),
    [
        (
            UNITTEST,
            {
                "test_doc (test_a.T.test_doc)": "passed",
                "test_err (test_a.T.test_err)": "error",
                "test_fail (test_a.T.test_fail)": "failed",
                "test_ok (test_a.T.test_ok)": "passed",
                "test_skip (test_a.T.test_skip)": "skipped",
                "test_b (unittest.loader._FailedTest.test_b)": "error",
            },
            2,
        ),
        (
            QUIET,
            {"test_err (test_a.T.test_err)": "error", "test_b (unittest.loader._FailedTest.test_b)": "error"},
            2,
        ),
        (
            PYTEST,
            {
                "test_a.py::T::test_fail": "failed",
                "test_a.py::T::test_ok[a b]": "passed",
                "test_a.py::T::test_skip": "skipped",
            },
            1,
        ),
        (COLLECTING, {"test_b.py": "error"}, 0),
        (GO, {"TestA": "failed", "TestB": "passed", "TestB/x": "skipped"}, 1),
        (CARGO, {"tests::a": "passed", "tests::b": "failed", "tests::c": "skipped"}, 1),
        (TAP, {"adds": "passed", "subtracts": "failed", "divides": "skipped"}, 1),
        (JEST, {"adds": "passed", "subtracts": "failed", "skipped divides": "skipped"}, 1),
        ("\x1b[32m.\x1b[0m\n3 passed in 0.01s\n", {}, 3),
        ("all is well\nok then\n", {"then": "passed"}, 1),
        ("", {}, 0),
    ],
)
def test_read(output: str, marks: dict[str, Mark], passed: int) -> None:
    found = read(output, 1)
    assert {name: mark for name, mark in found.marks.items() if name != COMMAND} == marks
    assert (found.passed, found.green, found.hung) == (passed, False, False)


def test_the_command_is_a_test_of_its_own() -> None:
    assert read("", 0).green
    assert read(PYTEST, 0).of("failed") == {"test_a.py::T::test_fail"}
    hung = read("", None)
    assert (hung.green, hung.hung, hung.marks) == (False, True, {COMMAND: "failed"})


def test_the_worse_of_two_results_of_one_name_counts() -> None:
    """A line that says ok after the failure takes nothing back."""
    assert read("--- FAIL: TestA (0.00s)\n--- PASS: TestA (0.00s)\n", 1).marks["TestA"] == "failed"


def test_the_part_of_a_test() -> None:
    name = "test_err (test_a.T.test_err)"
    assert "ZeroDivisionError" in section(UNITTEST, name)
    assert "nothing_here" not in section(UNITTEST, name)
    assert section(PYTEST, "test_a.py::T::test_fail").endswith("test_a.py:4: AssertionError")
    assert "nothing_here" in section(COLLECTING, "test_b.py")
    assert section("odd", "absent") == "odd"


@pytest.mark.parametrize(
    ("text", "told", "broken"),
    [
        ("ModuleNotFoundError: No module named 'x'", "", True),
        ("E   ModuleNotFoundError: No module named 'x'", "", True),
        ("E   ModuleNotFoundError: No module named 'x'", "it ends with ModuleNotFoundError", False),
        ("SyntaxError: invalid syntax", "", True),
        ("E       NameError: name 'ad' is not defined", "", True),
        ("E       fixture 'clock' not found", "", True),
        ("FAIL\tclaw [build failed]", "", True),
        ("error[E0425]: cannot find value `x` in this scope", "", True),
        ("Error: Cannot find module './x'", "", True),
        ("AssertionError: 1 != 2", "", False),
        ("assertion failed\n\nerror: test failed, to rerun pass `--test zone`", "", False),
        ("assertion failed\n\nerror: 2 targets failed:\n    `--lib`", "", False),
        ("ValueError: SyntaxError is a word", "", False),
        ("KeyError: 'x'", "", False),
    ],
)
def test_a_test_that_is_itself_wrong(text: str, told: str, broken: bool) -> None:
    assert is_broken(text, told) is broken


def test_another_reason_than_the_one_reported() -> None:
    assert other_reason("TypeError: no", "it crashes with KeyError: 'x'") == "TypeError"
    assert other_reason("KeyError: 'x'", "it crashes with KeyError: 'x'") == ""
    assert other_reason("AssertionError: KeyError was raised", "it crashes with KeyError: 'x'") == ""
    assert other_reason("TypeError: no", "reminders come late") == ""


@given(st.text(), st.sampled_from([0, 1, None]))
def test_any_output_can_be_read(output: str, code: int | None) -> None:
    found = read(output, code)
    assert found.green == (code == 0)
    assert found.passed >= 0
    for name in found.named:
        section(output, name)
