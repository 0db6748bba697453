"""A message taken apart: the person's own words, what they show with them, and the services they name.

What a program has printed, what is quoted and what stands in a fenced block is shown, not said: it is kept as evidence
and never read as a wish.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from regrow.intents import Args
from regrow.phrases import Phrases, looks_like_log

_FENCE = re.compile(r"(`{3,}|~{3,})((?s:.*?))(?:\1|\Z)")
_MENTION = re.compile(r"\s*(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+(?=\s)|<at\b[^>]*>[^<]*</at>)[\s,:]*")
_MENTION_LAST = re.compile(r"\s+(?:@(?!all\b)[A-Za-z0-9_.-]+|@(?!所有人)\S+|<at\b[^>]*>[^<]*</at>)\s*\Z")
_UNSEEN = re.compile("[\u00ad\u034f\u180e\u200b-\u200f\u2060-\u2064\ufe00-\ufe0f\ufeff]")
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Message:
    """A message taken apart. Positions are those of `plain`.

    Attributes:
        prose: the person's own words as written.
        origin: for each position, and the end, where it is in `prose`: characters that nobody sees are left out.
        plain: the words in the one form of phrases.py; names of services are blanks.
        pronoun: `plain` with a pronoun in the place of the services; the same when none is named.
        start, end: where the words begin and end, without blanks and mentions at either side.
        stop: where they end with a mention, which may belong to the words about a bug.
        services: the services named.
        shown: the script and the evidence shown with the words.
        trusted: False where the words come after something a program has printed, or look on a screen as they do not
            read: they may be asked about, never acted on.
        pasted: whether something a program has printed stands among the words.
    """

    prose: str
    origin: tuple[int, ...]
    plain: str
    pronoun: str
    start: int
    end: int
    stop: int
    services: tuple[str, ...]
    shown: Args
    trusted: bool
    pasted: bool

    @classmethod
    def read(cls, text: str, known: Phrases, services: Iterable[str]) -> Message:
        """Take a message apart, of any length and content."""
        prose, shown = _separate(text)
        seen, origin = _visible(prose)
        plain = pronoun = known.plain(seen)
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
        printed = any(map(looks_like_log, seen[:start].split("\n")))
        trusted = not printed and not _TURNED.search(text)
        pasted = any(map(looks_like_log, seen.split("\n")))
        return cls(prose, origin, plain, pronoun, start, end, stop, tuple(named), shown, trusted, pasted)

    @property
    def clause(self) -> str:
        """The words in the one form."""
        return self.plain[self.start : self.end]

    @property
    def written(self) -> str:
        """The words as written."""
        return self.verbatim(self.start, self.end)

    def verbatim(self, start: int, stop: int) -> str:
        """What was written between two positions, character for character."""
        return self.prose[self.origin[start] : self.origin[stop]]


def _visible(prose: str) -> tuple[str, tuple[int, ...]]:
    """The text without characters that nobody sees, and where each of its positions was."""
    if not _UNSEEN.search(prose):
        return prose, tuple(range(len(prose) + 1))
    kept = [at for at, character in enumerate(prose) if not _UNSEEN.match(character)]
    return "".join(prose[at] for at in kept), (*kept, len(prose))


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
