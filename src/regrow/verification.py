"""The proof of a change: what failed before passes after, what passed before still passes, and it builds.

Every command runs in the box, in an export of its own, so that nothing the agent left lying about and nothing an
earlier command wrote is used. Four trees are tested, each only where it can tell something:

    base        the commit before the change
    change      the change as it is
    base tests  the change with the base's own test files: what passed on the base must pass here (F40)
    no fix      the change without all that is no test file: its new tests must fail here

A test that varies from run to run on the base is flaky: it is named and does not decide. Tests prove behaviour and not
intent: a person still reads the change."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pathspec import GitIgnoreSpec

from regrow import files, risks, test_results
from regrow.errors import ProcessTimeout
from regrow.pool import in_thread
from regrow.process import Completed, LineSink, exit_words
from regrow.risks import Part
from regrow.sandboxes.base import Box, Sandbox
from regrow.test_results import COMMAND, Results
from regrow.workspaces import Workspaces

# Codes of a script that say nothing about the bug: git bisect's "skip", and the shell's "cannot run" and "not found".
SKIP, CANNOT_RUN = 125, (126, 127)

# Where files are that prove something, by convention of many languages.
TEST_FILES = (
    *("tests/", "test/", "spec/", "__tests__/", "testdata/", "test_*.py", "*_test.py", "conftest.py"),
    *("*_test.go", "*.test.*", "*.spec.*", "*Test.java", "*Tests.java", "*_spec.rb"),
)

LOST = "(some tests did not run)"
"""Stands for tests that passed before and are not run any more, where the runner does not name them."""

Verdict = Literal[
    "verified",
    "tests_passed",
    "not_reproduced",
    "still_failing",
    "tests_failed",
    "toothless",
    "build_failed",
    "timeout",
    "unproven",
]
Finding = Literal["fails", "passes", "skip", "cannot_run", "hangs"]


Tell = Callable[[str, str], None]
"""Told what is being proved just now: a stable word ("build", "without", "reproduction_base", "reproduction_change",
"tests_base", "tests_change", "tests_new", "tests_old", "tests_unfixed") and a detail."""

_TOLD = {
    "base": "tests_base",
    "change": "tests_change",
    "new test on base": "tests_new",
    "change with the base's tests": "tests_old",
    "tests without the fix": "tests_unfixed",
}


@dataclass(frozen=True)
class Trial:
    """One run of a script: what it says about the bug, and its output."""

    finding: Finding
    output: str
    seconds: float


_KEPT = 20_000
_TAIL = 4000


@dataclass(frozen=True)
class Verification:
    """What was proved. None means that it was not tried, or that it could not be.

    Attributes:
        verdict: "verified": what failed before (the reproduction, or a new test) passes after, and all that passed
            before still does. "tests_passed": nothing is known that failed before, and the tests pass.
            "not_reproduced": the reproduction does not fail on the base. "still_failing": it, or the reproducing test,
            fails on the change. "tests_failed": tests that passed on the base do not any more. "toothless": the tests
            that the change adds pass without the fix. "build_failed". "timeout": a command hung on the change.
            "unproven": nothing could be tried.
        log: all output, with a line for each command.
        tests_before: whether the test command ends well on the base.
        tests_after: whether it does on the change.
        base_tests_after: where the change touches test files, whether the base's own tests pass on it (F40).
        reproduced_before: whether the reproduction fails on the base.
        passes_after: whether it passes on the change.
        built: whether the change builds.
        proving: the tests that fail without the fix and pass with it.
        lost: the tests that passed on the base and do not any more.
        flaky: the tests that vary on the base; none of them has decided anything.
        failed_before: how many tests fail on the base, and so could not count.
        doubts: what a person should know, as stable words: "new_test_broken" (a new test cannot even be loaded without
            the fix), "no_names" (the runner names no tests, only its end counts), "flaky".
        failing: the end of what the decisive command printed, where it failed.
    """

    verdict: Verdict
    log: str
    tests_before: bool | None = None
    tests_after: bool | None = None
    base_tests_after: bool | None = None
    reproduced_before: bool | None = None
    passes_after: bool | None = None
    built: bool | None = None
    proving: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    flaky: tuple[str, ...] = ()
    failed_before: int = 0
    doubts: tuple[str, ...] = ()
    failing: str = ""

    @property
    def passed(self) -> bool:
        """Whether the change may go on."""
        return self.verdict in ("verified", "tests_passed")


class Runs:
    """The results of test runs by tree, kept on disk: what a killed daemon has found out is not found out again.

    Args:
        path: the file; its directory exists. None: kept in memory only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._known: dict[str, list[Results]] = {}
        if path is not None and path.exists():
            for key, runs in json.loads(path.read_bytes()).items():
                self._known[key] = [Results(run["marks"], run["passed"], run["output"], run["hung"]) for run in runs]

    async def nth(self, key: str, number: int, run: Callable[[], Awaitable[Results]]) -> Results:
        """The results of a run, which is done when there was none.

        Args:
            key: what is run.
            number: from 0; runs are done in this order.
            run: does it.
        """
        async with self._locks[key]:
            runs = self._known.setdefault(key, [])
            while len(runs) <= number:
                runs.append(await run())
                await self._save()
            return runs[number]

    async def _save(self) -> None:
        if self._path is None:
            return
        kept = {
            key: [
                {"marks": dict(run.marks), "passed": run.passed, "output": run.output[-_KEPT:], "hung": run.hung}
                for run in runs
            ]
            for key, runs in self._known.items()
        }
        await in_thread(files.write_atomic, self._path, json.dumps(kept, ensure_ascii=False).encode())


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
    expected: Sequence[str] = (),
    build: Callable[[Path], Awaitable[Completed]] | None = None,
    conditions: Conditions = Conditions(),
    test_files: Sequence[str] = TEST_FILES,
    reruns: int = 3,
    runs: Runs | None = None,
    label: str = "",
    tell: Tell = lambda _word, _detail: None,
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
        expected: names of tests of the change that are known to fail without the fix.
        build: builds an export in the box; raises ProcessTimeout. None: there is nothing to build.
        conditions: how the commands run.
        test_files: patterns (gitignore syntax) of files that prove something. None at all: the tests go with the
            change, as they do when a commit is taken back; then only what fails is held against it.
        reruns: how often the tests are run again on the base to tell flaky ones.
        runs: where results are found and kept.
        label: keeps the exports of verifications apart that run at the same time: a-z, 0-9, - and _.
        tell: told when each command starts.

    Raises:
        RegrowError: a box or an export could not be made; nothing was proved.
    """
    proof = _Proof(
        sandbox,
        workspaces,
        job,
        conditions=conditions,
        runs=Runs() if runs is None else runs,
        command=tuple(test_command),
        label=label,
        tell=tell,
    )
    found: dict[str, object] = {}

    def verdict(word: Verdict, failing: str = "") -> Verification:
        tail = failing[-_TAIL:].partition("\n")[2] if len(failing) > _TAIL else failing
        return Verification(word, "\n".join(proof.log), failing=tail, **found)  # type: ignore[arg-type]

    if reproduction:
        trial = await proof.reproduced("base", base, reproduction)
        before = None if trial.finding in ("skip", "cannot_run") else trial.finding in ("fails", "hangs")
        found["reproduced_before"] = before
        if not before:
            return verdict("not_reproduced", trial.output)
        trial = await proof.reproduced("change", tree_or_commit, reproduction)
        if trial.finding == "hangs":
            return verdict("timeout", trial.output)
        found["passes_after"] = trial.finding == "passes" if trial.finding not in ("skip", "cannot_run") else None
        if not found["passes_after"]:
            return verdict("still_failing", trial.output)
    if test_command:
        refused = await _tested(
            proof, base, tree_or_commit, expected=expected, test_files=test_files, reruns=reruns, found=found
        )
        if refused is not None:
            return verdict(*refused)
    if build is not None:
        try:
            done = await proof.built(tree_or_commit, build)
        except ProcessTimeout as error:
            return verdict("timeout", error.log)
        found["built"] = done.code == 0
        if done.code != 0:
            return verdict("build_failed", done.output)
    if found.get("passes_after") or found.get("proving"):
        return verdict("verified")
    return verdict("tests_passed" if test_command else "unproven")


@dataclass(frozen=True)
class Reproduced:
    """What a new test says of the bug.

    Attributes:
        why: stable word, empty when the bug is reproduced: "passes" (no test fails that did not before), "broken" (it
            cannot be loaded, or is itself wrong), "other_reason" (it fails for another reason than the one reported),
            "breaks_others" (tests that passed before do not any more), "unsteady" (it does not fail each time).
        tests: the names of the tests that fail.
        failing: what one of them printed, or why it is none.
        log: all output.
    """

    why: str
    tests: tuple[str, ...]
    failing: str
    log: str


async def prove_test(
    sandbox: Sandbox,
    workspaces: Workspaces,
    job: int,
    base: str,
    tree: str,
    *,
    test_command: Sequence[str],
    told: str,
    conditions: Conditions = Conditions(),
    reruns: int = 3,
    runs: Runs | None = None,
    tell: Tell = lambda _word, _detail: None,
) -> Reproduced:
    """Whether new tests fail on the base, each time, and for the reason reported.

    Args:
        sandbox, workspaces, job, test_command, conditions, reruns, runs, tell: as `verify`.
        base: full id of the commit with the bug.
        tree: the same with the new tests.
        told: the words of the report.
    """
    proof = _Proof(
        sandbox,
        workspaces,
        job,
        conditions=conditions,
        runs=Runs() if runs is None else runs,
        command=tuple(test_command),
        label="",
        tell=tell,
    )

    def result(why: str, tests: Iterable[str], failing: str) -> Reproduced:
        return Reproduced(why, tuple(sorted(tests)), failing[-_TAIL:], "\n".join(proof.log))

    before = await proof.tested("base", base)
    after = await proof.tested("new test on base", tree)
    names = _fresh_failures(before, after)
    if not names and before.green and not after.green:
        names = {COMMAND}
    if not names:
        return result("passes", (), after.output)
    names = names - before.of("passed") or names
    sections = {name: test_results.section(after.output, name) for name in names}
    broken = {name for name, text in sections.items() if test_results.is_broken(text, told)}
    if broken:
        return result("broken", broken, sections[min(broken)])
    for name, text in sections.items():
        if test_results.other_reason(text, told):
            return result("other_reason", [name], text)
    again = await proof.tested("new test on base", tree, 1)
    steady = {name for name in names if not _well(again, name)}
    # What the new tests do to the others; where a runner stops at the first failure nothing can be told of them.
    others = {
        name
        for name in before.of("passed") - {COMMAND}
        if all(run.marks.get(name, "passed") != "passed" for run in (after, again))
    }
    others -= await proof.flaky(base, before, others, reruns) if others else set()
    if others:
        return result("breaks_others", others, sections.get(min(others), after.output))
    if not steady - before.of("passed"):
        return result("unsteady", names, sections[min(names)])
    return result("", steady - before.of("passed"), sections[min(steady - before.of("passed"))])


async def unneeded(
    sandbox: Sandbox,
    workspaces: Workspaces,
    job: int,
    base: str,
    change: str,
    *,
    test_command: Sequence[str] = (),
    reproduction: str = "",
    proving: Sequence[str] = (),
    conditions: Conditions = Conditions(),
    test_files: Sequence[str] = TEST_FILES,
    most: int = 6,
    runs: Runs | None = None,
    tell: Tell = lambda _word, _detail: None,
) -> tuple[list[Part], int]:
    """The parts of a proved change without which the proof holds all the same.

    Who mends a bug may change something else besides, which no test sees. Each part of the change of the code is taken
    out alone, and what proved the fix, or another test, must fail then. A change of one part needs no such trial.

    Args:
        sandbox, workspaces, job, base, change, test_command, reproduction, conditions, test_files, runs, tell: as
            `verify`.
        proving: the tests that prove the fix.
        most: so many parts are tried.

    Returns:
        The parts that are not needed, and how many there are in all; none are tried when there are more than `most`.
    """
    repository = workspaces.repository
    matches = GitIgnoreSpec.from_lines(test_files).match_file
    parts: list[Part] = []
    for one in await repository.diff(base, change):
        if not matches(one.path) and not one.binary:
            before = "" if one.status == "A" else await repository.blob(one.old_id)
            after = "" if one.status == "D" else await repository.blob(one.new_id)
            parts += risks.parts(one.path, before, after)
    if not 1 < len(parts) <= most:
        return [], len(parts)
    proof = _Proof(
        sandbox,
        workspaces,
        job,
        conditions=conditions,
        runs=Runs() if runs is None else runs,
        command=tuple(test_command),
        label="part-",
        tell=tell,
    )
    return [part for part in parts if await proof.holds(change, part, reproduction, proving)], len(parts)


async def _tested(
    proof: _Proof,
    base: str,
    change: str,
    *,
    expected: Sequence[str],
    test_files: Sequence[str],
    reruns: int,
    found: dict[str, object],
) -> tuple[Verdict, str] | None:
    """Compare the tests of the four trees; what is known goes into `found`, why it is refused is the result."""
    repository = proof.workspaces.repository
    proving_files = GitIgnoreSpec.from_lines(test_files)
    differences = await repository.diff(base, change)
    tests = [difference.path for difference in differences if proving_files.match_file(difference.path)]
    code = [difference.path for difference in differences if difference.path not in set(tests)]

    before = await proof.tested("base", base)
    after = await proof.tested("change", change)
    found["tests_before"], found["tests_after"] = before.green, after.green
    found["failed_before"] = len(before.of("failed", "error") - {COMMAND})
    doubts = [] if before.named or after.named else ["no_names"]
    found["doubts"] = tuple(doubts)
    if after.hung:
        found["tests_after"] = None
        return "timeout", after.output
    if failing := [name for name in expected if not passes(after, name)]:
        return "still_failing", test_results.section(after.output, failing[0])

    held = after
    if tests:
        # The base's own tests decide, not what became of them; what was added may not steer them either (F40).
        held = await proof.tested("change with the base's tests", await repository.overlay(change, base, tests))
        if held.hung:
            return "timeout", held.output
    lost = _lost(before, held, missing=bool(test_files)) | (_fresh_failures(before, after) if tests else set())
    shared = (before.of("failed", "error") & held.of("failed", "error")) - {COMMAND}
    flaky = await proof.flaky(base, before, lost | shared, reruns) if lost else set()
    found["flaky"], lost = tuple(sorted(flaky)), lost - flaky
    if tests:
        found["base_tests_after"] = not lost
    if flaky:
        doubts.append("flaky")
    if lost:
        found["lost"], found["doubts"] = tuple(sorted(lost)), tuple(doubts)
        where = held if any(name in held.of("failed", "error") for name in lost) else after
        return "tests_failed", test_results.section(where.output, min(lost))

    if tests and code:
        without = await proof.tested("tests without the fix", await repository.overlay(change, base, code))
        fails, broken = _told_apart(before, without, after)
        found["proving"] = tuple(sorted(fails))
        more = bool(after.named - held.named) or after.passed > held.passed
        if broken and not fails:
            doubts.append("new_test_broken")
        elif more and not fails:
            found["doubts"] = tuple(doubts)
            return "toothless", without.output
        if missing := set(expected) - fails:
            return "toothless", test_results.section(without.output, min(missing))
    found["doubts"] = tuple(doubts)
    return None


def passes(results: Results, name: str) -> bool:
    """Whether a test passes, as far as the runner names those that do."""
    if name in results.marks:
        return results.marks[name] == "passed"
    return not results.of("passed") - {COMMAND} and results.green


def _lost(before: Results, after: Results, *, missing: bool) -> set[str]:
    """The tests that were well on the base and are not any more.

    Args:
        before: on the base.
        after: of the same tests on the change.
        missing: whether tests that are not there any more count, and those that are left out by now.
    """
    lost = _fresh_failures(before, after)
    if missing:
        names_them = bool(after.of("passed") - {COMMAND})
        lost |= {
            name
            for name in before.of("passed") - {COMMAND}
            if (names_them or name in after.marks) and after.marks.get(name) != "passed"
        }
        if after.passed + len(lost) < before.passed:
            lost.add(LOST)
    known_red = not before.green and before.named
    if not after.green and not lost and not known_red:
        lost.add(COMMAND)
    if not after.green and known_red and not after.of("failed", "error") - {COMMAND}:
        lost.add(COMMAND)  # it ends badly for another reason than the tests that failed before
    return lost


def _fresh_failures(before: Results, after: Results) -> set[str]:
    """The tests that fail and did not on the base, new ones among them."""
    return set(after.of("failed", "error") - before.of("failed", "error") - {COMMAND})


def _told_apart(before: Results, without: Results, after: Results) -> tuple[set[str], set[str]]:
    """The tests that fail without the fix and pass with it; then those that cannot even be loaded without it."""
    names = _fresh_failures(before, without)
    if not names and before.green and after.green and not without.green:
        names = {COMMAND}
    broken = {name for name in names if test_results.is_broken(test_results.section(without.output, name))}
    return {name for name in names - broken if passes(after, name)}, broken


class _Proof:
    """The commands of one verification."""

    def __init__(
        self,
        sandbox: Sandbox,
        workspaces: Workspaces,
        job: int,
        *,
        conditions: Conditions,
        runs: Runs,
        command: Sequence[str],
        label: str,
        tell: Tell,
    ) -> None:
        self.log: list[str] = []
        self.workspaces = workspaces
        self._sandbox, self._job, self._conditions, self._runs = sandbox, job, conditions, runs
        self._command, self._label, self._tell = command, label, tell
        self._environment = hashlib.sha256(repr((command, sorted(conditions.env.items()))).encode()).hexdigest()[:16]

    @asynccontextmanager
    async def _export(self, name: str, tree: str) -> AsyncIterator[Path]:
        path = await self.workspaces.fresh(self._job, f"{self._label}{name}", tree)
        try:
            yield path
        finally:
            await self.workspaces.drop(path)

    async def reproduced(self, what: str, tree: str, script: str) -> Trial:
        """Run the reproduction on a tree."""
        self._tell(f"reproduction_{what}", "")
        async with self._export(f"reproduce-{what}", tree) as path:
            trial = await reproduce(self._sandbox, path, script, self._conditions)
        self.log.append(f"== reproduction on {what}: {trial.finding}\n{trial.output}")
        return trial

    async def tested(self, what: str, tree: str, number: int = 0) -> Results:
        """Run the tests on a tree; `number` counts the runs of one tree."""
        key = f"{await self.workspaces.repository.tree(tree)} {self._environment}"
        said = f"tests: {what}" + (f", run {number + 1}" if number else "")

        async def run() -> Results:
            self._tell(_TOLD[what], f" ({number + 1})" if number else "")
            async with self._export(f"test-{what.partition(' ')[0]}-{tree[:12]}", tree) as path:
                try:
                    done = await attempt(self._sandbox, path, self._command, self._conditions)
                except ProcessTimeout as error:
                    hung = f"still running after {self._conditions.timeout_s:g} s"
                    return test_results.read(f"{error.log}\n{hung}", None)
            return test_results.read(done.output, done.code)

        results = await self._runs.nth(key, number, run)
        marks = sorted(results.of("failed", "error") - {COMMAND})
        end = "passed" if results.green else "failed"
        self.log.append(f"== {said}: {end}, {results.passed} passed, failing: {', '.join(marks) or '-'}")
        self.log.append(results.output)
        return results

    async def flaky(self, base: str, before: Results, names: Iterable[str], reruns: int) -> set[str]:
        """Which of some tests vary on the base."""
        asked = set(names) - {LOST}
        flaky: set[str] = set()
        for number in range(1, reruns + 1):
            if asked <= flaky:
                break
            again = await self.tested("base", base, number)
            flaky |= {name for name in asked if _well(again, name) != _well(before, name)}
        return flaky

    async def holds(self, tree: str, part: Part, script: str, proving: Sequence[str]) -> bool:
        """Whether what proved a change passes without one part of it."""
        self._tell("without", f"{part.path}:{part.line}")
        async with self._export("without", tree) as path:
            await in_thread(_put, path / part.path, part.without)
            if script and (await reproduce(self._sandbox, path, script, self._conditions)).finding != "passes":
                return False
            if not self._command:
                return True
            try:
                done = await attempt(self._sandbox, path, self._command, self._conditions)
            except ProcessTimeout:
                return False
        results = test_results.read(done.output, done.code)
        whole = await self.tested("change", tree)
        return all(passes(results, name) for name in proving) and not _lost(whole, results, missing=True)

    async def built(self, tree: str, build: Callable[[Path], Awaitable[Completed]]) -> Completed:
        """Build a tree."""
        self._tell("build", "")
        async with self._export("prove-build", tree) as path:
            done = await build(path)
        self.log.append(f"== build of the change: {exit_words(done.code)}\n{done.output}")
        return done


def _put(path: Path, text: str) -> None:
    """Write a file of an export; one that is a link is another file than it seems."""
    if path.is_symlink():
        raise OSError(f"{path} is a link")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, newline="")


def _well(results: Results, name: str) -> bool:
    return results.marks.get(name, "passed") not in ("failed", "error")
