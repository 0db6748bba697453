"""What makes two failures the same one: their words and their frames, without what differs from one time to the next.

Numbers, hexadecimals, ids, times and paths are taken out; the kind of the exception, its words and the names of the
functions stay. Everything here is bounded, whatever a program has printed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

LONGEST = 400
"""Characters of a line without what differs; `_RAW` of one as it was printed."""
_RAW = 2000
_FRAMES = 4
_ANSI = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")
_TIME = re.compile(
    r"\d{4}[-/]\d\d?[-/]\d\d?(?:[T ]\d\d?:\d\d(?::\d\d)?(?:[.,]\d{1,9})?(?:Z|[ ]?[+-]\d\d:?\d\d)?)?"
    r"|(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]{0,6} {1,2}\d{1,2} \d\d:\d\d:\d\d(?: \d{4})?"
    r"|\b\d{1,2}:\d\d:\d\d(?:[.,]\d{1,9})?"
)
_UUID = re.compile(r"\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b")
_HEX = re.compile(r"\b0[xX][0-9a-fA-F]+\b")
_PATH = re.compile(r"(?<![\w<>/])(?:[A-Za-z]:\\|~?/)[^\s\"'`:;,()\[\]{}<>|]{1,300}")
# A word of letters and figures together that is too long for a name: a request's id, a digest, a token.
_ID = re.compile(r"(?<![\w-])(?=[\w-]{0,60}\d)(?=[\w-]{0,60}[A-Za-z])[\w-]{10,64}(?![\w-])|\b[0-9a-fA-F]{7,64}\b")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_BLANKS = re.compile(r"\s+")

_TRACEBACK = re.compile(r"(?P<margin>[ |+-]*)(?:Exception Group )?Traceback \(most recent call last\):")
_PANIC = re.compile(r"thread '.{0,80}'(?: \(\d+\))? panicked at (?P<said>.+)|(?P<go>(?:panic|fatal error): .+)")
_PYTHON = re.compile(r'[ |]*File "(?P<file>[^"]{1,300})", line \d+, in (?P<name>\S{1,200})')
_AT = re.compile(r"\s*at (?P<name>[^\s(]{1,200})(?: ?\((?P<file>[^()]{1,300})\))?")
_GO = re.compile(r"(?P<name>[\w./*()$-]{1,200})\([^()]{0,200}\)$")
_RUST = re.compile(r"\s+\d+:\s+(?:0x[0-9a-f]+ - )?(?P<name>[A-Za-z_<][^\s(]{1,200})$")


def normalised(line: str) -> str:
    """A line without what differs each time it is printed; never longer than `LONGEST`, and never with a figure."""
    text = _ANSI.sub("", line[:_RAW])
    for pattern, word in ((_TIME, " "), (_UUID, "<n>"), (_HEX, "<n>"), (_PATH, "<path>"), (_ID, "<n>")):
        text = pattern.sub(word, text)
    text = "".join(" " if one.isnumeric() else one for one in _NUMBER.sub("<n>", text))
    return _BLANKS.sub(" ", text).strip(" -[]|:,;.")[:LONGEST]


def decisive(lines: Sequence[str]) -> str:
    """The line that says what went wrong: what a trace was raised with, else the first line."""
    for number in range(len(lines) - 1, -1, -1):
        if match := _TRACEBACK.match(lines[number]):
            margin = len(match["margin"])
            rest = (line[margin:] for line in lines[number + 1 :])
            said = next((line.strip() for line in rest if line.strip() and not line.startswith((" ", "|"))), "")
            if said:
                return said[:_RAW]
        elif match := _PANIC.match(lines[number]):
            if match["go"]:
                return match["go"][:_RAW]
            after = lines[number + 1].strip() if number + 1 < len(lines) and match["said"].endswith(":") else ""
            return f"panicked at {match['said']} {after}".strip()[:_RAW]
    return next((line.strip()[:_RAW] for line in lines if line.strip()), "")


def frames(lines: Iterable[str]) -> list[str]:
    """The innermost frames of the last trace, as "file name:function", without numbers of lines."""
    python = list[str]()
    others = list[str]()
    for line in lines:
        if _TRACEBACK.match(line):
            python.clear()
        elif match := _PYTHON.match(line):
            python.append(f"{_file(match['file'])}:{normalised(match['name'])}")
        elif match := _AT.match(line):
            others.append(normalised(f"{_file(match['file'] or '')}:{match['name']}"))
        elif match := _GO.match(line) or _RUST.match(line):
            others.append(normalised(match["name"]))
    return python[-_FRAMES:] if python else others[:_FRAMES]


def _file(path: str) -> str:
    return normalised(re.split(r"[\\/]", path)[-1].split(":")[0])


def signature(lines: Sequence[str]) -> str:
    """What a failure is known by: its decisive line and its frames, each normalised."""
    return "\n".join(islice(_signature(lines), 1 + _FRAMES))


def _signature(lines: Sequence[str]) -> Iterator[str]:
    said = decisive(lines)
    if said.startswith("panicked at "):  # where it is: the name of the file is known, the way to it differs
        said = re.sub(r"[^\s:]{1,300}/(?=[^\s/:]+:\d)", "", said)
    yield normalised(said)
    yield from frames(lines)


def fingerprint(kind: str, known_by: str) -> str:
    """The name of an incident for ever: 12 characters of a digest.

    Args:
        kind: of the incident; a crash and a failed probe with the same words are two.
        known_by: see `signature`.
    """
    return hashlib.sha256(f"{kind}\0{known_by}".encode()).hexdigest()[:12]
