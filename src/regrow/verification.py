"""The proof of a change: the reproduction fails before and passes after, and the tests pass after.

Every command runs in the box, in an export of its own, so that nothing the agent left lying about and nothing an
earlier command wrote is used. Tests prove behaviour and not intent: a person still reads the change."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pathspec import GitIgnoreSpec

from regrow.errors import ProcessTimeout
from regrow.process import Completed, LineSink, exit_words
from regrow.sandboxes.base import Box, Sandbox
from regrow.workspaces import Workspaces

# Codes of a script that say nothing about the bug: git bisect's "skip", and the shell's "cannot run" and "not found".
SKIP, CANNOT_RUN = 125, (126, 127)

# Where files are that prove something, by convention of many languages.
TEST_FILES = (
    *("tests/", "test/", "spec/", "__tests__/", "testdata/", "test_*.py", "*_test.py", "conftest.py"),
    *("*_test.go", "*.test.*", "*.spec.*", "*Test.java", "*Tests.java", "*_spec.rb"),
)

Verdict = Literal["verified", "tests_passed", "not_reproduced", "still_failing", "tests_failed", "timeout", "unproven"]
Finding = Literal["fails", "passes", "skip", "cannot_run", "hangs"]


@dataclass(frozen=True)
class Trial:
    """One run of a script: what it says about the bug, and its output."""

    finding: Finding
    output: str
    seconds: float


@dataclass(frozen=True)
class Verification:
    """What was proved. None means that it was not tried, or that it could not be.

    Attributes:
        tests_before: whether the test command passes on the base; tried only when it fails on the change.
        tests_after: whether it passes on the change.
        reproduced_before: whether the reproduction fails on the base.
        passes_after: whether it passes on the change.
        verdict: "verified": reproduced before, gone after, tests pass or none are set. "tests_passed": no reproduction
            is known and the tests pass. "not_reproduced": the reproduction does not fail on the base.
            "still_failing": it fails on the change. "tests_failed". "timeout": a command hung on the change.
            "unproven": nothing could be tried.
        log: all output, with a line for each command.
        base_tests_after: where the change touches test files, whether the test command passes with the base's test
            files in their place; a change that is green only with its own tests is "tests_failed" (F40).
    """

    tests_before: bool | None
    tests_after: bool | None
    reproduced_before: bool | None
    passes_after: bool | None
    verdict: Verdict
    log: str
    base_tests_after: bool | None = None

    @property
    def passed(self) -> bool:
        """Whether the change may go on."""
        return self.verdict in ("verified", "tests_passed")


@dataclass(frozen=True)
class Conditions:
    """How commands of a verification run.

    Attributes:
        readable: toolchains seen read-only.
        env: their environment; byte code is never written beside the sources.
        timeout_s: seconds for each command.
        memory_bytes, file_bytes, processes: limits as in `Box`; 0 = none.
        nice: added niceness.
    """

    readable: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    timeout_s: float = 600.0
    memory_bytes: int = 0
    file_bytes: int = 1 << 30
    processes: int = 512
    nice: int = 10


async def attempt(
    sandbox: Sandbox,
    directory: Path,
    argv: Sequence[str],
    conditions: Conditions,
    *,
    timeout_s: float | None = None,
    on_line: LineSink | None = None,
) -> Completed:
    """Run a command in an export: read-only, with an empty home and temporary directory.

    Raises:
        ProcessTimeout: it hung.
        RegrowError: the box could not be made.
    """
    box = Box(
        workspace=directory,
        readable=conditions.readable,
        env={"PYTHONDONTWRITEBYTECODE": "1", **conditions.env},
        memory_bytes=conditions.memory_bytes,
        file_bytes=conditions.file_bytes,
        processes=conditions.processes,
        nice=conditions.nice,
    )
    limit = conditions.timeout_s if timeout_s is None else min(timeout_s, conditions.timeout_s)
    return await sandbox.run(argv, box, timeout_s=limit, on_line=on_line)


async def reproduce(
    sandbox: Sandbox,
    directory: Path,
    script: str,
    conditions: Conditions,
    *,
    timeout_s: float | None = None,
    on_line: LineSink | None = None,
) -> Trial:
    """Run a reproduction in an export.

    Args:
        sandbox: the box.
        directory: the export.
        script: a shell script; it is run by `/bin/sh -eu` in the export.
        conditions: how it runs.
        timeout_s: seconds, when shorter than that of `conditions`.
        on_line: receives each line of output.

    Returns:
        "fails" when the bug is there, "passes" when it is not, "skip" for code 125, "cannot_run" for 126 and 127,
        "hangs" when it had to be ended.

    Raises:
        RegrowError: the box could not be made.
    """
    try:
        done = await attempt(
            sandbox, directory, ("/bin/sh", "-eu", "-c", script), conditions, timeout_s=timeout_s, on_line=on_line
        )
    except ProcessTimeout as error:
        return Trial("hangs", error.log, conditions.timeout_s if timeout_s is None else timeout_s)
    finding: Finding = "passes" if done.code == 0 else "fails"
    if done.code == SKIP:
        finding = "skip"
    elif done.code in CANNOT_RUN:
        finding = "cannot_run"
    return Trial(finding, done.output, done.seconds)


async def verify(
    sandbox: Sandbox,
    workspaces: Workspaces,
    job: int,
    base: str,
    tree_or_commit: str,
    *,
    test_command: Sequence[str] = (),
    reproduction: str = "",
    conditions: Conditions = Conditions(),
    test_files: Sequence[str] = TEST_FILES,
    tell: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Prove a change, or say how it fails.

    Args:
        sandbox: the box of every command.
        workspaces: where the exports are made.
        job: the job's number.
        base: full id of the commit before the change.
        tree_or_commit: full id of the change.
        test_command: program and arguments; empty when the service has none.
        reproduction: a shell script that fails while the bug is there; empty when none is known.
        conditions: how the commands run.
        test_files: patterns (gitignore syntax) of files that prove something.
        tell: receives a short line when each command starts.

    Raises:
        RegrowError: a box or an export could not be made; nothing was proved.
    """
    log: list[str] = []

    @asynccontextmanager
    async def export(name: str, tree: str) -> AsyncIterator[Path]:
        path = await workspaces.fresh(job, name, tree)
        try:
            yield path
        finally:
            await workspaces.drop(path)

    async def reproduced(what: str, tree: str) -> Trial:
        tell(f"reproducing on {what}")
        async with export(f"reproduce-{what}", tree) as path:
            trial = await reproduce(sandbox, path, reproduction, conditions)
        log.append(f"== reproduction on {what}: {trial.finding}\n{trial.output}")
        return trial

    async def tested(what: str, tree: str) -> bool | None:
        """Whether the tests pass; None when they hang."""
        tell(f"testing {what}")
        async with export(f"test-{what}", tree) as path:
            try:
                done = await attempt(sandbox, path, test_command, conditions)
            except ProcessTimeout as error:
                log.append(f"== tests on {what}: still running after {conditions.timeout_s:g} s\n{error.log}")
                return None
        log.append(f"== tests on {what}: {exit_words(done.code)}\n{done.output}")
        return done.code == 0

    before: bool | None = None
    after: bool | None = None
    tests_before: bool | None = None
    tests_after: bool | None = None
    base_tests_after: bool | None = None

    def verdict(word: Verdict) -> Verification:
        return Verification(tests_before, tests_after, before, after, word, "\n".join(log), base_tests_after)

    if reproduction:
        found = await reproduced("base", base)
        before = found.finding in ("fails", "hangs") if found.finding not in ("skip", "cannot_run") else None
        if not before:
            return verdict("not_reproduced")
        found = await reproduced("change", tree_or_commit)
        after = found.finding == "passes" if found.finding not in ("skip", "cannot_run", "hangs") else None
        if found.finding == "hangs":
            return verdict("timeout")
        if not after:
            return verdict("still_failing")
    if not test_command:
        return verdict("verified" if after else "unproven")

    tests_after = await tested("change", tree_or_commit)
    if tests_after is None:
        return verdict("timeout")
    if not tests_after:
        tests_before = await tested("base", base)
        return verdict("tests_failed")
    repository = workspaces.repository
    proving = GitIgnoreSpec.from_lines(test_files)
    touched = [
        difference.path
        for difference in await repository.diff(base, tree_or_commit)
        if difference.status != "A" and proving.match_file(difference.path)
    ]
    if touched:
        # Tests that the change edited or deleted are put back: they decide, not what became of them (F40).
        base_tests_after = await tested("change-base-tests", await repository.overlay(tree_or_commit, base, touched))
        if base_tests_after is None:
            return verdict("timeout")
        if not base_tests_after:
            return verdict("tests_failed")
    return verdict("verified" if after else "tests_passed")
