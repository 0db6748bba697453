"""What an agent tells while it works: bounded, whatever it says, and the words it ends with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from regrow.agents.base import Event, Task

_EVENT_CHARACTERS = 20_000
_TOTAL_CHARACTERS = 8_000_000
_SUMMARY_CHARACTERS = 600
_REASONS = {"model_budget": "agent_budget", "model_secret": "agent_secret", "model_key": "agent_login"}


class Telling:
    """Passes events on, each and all of them bounded.

    Args:
        tell: receives them.

    Attributes:
        last: the last words of the agent, for the summary.
    """

    def __init__(self, tell: Callable[[Event], None]) -> None:
        self._tell = tell
        self._left = _TOTAL_CHARACTERS
        self.last = ""

    def __call__(self, event: Event) -> None:
        """Pass one on; an empty one is none."""
        text = event.text.strip()
        if not text or self._left <= 0:
            return
        if event.kind == "thinking":
            self.last = text
        if len(text) > _EVENT_CHARACTERS:
            text = f"{text[:_EVENT_CHARACTERS]}\n[... {len(text) - _EVENT_CHARACTERS} characters left out ...]"
        self._left -= len(text)
        self._tell(replace(event, text=text if self._left > 0 else "[... it says too much: the rest is left out ...]"))


def summary_of(text: str) -> str:
    """The last paragraph, in one line of a bearable length."""
    paragraphs = [" ".join(part.split()) for part in text.split("\n\n") if part.strip()]
    last = paragraphs[-1] if paragraphs else ""
    return last if len(last) <= _SUMMARY_CHARACTERS else last[: _SUMMARY_CHARACTERS - 1] + "…"


def with_trouble(reason: str, summary: str, task: Task) -> tuple[str, str]:
    """Why a repair failed: what the door to the model says about it comes before what the agent made of it.

    Args:
        reason, summary: as the driver sees it; a reason of "" is no failure.
        task: with the door.
    """
    trouble = task.door.trouble if task.door is not None else None
    if trouble is None or reason in {"", "timeout"}:
        return reason, summary
    return _REASONS.get(trouble.kind, "agent_model"), str(trouble)
