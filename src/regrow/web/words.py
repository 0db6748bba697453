"""The words of the console's pages, in each language."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from regrow import catalogue
from regrow.catalogue import Language


def words(language: Language) -> Mapping[str, str]:
    """Every text of the pages in one language, by key without "web."; fields are in {braces}."""
    return MappingProxyType({key.removeprefix("web."): text for key, text in catalogue.texts(language, "web").items()})


def say(language: Language, key: str, **fields: object) -> str:
    """One text of the pages with its fields filled in."""
    return catalogue.say(language, f"web.{key}", **fields)


def duration(language: Language, seconds: float) -> str:
    """A duration in seconds as people say it: its two largest units, and tenths only below one second."""
    if 0 < seconds < 0.95:
        return say(language, "seconds", n=f"{max(seconds, 0.1):.1f}")
    left = max(0, round(seconds))
    counts = []
    for key, unit in (("days", 86400), ("hours", 3600), ("minutes", 60), ("seconds", 1)):
        count, left = divmod(left, unit)
        counts.append((key, count))
    first = next((at for at, (_, count) in enumerate(counts) if count), len(counts) - 1)
    shown = [each for at, each in enumerate(counts[first : first + 2]) if at == 0 or each[1]]
    return " ".join(say(language, key, n=count) for key, count in shown)


def size(number: float) -> str:
    """A size in bytes as people say it."""
    for unit in ("B", "kB", "MB"):
        if number < 1000:
            return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"
        number /= 1000
    return f"{number:.1f} GB"
