"""The phrases of phrases.toml as regular expressions, and the one form in which messages meet them.

Knows how people write; not what Regrow does about it (that is intents.py).
"""

from __future__ import annotations

import re
import tomllib
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from importlib import resources

from regrow.patterns import MARK, Choice, Part, Scan, Slot, Word, Words, parse

HIDDEN = "\ufffc"
"""Stands for quoted words: no pattern covers it."""

# Blanks never give back what they took: a message of ten thousand blanks costs no more than one of ten.
_BLANKS = r"[ \t]*+"
_EDGE = r"(?![a-z0-9_.+/-])"
_SLOTS = {
    "number": r"(?:#|no\.?|第)?\s?(?P<number>\d{1,9})\s?(?:号|#)?(?![a-z0-9_.])",
    "hashed": r"#(?P<hashed>\d{1,9})(?![a-z0-9_])",
    "lines": r"(?P<lines>\d{1,6}|[一二三四五六七八九十百千两]{1,6})",
    "span": r"(?P<amount>\d{1,5}|半个?|[一二三四五六七八九十百两]{1,5}|an?|half an|few)?\s?个?"
    r"(?P<unit>秒|分|小时|钟头|天|s|sec|m|min|h|hr|hour|d|day|second|minute)s?(?:钟)?(?![a-z])",
    "incident": r"(?:#?i-?|#|no\.?|第)?\s?(?P<incident>\d{1,9})\s?(?:号|#)?(?![a-z0-9_.])",
    "inc": r"#i-?(?P<incident>\d{1,9})(?![a-z0-9_])",
    "code": r"(?P<code>[a-hj-np-z2-9]{6})(?![a-z0-9_])",
    "who": r"(?P<who>[a-z0-9][a-z0-9_.-]{0,40}|[\u3400-\u9fff]{2,8})",
    # After a colon anything is a reason; after a blank only Chinese, and nothing that makes a question of it.
    "why": r"(?:[ ,]*:\s*|(?<=[ ,])(?=[\u3400-\u9fff])(?![了的吗么呢过没不是吧])"
    r"(?![^\n]*[吗么呢]\s*$))(?P<why>[^\n?]{1,200})",
    "measure": r"\d[\d.]*\s?(?:%|gib|mib|gb|mb|g|m|k|ms|s|秒|个|倍|percent)?",
    "count": r"(?:\d{1,4}|[一二三四五六七八九十两]{1,3}|two|three|five|ten)",
}
_FREE = {
    "bug": r"(?P<bug>\S(?s:.*))",
    "mark": r"(?:\?[ \t]*+\n|[:,\n。—-])++",
    "lead": r"[^?\n]{1,80}?",
}
KINDS = ("restart", "build", "deploy", "repair", "rollback")
ROLES = ("viewer", "operator", "maintainer", "owner")
_LINES = rf"{_SLOTS['lines']}\s?(?:行|条|lines?|rows|entries)"
_SINCE = _SLOTS["span"]
_INLINE = re.compile(
    r'"[^"\n]*"|“[^”\n]*”|「[^」\n]*」|『[^』\n]*』|«[^»\n]*»|‘[^’\n]*’|`[^`\n]*`'
    r"|(?<!\w)'[^'\n]*'(?!\w)"
)
_NAME = re.compile(r"[A-Za-z0-9._/-]*[0-9/._-][A-Za-z0-9._/-]*|main|master|dev|develop")
_LOG_LINE = re.compile(
    r"^\s*(?:\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d:\d\d|traceback \(|file \"|[\w.]*(?:error|exception):|at \S+\("
    r"|\[?(?-i:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
    r"|(?-i:(?!BUG|FIX|ISSUE|REPAIR|HOTFIX|PLEASE|HELP|URGENT|HEY|OK)[A-Z][A-Z_]{2,}:)"
    r"|(?:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)[a-z]* +\d+ +\d\d:\d\d|\d+/\w+/\d+[ :]\d\d:"
    r"|[\w.-]+=\S+ +[\w.-]+=|[{<]\W*\w|[\w./-]+\[\d+\]:|(?:step|stage) \d+(?:/\d+)? *:"
    r"|(?:\w+ )?(?:logs?|journal|output|stdout|stderr|console|trace|syslog|dmesg)[:：]"
    r"|(?:system|assistant|user|human|tool|bot|from|to|cc|date|subject|forwarded|fwd)\b[^:：\n]{0,20}[:：]"
    r"|\[?(?:日志|系统|系统消息|用户|助手|机器人|输出|控制台|报错信息|转发|转发消息|发件人|收件人|主题|引用"
    r"|forwarded message)\]?\s*[:：\]]"
    r"|\w+ err!|[$%] )",
    re.IGNORECASE,
)
_FULL_WIDTH = str.maketrans("，。．！？；：’\u3000", ",..!?;:' ")
_TRIMMED = re.compile(rf"\A{MARK}*+(?:/(?=\w))?|{MARK}+\Z")


def literal(word: str) -> str:
    """A word as a regular expression: Latin words have edges, Chinese ones have none."""
    body = r"[\s,]*".join(re.escape(part) for part in re.split(r"[\s,]+", word) if part)
    first = r"(?<![a-z0-9_])" if re.match(r"[a-z0-9]", word) else ""
    return first + body + (r"(?![a-z0-9_])" if re.search(r"[a-z0-9]\Z", word) else "")


def _spellings(word: str, often: frozenset[str]) -> Iterator[str]:
    """A word, and how it is mistyped when it is one of those: never without its first letter."""
    yield word
    if word in often:
        for at in range(1, len(word)):
            yield word[:at] + word[at + 1 :]
            yield word[:at] + word[at] + word[at:]
            if at + 1 < len(word):
                yield word[:at] + word[at + 1] + word[at] + word[at + 2 :]


def _slips(words: Iterable[str], alike: Iterable[str], swapped: Iterable[str]) -> Iterator[tuple[str, str]]:
    """How words are mistyped in as many characters, and the word meant: sounds and looks alike, letters swapped."""
    groups = [set(group) for group in alike]
    known = {*words, *swapped}
    for word in words:
        for at, character in enumerate(word):
            for other in set().union(*(group for group in groups if character in group)) - {character}:
                if (spelled := word[:at] + other + word[at + 1 :]) not in known:
                    yield spelled, word
    for word in swapped:
        for at in range(1, len(word) - 1):
            if (spelled := word[:at] + word[at + 1] + word[at] + word[at + 2 :]) not in known:
                yield spelled, word


def looks_like_log(line: str) -> bool:
    """Whether a line was printed by a program, not written by a person."""
    return bool(_LOG_LINE.match(line))


def _said(lines: list[str]) -> Iterator[str]:
    """The lines with those blanked that a program has printed, and those that go on after them without a blank line."""
    printed = False
    for line in lines:
        printed = looks_like_log(line) or (printed and bool(line.strip()))
        yield " " * len(line) if printed else line


def trim(clause: str) -> str:
    """The clause without punctuation and emoji at its ends; a question mark stays."""
    return _TRIMMED.sub("", clause)


@dataclass(frozen=True)
class Sides:
    """What may be taken off a command, as names of lists: at its front and at its end."""

    front: frozenset[str]
    end: frozenset[str]


class Phrases:
    """phrases.toml, read.

    Attributes:
        words: every word and every literal of a pattern, for scanning.
        patterns: for each intent's name the patterns of which one must cover a whole clause.
        moments: for "idle" and "force" the patterns that say so at either side of a command.
        remarks: for each kind of remark the patterns of which one must cover a whole clause.
        spare: how something is said not to be done.
        reads: for each question its anchors, and all lists that may stand around them.
        prefixes: what stands before the text of a bug, with a separator.
        openings: whole messages that hold the text of a bug; `loose` ones only perhaps.
        reports: how a fault is told of without asking for a repair.
        unclear: phrases with several meanings, and the names of the intents they may mean.
        answers: bare answers to a question, and whether each is a yes.
        politeness, ability, wanting, wondering: what is taken off a command, a request put as a question or as
            a wish, and a thought.
    """

    def __init__(self) -> None:
        data = tomllib.loads(resources.files("regrow").joinpath("phrases.toml").read_text("utf-8"))
        self._simplified = {ord(pair[0]): pair[1] for pair in data["traditional"].split()}
        self._slips = dict(_slips(data["slips"], data["alike"], data["swapped"]))
        for word in data["real"]:
            self._slips.pop(word, None)
        self._slip = re.compile(
            "|".join(literal(word) for word in sorted(self._slips, key=lambda word: (-len(word), word)))
        )
        often = frozenset(data["typos"])
        self._words = {
            name: list(
                dict.fromkeys(spelled for word in lists["zh"] + lists["en"] for spelled in _spellings(word, often))
            )
            for name, lists in data["words"].items()
        }
        self.words = Words()
        for name, listed in self._words.items():
            self.words.add(name, listed)
        self._shapes = data["shapes"]
        slots = self._parts()
        self._parsed: dict[str, Part] = {}

        def parts(patterns: list[str]) -> list[Part]:
            return [parse(pattern, named, slots, self.words) for pattern in patterns]

        def named(name: str) -> Part:
            if name in self._parsed:
                return self._parsed[name]
            if name in self._shapes:
                part = parse(self._shapes[name], named, slots, self.words)
            elif name in self._words:
                part = Word(name)
            else:
                raise KeyError(f"cannot read phrases.toml: nothing is named <{name}>")
            self._parsed[name] = part
            return part

        repair = data["intents"].pop("repair")
        self.patterns = {name: parts(entry["patterns"]) for name, entry in data["intents"].items()}
        self.patterns["repair"] = parts(repair["incidents"])
        self.moments = {when: parts(patterns) for when, patterns in data["moments"].items()}
        self.remarks = {kind: parts(patterns) for kind, patterns in data["remarks"].items()}
        self.spare = parts(data["spare"]["patterns"])
        self.reads: dict[str, tuple[str, frozenset[str]]] = {}
        small_talk = {
            "talk",
            "show",
            "it",
            "of",
            "soft",
            "before",
            "after",
            "ability",
            "ability_after",
            "log",
            "while",
            "take",
        }
        for name, lists in data["reads"].items():
            self.words.add(f"{name} anchors", lists["anchors"])
            self.words.add(f"{name} also", lists["also"])
            around = small_talk - ({"log"} if name != "logs" else set())
            self.reads[name] = f"{name} anchors", frozenset(around | {f"{name} anchors", f"{name} also"})
        self.prefixes, self.openings, self.loose, self.reports = (
            [self._compile(pattern) for pattern in repair[part]]
            for part in ("prefixes", "openings", "loose", "reports")
        )
        self.lines, self.span = re.compile(_LINES), re.compile(_SINCE)
        self.unclear: dict[str, list[str]] = {
            phrase: entry["candidates"] for entry in data["unclear"] for phrase in entry["phrases"]
        }
        self.answers = dict.fromkeys(data["answers"]["yes"], True) | dict.fromkeys(data["answers"]["no"], False)
        for phrase, candidates in self.unclear.items():
            for candidate in candidates:
                self.words.add(f"unclear {candidate}", [phrase])
        before, after = {"before", "complaint"}, {"after"}
        self.thanks = re.compile(rf"[\s,.!~]*(?:{self._either('after')})[\s,.!~]*\Z")
        self.politeness = Sides(frozenset(before), frozenset(after))
        self.ability = Sides(frozenset(before | {"ability"}), frozenset(after | {"ability_after"}))
        self.wanting = Sides(frozenset(before | {"wanting"}), frozenset(after))
        self.wondering = Sides(
            frozenset(before | {"ability", "wanting", "wondering"}),
            frozenset(after | {"ability_after", "wondering_after"}),
        )
        self.distress, self.elsewhere = (re.compile(self._either(name)) for name in ("distress", "elsewhere"))
        self.barred, self.loosely, self.unhurried, self.sorry, self.well, self.ill = (
            re.compile("|".join(data["clauses"][name]))
            for name in ("barred", "loose", "unhurried", "regret", "well", "ill")
        )
        self.hints = {name: re.compile("|".join(patterns)) for name, patterns in data["hints"].items()}
        self.veto = self.hints.pop("veto")
        self.acting = frozenset({*KINDS, "cancel", "approve", "reject", "keep", "undo", "pull", "freeze", "unfreeze"})
        self.verbs = frozenset({*KINDS, "cancel", "approve", "reject", "keep", "undo", "pull"})
        self.polite, self.blocker, self.unreal, self.buggy, self.retract, self.postpone, self.relative = (
            re.compile(self._either(name))
            for name in ("polite", "blocker", "unreal", "buggy", "retract", "postpone", "relative")
        )

    def _parts(self) -> dict[str, Part]:
        """What {name} stands for in a pattern."""
        barred, branches = self._either("notref"), self._either("branch")
        refs = {
            "anyref": rf"(?P<anyref>(?!(?:{barred}){_EDGE})[a-z0-9][a-z0-9._/+-]{{0,99}}){_EDGE}",
            # A version, a release, a commit, a branch that is known or has the form of one: never just a word, for
            # "deploy failed" and "deploy later" are no requests.
            "ref": rf"(?<![a-z0-9_./-])(?P<ref>(?!(?:{barred}){_EDGE})(?:v?\d+(?:\.\d+)+(?:[-+.][0-9a-z.-]*[0-9a-z])?"
            rf"|[rv]\d{{1,9}}|[0-9a-f]{{7,40}}|{branches}|head[~^]\d*"
            rf"|(?=[a-z0-9._/-]*[a-z])[a-z0-9]+(?:[-_./][a-z0-9]+)+)){_EDGE}",
        }
        parts: dict[str, Part] = {name: Slot(regex) for name, regex in (_SLOTS | refs).items()}
        parts["who"] = Slot(_SLOTS["who"], shorter=2)
        parts["kind"] = Choice([Word(kind, f"kind_{kind}") for kind in KINDS])
        parts["role"] = Choice([Word(role, f"role_{role}") for role in ROLES])
        parts["data"] = Word("withdata", "data")
        parts["off"] = Word("nomore", "off")
        return parts

    def scan(self, clause: str) -> Scan:
        """A clause in the one form, ready for patterns."""
        return Scan(clause, self.words)

    def plain(self, prose: str) -> str:
        """As many characters in the one form: simplified, lower case, half width, quotations and log lines hidden."""
        text = _INLINE.sub(self._hide, "\n".join(_said(prose.split("\n"))))
        form = "".join(map(self._fold, text)).translate(_FULL_WIDTH).translate(self._simplified)
        return self._slip.sub(lambda match: self._slips[match[0]], form)

    @staticmethod
    def _hide(match: re.Match[str]) -> str:
        inner = match[0][1:-1]  # quoted words are about something; only a quoted name stays: deploy `main`
        return f" {inner} " if _NAME.fullmatch(inner) else HIDDEN * len(match[0])

    @staticmethod
    def _fold(character: str) -> str:
        if character != "\n" and not character.isprintable():
            return " "
        same = unicodedata.normalize("NFKC", character).lower()
        return same if len(same) == 1 else character

    def _either(self, name: str) -> str:
        return "|".join(literal(word) for word in sorted(self._words[name], key=len, reverse=True))

    def _compile(self, pattern: str) -> re.Pattern[str]:
        """A pattern about a bug, whose words may be of any length, as a regular expression."""
        parts = [_BLANKS]
        for piece in re.findall(r"<\w+>|\{\w+\}|[\[\]()|?]|\s+|[^<>{}\[\]()|?\s]+", pattern):
            if piece[0] == "<":
                parts.append(f"(?:{self._either(piece[1:-1])})")
            elif piece[0] == "{":
                parts.append(self._free(piece[1:-1]))
            elif piece.isspace():
                parts.append(_BLANKS)
            elif piece in "[]()|?":
                parts.append({"[": "(?:", "]": ")?", "(": "(?:"}.get(piece, piece))
            else:
                parts.append(literal(piece))
        return re.compile("".join(parts) + _BLANKS)

    def _free(self, name: str) -> str:
        return _FREE[name] if name in _FREE else rf"(?P<bug>\S(?s:.*)(?:{self._either('bug')}))"


@cache
def phrases() -> Phrases:
    """The one set of phrases, read when first asked for."""
    return Phrases()
