"""The CLI's own words in the person's language; help stays English."""

from __future__ import annotations

import os
import tomllib
from functools import cache
from pathlib import Path
from typing import Literal

CATALOGUES = Path(__file__).parent.parent / "catalogues"


@cache
def language() -> Literal["zh", "en"]:
    """The language of the terminal: zh for a Chinese locale, else en (the order is POSIX's)."""
    locale = next((os.environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if os.environ.get(name)), "")
    return "zh" if locale.lower().startswith("zh") else "en"


def say(key: str, **fields: object) -> str:
    """The CLI's text for `key` (without its prefix) in the terminal's language."""
    return _texts(language())[key].format(**fields)


@cache
def _texts(which: str) -> dict[str, str]:
    texts: dict[str, str] = tomllib.loads((CATALOGUES / f"cli.{which}.toml").read_text("utf-8"))["cli"]
    return texts
