"""A unified diff for reading: files, numbered lines, colours. What is shown is what is approved, to the last character.

Characters that hide or turn text are shown as their code, so that no change reads differently from what it does.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_for_filename  # type: ignore[import-untyped]
from pygments.token import Token  # type: ignore[import-untyped]
from pygments.util import ClassNotFound  # type: ignore[import-untyped]

Kind = Literal["same", "added", "removed", "hunk", "head"]
COLOURED_CHARS = 200_000

_HUNK = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_COLOURS: tuple[tuple[Any, str], ...] = (
    (Token.Comment, "comment"),
    (Token.Literal.String, "string"),
    (Token.Literal.Number, "number"),
    (Token.Keyword, "keyword"),
    (Token.Name.Function, "name"),
    (Token.Name.Class, "name"),
    (Token.Name.Decorator, "name"),
    (Token.Name.Builtin, "builtin"),
)

_ODD_CATEGORIES = frozenset({"Cc", "Cf", "Zl", "Zp", "Co", "Cs", "Cn"})
_BLANK_LETTERS = "\u115f\u1160\u3164\uffa0"


@dataclass(frozen=True)
class Piece:
    """Some characters of one colour; `colour` is empty for none and "odd" for a character shown as its code."""

    text: str
    colour: str = ""


@dataclass(frozen=True)
class Line:
    """One line of a diff. `old` and `new` are its numbers before and after; `text` has its sign."""

    kind: Kind
    text: str
    old: int | None = None
    new: int | None = None
    pieces: tuple[Piece, ...] = ()


@dataclass
class FileDiff:
    """The change of one file; `path` is where it is after the change, or was, when it is removed."""

    path: str
    lines: list[Line] = field(default_factory=list)

    @property
    def added(self) -> int:
        return sum(line.kind == "added" for line in self.lines)

    @property
    def removed(self) -> int:
        return sum(line.kind == "removed" for line in self.lines)

    @property
    def odd(self) -> bool:
        return any(piece.colour == "odd" for line in self.lines for piece in line.pieces)


def read(text: str) -> list[FileDiff]:
    """The files of a unified diff in their order; every line of the text is in exactly one of them.

    Args:
        text: what git diff prints. Longer than COLOURED_CHARS it is shown without colours.
    """
    files = list(_files(text))
    budget = COLOURED_CHARS
    for file in files:
        budget -= sum(len(line.text) for line in file.lines)
        lexer = _lexer(file.path) if budget >= 0 else None
        file.lines = [line for group in _hunks(file.lines) for line in _coloured(group, lexer)]
    return files


def _files(text: str) -> Iterator[FileDiff]:
    file: FileDiff | None = None
    old = new = old_left = new_left = 0
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    for raw in lines:
        inside = old_left > 0 or new_left > 0
        begins = raw.startswith("diff --git ") or (
            raw.startswith("--- ") and (file is None or any(line.kind == "hunk" for line in file.lines))
        )
        if not inside and (begins or file is None):
            if file is not None:
                yield file
            file = FileDiff(_git_path(raw))
        assert file is not None
        if inside and raw[:1] in {" ", "+", "-", ""}:
            sign = raw[:1] or " "
            line = Line(
                {" ": "same", "+": "added", "-": "removed"}[sign],  # type: ignore[arg-type]
                raw,
                old if sign != "+" else None,
                new if sign != "-" else None,
            )
            if sign != "+":
                old, old_left = old + 1, old_left - 1
            if sign != "-":
                new, new_left = new + 1, new_left - 1
            file.lines.append(line)
        elif not inside and (match := _HUNK.match(raw)):
            old, new = int(match[1]), int(match[3])
            old_left = int(match[2]) if match[2] else 1
            new_left = int(match[4]) if match[4] else 1
            file.lines.append(Line("hunk", raw))
        else:
            if not inside:
                file.path = _header_path(raw) or file.path
            file.lines.append(Line("head", raw))
    if file is not None:
        yield file


def _git_path(line: str) -> str:
    return line.rpartition(" b/")[2] if line.startswith("diff --git ") and " b/" in line else ""


def _header_path(line: str) -> str:
    if not line.startswith(("--- ", "+++ ")):
        return ""
    name = line[4:].split("\t", maxsplit=1)[0]
    return "" if name == "/dev/null" else name.removeprefix("a/" if line.startswith("-") else "b/")


def _lexer(path: str) -> Lexer | None:
    try:
        return get_lexer_for_filename(path)
    except ClassNotFound:
        return None


def _hunks(lines: Iterable[Line]) -> Iterator[list[Line]]:
    """Lines in groups that are coloured together: a hunk's content, or one line of anything else."""
    group: list[Line] = []
    for line in lines:
        if line.kind in {"hunk", "head"}:
            if group:
                yield group
            yield [line]
            group = []
        else:
            group.append(line)
    if group:
        yield group


def _coloured(group: list[Line], lexer: Lexer | None) -> Iterator[Line]:
    """The lines of a group with their pieces, whose texts joined are the line (without its sign, with odd as codes)."""
    if group[0].kind in {"hunk", "head"} or lexer is None:
        for line in group:
            text = line.text if line.kind in {"hunk", "head"} else line.text[1:]
            yield _with(line, [Piece(text)])
        return
    content = "\n".join(line.text[1:] for line in group)
    rows: list[list[Piece]] = [[]]
    for _, token, value in lexer.get_tokens_unprocessed(content):
        first, *rest = value.split("\n")
        colour = next((name for kind, name in _COLOURS if token in kind), "")
        rows[-1].append(Piece(first, colour))
        rows.extend([Piece(text, colour)] for text in rest)
    told = ["".join(piece.text for piece in row) for row in rows]
    if told != [line.text[1:] for line in group]:  # a lexer that loses a character is not believed
        rows = [[Piece(line.text[1:])] for line in group]
    for line, row in zip(group, rows, strict=True):
        yield _with(line, row)


def _with(line: Line, pieces: list[Piece]) -> Line:
    shown = tuple(each for piece in pieces for each in _visible(piece) if each.text)
    return Line(line.kind, line.text, line.old, line.new, shown)


def _visible(piece: Piece) -> Iterator[Piece]:
    start = 0
    for at, char in enumerate(piece.text):
        if _odd(char):
            yield Piece(piece.text[start:at], piece.colour)
            yield Piece(f"U+{ord(char):04X}", "odd")
            start = at + 1
    yield Piece(piece.text[start:], piece.colour)


def _odd(char: str) -> bool:
    if char == "\t" or " " <= char <= "~":
        return False
    return unicodedata.category(char) in _ODD_CATEGORIES or char in _BLANK_LETTERS
