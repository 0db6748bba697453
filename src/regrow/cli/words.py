"""The CLI's own words in the person's language; help stays English."""

from __future__ import annotations

import os
from functools import cache

from regrow import catalogue
from regrow.catalogue import Language


@cache
def language() -> Language:
    """The language of the terminal by its locale, en where that is not spoken (the order is POSIX's)."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return catalogue.known_language(locale.partition(".")[0].partition("@")[0]) or "en"


def say(key: str, **fields: object) -> str:
    """The CLI's text for `key` (without its prefix) in the terminal's language."""
    return catalogue.say(language(), f"cli.{key}", **fields)
