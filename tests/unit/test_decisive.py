"""Out of thousands of lines, those that a person would point at. The logs are made up after the manner of each tool."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.decisive import decisive_head, decisive_lines

RUST_NOISE = [f"   Compiling error-chain-{n} v0.{n}.0" for n in range(2500)]
RUST_WARNINGS = [line for n in range(800) for line in (f"warning: unused variable: `error_{n}`", "", "note: ignored")]
RUST = [
    *RUST_NOISE,
    "error[E0308]: mismatched types",
    "  --> src/scheduler.rs:44:20",
    "   |",
    "44 |         let next = self.cron;",
    "   |                    ^^^^^^^^^ expected `DateTime`, found `Cron`",
    "",
    *RUST_WARNINGS,
    "error[E0425]: cannot find value `shanghai` in this scope",
    "  --> src/scheduler.rs:51:9",
    "",
    "error: aborting due to 2 previous errors; 800 warnings emitted",
    'error: could not compile `claw` (bin "claw") due to 2 previous errors',
]
RUST_TEST = [
    *(f"test store::error_is_told_{n} ... ok" for n in range(4900)),
    "test scheduler::seven_oclock ... FAILED",
    "",
    "failures:",
    "",
    "---- scheduler::seven_oclock stdout ----",
    "thread 'scheduler::seven_oclock' panicked at src/scheduler.rs:88:9:",
    "assertion `left == right` failed",
    "  left: 15",
    " right: 7",
    "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
    "",
    "test result: FAILED. 4900 passed; 1 failed; 0 ignored",
    "error: test failed, to rerun pass `--bin claw`",
]
PYTEST = [
    *(f"tests/test_errors.py::test_error_{n} PASSED [ {n % 100}%]" for n in range(4900)),
    "=================================== FAILURES ===================================",
    "_________________________________ test_seven __________________________________",
    "    def test_seven():",
    "        job = Job('0 7 * * *')",
    ">       assert job.next().hour == 7",
    "E       assert 15 == 7",
    "E        +  where 15 = datetime.datetime(2025, 6, 15, 15, 0).hour",
    "tests/test_scheduler.py:12: AssertionError",
    "------------------------------ Captured log call -------------------------------",
    *(f"ERROR    claw:log.py:{n} retrying" for n in range(60)),
    "=========================== short test summary info ============================",
    "FAILED tests/test_scheduler.py::test_seven - assert 15 == 7",
    "1 failed, 4900 passed in 31.20s",
]
PYTHON = [
    *(f"INFO installed wheel {n}" for n in range(5000)),
    "Traceback (most recent call last):",
    '  File "/src/build.py", line 40, in <module>',
    "    main()",
    '  File "/src/claw/clock.py", line 9, in zone',
    "    return ZoneInfo('Asia/Shangai')",
    "           ^^^^^^^^^^^^^^^^^^^^^^^^",
    "zoneinfo._common.ZoneInfoNotFoundError: 'No time zone found with key Asia/Shangai'",
    *(f"cleaning {n}" for n in range(200)),
]
TYPESCRIPT = [
    *(f"@claw/web:build: module {n} transformed" for n in range(5000)),
    "src/scheduler.ts(44,9): error TS2322: Type 'Cron' is not assignable to type 'Date'.",
    "src/scheduler.ts(51,3): error TS2304: Cannot find name 'shanghai'.",
    "npm error Lifecycle script `build` failed with error:",
    "npm error code 2",
    "npm error path /src/web",
    "npm error A complete log of this run can be found in: /root/.npm/_logs/debug-0.log",
]
JEST = [
    *(f"  ✓ shows error {n} (2 ms)" for n in range(4000)),
    "  ● scheduler › runs at seven",
    "",
    "    expect(received).toBe(expected) // Object.is equality",
    "",
    "    Expected: 7",
    "    Received: 15",
    "",
    "      10 |   const job = new Job('0 7 * * *')",
    "Tests:       1 failed, 4000 passed, 4001 total",
    *(f"Ran all test suites {n}" for n in range(900)),
]
NODE = [
    *(f"copied asset {n}" for n in range(5000)),
    "node:internal/modules/cjs/loader:1228",
    "  throw err;",
    "  ^",
    "",
    "Error: Cannot find module './scheduler'",
    "Require stack:",
    "- /src/index.js",
    "    at Module._resolveFilename (node:internal/modules/cjs/loader:1225:15)",
    "  code: 'MODULE_NOT_FOUND',",
    "}",
    "Node.js v20.11.0",
]
NODE_TEST = [
    *(f"ok {n} - keeps error {n}" for n in range(4990)),
    "not ok 4990 - runs at seven",
    "  ---",
    "  error: 'Expected values to be strictly equal'",
    "# tests 4990",
    "# fail 1",
]
GO = [
    *(f"go: downloading example.org/errors/v{n} v1.0.0" for n in range(5000)),
    "# example.org/claw/scheduler",
    "scheduler/cron.go:44:9: cannot use c (variable of type Cron) as time.Time value in return statement",
    "scheduler/cron.go:51:2: undefined: shanghai",
]
GO_TEST = [
    *(f"--- PASS: TestError{n} (0.00s)" for n in range(5000)),
    "--- FAIL: TestSeven (0.02s)",
    "    cron_test.go:12: next run at 15, want 7",
    "FAIL",
    "FAIL\texample.org/claw/scheduler\t0.031s",
    *(f"ok  \texample.org/claw/p{n}\t0.01s" for n in range(300)),
    "FAIL",
]
GCC = [
    *(f"[{n}%] Building C object error_{n}.o" for n in range(100)),
    "cron.c: In function 'next':",
    "cron.c:44:9: error: incompatible types when returning type 'cron_t' but 'time_t' was expected",
    "   44 |  return c;",
    "      |         ^",
    *(f"[{n}%] Building C object other_{n}.o" for n in range(5000)),
    "make[1]: *** [Makefile:12: cron.o] Error 1",
    "make: *** [Makefile:4: all] Error 2",
]
SHELL = [*(f"+ step {n}" for n in range(5000)), "build.sh: 12: cargoo: not found", *("" for _ in range(9))]
FULL = [*(f"writing {n}" for n in range(5000)), "cp: error writing 'out/claw': No space left on device", "cleaning up"]


@pytest.mark.parametrize(
    ("log", "head", "others"),
    [
        (RUST, "error[E0308]: mismatched types", ["  --> src/scheduler.rs:44:20", "error[E0425]: cannot find value"]),
        (RUST_TEST, "thread 'scheduler::seven_oclock' panicked at src/scheduler.rs:88:9:", [" right: 7"]),
        (PYTEST, "E       assert 15 == 7", ["E        +  where 15 = "]),
        (PYTHON, '  File "/src/claw/clock.py", line 9, in zone', ["zoneinfo._common.ZoneInfoNotFoundError: 'No time"]),
        (TYPESCRIPT, "src/scheduler.ts(44,9): error TS2322: Type 'Cron' is", ["src/scheduler.ts(51,3): error TS2304"]),
        (JEST, "  ● scheduler › runs at seven", ["    Expected: 7", "    Received: 15"]),
        (NODE, "Error: Cannot find module './scheduler'", ["- /src/index.js"]),
        (NODE_TEST, "not ok 4990 - runs at seven", []),
        (GO, "scheduler/cron.go:44:9: cannot use c", ["scheduler/cron.go:51:2: undefined: shanghai"]),
        (GO_TEST, "--- FAIL: TestSeven (0.02s)", ["    cron_test.go:12: next run at 15, want 7"]),
        (GCC, "cron.c:44:9: error: incompatible types", ["   44 |  return c;"]),
        (SHELL, "build.sh: 12: cargoo: not found", []),
        (FULL, "cp: error writing 'out/claw': No space left on device", []),
    ],
)
def test_the_decisive_lines_of_a_long_log(log: list[str], head: str, others: list[str]) -> None:
    found = decisive_lines("\n".join(log))
    assert found[0].startswith(head)
    for other in others:
        assert any(line.startswith(other) for line in found), found
    assert len([line for line in found if line != "…"]) <= 8


def test_a_python_traceback_is_told_by_what_was_raised() -> None:
    assert decisive_head("\n".join(PYTHON)).startswith("zoneinfo._common.ZoneInfoNotFoundError")


def test_a_log_without_an_error_is_told_by_its_end() -> None:
    log = "\n".join(f"test error_handling_{n} passed, 0 errors" for n in range(100))
    assert decisive_lines(log) == log.splitlines()[-8:]
    assert decisive_lines("") == []
    assert decisive_head("\n\n") == ""


def test_colours_are_taken_out_and_lines_are_cut() -> None:
    assert decisive_lines("\x1b[1m\x1b[31merror[E0308]\x1b[0m: mismatched types")[0] == "error[E0308]: mismatched types"
    assert len(decisive_lines("error: " + "x" * 5000)[0]) == 201


def test_the_same_error_again_and_again_is_told_once() -> None:
    log = "\n".join(["a.go:1:1: undefined: x"] * 500 + ["b.go:2:2: undefined: y"])
    assert decisive_lines(log) == ["a.go:1:1: undefined: x", "…", "b.go:2:2: undefined: y"]


_PIECES = [
    *("error[E0308]: x", "Traceback (most recent call last):", '  File "a", line 1', "    x", "ValueError: y", "E   z"),
    *(
        "--- FAIL: T",
        "",
        "a.c:1:2: error: x",
        "fatal: no",
        "plain",
        "  ● a › b",
        "| Traceback (most recent call last):",
    ),
]


@given(st.lists(st.sampled_from(_PIECES) | st.text(max_size=20), max_size=60))
def test_whatever_is_printed_the_lines_are_of_it_and_few(lines: list[str]) -> None:
    text = "\n".join(lines)
    found = [line for line in decisive_lines(text) if line != "…"]
    assert len(found) <= 8
    assert bool(found) == any(line.strip() for line in text.splitlines())
