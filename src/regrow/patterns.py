"""Patterns of words, matched against a text without trying twice: the engine under phrases.py.

A text is scanned once for all words that are known (a trie); a pattern is then walked over positions, each part of it
once per position. So neither a long text nor a pattern with many choices costs more than its size, and nothing has to
be compiled when the daemon starts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

Captures = tuple[tuple[str, str], ...]
Ends = dict[int, Captures]
_GAP = re.compile(r"[\s,、]*+")
_TOKENS = re.compile(r"<\w+>|\{\w+\}|[\[\]()|?]|\s+|[^<>{}\[\]()|?\s]+")
# Sentence marks and emoji; not what begins an item of a list, a heading or a comment, and no emoji that says no.
MARK = r"(?:(?![👎❌🚫⛔🛑🙅✋✖❎])[\s,.;:!~…、\ufe0f\u200d\u2600-\u27bf\U0001f000-\U0001faff])"
MARKS, MARKS_LAST = re.compile(rf"{MARK}*+"), re.compile(rf"{MARK}+\Z")
_END = ""  # the key of a trie's node that holds the names of the lists whose word ends here


class Words:
    """Lists of words by name, as a trie. A blank within a word is any blanks or commas, also none."""

    def __init__(self) -> None:
        self._root: dict[str, object] = {}

    def add(self, name: str, words: Iterable[str]) -> None:
        """Add words to the list of that name."""
        for word in words:
            node = self._root
            for character in re.sub(r"[\s,]+", " ", word.strip()):
                node = node.setdefault(character, {})  # type: ignore[assignment]
            node.setdefault(_END, set()).add(name)  # type: ignore[attr-defined]

    def at(self, text: str, start: int) -> dict[str, list[int]]:
        """For each list the ends of its words that begin at a position, the longest first. Latin words have edges."""
        found: dict[str, set[int]] = {}
        if start and _latin(text, start) and _latin(text, start - 1, "_"):
            return {}
        places: list[tuple[dict[str, object], int]] = [(self._root, start)]
        while places:
            node, at = places.pop()
            names = node.get(_END)
            if names and not (at < len(text) and _latin(text, at - 1) and _latin(text, at, "_")):
                for name in names:  # type: ignore[attr-defined]
                    found.setdefault(name, set()).add(at)
            if at < len(text) and (child := node.get(text[at])) is not None and text[at] != " ":
                places.append((child, at + 1))  # type: ignore[arg-type]
            if (child := node.get(" ")) is not None:
                places.append((child, _GAP.match(text, at).end()))  # type: ignore[arg-type, union-attr]
        return {name: sorted(ends, reverse=True) for name, ends in found.items()}


def _latin(text: str, at: int, also: str = "") -> bool:
    return "a" <= text[at] <= "z" or "0" <= text[at] <= "9" or text[at] == also


@dataclass
class Scan:
    """A text, and which words are where in it.

    Args:
        text: in the one form of phrases.py.
        words: what is known.
    """

    text: str
    words: Words
    _at: dict[int, dict[str, list[int]]] = field(default_factory=dict)
    _memo: dict[tuple[int, int], Ends] = field(default_factory=dict)

    def at(self, start: int) -> dict[str, list[int]]:
        """The words that begin at a position: their ends by the list's name."""
        if start not in self._at:
            self._at[start] = self.words.at(self.text, start) if start < len(self.text) else {}
        return self._at[start]

    def present(self, start: int, stop: int) -> set[str]:
        """The names of all lists of which a word lies between two positions."""
        return {name for position in range(start, stop) for name, ends in self.at(position).items() if ends[-1] <= stop}

    def gap(self, start: int) -> int:
        """The end of blanks and commas."""
        match = _GAP.match(self.text, start)
        return match.end() if match else start

    def after(self, start: int, stop: int, names: frozenset[str]) -> list[int]:
        """Every position that words of these lists lead to from the start, any number of them, with marks between."""
        reached, places = {start}, [start]
        while places:
            for name, ends in self.at(places.pop()).items():
                if name in names:
                    for end in (self._marks(end, stop) for end in ends if end <= stop):
                        if end not in reached:
                            reached.add(end)
                            places.append(end)
        return sorted(reached)

    def before(self, start: int, stop: int, names: frozenset[str]) -> list[int]:
        """Every position from which words of these lists lead to the stop, any number of them, the last one first."""
        begin: dict[int, set[int]] = {}
        for at in range(start, stop):
            for name, ends in self.at(at).items():
                if name in names:
                    for end in ends:
                        begin.setdefault(self._marks(end, stop), set()).add(at)
        reached, places = {stop}, [stop]
        while places:
            for at in begin.get(places.pop(), ()):
                # Marks before the words belong to nothing.
                end = start + len(MARKS_LAST.sub("", self.text[start:at]))
                for place in {at, end} - reached:
                    reached.add(place)
                    places.append(place)
        return sorted(reached, reverse=True)

    def covered(self, start: int, stop: int, names: frozenset[str]) -> bool:
        """Whether words of these lists, and marks, are all there is."""
        return stop in self.after(self._marks(start, stop), stop, names)

    def _marks(self, at: int, stop: int) -> int:
        match = MARKS.match(self.text, at, stop)
        return match.end() if match else at

    def match(self, part: Part, start: int) -> Ends:
        """Where a part of a pattern may end that begins at a position, with what it captured; remembered."""
        key = id(part), start
        if key not in self._memo:
            self._memo[key] = part.ends(self, start)
        return self._memo[key]


class Part:
    """A part of a pattern.

    Attributes:
        needs: names of lists of which at least one must be present for a match; empty when none is sure to be.
    """

    needs: frozenset[str] = frozenset()

    def ends(self, scan: Scan, start: int) -> Ends:
        """Where a match that begins at `start` may end, and what it captured."""
        raise NotImplementedError


class Word(Part):
    """A word of a list; with `capture`, its text is captured under that name."""

    def __init__(self, name: str, capture: str = "") -> None:
        self.name, self.capture, self.needs = name, capture, frozenset({name})

    def ends(self, scan: Scan, start: int) -> Ends:
        found = scan.at(start).get(self.name, ())
        return {end: ((self.capture, scan.text[start:end]),) if self.capture else () for end in found}


class Slot(Part):
    """A value found by a regular expression, with its groups captured; `shorter` also tries its beginnings."""

    def __init__(self, regex: str, shorter: int = 0) -> None:
        self._regex, self._shorter = re.compile(regex), shorter

    def ends(self, scan: Scan, start: int) -> Ends:
        match = self._regex.match(scan.text, start)
        if match is None:
            return {}
        values = tuple((name, value) for name, value in match.groupdict().items() if value is not None)
        found = {match.end(): values}
        if self._shorter and not match[0].isascii():
            for end in range(match.end() - 1, start + self._shorter - 1, -1):
                found[end] = tuple((name, scan.text[start:end]) for name, _ in values)
        return found


class Choice(Part):
    """One of several; `optional`, also none."""

    def __init__(self, parts: list[Part], *, optional: bool = False) -> None:
        self._parts, self._optional = parts, optional
        if not optional and all(part.needs for part in parts):
            self.needs = frozenset().union(*(part.needs for part in parts))

    def ends(self, scan: Scan, start: int) -> Ends:
        found: Ends = {}
        for part in self._parts:
            for end, values in scan.match(part, start).items():
                found.setdefault(end, values)
        if self._optional:
            found.setdefault(start, ())
        return found


class Sequence(Part):
    """One after the other, with blanks and commas between them."""

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        self.needs = min((part.needs for part in parts if part.needs), key=len, default=frozenset())

    def ends(self, scan: Scan, start: int) -> Ends:
        places: Ends = {start: ()}
        for part in self._parts:
            following: Ends = {}
            # From right to left, so that what stands before takes as much as it can.
            for at in sorted(places, reverse=True):
                begin = scan.gap(at)
                for end, values in scan.match(part, begin).items():
                    # A part that matched nothing leaves the blanks before it.
                    following.setdefault(at if end == begin else end, places[at] + values)
            places = following
            if not places:
                break
        return places


def parse(pattern: str, named: Callable[[str], Part], slots: Mapping[str, Part], words: Words) -> Part:
    """A pattern of phrases.toml as parts.

    Args:
        pattern: as described at the head of that file.
        named: what <name> stands for.
        slots: what {name} stands for.
        words: where words that stand in the pattern itself are added.
    """
    pieces = [piece for piece in _TOKENS.findall(pattern) if not piece.isspace()]
    at = 0

    def literal(phrases: list[str]) -> Part:
        name = "=" + "|".join(phrases)
        words.add(name, phrases)
        return Word(name)

    def choice(closing: str) -> Part:
        nonlocal at
        literals: list[str] = []  # options that are nothing but words: one list, looked up at once
        options: list[Part] = []
        parts: list[Part | str] = []

        def end() -> None:
            if parts and all(isinstance(part, str) for part in parts):
                literals.append(" ".join(map(str, parts)))
            else:
                options.append(sequence([literal([part]) if isinstance(part, str) else part for part in parts]))
            parts.clear()

        while at < len(pieces) and pieces[at] != closing:
            piece = pieces[at]
            at += 1
            if piece == "|":
                end()
            elif piece == "[":
                parts.append(Choice([choice("]")], optional=True))
                at += 1
            elif piece == "(":
                parts.append(choice(")"))
                at += 1
            elif piece == "?":
                last = parts[-1]
                parts[-1] = Choice([literal([last]) if isinstance(last, str) else last], optional=True)
            elif piece[0] == "<":
                parts.append(named(piece[1:-1]))
            elif piece[0] == "{":
                parts.append(slots[piece[1:-1]])
            else:
                parts.append(piece)
        end()
        if literals:
            options.append(literal(literals))
        return options[0] if len(options) == 1 else Choice(options)

    def sequence(parts: list[Part]) -> Part:
        return parts[0] if len(parts) == 1 else Sequence(parts)

    return choice("")
