"""Finds in a message what it asks for, in Chinese and English: the grammar.

An action is started only when commands.py finds a command that covers the *whole* message. Everything else a
message can be (a question about an action, a negation, a postponement, a report, a quotation, a pasted log) fails to be
covered and starts nothing. Lists of such things only decide between silence and asking back (`Request.doubt`).
There is no model,
no network and no state here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from regrow.catalogue import Language
from regrow.clauses import command_among, question
from regrow.commands import Command, command
from regrow.intents import TABLE, Args, Intent, Request
from regrow.patterns import Scan
from regrow.phrases import HIDDEN, KINDS, Phrases, phrases, trim
from regrow.wording import Message

_LONGEST = 240  # characters; nobody commands in longer sentences, but they describe bugs in them
_THANKS = 40  # characters at the end in which thanks are looked for
_INCIDENT = re.compile(r"#i-?\d|incident|故障|事故")
_CLAUSES = re.compile(r"[,;!?\n、~]|\.(?=\s|\Z|[\u3400-\u9fff])|\b(?:and|then|but|or)\b|但是?|还是|然后")
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
    message = Message.read(text, known, services)
    if not message.written:
        return nothing
    nothing = replace(nothing, service=message.services[0] if len(message.services) == 1 else "")
    # With two names it is not clear whose; and nobody is obeyed whose words may be a program's.
    clear = len(message.services) < 2 and message.trusted

    def settle(intent: Intent, args: Args, *, certain: bool) -> Request:
        if certain and (clear or not TABLE[intent].effect):
            return replace(nothing, intent=intent, args=args)
        return replace(nothing, args=args, doubt=(intent,))

    if _INCIDENT.search(message.clause) and message.end - message.start <= _LONGEST:
        scan = known.scan(message.clause)
        found = command(scan, 0, len(scan.text), known)
        if found and "incident" in found.values:  # its number is no text of a bug
            return settle(found.intent, _args(found, message.written), certain=found.certain)
    repair = _repair(message, known)
    if repair is not None and (repair[0] or message.end - message.start > _LONGEST):
        return settle(Intent.repair, repair[1], certain=repair[0])
    if message.end - message.start > _LONGEST:
        return nothing
    unclear = known.unclear.get(message.clause.strip()) or known.unclear.get(trim(message.clause))
    if unclear == [Intent.repair]:
        return settle(Intent.repair, message.shown, certain=bool(message.shown.evidence or message.shown.reproduction))
    if unclear:
        return replace(nothing, doubt=tuple(map(Intent, unclear)))
    scans = [known.scan(text) for text in dict.fromkeys((message.clause, message.pronoun[message.start : message.end]))]
    for alone in (True, False):
        for scan in scans:
            if found := command(scan, 0, len(scan.text), known, alone=alone):
                return settle(found.intent, _args(found, message.written), certain=found.certain)
    if not message.pasted and (read := _read(scans[0], known)):
        return replace(nothing, intent=read[0], args=read[1])
    if repair is not None:
        return settle(Intent.repair, repair[1], certain=False)
    if not message.pasted:
        for scan in scans:
            if (found := command_among(scan.text, known)) and found.certain:
                # Words that nobody listed stand beside it, and may turn it into something else: it is asked back.
                return settle(found.intent, _args(found, message.written), certain=not TABLE[found.intent].effect)
    doubt = _candidates(scans[0], known)
    if not message.pasted and (asked := question(scans[-1].text, known)):
        spans = _spans(scans[0].text, known)[0] if asked is Intent.logs else Args()
        return replace(nothing, intent=asked, args=spans)
    told = replace(message.shown, bug=message.written.strip())
    return replace(nothing, doubt=doubt, args=told if doubt == (Intent.repair,) else Args())


def yes_or_no(text: str) -> bool | None:
    """Whether a message is a bare yes or no to a question just asked, or None when it is anything else."""
    known = phrases()
    message = Message.read(text, known, ())
    return known.answers.get(message.clause, known.answers.get(trim(message.clause)))


def _language(text: str) -> Language:
    return "en" if re.search(r"[A-Za-z]", text) and not re.search(r"[\u3400-\u9fff]", text) else "zh"


def _args(found: Command, original: str) -> Args:
    """The values of a command; names are taken from the original, where their case is."""
    intent, values = found.intent, found.values
    seen = "".join(character for character in original if character.isprintable())
    target = values.get("ref") or values.get("anyref") or values.get("who") or ""
    if target:
        spelled = re.search(re.escape(target), seen, re.IGNORECASE)
        target = spelled[0] if spelled else target
    elif intent in (Intent.deploy, Intent.rollback):
        target = "latest" if intent is Intent.deploy else "previous"
    why = values.get("why", "").strip(" ,:")
    places = range(len(seen) - len(why), -1, -1) if why else ()
    why = next((seen[at : at + len(why)] for at in places if phrases().plain(seen[at : at + len(why)]) == why), why)
    number = values.get("number") or values.get("hashed")
    return Args(
        target=(values.get("code") or "").upper() or target,
        data="data" in values,
        reason=why,
        when=found.when,
        role=next((name.removeprefix("role_") for name in values if name.startswith("role_")), ""),
        job=int(number) if number else None,
        incident=int(values["incident"]) if "incident" in values else None,
        off="off" in values,
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


def _repair(message: Message, known: Phrases) -> tuple[bool, Args] | None:
    """Whether a repair is certain, and what it is about word for word; None when none is meant."""
    shown = message.shown
    scan = known.scan(message.plain[message.start : min(message.stop, message.start + _LONGEST)])
    for sides, asked in ((known.politeness, False), (known.wondering, True)):
        for place in scan.after(0, len(scan.text), sides.front)[:24]:
            at = message.start + place
            rest = message.plain[at : message.stop]
            polite = bool(known.polite.search(message.plain, message.start, at))
            if match := _first(known.prefixes, rest, whole=False):
                text = message.verbatim(at + match.end(), message.stop).strip(" \t\r\n,，:：")
                if text or shown.evidence or shown.reproduction:
                    polite = bool(known.polite.search(message.plain, message.start, at + match.end()))
                    sure = (not asked or polite) and not known.retract.search(rest, match.end())
                    return sure, replace(shown, bug=text)
            if polite:
                rest = rest.rstrip("? ")
            if (
                (not asked or polite)
                and (len(rest) > _LONGEST or trim(rest) not in known.unclear)
                and _is_object(rest, known)
            ):
                rest = rest[:-_THANKS] + known.thanks.sub("", rest[-_THANKS:])
                match = _first(known.openings, rest, whole=True)
                sure = match is not None and bool(known.buggy.search(match["bug"])) and _is_plain(match["bug"], known)
                match = match or _first(known.loose, rest, whole=True)
                if match:
                    text = message.verbatim(at + match.start("bug"), at + match.end("bug")).strip()
                    return sure or bool(shown.evidence or shown.reproduction), replace(shown, bug=text)
            if not rest.endswith("?") and (match := _first(known.reports, rest, whole=False)):
                begin = at + match.start("bug") if "bug" in match.groupdict() else message.stop
                return False, replace(shown, bug=message.verbatim(begin, message.stop).strip())
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


def _read(scan: Scan, known: Phrases) -> tuple[Intent, Args] | None:
    """A question that changes nothing, when the words of one and small talk are all there is."""
    text = scan.text
    present = scan.present(0, len(text))
    for name, (anchor, around) in known.reads.items():
        if anchor not in present:
            continue
        args = Args()
        if name == Intent.logs:
            args, rest = _spans(text, known)
            scan = known.scan(rest)
        stop = len(scan.text.rstrip("? "))
        if scan.covered(0, stop, around):
            return Intent(name), args
    return None


def _spans(text: str, known: Phrases) -> tuple[Args, str]:
    """How many lines of the log and since when, and the text without these words."""
    args = Args()
    if match := known.lines.search(text):
        args = replace(args, lines=_number(match["lines"]))
        text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    if match := known.span.search(text):
        args = replace(args, since=_number(match["amount"] or "1") * _SECONDS[match["unit"][0]])
        text = text[: match.start()] + " " * len(match[0]) + text[match.end() :]
    return args, text


def _candidates(scan: Scan, known: Phrases) -> tuple[Intent, ...]:
    """What a message that is no plain imperative may still have meant."""
    clause = scan.text
    if known.unreal.search(clause):
        return ()
    clauses = [known.scan(part) for part in _CLAUSES.split(clause) if trim(part)][:12]
    commands = [command(part, 0, len(part.text), known) for part in clauses]
    hits = dict.fromkeys(found.intent for found in commands if found is not None)
    acting = [intent for intent in hits if TABLE[intent].effect]
    if acting or (hits and None not in commands):
        return tuple(acting or hits)
    sides = known.wondering
    starts = [part.text[at:] for part in clauses for at in part.after(0, len(part.text), known.politeness.front)]
    if any(known.unclear.get(trim(text)) == [Intent.repair] for text in starts):
        return (Intent.repair,)
    if known.blocker.search(clause) or len(clause) > 40:
        return ()
    # Half of what people say begins with "build" or 打包; the other verbs are rare enough to ask about.
    begun = {name for at in scan.after(0, len(clause), sides.front) for name in scan.at(scan.gap(at))}
    return tuple(Intent(kind) for kind in KINDS if kind != "build" and kind in begun)
