"""What Regrow says, in the language of the person it says it to, and how it writes figures.

The texts are in catalogues/: zh.toml and en.toml, story.*.toml for what is told of a job, press.*.toml for buttons,
rights.*.toml for what keeps something from being done, incident.*.toml for incidents,
web.*.toml for the pages, cli.*.toml for the command line, setup.*.toml for the setting up of channels and init.*.toml
for the reasons that `regrow init` gives. The languages have the same keys and the same fields (a test compares them); a
person asked in Chinese is answered in the words of the seed document's section five.

A further language is one file, TAG.toml in `directory()`, with any of those keys; the rest is said in English.
"""

from __future__ import annotations

import re
import string
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, tzinfo
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

from regrow.errors import RegrowError
from regrow.places import Places

Language = str
"""The tag of a language: "zh", "en", or the name of a file in `directory()`."""
LANGUAGES: tuple[Language, ...] = ("zh", "en")
"""The languages that Regrow brings along, and the only ones in which it is spoken to."""
_TAG = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")
_OTHERWISE: Language = "en"


class _Plain(string.Formatter):
    """str.format with names only: a text cannot reach into the values it is given."""

    def get_field(self, field_name: str, args: Any, kwargs: Any) -> tuple[Any, str]:
        return kwargs[field_name], field_name


_FORMATTER = _Plain()


_CORE = ("story", "press", "rights", "incident")
_OWN = frozenset(
    {"cli", "web", "setup", "init"}
)  # read by themselves: the command line must not wait for others' words


def texts(language: Language, part: str = "") -> Mapping[str, str]:
    """Texts of a language by dotted key: of the core and the story, or of one of the parts in `_OWN` alone."""
    return _shipped(language, part) if language in LANGUAGES else _translated(directory(), language, part)


@cache
def _shipped(language: Language, part: str) -> Mapping[str, str]:
    names = [f"{part}.{language}"] if part in _OWN else [language, *(f"{one}.{language}" for one in _CORE)]
    found: dict[str, str] = {}
    for name in names:
        content = resources.files("regrow.catalogues").joinpath(f"{name}.toml").read_text("utf-8")
        found |= _flatten(tomllib.loads(content), "")
    return found


# A further language


@dataclass(frozen=True)
class Translation:
    """A file with the texts of a further language.

    Attributes:
        texts: those that can be used, by dotted key.
        problems: what is wrong with the file, a line each; what is wrong is said in English.
        missing: keys that it has no text for.
    """

    texts: Mapping[str, str]
    problems: tuple[str, ...] = ()
    missing: frozenset[str] = frozenset()


def directory() -> Path:
    """Where files of further languages are; see `Places.catalogues`."""
    return Places.of().catalogues


def languages() -> tuple[Language, ...]:
    """Every language that can be spoken now: those of Regrow, then those of the files."""
    return (*LANGUAGES, *(tag for tag in _tags(directory()) if tag not in LANGUAGES))


def _tags(at: Path) -> list[Language]:
    try:
        return sorted(path.stem for path in at.glob("*.toml") if _TAG.fullmatch(path.stem))
    except OSError:
        return []


def translation(language: Language) -> Translation:
    """What the file of a further language says, and what is wrong with it."""
    return _translation(directory(), language)


@cache
def _translation(at: Path, language: Language) -> Translation:
    known = {key: text for part in ("", *_OWN) for key, text in _shipped(_OTHERWISE, part).items()}
    try:
        found = dict(_flatten(tomllib.loads((at / f"{language}.toml").read_text("utf-8")), ""))
    except (OSError, ValueError) as error:
        return Translation({}, (f"cannot read {language}.toml: {error}",), frozenset(known))
    usable, problems = {}, []
    for key, text in found.items():
        if key not in known:
            problems.append(f"{key}: there is no such text")
            continue
        try:
            extra = fields(text) - fields(known[key])
        except ValueError as error:
            problems.append(f"{key}: {error}")
            continue
        if extra:
            problems.append(f"{key}: it has no field {', '.join(sorted(extra))}")
        elif not text.strip():
            problems.append(f"{key}: it is empty")
        else:
            usable[key] = text
    return Translation(usable, tuple(problems), frozenset(known.keys() - found.keys()))


@cache
def _translated(at: Path, language: Language, part: str) -> Mapping[str, str]:
    own = _translation(at, language).texts
    return {key: own.get(key, text) for key, text in _shipped(_OTHERWISE, part).items()}


def known_language(tag: str | None) -> Language | None:
    """The language of a tag ("zh-CN", "en_US", "pt-br"), or None when it cannot be spoken."""
    tag = (tag or "").strip().replace("_", "-").lower()
    spoken = {each.lower(): each for each in languages()}
    return spoken.get(tag) or spoken.get(tag.split("-")[0])


def accepted_language(header: str) -> Language | None:
    """The first language of an Accept-Language header, by its weights, that can be spoken."""
    ranked: list[tuple[float, Language]] = []
    for item in header.split(",")[:20]:
        tag, _, weight = item.partition(";q=")
        language = known_language(tag)
        try:
            quality = float(weight) if weight else 1.0
        except ValueError:
            continue
        if language and quality > 0:
            ranked.append((-quality, language))
    return min(ranked, key=lambda each: each[0])[1] if ranked else None


def answer_language(written: Language, chosen: Language) -> Language:
    """The language of an answer.

    Args:
        written: of the question, Chinese or English: people can say what they want in no other.
        chosen: of the settings; a further one is spoken to everybody.
    """
    return written if chosen in LANGUAGES else chosen


def _flatten(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, str(value)


def fields(text: str) -> frozenset[str]:
    """The names of the fields of a text."""
    return frozenset(name for _, name, _, _ in string.Formatter().parse(text) if name is not None)


def say(language: Language, key: str, /, **values: object) -> str:
    """A text of the catalogue with its fields filled in.

    Args:
        language: one of `languages()`.
        key: dotted key, e.g. "restart.started".
        values: one value for every field of the text, and no other; values are text already, braces in them stay.

    Raises:
        KeyError: no such key, or a field without its value. A fault of the program, found by tests, never a person's.
        TypeError: a value the text has no field for.
    """
    part = key.partition(".")[0]
    part = part if part in _OWN else ""
    text = texts(language, part)[key]
    # A translation may leave a field out; that of a value that no language has is a fault of the program.
    unused = values.keys() - fields(text if language in LANGUAGES else _shipped(_OTHERWISE, part)[key])
    if unused:
        raise TypeError(f"cannot say {key}: it has no field {', '.join(sorted(unused))}")
    return _FORMATTER.vformat(text, (), values)


def say_fitting(language: Language, key: str, /, **values: object) -> str:
    """A text of the catalogue with those of the values that it has a field for: where the key is chosen by data.

    Raises:
        KeyError: as `say`.
    """
    part = key.partition(".")[0]
    known = fields(texts(language, part if part in _OWN else "")[key])
    return say(language, key, **{name: value for name, value in values.items() if name in known})


def refusal_text(language: Language, error: RegrowError) -> str:
    """Why something was not done, in the language of the person, where there are words for it.

    Args:
        language: one of `languages()`.
        error: its kind names the text, "refusal.KIND"; without one, or without the values that it needs, the error
            speaks for itself.
    """
    known = texts(language)
    values = {"text": str(error), **error.values}
    if "needed" in values:  # a role is a word of the language, too
        values["needed"] = say(language, f"roles.{values['needed']}")
    for key in (f"refusal.{error.kind}_role" if "needed" in values else "", f"refusal.{error.kind}", "refusal.other"):
        if key in known and fields(known[key]) <= values.keys():
            return say_fitting(language, key, **values)
    raise AssertionError("unreachable: refusal.other needs the text alone")


def help_text(language: Language, intents: Iterable[str]) -> str:
    """What can be asked for, one line an intent, with an example sentence.

    Args:
        language: one of `languages()`.
        intents: the intents the reader may ask for, by name.
    """
    lines = [say(language, "help.heading")]
    for intent in intents:
        title, example = (say(language, f"intents.{intent}.{part}") for part in ("title", "example"))
        lines.append(say(language, "help.line", title=title, example=example))
    return "\n".join(lines)


def doubt_text(language: Language, intents: Iterable[str]) -> str:
    """The question asked back when it is unclear what a message asks for.

    Args:
        language: one of `languages()`.
        intents: the candidates by name, at least one.
    """
    titles = [say(language, f"intents.{intent}.title") for intent in intents]
    if len(titles) == 1:
        return say(language, "doubt.one", option=titles[0])
    options = (say(language, "doubt.option", number=number, title=title) for number, title in enumerate(titles, 1))
    return say(language, "doubt.many", options="\n".join(options))


def bytes_text(size: int) -> str:
    """A size as people read it, in decimal units: 38_000_000 is "38MB".

    Args:
        size: bytes, 0 or more.
    """
    value = float(size)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        # 999.5 would print as 1000 of this unit.
        if value < 999.5 or unit == "TB":
            digits = 1 if value < 9.95 and unit != "B" and round(value, 1) != round(value) else 0
            return f"{value:.{digits}f}{unit}"
        value /= 1000
    raise AssertionError("unreachable")


def seconds_text(seconds: float) -> str:
    """A short duration in seconds, the same in every language: 72.3 is "72s", 0.84 is "0.8s".

    Args:
        seconds: 0 or more.
    """
    return f"{seconds:.1f}s" if 0 < seconds < 9.95 and round(seconds, 1) != round(seconds) else f"{seconds:.0f}s"


def duration_text(language: Language, seconds: float) -> str:
    """A duration in the two largest units that say something: 72 is "1分12秒" or "1m 12s".

    Args:
        language: one of `languages()`.
        seconds: 0 or more.
    """
    whole = round(seconds)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return say(language, "time.days", days=days, hours=hour)
    if hours:
        return say(language, "time.hours", hours=hours, minutes=minute)
    if minutes:
        return say(language, "time.minutes", minutes=minutes, seconds=second)
    return say(language, "time.seconds", seconds=whole)


def span_text(language: Language, seconds: float) -> str:
    """A span as it was set: whole days as such, all else as `duration_text`."""
    days, rest = divmod(seconds, 86400)
    return say(language, "incident.days", days=int(days)) if days and not rest else duration_text(language, seconds)


def ago_text(language: Language, seconds: float) -> str:
    """How long ago something was, e.g. "1分12秒前" or "1m 12s ago"."""
    return say(language, "time.ago", duration=duration_text(language, max(0.0, seconds)))


def time_text(when: float, zone: tzinfo | None = None, *, now: float | None = None) -> str:
    """A moment as people read it: "07:00:00" today, "2025-02-21 07:00" otherwise; the same in every language.

    Args:
        when: seconds since 1970.
        zone: the reader's time zone; the machine's own unless given.
        now: the present in seconds since 1970; without it the date is always told.
    """
    moment = datetime.fromtimestamp(when, zone).astimezone(zone)
    if now is not None and datetime.fromtimestamp(now, zone).astimezone(zone).date() == moment.date():
        return f"{moment:%H:%M:%S}"
    return f"{moment:%Y-%m-%d %H:%M}"
