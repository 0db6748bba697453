"""The phrases of phrases.toml as regular expressions, and the one form in which messages meet them.

Knows how people write; not what Regrow does about it (that is intents.py).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import resources

HIDDEN = "\ufffc"
"""Stands for quoted words: no pattern covers it."""

Peelers = tuple[re.Pattern[str], re.Pattern[str]]

# Gaps and marks never give back what they took: a message of ten thousand blanks costs no more than one of ten.
_GAP = r"[\s,、]*+"
_BLANKS = r"[ \t]*+"
_EDGE = r"(?![a-z0-9_.+/-])"
_SLOTS = {
    "number": r"(?:#|no\.?|第)?\s?(?P<number>\d{1,9})\s?(?:号|#)?(?![a-z0-9_.])",
    "hashed": r"#(?P<hashed>\d{1,9})(?![a-z0-9_])",
    "lines": r"(?P<lines>\d{1,6}|[一二三四五六七八九十百千两]{1,6})",
    "span": r"(?P<amount>\d{1,5}|半个?|[一二三四五六七八九十百两]{1,5}|an?|half an|few)?\s?个?"
    r"(?P<unit>秒|分|小时|钟头|天|s|sec|m|min|h|hr|hour|d|day|second|minute)s?(?:钟)?(?![a-z])",
    "code": r"(?P<code>[a-hj-np-z2-9]{6})(?![a-z0-9_])",
    "who": r"(?P<who>[a-z0-9][a-z0-9_.-]{0,40}|[\u3400-\u9fff]{2,8})",
    "bug": r"(?P<bug>\S(?s:.*))",
    "mark": r"[:,\n。—-]++",
}
_INLINE = re.compile(
    r'"[^"\n]*"|“[^”\n]*”|「[^」\n]*」|『[^』\n]*』|«[^»\n]*»|‘[^’\n]*’|`[^`\n]*`'
    r"|(?<!\w)'[^'\n]*'(?!\w)"
)
_NAME = re.compile(r"[A-Za-z0-9._/-]*[0-9/._-][A-Za-z0-9._/-]*|main|master|dev|develop")
_LOG_LINE = re.compile(
    r"^\s*(?:\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d:\d\d|traceback \(|file \"|[\w.]*(?:error|exception):|at \S+\("
    r"|\[?(?-i:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
    r"|(?:log|logs|system|assistant|user|日志|系统)\s*[:：]|[$%] )",
    re.IGNORECASE,
)
_FULL_WIDTH = str.maketrans("，。．！？；：’\u3000", ",..!?;:' ")
# Sentence marks and emoji, and the slash of "/restart"; not what begins an item of a list, a heading or a comment.
_MARKS = r"[\s,.;:!~…、\ufe0f\u200d\U0001f000-\U0001faff]"
_TRIMMED = re.compile(rf"\A{_MARKS}*+(?:/(?=\w))?|{_MARKS}+\Z")


def literal(word: str) -> str:
    """A word as a regular expression: Latin words have edges, Chinese ones have none."""
    body = r"[\s,]*".join(re.escape(part) for part in re.split(r"[\s,]+", word) if part)
    first = r"(?<![a-z0-9_])" if re.match(r"[a-z0-9]", word) else ""
    return first + body + (r"(?![a-z0-9_])" if re.search(r"[a-z0-9]\Z", word) else "")


def looks_like_log(line: str) -> bool:
    """Whether a line was printed by a program, not written by a person."""
    return bool(_LOG_LINE.match(line))


def trim(clause: str) -> str:
    """The clause without punctuation and emoji at its ends; a question mark stays."""
    return _TRIMMED.sub("", clause)


def peel(clause: str, peelers: Peelers) -> Iterator[str]:
    """The clause, and then with more and more politeness taken off: from the end, then from the front."""
    clause = trim(clause)
    yield clause
    for peeler in reversed(peelers):
        for _ in range(8):
            shorter = trim(peeler.sub("", clause, count=1))
            if not shorter or shorter == clause:
                break
            clause = shorter
            yield clause


class Phrases:
    """phrases.toml, compiled.

    Attributes:
        patterns: for each intent's name the patterns of which one must cover a whole clause.
        prefixes: what stands before the text of a bug, with a separator.
        openings: whole messages that hold the text of a bug; `loose` ones only perhaps.
        reports: how a fault is told of without asking for a repair.
        unclear: phrases with several meanings, and the names of the intents they may mean.
        answers: bare answers to a question, and whether each is a yes.
        politeness, ability, wondering: what is peeled off a command, a request put as a question, and a thought.
    """

    def __init__(self) -> None:
        data = tomllib.loads(resources.files("regrow").joinpath("phrases.toml").read_text("utf-8"))
        self._simplified = {ord(pair[0]): pair[1] for pair in data["traditional"].split()}
        self._words = {name: [*lists["zh"], *lists["en"]] for name, lists in data["words"].items()}
        kinds = ("restart", "build", "deploy", "repair", "rollback")
        barred, branches = self._either("notref"), self._either("branch")
        roles = ("viewer", "operator", "maintainer", "owner")
        self._slots = _SLOTS | {
            "role": "(?:" + "|".join(f"(?P<role_{role}>{self._either(role)})" for role in roles) + ")",
            "kind": "(?:" + "|".join(f"(?P<kind_{kind}>{self._either(kind)})" for kind in kinds) + ")",
            "data": f"(?P<data>{self._either('withdata')})",
            "fault": rf"(?P<bug>\S(?s:.*)(?:{self._either('bug')}))",
            "anyref": rf"(?P<anyref>(?!(?:{barred}){_EDGE})[a-z0-9][a-z0-9._/+-]{{0,99}}){_EDGE}",
            # A version, a release, a commit, a branch that is known or has the form of one: never just a word, for
            # "deploy failed" and "deploy later" are no requests.
            "ref": rf"(?<![a-z0-9_./-])(?P<ref>(?!(?:{barred}){_EDGE})(?:v?\d+(?:\.\d+)+(?:[-+.][0-9a-z.-]*[0-9a-z])?"
            rf"|[rv]\d{{1,9}}|[0-9a-f]{{7,40}}|{branches}|head[~^]\d*"
            rf"|(?=[a-z0-9._/-]*[a-z])[a-z0-9]+(?:[-_./][a-z0-9]+)+)){_EDGE}",
        }
        repair = data["intents"].pop("repair")
        self.patterns = {
            name: [self._compile(pattern, _GAP) for pattern in entry["patterns"]]
            for name, entry in data["intents"].items()
        }
        self.prefixes, self.openings, self.loose, self.reports = (
            [self._compile(pattern, _BLANKS) for pattern in repair[part]]
            for part in ("prefixes", "openings", "loose", "reports")
        )
        self.unclear: dict[str, list[str]] = {
            phrase: entry["candidates"] for entry in data["unclear"] for phrase in entry["phrases"]
        }
        self.answers = dict.fromkeys(data["answers"]["yes"], True) | dict.fromkeys(data["answers"]["no"], False)
        self.politeness = self._front("before", "complaint"), self._end("after")
        self.ability = self._front("before", "ability"), self._end("after", "ability_after")
        self.wondering = (
            self._front("before", "ability", "wondering"),
            self._end("after", "ability_after", "wondering_after"),
        )
        self.polite, self.blocker, self.buggy, self.retract, self.postpone, self.relative = (
            re.compile(self._either(name)) for name in ("polite", "blocker", "buggy", "retract", "postpone", "relative")
        )
        moments = {when: self._either(when) for when in ("idle", "force")}
        self._moments = {
            when: re.compile(rf"\A(?:{words})[\s,]*|[\s,]*(?:{words})\Z") for when, words in moments.items()
        }
        self.verbs = {kind: re.compile(self._either(kind)) for kind in kinds}

    def plain(self, prose: str) -> str:
        """As many characters in the one form: simplified, lower case, half width, quotations and log lines hidden."""
        lines = (" " * len(line) if looks_like_log(line) else line for line in prose.split("\n"))
        text = _INLINE.sub(self._hide, "\n".join(lines))
        return "".join(map(self._fold, text)).translate(_FULL_WIDTH).translate(self._simplified)

    def moment(self, clause: str) -> tuple[str, str]:
        """When something is to be done ("idle", "force" or ""), and the clause without the words that say so."""
        trimmed = trim(clause)
        for when, pattern in self._moments.items():
            rest = pattern.sub("", trimmed, count=1)
            if rest != trimmed:
                return when, rest
        return "", clause

    @staticmethod
    def _hide(match: re.Match[str]) -> str:
        inner = match[0][1:-1]  # quoted words are about something; only a quoted name stays: deploy `main`
        return f" {inner} " if _NAME.fullmatch(inner) else HIDDEN * len(match[0])

    @staticmethod
    def _fold(character: str) -> str:
        if "\uff01" <= character <= "\uff5e":
            character = chr(ord(character) - 0xFEE0)
        if not character.isprintable() and character != "\n":
            return " "
        lower = character.lower()
        return lower if len(lower) == 1 else character

    def _either(self, name: str) -> str:
        return "|".join(literal(word) for word in sorted(self._words[name], key=len, reverse=True))

    def _front(self, *names: str) -> re.Pattern[str]:
        return re.compile(rf"\A(?:{'|'.join(map(self._either, names))})[\s,.;:!~]*+")

    def _end(self, *names: str) -> re.Pattern[str]:
        return re.compile(rf"(?:{'|'.join(map(self._either, names))})[\s,.;:!~]*+\Z")

    def _compile(self, pattern: str, gap: str) -> re.Pattern[str]:
        parts = [gap]
        for piece in re.findall(r"<\w+>|\{\w+\}|[\[\]()|?]|\s+|[^<>{}\[\]()|?\s]+", pattern):
            if piece[0] == "<":
                parts.append(f"(?:{self._either(piece[1:-1])})")
            elif piece[0] == "{":
                parts.append(self._slots[piece[1:-1]])
            elif piece.isspace():
                parts.append(gap)
            elif piece in "[]()|?":
                parts.append({"[": "(?:", "]": ")?", "(": "(?:"}.get(piece, piece))
            else:
                parts.append(literal(piece))
        return re.compile("".join(parts) + gap)


@cache
def phrases() -> Phrases:
    """The one set of phrases, compiled when first asked for (about 0.3 s)."""
    return Phrases()
