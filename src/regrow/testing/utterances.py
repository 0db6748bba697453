"""Labelled utterances, and how well a reader of messages does on them.

A line of a file is one JSON object: `text`, the `intent` and `args` asked for ("none" and nothing where nothing may be
started), the `lang` of the answer; and where needed `services` under care with the `service` named, the `kind` of a
text that asks for nothing (question, mention, negation, postponement, hypothesis, quotation, log, injected,
chatter, doubt),
in `doubt` what a colleague would ask back about, and in `also` intents that are as right (releases for history).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.intents import TABLE, Intent, Request
from regrow.understanding import understand


@dataclass(frozen=True)
class Utterance:
    """One labelled text; the fields are those of a line."""

    text: str
    intent: Intent
    args: dict[str, Any]
    lang: str
    kind: str = ""
    doubt: frozenset[Intent] = frozenset()
    services: tuple[str, ...] = ()
    service: str = ""
    also: frozenset[Intent] = frozenset()

    def right(self, request: Request) -> bool:
        """Whether it was understood: intent, service, language, and every argument.

        The words about a bug are right when they hold the labelled ones and stand in the text as they are: nothing
        lost, nothing invented.
        """
        if request.intent not in {self.intent, *self.also} or request.language != self.lang:
            return False
        if self.intent is Intent.none:
            return True
        given: dict[str, Any] = json.loads(json.dumps(request.args.given()))
        wanted = dict(self.args)
        bug, core = given.pop("bug", ""), wanted.pop("bug", "")
        return given == wanted and core in bug and bug in self.text and request.service == self.service

    def read(self, reader: Callable[..., Request] = understand) -> Request:
        """What the reader makes of it, said to Regrow."""
        return reader(self.text, services=self.services)


def utterances(path: Path) -> list[Utterance]:
    """The utterances of a file, in its order."""
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        Utterance(
            text=row["text"],
            intent=Intent(row["intent"]),
            args=row["args"],
            lang=row["lang"],
            kind=row.get("kind", ""),
            doubt=frozenset(map(Intent, row.get("doubt", ()))),
            services=tuple(row.get("services", ())),
            service=row.get("service", ""),
            also=frozenset(map(Intent, row.get("also", ()))),
        )
        for row in rows
    ]


@dataclass(frozen=True)
class Score:
    """How a set was understood.

    Attributes:
        utterances: how many.
        false_actions: texts by which something with an effect was started that is not what they ask for, arguments
            included, with what was started.
        missed: texts that ask for something and were not understood, with the intent asked for.
        recall: the share understood of each intent, from 0 to 1; `recall_of_all` of all that ask for something.
        met: the share of those that were understood, or asked back about with the right intent among the choices.
        asked: of the texts in real doubt, the share that was asked back about, from 0 to 1; 1 without such texts.
        silly: the share of texts that ask for nothing, and are in no doubt, that were answered or asked back about.
    """

    utterances: int
    false_actions: tuple[tuple[str, Intent], ...]
    missed: tuple[tuple[str, Intent], ...]
    recall: dict[Intent, float]
    recall_of_all: float
    met: float
    asked: float
    silly: float


def has_effect(request: Request) -> bool:
    """Whether carrying a request out would change anything."""
    return request.intent is not Intent.none and TABLE[request.intent].effect


def score(rows: Iterable[Utterance], reader: Callable[..., Request] = understand) -> Score:
    """Read all of them and count."""
    read = [(row, row.read(reader)) for row in rows]
    total = Counter(row.intent for row, _ in read)
    found = Counter(row.intent for row, request in read if row.right(request))
    unsure = [bool(row.doubt & set(request.doubt)) for row, request in read if row.doubt]
    idle = [
        request.intent is not Intent.none or bool(request.doubt)
        for row, request in read
        if row.intent is Intent.none and not row.doubt
    ]
    met = [row.right(request) or row.intent in request.doubt for row, request in read if row.intent is not Intent.none]
    return Score(
        utterances=len(read),
        false_actions=tuple(
            (row.text, request.intent) for row, request in read if has_effect(request) and not row.right(request)
        ),
        missed=tuple(
            (row.text, row.intent) for row, request in read if row.intent is not Intent.none and not row.right(request)
        ),
        recall={intent: found[intent] / total[intent] for intent in total if intent is not Intent.none},
        recall_of_all=sum(count for intent, count in found.items() if intent is not Intent.none)
        / max(1, sum(count for intent, count in total.items() if intent is not Intent.none)),
        met=sum(met) / len(met) if met else 1.0,
        asked=sum(unsure) / len(unsure) if unsure else 1.0,
        silly=sum(idle) / len(idle) if idle else 0.0,
    )
