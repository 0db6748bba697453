"""A model API on the loopback that says what a script tells it: `async with ModelApi([Turn("Hello")]) as api:`."""

from __future__ import annotations

from regrow.testing.model_api.server import ModelApi
from regrow.testing.model_api.turns import Asked, Call, Received, Tokens, Turn, by_conversation

__all__ = ["Asked", "Call", "ModelApi", "Received", "Tokens", "Turn", "by_conversation"]
