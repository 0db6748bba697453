"""Commands in a clause: which intent covers it, with what values, and what may be said around it.

A command counts only when a pattern and what is known to ask for nothing (politeness, reasons, urgency) cover the whole
clause. Everything else fails to be covered; no list of exceptions has to be complete for that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from regrow.intents import TABLE, Intent
from regrow.patterns import MARK, MARKS, MARKS_LAST, Part, Scan
from regrow.phrases import HIDDEN, Phrases, Sides

_TIMED = frozenset({Intent.restart, Intent.deploy, Intent.rollback})
"""What may be asked for "when idle" or "by force"."""
_TROUBLED = frozenset({Intent.restart, Intent.rollback, Intent.undo, Intent.cancel, Intent.reject})
"""What a trouble is a reason for, also when it is told afterwards."""
_AFTER = {
    "regret": frozenset({Intent.cancel, Intent.reject}),
    "good": frozenset({Intent.approve, Intent.keep}),
    "bad": _TROUBLED - {Intent.restart},
    "trouble": _TROUBLED,
}
"""Which remarks may follow which commands: "restart, works now" tells of a restart."""
_SPARING = frozenset({Intent.build, Intent.cancel, Intent.reject})
"""What leaves another action undone, so that it may be said with it: "build, don't deploy"."""
_TOLD = re.compile(r"[了又啦没还]|\b(?:still|again)\b")
_DISTRESSED = frozenset({Intent.restart, Intent.rollback})
"""What a trouble told in words that are not all known is a reason for."""
_LONG_REASON = 40
_BUT = re.compile("但|不过")
_STOPS = re.compile(r"[,;.!\n~…]")
_TAIL = re.compile(rf"(?:{MARK}|\?)+\Z")
_PARTED = re.compile(rf"{MARK}|\?|[了啦]")
_LEAD = re.compile(r"/(?=\w)")


@dataclass(frozen=True)
class Command:
    """What covers a clause.

    Attributes:
        intent: what is asked for.
        certain: whether it is an imperative, not a question or a thought.
        values: what the pattern captured, by name.
        when: "idle", "force" or "".
    """

    intent: Intent
    certain: bool
    values: dict[str, str]
    when: str = ""


def command(scan: Scan, start: int, stop: int, known: Phrases, *, alone: bool = True) -> Command | None:
    """The command that covers a clause, or None.

    Args:
        scan: the text.
        start, stop: where the clause begins and ends.
        known: the phrases.
        alone: whether nothing but politeness may stand beside it; otherwise also remarks.
    """
    return _Clause(scan, start, stop, known).command(alone=alone)


class _Clause:
    def __init__(self, scan: Scan, start: int, stop: int, known: Phrases) -> None:
        self._scan, self._known = scan, known
        start = _past(MARKS, scan.text, start, stop)
        start = _past(_LEAD, scan.text, start, stop)
        whole = scan.text[start:stop]
        stop = start + len(_TAIL.sub("", whole))
        self._asked = "?" in scan.text[stop : start + len(whole)]
        self._start, self._stop = start, stop
        self._present = scan.present(start, stop)
        self._moments = {
            when: [part for part in parts if not part.needs or part.needs & self._present]
            for when, parts in known.moments.items()
        }

    def command(self, *, alone: bool) -> Command | None:
        if self._start >= self._stop or (not alone and not _PARTED.search(self._scan.text, self._start, self._stop)):
            return None
        likely = {
            Intent(name): usable
            for name, patterns in self._known.patterns.items()
            if (usable := [part for part in patterns if not part.needs or part.needs & self._present])
        }
        polite = "polite" in self._present
        # A plain imperative is certain; put as a question it is when it says please; thinking aloud never is.
        stages = (
            (self._known.politeness, polite or not self._asked),
            (self._known.ability, polite),
            (self._known.wanting, polite and not self._asked),
            (self._known.wondering, False),
        )
        for sides, certain in stages:
            for found in self._found(likely, sides, alone=alone):
                return Command(
                    found.intent,
                    found.certain and (certain or not TABLE[found.intent].effect),
                    found.values,
                    found.when,
                )
        return None

    def _found(self, likely: dict[Intent, list[Part]], sides: Sides, *, alone: bool) -> Iterator[Command]:
        if alone:
            fronts, ends = self._fronts(sides), self._ends(sides)
            for front, when in fronts.items():
                for intent, parts in likely.items():
                    if hit := self._fit(intent, parts, front, when, ends):
                        yield hit
            return
        for intent, parts in likely.items():
            around = _Around(
                self._scan,
                self._start,
                self._stop,
                self._known,
                intent=intent,
                parts=parts,
                sides=sides,
                present=self._present,
            )
            for front in around.fronts():
                for end, values in self._ends_of(parts, front):
                    certain = around.closes(front, end)
                    if certain is not None:
                        yield Command(intent, certain, values)

    def _fronts(self, sides: Sides) -> dict[int, str]:
        """Where a command may begin, with the moment that was named before it."""
        fronts = dict.fromkeys(self._scan.after(self._start, self._stop, sides.front), "")
        for when, parts in self._moments.items():
            for at in list(fronts):
                for part in parts:
                    for end in self._scan.match(part, at):
                        if at < end < self._stop:
                            past = _past(MARKS, self._scan.text, end, self._stop)
                            for place in self._scan.after(past, self._stop, sides.front):
                                fronts.setdefault(place, when)
        return fronts

    def _ends(self, sides: Sides) -> dict[int, str]:
        """Where a command may end, with the moment that is named after it."""
        ends = dict.fromkeys(self._scan.before(self._start, self._stop, sides.end), "")
        for when, parts in self._moments.items():
            if not parts:
                continue
            needed = frozenset().union(*(part.needs for part in parts))
            for at in range(self._start + 1, self._stop):
                if not needed & self._scan.at(at).keys():
                    continue
                for part in parts:
                    if any(
                        _past(MARKS, self._scan.text, end, self._stop) in ends
                        for end in self._scan.match(part, at)
                        if end > at
                    ):
                        stop = self._start + len(MARKS_LAST.sub("", self._scan.text[self._start : at]))
                        for place in self._scan.before(self._start, stop, sides.end):
                            ends.setdefault(place, when)
        return ends

    def _fit(self, intent: Intent, parts: list[Part], front: int, when: str, ends: dict[int, str]) -> Command | None:
        for end, values in self._ends_of(parts, front):
            place = end if end in ends else _past(MARKS, self._scan.text, end, self._stop)
            if place in ends:
                moment = when or ends[place]
                if not moment or intent in _TIMED:
                    return Command(intent, True, values, moment)
        return None

    def _ends_of(self, parts: list[Part], front: int) -> Iterator[tuple[int, dict[str, str]]]:
        at = self._scan.gap(front)
        for part in parts:
            for end, values in sorted(self._scan.match(part, at).items(), reverse=True):
                if at < end <= self._stop:
                    yield end, dict(values)


class _Around:
    """What may stand around a command of one intent: politeness, remarks, the same said again, what is spared."""

    def __init__(
        self,
        scan: Scan,
        start: int,
        stop: int,
        known: Phrases,
        *,
        intent: Intent,
        parts: list[Part],
        sides: Sides,
        present: set[str],
    ) -> None:
        self._scan, self._start, self._stop, self._known = scan, start, stop, known
        self._intent, self._parts, self._sides = intent, parts, sides
        self._remarks = {
            kind: [part for part in patterns if not part.needs or part.needs & present]
            for kind, patterns in known.remarks.items()
        }
        self._distressed: set[int] = set()

    def fronts(self) -> list[int]:
        """Where the command may begin."""
        reached, places = {self._start}, [self._start]
        while places:
            at = places.pop()
            for end in self._scan.after(at, self._stop, self._sides.front):
                if end not in reached:
                    reached.add(end)
                    places.append(end)
            for kind, end in self._items(at, after=False):
                if (place := self._parted(kind, end)) is not None and place not in reached:
                    reached.add(place)
                    places.append(place)
                    if kind == "distress":
                        self._distressed.add(place)
        return sorted(reached)

    def closes(self, front: int, end: int) -> bool | None:
        """Whether a command between the two is certain, seen what stands behind it; None when it is not covered."""
        text = self._scan.text
        asked = text[end : end + 1] == "?"
        place = end + asked
        # The words of a reason that are not all known need a request that is plain: with its object, or with a please.
        plain = bool(
            {"it", "polite"}
            & self._scan.present(max((at for at in self._distressed if at <= front), default=self._start), end)
        )
        if self._distressed and not plain:
            return None
        if plain and self._stop in self._rest(place, frozenset({"distress"})):
            return not asked or "polite" in self._scan.present(self._start, end)
        if self._stop in self._rest(place, frozenset()):
            return not asked or "polite" in self._scan.present(self._start, end)
        if self._stop not in self._rest(place, frozenset({"trouble"})):
            return None
        told = _TOLD.search(text, end, self._stop)
        # "重启，又挂了" may tell of a restart; with anything that makes it a request it does not.
        verb = end in self._scan.at(front).get(str(self._intent), ())
        bare = verb and told and front == self._start and _past(MARKS, text, end, self._stop) > end
        return (not bare and not asked) or "polite" in self._scan.present(self._start, end)

    def _rest(self, end: int, more: frozenset[str]) -> set[int]:
        text = self._scan.text
        reached, places = {end}, [end]
        while places:
            at = places.pop()
            behind = set(self._scan.after(at, self._stop, self._sides.end))
            marked = _past(MARKS, self._scan.text, at, self._stop)
            behind.add(marked)
            behind.update(self._scan.after(marked, self._stop, self._sides.end))
            if marked > at or (at > end and _past(MARKS, text, at - 1, at) == at) or _BUT.match(text, at):
                for kind, past in self._items(marked, after=True, more=more):
                    if kind in {"turn", "good", "bad", "regret", "echo", "distress"} and not _STOPS.search(
                        self._scan.text, end, marked
                    ):
                        continue
                    behind.add(_past(MARKS, self._scan.text, past, self._stop))
            for place in behind - reached:
                reached.add(place)
                places.append(place)
        return reached

    def _parted(self, kind: str, end: int) -> int | None:
        """Where the clause goes on after something said before the command; None when nothing parts it from that."""
        text = self._scan.text
        place = _past(MARKS, text, end, self._stop)
        if kind in {"trouble", "ready", "manners", "spare"}:
            return place if place > end or text[end - 1] in "了啦" else None
        return place if _STOPS.search(text, end, place) else None

    def _items(self, at: int, *, after: bool, more: frozenset[str] = frozenset()) -> Iterator[tuple[str, int]]:
        for kind, patterns in self._remarks.items():
            if after and (kind == "turn" or (kind in _AFTER and self._intent not in _AFTER[kind])):
                continue
            if after and kind == "trouble" and kind not in more:
                continue
            for part in patterns:
                for end in self._scan.match(part, at):
                    if at < end <= self._stop:
                        yield kind, end
        if self._intent in _DISTRESSED and (not after or "distress" in more):
            told = self._distress(at)
            if told is not None:
                yield "distress", told
        if self._intent in _SPARING:
            for part in self._known.spare:
                for end, values in self._scan.match(part, at).items():
                    if at < end <= self._stop and f"kind_{self._intent}" not in dict(values):
                        yield "spare", end
        for part in self._parts:
            for end, values in self._scan.match(part, at).items():
                if at < end <= self._stop and not values:
                    yield "echo", end
        for end in self._scan.at(at).get(f"unclear {self._intent}", ()):
            if end <= self._stop:
                yield "echo", end

    def _distress(self, at: int) -> int | None:
        """The end of a clause that tells of a trouble here and now, also in words that are not known; or None."""
        text = self._scan.text
        found = _STOPS.search(text, at, self._stop)
        end = found.start() if found else self._stop
        if not 1 < end - at <= _LONG_REASON or re.search(rf"[?:\[\](){{}}<>/=#|{HIDDEN}]", text[at:end]):
            return None
        told = self._known.distress.search(text, at, end) and not self._known.elsewhere.search(text, at, end)
        return end if told and not self._known.verbs & self._scan.present(at, end) else None


def _past(marks: re.Pattern[str], text: str, at: int, stop: int) -> int:
    match = marks.match(text, at, stop)
    return match.end() if match else at
