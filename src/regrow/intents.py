"""What a message asks for: the table of intents, and a grammar that finds them in Chinese and English.

The grammar starts an action only when a pattern of phrases.toml covers the *whole* message, after politeness is peeled
off. Everything else a message can be (a question about an action, a negation, a postponement, a report, a quotation, a
pasted log) fails to be covered and starts nothing; no list of exceptions has to be complete for that. Such lists only
decide between silence and asking back (`Request.doubt`). There is no model, no network and no state here.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from functools import cache
from importlib import resources
from typing import Any, Literal

from regrow.permissions import Role

Language = Literal["zh", "en"]


class Intent(StrEnum):
    """What a message can ask for; `none` is a message that is not for Regrow."""

    restart = "restart"
    build = "build"
    deploy = "deploy"
    repair = "repair"
    rollback = "rollback"
    status = "status"
    logs = "logs"
    releases = "releases"
    history = "history"
    job = "job"
    cancel = "cancel"
    approve = "approve"
    reject = "reject"
    undo = "undo"
    keep = "keep"
    doctor = "doctor"
    help = "help"
    none = "none"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        intent: what is asked for.
        role: the least role that may ask.
        effect: whether carrying it out changes anything at all, a job's course included.
        changes_service: whether the running service may be another one afterwards.
        confirm: whether the person is asked "really?" before a job is made.
        title: catalogue key of the one-line description.
        example: catalogue key of one sentence that asks for it.
    """

    intent: Intent
    role: Role
    effect: bool = False
    changes_service: bool = False
    confirm: bool = False

    @property
    def title(self) -> str:
        return f"intents.{self.intent}.title"

    @property
    def example(self) -> str:
        return f"intents.{self.intent}.example"


# Operators keep it running, maintainers change what runs. A rollback may concern data (F21), so it is confirmed.
TABLE: Mapping[Intent, Row] = {
    row.intent: row
    for row in (
        Row(Intent.restart, Role.operator, effect=True, changes_service=True),
        Row(Intent.build, Role.maintainer, effect=True),
        Row(Intent.deploy, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.repair, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.rollback, Role.operator, effect=True, changes_service=True, confirm=True),
        Row(Intent.status, Role.viewer),
        Row(Intent.logs, Role.operator),
        Row(Intent.releases, Role.viewer),
        Row(Intent.history, Role.viewer),
        Row(Intent.job, Role.viewer),
        Row(Intent.cancel, Role.operator, effect=True),
        Row(Intent.approve, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.reject, Role.maintainer, effect=True),
        Row(Intent.undo, Role.maintainer, effect=True, changes_service=True, confirm=True),
        Row(Intent.keep, Role.maintainer, effect=True),
        Row(Intent.doctor, Role.operator),
        Row(Intent.help, Role.viewer),
    )
}
ROLES: Mapping[str, Role] = {intent.value: row.role for intent, row in TABLE.items()}
"""The role each intent needs, for `permissions.Permissions`; settings may override single entries."""


@dataclass(frozen=True)
class Args:
    """What a request says beyond its intent.

    Attributes:
        target: a branch, tag, commit or release as written; "latest" (deploy) and "previous" (rollback) unless named.
        job: a job's number.
        kind: the kind of job named with an answer ("cancel the deploy"): an intent's name.
        lines: how many log lines.
        since: how far back in the log, in seconds.
        bug: the words about a bug, exactly as written.
        reproduction: shell text that shows the bug, from a fenced block marked sh, bash or not at all.
        evidence: other fenced blocks and quoted lines.
    """

    target: str = ""
    job: int | None = None
    kind: str = ""
    lines: int | None = None
    since: float | None = None
    bug: str = ""
    reproduction: str = ""
    evidence: tuple[str, ...] = ()

    def given(self) -> dict[str, Any]:
        """The arguments that were given, as JSON knows them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", ())}


@dataclass(frozen=True)
class Request:
    """A message, understood.

    Attributes:
        intent: what to do; `Intent.none` when nothing is to be started.
        args: the arguments; with one candidate in `doubt`, those it would be started with.
        language: the language to answer in.
        doubt: what the person may have meant, to be asked back; empty with any intent but none. Candidates that answer
            a question (approve, reject, cancel, keep) are only worth asking about while something waits.
        text: the message as it came.
        service: the service named, or "" for the only one.
    """

    intent: Intent
    args: Args
    language: Language
    doubt: tuple[Intent, ...]
    text: str
    service: str = ""


_HIDDEN = "\ufffc"  # stands for quoted words: no pattern covers it
_SERVICE = "\ue000"  # stands for the name of a service: may stand between any words
_LONGEST = 240  # characters; nobody commands in longer sentences, but they describe bugs in them
_GAP = rf"[\s,、{_SERVICE}]*+"
_SLOTS = {
    "number": r"(?:#|no\.?|第|号)?\s?(?P<number>\d{1,9})\s?(?:号|#)?(?![\w.])",
    "hashed": r"#(?P<hashed>\d{1,9})(?!\w)",
    "lines": r"(?P<lines>\d{1,6}|[一二三四五六七八九十百千两]{1,6})",
    "span": r"(?P<amount>\d{1,5}|半个?|[一二三四五六七八九十百两]{1,5}|an?|half an|few)?\s?个?"
    r"(?P<unit>秒|分|小时|钟头|天|s|sec|m|min|h|hr|hour|d|day|second|minute)s?(?:钟)?(?![a-z])",
    "bug": r"(?P<bug>\S(?s:.*))",
    "mark": r"[:,\n。—-]++",
}
_LOG_LINE = re.compile(
    r"^\s*(?:\[?\d{4}-\d\d-\d\d|\[?\d\d:\d\d:\d\d|\[?(?-i:TRACE|DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|FATAL|CRITICAL)\b"
    r"|traceback \(|file \"|[\w.]*(?:error|exception):|at \S+\(|(?:log|logs|system|assistant|user|日志|系统)\s*[:：]|[$%] )",
    re.IGNORECASE,
)
_FENCE = re.compile(r"(`{3,}|~{3,})((?s:.*?))(?:\1|\Z)")
_INLINE = re.compile(r'"[^"\n]*"|“[^”\n]*”|「[^」\n]*」|『[^』\n]*』|«[^»\n]*»|‘[^’\n]*’|`[^`\n]*`|(?<!\w)\'[^\'\n]*\'(?!\w)')
_MENTION = re.compile(r"\s*(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+(?=\s)|<at\b[^>]*>[^<]*</at>)[\s,:]*")
_MENTION_LAST = re.compile(r"\s*(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+|<at\b[^>]*>[^<]*</at>)\s*\Z")
_EDGES = re.compile(rf"\A[^\w#?+@{_HIDDEN}{_SERVICE}-]+|[^\w?+{_HIDDEN}{_SERVICE}]+\Z")
_CLAUSES = re.compile(r"[,;!?\n、~]|\.(?=\s|\Z)|\b(?:and|then|but)\b|但是?")
_SECONDS = {"秒": 1, "s": 1, "分": 60, "m": 60, "小": 3600, "钟": 3600, "h": 3600, "天": 86400, "d": 86400}


class _Grammar:
    """phrases.toml, compiled."""

    def __init__(self) -> None:
        data = tomllib.loads(resources.files("regrow").joinpath("phrases.toml").read_text("utf-8"))
        self.simplified = {ord(a): b for a, b in data["traditional"].split()}
        self._words: dict[str, list[str]] = {
            name: [*lists["zh"], *lists["en"]] for name, lists in data["words"].items()
        }
        kinds = (Intent.restart, Intent.build, Intent.deploy, Intent.repair, Intent.rollback)
        branches, barred = self.either("branch"), self.either("notref")
        edge = r"(?![\w.+/-])"
        self._slots = _SLOTS | {
            "kind": "(?:" + "|".join(f"(?P<kind_{kind}>{self.either(kind)})" for kind in kinds) + ")",
            "anyref": rf"(?P<anyref>(?!(?:{barred}){edge})[a-z0-9][a-z0-9._/+-]{{0,99}}){edge}",
            # A release number, a version, a commit, a branch that is known or has the form of one; never just a word.
            "ref": rf"(?<![\w./-])(?P<ref>(?!(?:{barred}){edge})(?:v?\d+(?:\.\d+)+(?:[-+.][0-9a-z.-]*[0-9a-z])?|[rv]\d{{1,9}}"
            rf"|[0-9a-f]{{7,40}}|{branches}|head[~^]\d*|(?=[a-z0-9._/-]*[a-z])[a-z0-9]+(?:[-_./][a-z0-9]+)+)){edge}",
        }
        repair = data["intents"].pop("repair")
        self.patterns = [
            (Intent(name), [self._compile(pattern, _GAP) for pattern in entry["patterns"]])
            for name, entry in data["intents"].items()
        ]
        self.prefixes = [self._compile(pattern, r"[ \t]*+") for pattern in repair["prefixes"]]
        self.openings = [self._compile(pattern, r"[ \t]*+") for pattern in repair["openings"]]
        self.reports = [self._compile(pattern, r"[ \t]*+") for pattern in repair["reports"]]
        self.unclear = {
            phrase: tuple(Intent(name) for name in entry["candidates"])
            for entry in data["unclear"]
            for phrase in entry["phrases"]
        }
        self.answers = {phrase: True for phrase in data["answers"]["yes"]} | {
            phrase: False for phrase in data["answers"]["no"]
        }
        self.politeness = self._peeler("before", "complaint"), self._peeler("after", last=True)
        self.asking = self._peeler("before", "ability"), self._peeler("after", "ability_after", last=True)
        self.wondering = (
            self._peeler("before", "ability", "wondering"),
            self._peeler("after", "ability_after", "wondering_after", last=True),
        )
        self.polite, self.blocker, self.buggy, self.retract = (
            re.compile(self.either(name)) for name in ("polite", "blocker", "buggy", "retract")
        )
        self.verbs = [(kind, re.compile(self.either(kind))) for kind in kinds]

    def either(self, name: str) -> str:
        return "|".join(_literal(word) for word in sorted(self._words[name], key=len, reverse=True))

    def _peeler(self, *names: str, last: bool = False) -> re.Pattern[str]:
        words = "|".join(self.either(name) for name in names)
        return re.compile(rf"(?:[\s,.;:!~。]|{words})+\Z" if last else rf"\A(?:{words})[\s,.;:!~。]*")

    def _compile(self, pattern: str, gap: str) -> re.Pattern[str]:
        parts = [gap]
        for token in re.findall(r"<\w+>|\{\w+\}|[\[\]()|?]|\s+|[^<>{}\[\]()|?\s]+", pattern):
            if token[0] == "<":
                parts.append(f"(?:{self.either(token[1:-1])})")
            elif token[0] == "{":
                parts.append(self._slots[token[1:-1]])
            elif token.isspace():
                parts.append(gap)
            else:
                parts.append({"[": "(?:", "]": ")?", "(": "(?:"}.get(token) or (token if token in ")|?" else _literal(token)))
        return re.compile("".join(parts) + gap)


def _literal(word: str) -> str:
    """A word as a regular expression: Latin words have edges, Chinese ones have none."""
    body = r"[\s,]*".join(re.escape(part) for part in re.split(r"[\s,]+", word) if part)
    first = r"(?<![a-z0-9_])" if re.match(r"[a-z0-9]", word) else ""
    return first + body + (r"(?![a-z0-9_])" if re.search(r"[a-z0-9]\Z", word) else "")


@cache
def _grammar() -> _Grammar:
    return _Grammar()


def understand(text: str, *, addressed: bool = True, services: Iterable[str] = ()) -> Request:
    """What a message asks for.

    Args:
        text: the message as the channel delivered it, at any length; a leading @mention is ignored.
        addressed: whether the message is for Regrow (a private chat, or a mention of it in a group).
        services: names of the services under care, so that they can be named in a sentence.

    Returns:
        The request. Nothing with an effect unless the whole message is an imperative for exactly that; `doubt` holds
        the candidates when it is likely, but not certain, that something is asked for. Answers are in Chinese when the
        message has Chinese in it or no letters at all, otherwise in English.
    """
    nothing = Request(Intent.none, Args(), _language(text), (), text)
    if not addressed:
        return nothing
    grammar = _grammar()
    prose, found = _separate(text)
    plain, named = _name_services(_plain(prose, grammar), services)
    start, end = _bounds(plain)
    if start == end:
        return nothing
    nothing = replace(nothing, service=named[0] if len(named) == 1 else "")
    repair = _repair(prose, plain, start, end, found, grammar)
    if repair is not None:
        sure, args = repair
        sure = sure and len(named) < 2
        return replace(nothing, intent=Intent.repair if sure else Intent.none, args=args, doubt=() if sure else (Intent.repair,))
    if end - start > _LONGEST:
        return nothing
    clause = plain[start:end]
    unclear = grammar.unclear.get(clause.strip()) or grammar.unclear.get(_trim(clause))
    if unclear is None:
        match = _command(clause, grammar)
        if match is not None and len(named) < 2:
            intent, certain, where = match
            args = _args(intent, where, prose[start:end])
            return replace(nothing, intent=intent if certain else Intent.none, args=args, doubt=() if certain else (intent,))
    return replace(nothing, doubt=unclear or _candidates(clause, grammar))


def yes_or_no(text: str) -> bool | None:
    """Whether a message is a bare yes or no to a question just asked, or None when it is anything else."""
    prose, _ = _separate(text)
    plain = _plain(prose, _grammar())
    start, end = _bounds(plain)
    clause = plain[start:end].strip()
    answers = _grammar().answers
    return answers.get(clause, answers.get(_trim(clause)))


def _language(text: str) -> Language:
    return "en" if re.search(r"[A-Za-z]", text) and not re.search(r"[\u3400-\u9fff]", text) else "zh"


def _separate(text: str) -> tuple[str, Args]:
    """The person's own words, and what they show: fenced blocks and quoted lines."""
    scripts: list[str] = []
    evidence: list[str] = []

    def fence(match: re.Match[str]) -> str:
        tag, newline, body = match[2].partition("\n")
        if not newline or not re.fullmatch(r"\s*[\w+.-]*\s*", tag):
            tag, body = "", match[2]
        body = body.strip("\n").rstrip()
        shell = tag.strip().lower() in ("", "sh", "bash", "shell", "console", "zsh")
        if body.strip():
            (scripts if shell and not any(map(_LOG_LINE.match, body.splitlines())) else evidence).append(body)
        return "\n"

    lines = []
    for line in _FENCE.sub(fence, text).split("\n"):
        if re.match(r"\s*[>＞]", line):
            evidence.append(line.strip().lstrip(">＞").strip())
        else:
            lines.append(line)
    return "\n".join(lines), Args(reproduction="\n".join(scripts), evidence=tuple(filter(None, evidence)))


def _plain(prose: str, grammar: _Grammar) -> str:
    """The same number of characters in one form: simplified, lower case, half width, quotations and logs hidden."""
    lines = [" " * len(line) if _LOG_LINE.match(line) else line for line in prose.split("\n")]
    text = _INLINE.sub(_hide, "\n".join(lines))
    return "".join(map(_fold, text)).translate(grammar.simplified)


def _hide(match: re.Match[str]) -> str:
    """Quoted words are about something. Only a quoted name stays: deploy `main`."""
    inner = match[0][1:-1]
    is_name = re.fullmatch(r"[A-Za-z0-9._/-]*[0-9/._-][A-Za-z0-9._/-]*|main|master|dev|develop", inner)
    return f" {inner} " if is_name else _HIDDEN * len(match[0])


def _fold(character: str) -> str:
    code = ord(character)
    if 0xFF01 <= code <= 0xFF5E:
        character = chr(code - 0xFEE0)
    elif not character.isprintable() and character != "\n":
        return " "
    elif character in "，。．！？；：’\u3000":
        return {"，": ",", "。": ".", "．": ".", "！": "!", "？": "?", "；": ";", "：": ":", "’": "'"}.get(character, " ")
    lower = character.lower()
    return lower if len(lower) == 1 else character


def _name_services(plain: str, services: Iterable[str]) -> tuple[str, list[str]]:
    named = []
    for service in sorted(services, key=len, reverse=True):
        hidden = re.sub(rf"(?<![\w.-]){re.escape(service.lower())}(?![a-z0-9_.-])", _SERVICE * len(service), plain)
        if hidden != plain:
            named.append(service)
            plain = hidden
    return plain, named


def _bounds(plain: str) -> tuple[int, int]:
    """Where the words begin and end, without blanks and mentions at either side."""
    start, end = 0, len(plain)
    while match := _MENTION.match(plain, start):
        start = match.end()
    while start < end and (match := _MENTION_LAST.search(plain, max(start, end - 80), end)):
        end = match.start()
    start += len(plain[start:end]) - len(plain[start:end].lstrip())
    return start, max(start, start + len(plain[start:end].rstrip()))


def _trim(clause: str) -> str:
    return _EDGES.sub("", clause)


def _peel(clause: str, peelers: tuple[re.Pattern[str], re.Pattern[str]]) -> Iterator[str]:
    """The clause, then with more and more politeness taken off either end."""
    first, last = peelers
    clause = _trim(clause)
    yield clause
    for _ in range(8):
        shorter = first.sub("", clause, count=1)
        if shorter == clause or not shorter:
            break
        clause = shorter
        yield clause
    # The end comes off last: an object may look like politeness, politeness never looks like a verb.
    bare = _trim(last.sub("", clause))
    while bare and bare != clause:
        clause = bare
        yield clause
        bare = _trim(first.sub("", clause, count=1)) or clause


def _command(clause: str, grammar: _Grammar) -> tuple[Intent, bool, re.Match[str]] | None:
    """The intent that covers a whole clause, whether that is certain, and the match."""
    asks = clause.rstrip().endswith("?")
    bare = clause.rstrip().rstrip("? ")
    for peelers, certain in ((grammar.politeness, not asks), (grammar.asking, False), (grammar.wondering, None)):
        for text in _peel(bare, peelers):
            for intent, patterns in grammar.patterns:
                for pattern in patterns:
                    if match := pattern.fullmatch(text):
                        kind = certain or (certain is False and bool(grammar.polite.search(clause)))
                        return intent, kind or not TABLE[intent].effect, match
    return None


def _args(intent: Intent, match: re.Match[str], original: str) -> Args:
    """The values of a match; names are taken from the original, where their case is."""
    values = {name: value for name, value in match.groupdict().items() if value is not None}
    target = values.get("ref") or values.get("anyref") or ""
    if target:
        spelled = re.search(re.escape(target), original, re.IGNORECASE)
        target = spelled[0] if spelled else target
    elif intent in (Intent.deploy, Intent.rollback):
        target = "latest" if intent is Intent.deploy else "previous"
    number = values.get("number") or values.get("hashed")
    return Args(
        target=target,
        job=int(number) if number else None,
        kind=next((name.removeprefix("kind_") for name in values if name.startswith("kind_")), ""),
        lines=_number(values["lines"]) if "lines" in values else None,
        since=_number(values.get("amount") or "1") * _SECONDS[values["unit"][0]] if "unit" in values else None,
    )


def _number(text: str) -> Any:
    """12, 十二, 五十, 半, an: as a number."""
    if text.isdecimal():
        return int(text)
    if text.startswith(("半", "half")):
        return 0.5
    digits = {digit: value for value, digit in enumerate("零一二三四五六七八九")} | {"两": 2, "a": 1, "an": 1, "few": 5}
    if text in digits:
        return digits[text]
    total, digit = 0, 0
    for character in text:
        if character in "十百千":
            total += (digit or 1) * {"十": 10, "百": 100, "千": 1000}[character]
            digit = 0
        else:
            digit = digits.get(character, 0)
    return total + digit


def _repair(prose: str, plain: str, start: int, end: int, found: Args, grammar: _Grammar) -> tuple[bool, Args] | None:
    """Whether a repair is certain, and its text word for word; None when none is meant."""
    head = plain[start:end]
    for peelers, asked in ((grammar.politeness, False), (grammar.wondering, True)):
        first, offset = peelers[0], start
        for _ in range(8):
            rest = plain[offset:end]
            match = next((m for pattern in grammar.prefixes if (m := pattern.match(rest))), None)
            if match and (text := prose[offset + match.end() : end].strip(" \t\n,，:：")) or (match and (found.evidence or found.reproduction)):
                sure = not asked or bool(grammar.polite.search(head[: offset - start]))
                return sure and not grammar.retract.search(rest, match.end()), replace(found, bug=text)
            match = next((m for pattern in grammar.openings if (m := pattern.fullmatch(rest))), None)
            if match and not asked and _trim(rest) not in grammar.unclear and (about := _about(match, grammar, found)) is not None:
                return about, replace(found, bug=prose[offset + match.start("bug") : offset + match.end("bug")].strip())
            match = next((m for pattern in grammar.reports if (m := pattern.match(rest))), None)
            if match and not match.string[: match.end()].endswith("?"):
                at = offset + match.start("bug") if "bug" in match.groupdict() else end
                return False, replace(found, bug=prose[at:end].strip())
            peeled = first.match(rest)
            if not peeled or not peeled.end():
                break
            offset += peeled.end()
    return None


def _about(match: re.Match[str], grammar: _Grammar, found: Args) -> bool | None:
    """Whether the words after "fix" are surely a fault: None when they are no object of a repair at all."""
    text = match["bug"]
    if not re.search(r"\w", text) or text.endswith("?") or grammar.retract.search(text) or re.match(r"[了过完好]|中", text):
        return None
    return bool(grammar.buggy.search(text) or found.evidence or found.reproduction) and _HIDDEN not in text


def _candidates(clause: str, grammar: _Grammar) -> tuple[Intent, ...]:
    """What a message that is no plain imperative may still have meant."""
    clauses = [part for part in _CLAUSES.split(clause) if _trim(part)]
    commands = [_command(part, grammar) for part in clauses[:12]]
    hits = dict.fromkeys(command[0] for command in commands if command is not None)
    acting = [intent for intent in hits if TABLE[intent].effect]
    if acting or (hits and None not in commands):
        return tuple(acting or hits)
    if grammar.blocker.search(clause) or len(clause) > 40:
        return ()
    start = list(_peel(clause, grammar.wondering))
    return tuple(kind for kind, verb in grammar.verbs if any(verb.match(text) for text in start))
