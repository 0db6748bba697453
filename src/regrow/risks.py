"""What a person should look at before a change goes on, though no rule forbids it.

Tests show what code does on the inputs they have. A change that knows of the tests, that treats the reported input as
a case of its own, or that runs without being called, passes them and need not be a fix. None of these signs proves
anything, and a sign that is missing proves nothing either: so they refuse nothing and only ask.
"""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_LONGEST_LINE = 500

WEAK = frozenset({"flaky", "no_names", "large", "many_files", "sensitive", "unproved", "no_tests", "failed_before"})
"""Worth telling, and asked about where the settings ask about risks; all others are never decided without a person."""

_SIGNS: tuple[tuple[str, re.Pattern[str]], ...] = (
    (
        "knows_tests",
        re.compile(
            r"\b(?:_?pytest|unittest|doctest|PYTEST_\w+|TestCase|TestResult|testing\.T|jest|mocha|vitest|junit\w*"
            r"|is_testing|under_test|REGROW_\w+|sys\.argv\[0\]|sys\._getframe|inspect\.(?:stack|currentframe|getouter\w+)"
            r"|currentframe|settrace|setprofile|gc\.get_(?:objects|referrers)|traceback\.extract_stack)\b"
            r"|\bCI\b(?=[\"'\]])|NODE_ENV|Error\(\)\.stack"
        ),
    ),
    (
        "ends_process",
        re.compile(
            r"\b(?:os\._exit|sys\.exit|os\.abort|os\.kill|os\.exec\w+|signal\.(?:raise_signal|alarm|setitimer)"
            r"|faulthandler|atexit|process\.(?:exit|reallyExit|abort|kill)|System\.exit|Runtime\.getRuntime\(\)\.halt"
            r"|std::process::(?:exit|abort)|syscall\.Exit|os\.Exit|SystemExit|_exit)\b|\bexit\s*\(|\bquit\s*\("
        ),
    ),
    (
        "runs_text",
        re.compile(
            r"(?<![\w.])(?:eval|exec|compile|__import__)\s*\(|\b(?:importlib|runpy|ctypes|marshal|pickle|cffi|dill"
            r"|builtins|__builtins__|sys\.modules|sys\.meta_path|codecs\.decode|b64decode|bytes\.fromhex)\b"
            r"|\bnew Function\s*\(|\bvm\.run\w+|\bunsafe\b"
        ),
    ),
    (
        "reaches_out",
        re.compile(
            r"\b(?:subprocess|os\.(?:system|popen|fork\w*|spawn\w+|posix_spawn\w*)|pty|socket|urllib|http\.client|httpx"
            r"|aiohttp|requests|ftplib|smtplib|telnetlib|paramiko|webbrowser|child_process|net\.connect|os/exec"
            r"|exec\.Command|std::process::Command|std::net|XMLHttpRequest|WebSocket)\b|(?<![\w.])fetch\s*\(|/dev/tcp/"
        ),
    ),
    (
        "destroys",
        re.compile(
            r"\b(?:rmtree|os\.(?:remove|unlink|rmdir|removedirs|rename|replace|truncate|chmod|chown|symlink|link)"
            r"|write_(?:text|bytes)|writeFile\w*|rmSync|rimraf|DROP\s+(?:TABLE|DATABASE)|DELETE\s+FROM|TRUNCATE)\b"
            r"|\.unlink\(|\bopen\([^)\n]*[\"'][waxr]b?\+?[\"'](?<![\"']r[\"'])(?<!rb[\"'])|\brm\s+-\w*[rf]"
        ),
    ),
    (
        "asks_where",
        re.compile(
            r"\b(?:os\.environ|getenv|os\.Getenv|process\.env|std::env|gethostname|platform\.node|os\.(?:getcwd|uname"
            r"|getuid|getpid|getppid|cpu_count)|sys\.(?:flags|executable|argv|path|modules)|__file__|HOSTNAME|isatty)\b"
            r"|/proc/|/home/|\$HOME\b"
        ),
    ),
    (
        "asks_when",
        re.compile(
            r"\b(?:time\.time|time\.monotonic|datetime\.(?:now|utcnow|today)|date\.today|Date\.now|new Date\(\)"
            r"|time\.Now|SystemTime::now|random\.\w+|Math\.random|secrets\.\w+|urandom|uuid\d?)\b"
        ),
    ),
    (
        "compares",
        re.compile(
            r"\b(?:__eq__|__ne__|__hash__|__bool__|__class__|__instancecheck__|__getattr\w*__|operator\s*==|PartialEq)\b"
            r"|\bequals\s*\(|\b(?:valueOf|toPrimitive)\b"
        ),
    ),
    (
        "hides_errors",
        re.compile(r"^\s*except\s*(?:(?:Base)?Exception(?:\s+as\s+\w+)?)?\s*:|catch\s*(?:\(\w*\))?\s*\{\s*\}", re.M),
    ),
    ("look_alike", re.compile(r"[A-Za-z][\u0370-\u03ff\u0400-\u04ff][A-Za-z]|\b[\u0400-\u04ff][A-Za-z]{2,}")),
)  # fmt: skip

_CHANCE = next(pattern for rule, pattern in _SIGNS if rule == "asks_when")
_QUOTED = re.compile(r"\"((?:[^\"\\\n]|\\.)+)\"|'((?:[^'\\\n]|\\.)+)'|`([^`\n]+)`")
_NUMBER = re.compile(r"(?<![\w.])\d[\d_]*(?:\.\d+)?(?![\w.])")
_WORD = re.compile(r"[^\s\"'`(){}\[\],;=<>|&]+")
_SHORTEST = 3
_BRANCH = re.compile(r"\b(?:if|elif|unless|case|when|match|switch|while|assert)\b|[=!]=|\?|\bin\b|\.get\(|\breturn\b")

_ASKED = re.compile(r"\.\w{3,}|\bimport [\w ,]+|[\"']\w{3,}[\"']")
_MADE = re.compile(
    r"\b(?:def|class|func|fn|function|const|let|var|type|struct)\s+(\w+)|^\s*(?:self\.)?(\w+)\s*(?::[^=\n]+)?=[^=]"
    r"|\b(?:setattr\([^,\n]+,\s*[\"'])(\w+)|\.(\w+)\s*=[^=]",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Part:
    """A part of the change of one file, and the file without it."""

    path: str
    line: int
    without: str


def parts(path: str, before: str, after: str) -> list[Part]:
    """The parts of a change that can be taken out one at a time: runs of changed lines that do something.

    Args:
        path: the file.
        before, after: its texts; "" where it is absent.
    """
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    found = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        same = [line.rstrip() for line in old[a:b]] == [line.rstrip() for line in new[c:d]]
        if tag == "equal" or same or not any(_uncommented(line).strip() for line in (*old[a:b], *new[c:d])):
            continue
        found.append(Part(path, c + 1, "".join((*new[:c], *old[a:b], *new[d:]))))
    return found


@dataclass(frozen=True)
class Risk:
    """Something that only a person may let through.

    Attributes:
        rule: stable word for catalogues and programs.
        path: the file it is about; empty when it is about the change as a whole.
        detail: figure, name or text that belongs to it; empty when there is none.
    """

    rule: str
    path: str
    detail: str = ""


def new_lines(before: str, after: str) -> str:
    """The lines of a text that it did not have before, in their order."""
    known = set(before.splitlines())
    return "\n".join(line for line in after.splitlines() if line not in known)


def signs(before: str, after: str) -> list[tuple[str, str]]:
    """What the new lines of a file show: the rule and the words."""
    fresh = new_lines(before, after)
    found = []
    for rule, pattern in _SIGNS:
        if match := pattern.search(fresh):
            found.append((rule, " ".join(match[0].split())[:60]))
    if (longest := max(map(len, fresh.splitlines()), default=0)) > _LONGEST_LINE:
        found.append(("long_line", str(longest)))
    return found


def chance(before: str, after: str) -> str:
    """What in the new lines of a test makes its result a matter of chance, of the time or of the machine."""
    match = _CHANCE.search(new_lines(before, after))
    return " ".join(match[0].split()) if match else ""


def shadows(path: str) -> str:
    """The module of Python's standard library that a new file takes the name of; empty when it does not."""
    name = path.rpartition("/")[2]
    stem = name.removesuffix(".py") if name.endswith(".py") else ""
    if name == "__init__.py":
        stem = path.split("/")[-2] if "/" in path else ""
    depth = path.count("/") - (name == "__init__.py")
    return stem if stem in sys.stdlib_module_names and not stem.startswith("_") and depth <= 1 else ""


def copied(known: Iterable[str], changed: Mapping[str, tuple[str, str]]) -> list[Risk]:
    """Values of the reproduction that new code knows by heart.

    Code that has the reported case as a case of its own makes the reproduction pass and mends nothing. A value that
    the code of the base has as well is none of the report's, and one that only stands in a comment decides nothing.

    Args:
        known: the texts of the reproduction: the script, the new tests.
        changed: what files that are no tests were and are, by path.
    """
    values: set[str] = set()
    for text in known:
        values |= _literals(text) | set(_WORD.findall(text))
    values = {value for value in values if len(value) >= _SHORTEST or (value.isdecimal() and len(value) > 1)}
    there = "\n".join(before for before, _ in changed.values())
    found = []
    for path, (before, after) in changed.items():
        for line in new_lines(before, after).splitlines():
            code = _uncommented(line)
            if not _BRANCH.search(code) and not _QUOTED.search(code):
                continue
            same = sorted(value for value in _literals(code) & values if value not in there)
            if same:
                found.append(Risk("knows_the_case", path, same[0][:60]))
                break
    return found


def introduced(tests: Iterable[str], changed: Mapping[str, tuple[str, str]]) -> list[Risk]:
    """Names that the new tests ask for and that only the change brings.

    A test that was written for a bug of the old code asks the old code. One that asks for a name that the fix brings
    may prove nothing but that the name is there.

    Args:
        tests: the new lines of the tests.
        changed: what files that are no tests were and are, by path.
    """
    asked: set[str] = set()
    for text in tests:
        for match in _ASKED.finditer(text):
            asked |= set(re.findall(r"[A-Za-z_]\w{2,}", match[0].removeprefix("import")))
    found = []
    for path, (before, after) in changed.items():
        made = {next(filter(None, match.groups())) for match in _MADE.finditer(new_lines(before, after))}
        known = {name for other, _ in changed.values() for name in re.findall(r"\w+", other)}
        if same := sorted((made & asked) - known):
            found.append(Risk("test_knows_fix", path, same[0][:60]))
    return found


def _literals(text: str) -> set[str]:
    quoted = {next(filter(None, match.groups())) for match in _QUOTED.finditer(text)}
    return quoted | set(_NUMBER.findall(text))


def _uncommented(line: str) -> str:
    stripped = line.lstrip()
    if stripped.startswith(("#", "//", "*", "/*", '"""', "'''")):
        return ""
    return line.partition("  #")[0]
