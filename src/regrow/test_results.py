"""What a run of a test command says of each test, read from what it prints.

No runner needs an option for it: pytest, unittest, `go test`, `cargo test`, TAP, and what jest and mocha print are
read as they are, and more by name where they print more (`-v`). A command of which nothing is understood is one test,
the whole command. What is printed is printed by the code under test as well: names that are missing count as failed,
and the exit code is a test of its own, but a program made to forge a report can (agents.md section 5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Mark = Literal["passed", "failed", "error", "skipped"]

COMMAND = "(the test command)"
"""The test that every run has: that the command ends with code 0."""

_ANSI = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_WORDS: Mapping[str, Mark] = {
    **{"passed": "passed", "pass": "passed", "ok": "passed", "xfail": "skipped", "expected failure": "skipped"},
    **{"failed": "failed", "fail": "failed", "not ok": "failed", "xpass": "passed", "unexpected success": "failed"},
    **{"error": "error", "skipped": "skipped", "skip": "skipped", "ignored": "skipped"},
    **{"✓": "passed", "✔": "passed", "√": "passed", "✕": "failed", "✗": "failed", "✖": "failed", "○": "skipped"},
}
_RULES = (
    # pytest -v, and its short summary.
    re.compile(r"(?P<name>\S+::.+?) (?P<mark>PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b.*"),
    re.compile(r"(?P<mark>PASSED|FAILED|ERROR|XFAIL|XPASS) (?P<name>[^\s(]\S*?(?:::.+?)?)(?: - .*)?"),
    # unittest, the heads of its failures.
    re.compile(r"(?P<mark>FAIL|ERROR): (?P<name>\w+ \([\w.]+\))(?: .*)?"),
    # go test -v.
    re.compile(r"\s*--- (?P<mark>PASS|FAIL|SKIP): (?P<name>\S+) \([\d.]+s\)"),
    # cargo test.
    re.compile(r"test (?P<name>\S+)(?: - .*?)? \.\.\. (?P<mark>ok|FAILED|ignored)\b.*"),
    # TAP.
    re.compile(r"\s*(?P<mark>ok|not ok)\b(?: \d+)?(?: -)? (?P<name>[^#]+?)\s*(?P<skip># (?i:skip|todo).*)?"),
    # jest and mocha.
    re.compile(r"\s*(?P<mark>[✓✔√✕✗✖○]) (?P<name>.+?)(?: \(\d+(?:\.\d+)? ?m?s\))?"),
)
_BEGUN = re.compile(r"(?P<name>\w+ \([\w.]+\))(?: \.\.\. (?P<rest>.*))?")
_ENDED = re.compile(r"(?:.* \.\.\. )?(?P<mark>ok|FAIL|ERROR|skipped|expected failure|unexpected success)(?: .*)?")
# How many passed, for runners that do not name those.
_COUNTS = (
    re.compile(r"(?:=+ )?(?:\d+ \w+, )*?(?P<passed>\d+) passed\b.* in [\d.]+.*"),
    re.compile(r"test result: \w+\. (?P<passed>\d+) passed;.*"),
    re.compile(r"Tests?:\s.*?(?P<passed>\d+) passed,.*"),
    re.compile(r"\s*(?P<passed>\d+) passing\b.*"),
    re.compile(r"# pass (?P<passed>\d+)"),
)
_RAN = re.compile(r"Ran (?P<ran>\d+) tests? in [\d.]+s")
_OUTCOME = re.compile(r"(?:OK|FAILED)(?: \((?P<counts>[\w =,]+)\))?")
# A test that could not be loaded, or that is wrong itself, says nothing of the service.
_BROKEN = re.compile(
    r"^(?:E\s+)?(?:\w+\.)*(?P<word>ModuleNotFoundError|ImportError|SyntaxError|IndentationError|TabError|NameError"
    r"|UnboundLocalError|ReferenceError)\b"
    r"|fixture '\w+' not found|Cannot find (?:module|package)|ERR_MODULE_NOT_FOUND"
    # Cargo ends with such a line whenever a test has failed, too.
    r"|\[(?:build|setup) failed\]|^error(?:\[E\d+\])?: (?!test failed, to rerun|\d+ targets? failed)|could not compile"
    r"|: [Ss]yntax error|: (?:command )?not found$",
    re.MULTILINE,
)
_RAISED = re.compile(r"^(?:E\s+)?(?:[\w.]+\.)?(?P<word>[A-Z]\w*(?:Error|Exception|Interrupt|Exit|Warning))\b", re.M)

_NEXT = re.compile(r"={3,}(?: .* =+)?|-{60,}|_{3,} .* _{3,}|---- .* ----|\s*(?:--- \w+:|(?:not )?ok) .*")


@dataclass(frozen=True)
class Results:
    """One run of a test command.

    Attributes:
        marks: by the names of the tests; `COMMAND` is among them.
        passed: how many tests passed, also those that were not named.
        output: what was printed.
        hung: whether it had to be ended.
    """

    marks: Mapping[str, Mark]
    passed: int
    output: str = field(default="", compare=False)
    hung: bool = False

    @property
    def green(self) -> bool:
        """Whether the command ended well."""
        return self.marks[COMMAND] == "passed"

    @property
    def named(self) -> frozenset[str]:
        """The tests, without the command."""
        return frozenset(self.marks) - {COMMAND}

    def of(self, *marks: Mark) -> frozenset[str]:
        """The tests with one of these marks."""
        return frozenset(name for name, mark in self.marks.items() if mark in marks)


def read(output: str, code: int | None) -> Results:
    """The results of a run.

    Args:
        output: what the command printed, both streams.
        code: its exit code; None: it had to be ended.
    """
    marks: dict[str, Mark] = {}
    counted = ran = -1
    lost = 0
    for name, mark in _named(output):
        # Of a name that is there twice, say in two files of a runner that names no files, the worse mark counts.
        if marks.get(name) not in ("failed", "error"):
            marks[name] = mark
    for line in _lines(output):
        for rule in _COUNTS:
            if found := rule.fullmatch(line):
                counted = int(found["passed"])
        if found := _RAN.fullmatch(line):
            ran, lost = int(found["ran"]), 0
        elif ran >= 0 and (found := _OUTCOME.fullmatch(line)):
            lost = sum(int(number) for number in re.findall(r"=(\d+)", found["counts"] or ""))
    named = sum(mark == "passed" for mark in marks.values())
    passed = max(named, counted, ran - lost if ran >= 0 else 0)
    marks[COMMAND] = "passed" if code == 0 else "failed"
    return Results(marks, passed, output, code is None)


def _lines(output: str) -> list[str]:
    return [_ANSI.sub("", line).rstrip() for line in output.splitlines()]


def _named(output: str) -> Iterator[tuple[str, Mark]]:
    pending = ""
    for whole in _lines(output):
        line = whole
        if begun := _BEGUN.fullmatch(line):
            pending = begun["name"]
            line = begun["rest"] or ""
        if pending and (ended := _ENDED.fullmatch(line)):
            yield pending, _WORDS[ended["mark"].lower()]
            pending = ""
            continue
        for rule in _RULES:
            if found := rule.fullmatch(line):
                mark = _WORDS[found["mark"].lower()]
                if found.groupdict().get("skip"):
                    mark = "skipped"
                yield found["name"].strip(), mark
                break


def section(output: str, name: str) -> str:
    """What a run printed of one test that failed; all of it where that cannot be told."""
    short = re.split(r"::| \(", name)
    own = short[0] if " (" in name else short[-1]
    lines = _lines(output)
    rules = (
        re.compile(rf"(?:FAIL|ERROR): {re.escape(name)}.*"),
        re.compile(rf"_+ (?:ERROR \w+ (?:of )?)?(?:[\w.]+\.)?{re.escape(own)} _+"),
        re.compile(rf"_+ ERROR collecting {re.escape(name.partition('::')[0])} _+"),
        re.compile(rf"---- {re.escape(own)} stdout ----"),
        re.compile(rf"\s*--- FAIL: {re.escape(own)} .*"),
        re.compile(rf"\s*not ok\b.* {re.escape(own)}"),
    )
    for at, line in enumerate(lines):
        if any(rule.fullmatch(line) for rule in rules):
            rest = lines[at + 1 :]
            stop = next((n for n, line in enumerate(rest) if n and _NEXT.fullmatch(line)), len(rest))
            return "\n".join([line, *rest[:stop]]).strip()
    return output.strip()


def is_broken(text: str, told: str = "") -> bool:
    """Whether a test fails because it cannot be loaded or is itself wrong.

    Args:
        text: what the run printed of it.
        told: the words of the report; an error that is named there is the reason reported.
    """
    found = _BROKEN.search(text)
    return found is not None and not (found["word"] and found["word"] in told)


def other_reason(text: str, told: str) -> str:
    """The exception that a test dies of, where the report names others; "" where it may well be the reason reported.

    A failed assertion is taken for it: what is asserted is for people to read.
    """
    wanted = set(re.findall(r"\b[A-Z]\w*(?:Error|Exception)\b", told))
    raised = [found["word"] for found in _RAISED.finditer(text)]
    if not wanted or not raised or "AssertionError" in raised or wanted & set(raised):
        return ""
    return raised[-1]
