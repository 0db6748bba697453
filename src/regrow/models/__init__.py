"""Models behind the gateway: the one door through which an agent in its box reaches a model.

The gateway runs outside of the box and holds the only key. What it lets through, what it counts and how it says no is
the same for every upstream; what differs between the kinds of upstream is a dialect, a file each.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from regrow.models.base import Dialect

DIALECTS = {"anthropic": "regrow.models.anthropic:Anthropic", "openai": "regrow.models.openai:OpenAI"}


def dialect(kind: str) -> Dialect:
    """The dialect of a kind of upstream, a key of `DIALECTS`."""
    module, _, name = DIALECTS[kind].partition(":")
    return cast(Dialect, getattr(import_module(module), name)())
