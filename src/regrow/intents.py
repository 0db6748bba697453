"""What a message asks for: the table of intents, and a grammar that finds them in Chinese and English.

The grammar starts an action only when a pattern of phrases.toml covers the *whole* message, after politeness is peeled
off. Everything else a message can be (a question about an action, a negation, a postponement, a report, a quotation, a
pasted log) fails to be covered and starts nothing; no list of exceptions has to be complete for that. Such lists only
decide between silence and asking back (`Request.doubt`). There is no model, no network and no state here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any

from regrow.catalogue import Language
from regrow.permissions import Role
from regrow.phrases import HIDDEN, Phrases, looks_like_log, peel, phrases, trim


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
    snapshots = "snapshots"
    snapshot = "snapshot"
    cancel = "cancel"
    approve = "approve"
    reject = "reject"
    undo = "undo"
    keep = "keep"
    doctor = "doctor"
    people = "people"
    admit = "admit"
    dismiss = "dismiss"
    remove = "remove"
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


# Operators keep it running, maintainers change what runs.
TABLE: Mapping[Intent, Row] = {
    row.intent: row
    for row in (
        Row(Intent.restart, Role.operator, effect=True, changes_service=True),
        Row(Intent.build, Role.maintainer, effect=True),
        Row(Intent.deploy, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.repair, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.rollback, Role.operator, effect=True, changes_service=True),
        Row(Intent.status, Role.viewer),
        Row(Intent.logs, Role.operator),
        Row(Intent.releases, Role.viewer),
        Row(Intent.history, Role.viewer),
        Row(Intent.job, Role.viewer),
        Row(Intent.snapshots, Role.viewer),
        Row(Intent.snapshot, Role.operator, effect=True),
        Row(Intent.cancel, Role.operator, effect=True),
        Row(Intent.approve, Role.maintainer, effect=True, changes_service=True),
        Row(Intent.reject, Role.maintainer, effect=True),
        Row(Intent.undo, Role.maintainer, effect=True, changes_service=True, confirm=True),
        Row(Intent.keep, Role.maintainer, effect=True),
        Row(Intent.doctor, Role.operator),
        Row(Intent.people, Role.maintainer),
        Row(Intent.admit, Role.owner, effect=True),
        Row(Intent.dismiss, Role.owner, effect=True),
        Row(Intent.remove, Role.owner, effect=True),
        Row(Intent.help, Role.viewer),
    )
}
ROLES: Mapping[str, Role] = {intent.value: row.role for intent, row in TABLE.items()}
"""The role each intent needs, for `permissions.Permissions`; settings may override single entries."""


@dataclass(frozen=True)
class Args:
    """What a request says beyond its intent.

    Attributes:
        target: a branch, tag, commit or release as written; "latest" (deploy) and "previous" (rollback) unless named;
            the code of a pairing (admit, dismiss), a person (remove).
        role: the role to give (admit).
        name: what to call a person (admit).
        data: whether the data goes back together with the code (rollback, undo).
        snapshot: the number of the snapshot to restore (rollback).
        when: "idle" or "force"; "" for now, in order.
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
    role: str = ""
    name: str = ""
    data: bool = False
    snapshot: int | None = None
    when: str = ""

    def given(self) -> dict[str, Any]:
        """The arguments that were given, as JSON knows them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "", (), False)}


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


_TIMED = frozenset({Intent.restart, Intent.deploy, Intent.rollback})
"""What may be asked for "when idle" or "by force"."""
_LONGEST = 240  # characters; nobody commands in longer sentences, but they describe bugs in them
_FENCE = re.compile(r"(`{3,}|~{3,})((?s:.*?))(?:\1|\Z)")
_MENTION = re.compile(r"\s*(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+(?=\s)|<at\b[^>]*>[^<]*</at>)[\s,:]*")
_MENTION_LAST = re.compile(r"\s+(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+|<at\b[^>]*>[^<]*</at>)\s*\Z")
_CLAUSES = re.compile(r"[,;!?\n、~]|\.(?=\s|\Z)|\b(?:and|then|but|or)\b|但是?|还是")
_SECONDS = {"秒": 1, "s": 1, "分": 60, "m": 60, "小": 3600, "钟": 3600, "h": 3600, "天": 86400, "d": 86400}


def understand(text: str, *, addressed: bool = True, services: Iterable[str] = ()) -> Request:
    """What a message asks for.

    Args:
        text: the message as the channel delivered it, of any length; a leading @mention is ignored.
        addressed: whether the message is for Regrow (a private chat, or a mention of it in a group).
        services: names of the services under care, so that a sentence may name one.

    Returns:
        The request. Nothing with an effect unless the whole message is an imperative for exactly that; `doubt` holds
        the candidates when it is likely, but not certain, that something is asked for. Answers are in Chinese when the
        message has Chinese in it or no letters at all, otherwise in English.
    """
    nothing = Request(Intent.none, Args(), _language(text), (), text)
    if not addressed:
        return nothing
    known = phrases()
    message = _Message.read(text, known, services)
    if not message.written:
        return nothing
    nothing = replace(nothing, service=message.services[0] if len(message.services) == 1 else "")
    one = len(message.services) < 2  # with two names it is not clear whose: ask

    def settle(intent: Intent, args: Args, *, certain: bool) -> Request:
        if certain and one:
            return replace(nothing, intent=intent, args=args)
        return replace(nothing, args=args, doubt=(intent,))

    repair = _repair(message, known)
    if repair is not None:
        return settle(Intent.repair, repair[1], certain=repair[0])
    if message.end - message.start > _LONGEST:
        return nothing
    unclear = known.unclear.get(message.clause.strip()) or known.unclear.get(trim(message.clause))
    if unclear == [Intent.repair]:
        return settle(Intent.repair, message.shown, certain=bool(message.shown.evidence or message.shown.reproduction))
    if unclear:
        return replace(nothing, doubt=tuple(map(Intent, unclear)))
    for clause in dict.fromkeys((message.clause, message.pronoun[message.start : message.end])):
        if command := _command(clause, known):
            intent, certain, match = command
            return settle(intent, _args(intent, match, message.written), certain=certain)
        when, rest = known.moment(clause)
        if when and (command := _command(rest, known)) and command[0] in _TIMED:
            intent, certain, match = command
            return settle(intent, replace(_args(intent, match, message.written), when=when), certain=certain)
    doubt = _candidates(message.clause, known)
    told = replace(message.shown, bug=message.written.strip())
    return replace(nothing, doubt=doubt, args=told if doubt == (Intent.repair,) else Args())


def yes_or_no(text: str) -> bool | None:
    """Whether a message is a bare yes or no to a question just asked, or None when it is anything else."""
    known = phrases()
    message = _Message.read(text, known, ())
    return known.answers.get(message.clause, known.answers.get(trim(message.clause)))


def _language(text: str) -> Language:
    return "en" if re.search(r"[A-Za-z]", text) and not re.search(r"[\u3400-\u9fff]", text) else "zh"


@dataclass(frozen=True)
class _Message:
    """A message taken apart.

    Attributes:
        prose: the person's own words as written.
        plain: the same in the one form, position by position; names of services are blanks.
        pronoun: `plain` with a pronoun in the place of the services; the same when none is named.
        start, end: where the words begin and end, without blanks and mentions at either side.
        stop: where they end with a mention, which may belong to the words about a bug.
        services: the services named.
        shown: the script and the evidence shown with the words.
    """

    prose: str
    plain: str
    pronoun: str
    start: int
    end: int
    stop: int
    services: tuple[str, ...]
    shown: Args

    @classmethod
    def read(cls, text: str, known: Phrases, services: Iterable[str]) -> _Message:
        prose, shown = _separate(text)
        plain = pronoun = known.plain(prose)
        named = []
        for service in sorted(services, key=len, reverse=True):
            name = rf"(?<![a-z0-9_./-]){re.escape(service.lower())}(?![a-z0-9_/-]|\.\w)"
            blank = re.sub(rf"(?:\b(?:on|for|of|in)\s+)?(?:\bthe\s+)?{name}", lambda match: " " * len(match[0]), plain)
            if blank != plain:
                named.append(service)
                plain = blank
                pronoun = re.sub(rf"{name}(?: ?(?:service\b|服务))?", lambda match: "它".ljust(len(match[0])), pronoun)
        start, end = 0, len(plain)
        while match := _MENTION.match(plain, start):
            start = match.end()
        while start < end and (match := _MENTION_LAST.search(plain, max(start, end - 80), end)):
            end = match.start()
        start += len(pronoun[start:end]) - len(pronoun[start:end].lstrip())
        end, stop = (start + len(pronoun[start:at].strip()) for at in (end, len(pronoun)))
        return cls(prose, plain, pronoun, start, end, stop, tuple(named), shown)

    @property
    def clause(self) -> str:
        return self.plain[self.start : self.end]

    @property
    def written(self) -> str:
        return self.prose[self.start : self.end]


def _separate(text: str) -> tuple[str, Args]:
    """The person's own words, and what they show: fenced blocks and quoted lines."""
    scripts: list[str] = []
    evidence: list[str] = []

    def fence(match: re.Match[str]) -> str:
        tag, newline, body = match[2].partition("\n")
        if not newline or not re.fullmatch(r"\s*[\w+.-]*\s*", tag):
            tag, body = "", match[2]
        body = body.strip("\n").rstrip()
        # A block of no language is a script, unless a program has printed it.
        shell = tag.strip().lower() in ("", "sh", "bash", "shell", "zsh")
        if body.strip():
            (scripts if shell and not any(map(looks_like_log, body.splitlines())) else evidence).append(body)
        return "\n"

    lines = []
    for line in _FENCE.sub(fence, text).split("\n"):
        if re.match(r"\s*[>＞]", line):
            evidence.append(line.strip().lstrip(">＞").strip())
        else:
            lines.append(line)
    return "\n".join(lines), Args(reproduction="\n".join(scripts), evidence=tuple(filter(None, evidence)))


def _command(clause: str, known: Phrases) -> tuple[Intent, bool, re.Match[str]] | None:
    """The intent that covers a whole clause, whether that is certain, and the match."""
    bare = clause.rstrip("? ")
    polite = bool(known.polite.search(clause))
    # A plain imperative is certain; put as a question it is when it says please; thinking aloud never is.
    stages = (
        (known.politeness, polite or not clause.endswith("?")),
        (known.ability, polite),
        (known.wondering, False),
    )
    for peelers, certain in stages:
        for text in peel(bare, peelers):
            for name, patterns in known.patterns.items():
                for pattern in patterns:
                    if match := pattern.fullmatch(text):
                        intent = Intent(name)
                        return intent, certain or not TABLE[intent].effect, match
    return None


def _args(intent: Intent, match: re.Match[str], original: str) -> Args:
    """The values of a match; names are taken from the original, where their case is."""
    values = {name: value for name, value in match.groupdict().items() if value is not None}
    target = values.get("ref") or values.get("anyref") or values.get("who") or ""
    if target:
        spelled = re.search(re.escape(target), original, re.IGNORECASE)
        target = spelled[0] if spelled else target
    elif intent in (Intent.deploy, Intent.rollback):
        target = "latest" if intent is Intent.deploy else "previous"
    number = values.get("number") or values.get("hashed")
    return Args(
        target=(values.get("code") or "").upper() or target,
        data="data" in values,
        role=next((name.removeprefix("role_") for name in values if name.startswith("role_")), ""),
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


def _repair(message: _Message, known: Phrases) -> tuple[bool, Args] | None:
    """Whether a repair is certain, and what it is about word for word; None when none is meant."""
    shown = message.shown
    for (front, _), asked in ((known.politeness, False), (known.wondering, True)):
        at = message.start
        for _ in range(8):
            rest = message.plain[at : message.stop]
            if match := _first(known.prefixes, rest, whole=False):
                text = message.prose[at + match.end() : message.stop].strip(" \t\n,，:：")
                if text or shown.evidence or shown.reproduction:
                    polite = known.polite.search(message.plain, message.start, at)
                    sure = (not asked or bool(polite)) and not known.retract.search(rest, match.end())
                    return sure, replace(shown, bug=text)
            if not asked and trim(rest) not in known.unclear and _is_object(rest, known):
                match = _first(known.openings, rest, whole=True)
                sure = match is not None and bool(known.buggy.search(match["bug"])) and _is_plain(match["bug"], known)
                match = match or _first(known.loose, rest, whole=True)
                if match:
                    text = message.prose[at + match.start("bug") : at + match.end("bug")].strip()
                    return sure or bool(shown.evidence or shown.reproduction), replace(shown, bug=text)
            if not rest.endswith("?") and (match := _first(known.reports, rest, whole=False)):
                begin = at + match.start("bug") if "bug" in match.groupdict() else message.stop
                return False, replace(shown, bug=message.prose[begin : message.stop].strip())
            peeled = front.match(rest)
            if peeled is None:
                break
            at += peeled.end()
    return None


def _first(patterns: Iterable[re.Pattern[str]], text: str, *, whole: bool) -> re.Match[str] | None:
    matches = (pattern.fullmatch(text) if whole else pattern.match(text) for pattern in patterns)
    return next((match for match in matches if match), None)


def _is_object(text: str, known: Phrases) -> bool:
    """Whether words after "fix" can be its object, and are no question, no report and not taken back."""
    return not ("?" in text or known.retract.search(text) or re.match(r"\w{1,2}[了过完好中]", text))


def _is_plain(text: str, known: Phrases) -> bool:
    """Whether the words about a fault are nothing but that: no time, no quotation, no second thought, no statement."""
    # "修 bug 好累" speaks of mending; "修 bug: 好累" would be one.
    if (
        HIDDEN in text
        or "," in text
        or known.postpone.search(text)
        or re.match(r"(?:bug|问题|错误|故障) *[\u3400-\u9fff]", text)
    ):
        return False
    head = known.relative.split(text, maxsplit=1)[0]
    return not re.search(r"\b(?:is|was|are|were|has|have|had|will|would|should)\b|[了过]", head)


def _candidates(clause: str, known: Phrases) -> tuple[Intent, ...]:
    """What a message that is no plain imperative may still have meant."""
    clauses = [part for part in _CLAUSES.split(clause) if trim(part)][:12]
    commands = [_command(part, known) for part in clauses]
    hits = dict.fromkeys(command[0] for command in commands if command is not None)
    acting = [intent for intent in hits if TABLE[intent].effect]
    if acting or (hits and None not in commands):
        return tuple(acting or hits)
    if any(known.unclear.get(text) == [Intent.repair] for part in clauses for text in peel(part, known.politeness)):
        return (Intent.repair,)
    if known.blocker.search(clause) or len(clause) > 40:
        return ()
    # Half of what people say begins with "build" or 打包; the other verbs are rare enough to ask about.
    starts = list(peel(clause, known.wondering))
    return tuple(
        Intent(kind)
        for kind, verb in known.verbs.items()
        if kind != "build" and any(verb.match(text) for text in starts)
    )
