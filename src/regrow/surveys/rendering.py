"""A survey as the text of a `regrow.toml`: each line with its reason, each question as a comment."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

from regrow.catalogue import Language, say
from regrow.surveys.base import Setting, Survey, Value

_SECTIONS = (
    *("service", "service.listen", "service.env", "service.secrets", "source", "state", "config", "probe.health"),
    *("build", "build.env", "test", "test.env", "repair", "sandbox", "switch"),
)
_ORDER = ("name", "command", "handover", "standby", "ready", "probe_socket", "trap_bind", "target", "version")
_COLUMN = 40
_WIDTH = 120


def render(survey: Survey, language: Language) -> str:
    """The text, section by section, in the order of the reference."""
    made = [f"# {line}" for line in _wrapped(_head(survey, language), _WIDTH - 2)]
    for section in _SECTIONS:
        rows = [one for one in survey.settings if one.name.rpartition(".")[0] == section]
        names = {one.name: one.name.rpartition(".")[2] for one in rows}
        rows.sort(key=lambda one: _ORDER.index(names[one.name]) if names[one.name] in _ORDER else len(_ORDER))
        if not rows:
            continue
        # A section of questions alone is one itself: an empty [probe.health] would be refused, or mean something.
        quiet = all(one.asked for one in rows)
        made += ["", f"# [{section}]" if quiet else f"[{section}]"]
        for row in rows:
            made += _lines(row, reason(row, language))
    return "\n".join(made) + "\n"


def _head(survey: Survey, language: Language) -> str:
    if survey.language:
        return say(language, "init.head", language=survey.language, file=survey.shown_by)
    return say(language, "init.head_unknown")


def reason(setting: Setting, language: Language) -> str:
    """Why, or what is asked, in a language."""
    said = say(language, f"init.{setting.reason.key}", **setting.reason.fields)
    return "".join(one if one.isprintable() else " " for one in said)


def literal(value: Value) -> str:
    """A value as TOML."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        if '"' in value and "'" not in value and value.isprintable():
            return f"'{value}'"
        quoted = json.dumps(value, ensure_ascii=False)
        return "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in quoted)
    return "[" + ", ".join(literal(one) for one in value) + "]"


def _lines(setting: Setting, why: str) -> list[str]:
    name = setting.name.rpartition(".")[2]
    line = f"{'# ' if setting.asked else ''}{name} = {literal(setting.value)}"
    why = ("? " if setting.asked else "") + " ".join(why.split())
    if len(line) < _COLUMN - 1 and width(why) <= _WIDTH - _COLUMN - 2:
        return [f"{line:<{_COLUMN}}# {why}"]
    return [*(f"# {part}" for part in _wrapped(why, _WIDTH - 2)), line]


def _wrapped(text: str, most: int) -> list[str]:
    """Lines of at most so many columns; Chinese has no spaces and may break anywhere."""
    lines, line = list[str](), ""
    for word in _words(text):
        if line and width(line + word.rstrip()) > most:
            lines.append(line.rstrip())
            line = ""
        line += word
    return [*lines, line.rstrip()]


def _words(text: str) -> Sequence[str]:
    words, word = list[str](), ""
    ends: Callable[[str], bool] = lambda one: one == " " or ord(one) > 0x2E7F  # noqa: E731  one line, used once
    for one in text:
        word += one
        if ends(one):
            words.append(word)
            word = ""
    return [*words, word]


def width(text: str) -> int:
    """Columns on a terminal."""
    return sum(2 if ord(one) > 0x2E7F else 1 for one in text)
