"""A message as clauses: what is said beside a request and carries none, in words that need not be known.

"The client is waiting" or 老板在看演示 is beside the point whatever its words are, as long as it holds no sign that the
request is no request: no other action, no refusal, question, delay, condition, report or quotation. Such clauses are
left out, and the rest has to be a command as strictly as ever. No list of such signs is ever complete ("restart it,
sang the band"), so a command found like this is asked back when it would change anything.
"""

from __future__ import annotations

import re

from regrow.commands import Command, command
from regrow.intents import TABLE, Intent
from regrow.phrases import HIDDEN, Phrases, trim

_LONGEST = 160  # characters; longer messages tell a story
_ENDS = re.compile(r"[,;!\n~…]+|\.+(?=\s|\Z|[\u3400-\u9fff])|\s+[-–—]+\s+|\?+|[—–]{2,}")
_FOREIGN = re.compile(rf"[:<>{{}}\[\]=|#$]|{HIDDEN}")
"""Signs of a quotation, a heading, a program or a list: such a text is left alone."""
_PROGRAM = re.compile(r"(?:\A|\s)-\w|[/&*\\@]|\d\.\Z")
_TOLD = re.compile(r"[了又啦没还过]|\b(?:still|again|now|fine|gone|back)\b")
_SORRY = frozenset({Intent.cancel, Intent.reject})
"""What may be followed by "my mistake": after anything else it takes that back."""
_APPROVING = frozenset({Intent.approve, Intent.keep})


def split(text: str) -> list[str]:
    """The clauses of a text in the one form, without what parts them; a question keeps its mark."""
    parts, at = [], 0
    for match in _ENDS.finditer(text):
        parts.append(text[at : match.start()] + ("?" if "?" in match[0] else ""))
        at = match.end()
    parts.append(text[at:])
    return [part.strip() for part in parts if trim(part).strip("? ")]


def aside(clause: str, known: Phrases) -> bool:
    """Whether a clause carries neither a request nor any sign that another clause is none."""
    if known.unhurried.search(clause):
        return True
    if "?" in clause or _FOREIGN.search(clause) or _PROGRAM.search(clause) or known.barred.search(clause):
        return False
    # "小明" or "dev" is somebody called, or the rest of the object.
    if len(re.findall(r"[\u3400-\u9fff]", clause)) < (3 if re.search("[了啊]", clause) else 4) and " " not in clause:
        return False
    present = known.scan(clause).present(0, len(clause))
    return not known.acting & present


def without_asides(text: str, known: Phrases) -> tuple[list[str], list[str]] | None:
    """The clauses that say something, and the asides; None when there are not both."""
    if len(text) > _LONGEST or _FOREIGN.search(text.replace("#", "")):
        return None
    clauses = split(text)
    beside = [clause for clause in clauses if aside(clause, known)]
    rest = [clause for clause in clauses if clause not in beside]
    return (rest, beside) if rest and beside else None


def command_among(text: str, known: Phrases) -> Command | None:
    """The one command of a message of several clauses, when all the others are asides, remarks or the same again.

    Args:
        text: the message in the one form.
        known: the phrases.
    """
    parted = without_asides(text, known)
    rest, beside = parted or (split(text), [])
    if len(text) > _LONGEST or not rest or (not beside and len(rest) < 2):
        return None
    found = _whole(rest, known) or _repeated(rest, known)
    if found is None or not found.certain:
        return found
    approving = found.intent in _APPROVING
    contrary = known.ill if approving else known.well
    if TABLE[found.intent].effect and any(contrary.search(clause) for clause in beside):
        return None
    if any(map(known.unhurried.search, beside)) and not found.when:
        return None
    if beside and any(known.loosely.search(trim(clause)) for clause in rest):
        return None
    first, *others = split(text)
    if any(map(known.sorry.search, others)) and first in rest and found.intent not in _SORRY:
        return None
    # "重启，又挂了" may tell of a restart that was.
    if first in rest and _is_bare(first, found.intent, known) and any(map(_TOLD.search, others)) and not approving:
        return None
    return found


def _whole(rest: list[str], known: Phrases) -> Command | None:
    scan = known.scan(", ".join(rest))
    for alone in (True, False):
        if found := command(scan, 0, len(scan.text), known, alone=alone):
            return found
    return None


def _repeated(rest: list[str], known: Phrases) -> Command | None:
    """The same asked for in every clause: the one that says most about it."""
    scans = [known.scan(clause) for clause in rest]
    found = [command(scan, 0, len(scan.text), known) for scan in scans]
    commands = [each for each in found if each is not None]
    if len(commands) < len(rest) or len({each.intent for each in commands}) != 1:
        return None
    most = max(commands, key=lambda each: len(each.values))
    same = all(each.values.items() <= most.values.items() for each in commands)
    return most if same and all(each.certain for each in commands) else None


def _is_bare(clause: str, intent: Intent, known: Phrases) -> bool:
    words = known.scan(clause).at(0).get(str(intent), ())
    return len(trim(clause)) in words


def question(text: str, known: Phrases) -> Intent | None:
    """The question a message asks that changes nothing, known by a part of one of its clauses; None without one.

    Bolder than a command may be: the worst is an answer nobody wanted. Still no other clause may ask for anything.
    """
    if len(text) > _LONGEST or _FOREIGN.search(text) or known.veto.search(text):
        return None
    clauses = split(text)
    for clause in clauses:
        whole = clause.strip()
        acts = bool((known.acting - {"pull"}) & known.scan(whole).present(0, len(whole)))
        for name, hint in known.hints.items():
            if (not acts or name == "history") and hint.search(whole):
                return Intent(name)
    return None
