"""The decisive lines of a long output: what a person would point at, out of thousands (F31).

The end of a build's output often says only that it failed; the compiler's own error stands far above. Strong signs are
errors of compilers, failed assertions and traces; weak ones are lines that merely call themselves an error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

MOST = 8
_LONGEST = 200
_GAP = "…"
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")

_Until = Callable[[str], bool]


def _blank(line: str) -> bool:
    return not line.strip()


def _not_indented(line: str) -> bool:
    return not line[:1].isspace()


def _always(_: str) -> bool:
    return True


def _not_marked(line: str) -> bool:
    return not re.match(r"E(?: {3}|$)|.+:\d+: \w", line)


# What begins an error, how many lines may belong to it, and which line does not any more.
_STRONG: tuple[tuple[re.Pattern[str], int, _Until], ...] = (
    # rustc and cargo; their summaries say nothing.
    (re.compile(r"error(?:\[E\d{4}\])?: (?!could not compile|aborting due|test failed|\d+ target)"), 6, _blank),
    (re.compile(r"thread '.*'(?: \(\d+\))? panicked at "), 4, lambda line: _blank(line) or line.startswith("note:")),
    # C, C++, Java, Swift, Kotlin: file:line: error:
    (re.compile(r"(?:e: )?\S+?:\d+(?::\d+)?: (?:fatal )?error:"), 3, _not_indented),
    (re.compile(r".*undefined reference to "), 1, _always),
    # TypeScript
    (re.compile(r"\S+(?:\(\d+,\d+\):|:\d+:\d+ -) error TS\d+"), 1, _always),
    # Go: the compiler, then a failed test with what it said
    (re.compile(r"(?:vet: )?(?:\./)?[\w./@-]+\.go:\d+:\d+: "), 1, _not_indented),
    (re.compile(r"\s*--- FAIL: "), 4, _not_indented),
    (re.compile(r"panic: (?!.*\[recovered\])"), 1, _always),
    # pytest, then unittest
    (re.compile(r"E {3}\s*\S"), 5, _not_marked),
    (re.compile(r"(?:FAIL|ERROR): \w+ \("), 1, _always),
    # jest and vitest, mocha, node's own runner
    (re.compile(r"\s*● .+ › "), 8, lambda line: bool(re.match(r"\s*● ", line))),
    (re.compile(r"\s*not ok \d+ - (?!.*# (?:SKIP|TODO))"), 1, _always),
    (re.compile(r"\s*(?:Uncaught )?(?:[A-Z]\w*)?(?:Error|Exception)(?: \[\w+\])?: \S"), 3,
     lambda line: not re.match(r"\s+at |\s*[+-] ?(?:actual|expected)|\s*expected|\s*actual|Require stack|- /", line)),
    # Maven, Gradle, dotnet
    (re.compile(r"\[ERROR\] \S+\.\w+:\[\d+"), 1, _always),
    (re.compile(r".+\(\d+,\d+\): error [A-Z]+\d+: "), 1, _always),
)  # fmt: skip
_WEAK: tuple[re.Pattern[str], ...] = (
    re.compile(r"(?i)\W*(?:fatal(?: error)?|panic|error|exception)\b\s*[:!] ?\S"),
    re.compile(r"npm (?:ERR!|error) (?!A complete log|code |errno |path |command |Lifecycle)\S"),
    re.compile(r".*(?:command not found|: not found$|No such file or directory|Permission denied)"),
    re.compile(r".*(?:No space left on device|Cannot allocate memory|Out of memory|^Killed$)"),
    re.compile(r"make(?:\[\d+\])?: \*\*\* "),
)
_TRACEBACK = re.compile(r"(\s*(?:\| )?)(?:Exception Group )?Traceback \(most recent call last\):")


def decisive_lines(text: str, most: int = MOST) -> list[str]:
    """What says why a program failed, in the order of the output.

    Args:
        text: all that it printed.
        most: lines at the most.

    Returns:
        The first error with what belongs to it, the heads of others while there is room, "…" where lines were left out;
        the last lines, where nothing looks like an error; [] for an empty text.
    """
    lines = [_COLOUR.sub("", line.rstrip()) for line in text.splitlines()]
    chosen: set[int] = set()
    heads = _strong(lines)
    if heads:
        block = heads[0][1]
        chosen = set(block[: max(most - 2, 1)]) if len(heads) > 1 else set(block[:most])
        for head, _ in heads[1:]:
            if len(chosen) >= most:
                break
            chosen.add(head)
    else:
        weak = [number for number, line in enumerate(lines) if any(sign.match(line) for sign in _WEAK)]
        # The first of them is the cause of the others; what follows it explains it.
        for number in (*weak[:1], *weak[-2:]):
            chosen |= {number, *range(number + 1, min(number + 2, len(lines)))}
        chosen = {number for number in sorted(chosen)[:most] if lines[number].strip()}
    if not chosen:
        spoken = [number for number, line in enumerate(lines) if line.strip()]
        chosen = set(spoken[-most:])
    return _shown(lines, sorted(chosen))


def decisive_head(text: str) -> str:
    """The one line that says why a program failed, "" for an empty text."""
    lines = [_COLOUR.sub("", line.rstrip()) for line in text.splitlines()]
    heads = [lines[head] for head, _ in _strong(lines)[:1]] or [one for one in decisive_lines(text) if one != _GAP]
    return re.sub(r"^E +(?=\S)", "", heads[0].strip())[:_LONGEST] if heads else ""


def _strong(lines: Sequence[str]) -> list[tuple[int, list[int]]]:
    """The heads of errors with the lines that belong to each; the same error is told once."""
    found: list[tuple[int, list[int]]] = []
    said: set[str] = set()
    number = 0
    while number < len(lines):
        block = _block(lines, number)
        if not block:
            number += 1
            continue
        head = lines[block[0]].strip()
        if head not in said:
            said.add(head)
            found.append((block[0], block))
        number = max(block[-1], number) + 1
    return found


def _block(lines: Sequence[str], number: int) -> list[int]:
    """The lines of the error that begins at a line, the decisive one first; [] where none does."""
    line = lines[number]
    if trace := _TRACEBACK.match(line):
        return _python(lines, number, len(trace[1]))
    for sign, most, ends in _STRONG:
        if sign.match(line):
            block = [number]
            for after in range(number + 1, min(number + most, len(lines))):
                if ends(lines[after]):
                    break
                block.append(after)
            return block
    return []


def _python(lines: Sequence[str], number: int, margin: int) -> list[int]:
    """Of a traceback: what was raised, and the innermost frame."""
    frames: list[int] = []
    for after in range(number + 1, len(lines)):
        rest = lines[after][margin:]
        if rest.startswith("  File "):
            frames.append(after)
        elif rest and not rest[0].isspace():
            return [after, *frames[-1:], *([frames[-1] + 1] if frames and frames[-1] + 1 < after else [])]
    return []


def _shown(lines: Sequence[str], chosen: Sequence[int]) -> list[str]:
    shown: list[str] = []
    for at, number in enumerate(chosen):
        if at and any(line.strip() for line in lines[chosen[at - 1] + 1 : number]):
            shown.append(_GAP)
        line = lines[number]
        shown.append(line if len(line) <= _LONGEST else line[:_LONGEST] + "…")
    return shown
