"""What an agent tells, for the one live message and for the job's log."""

from __future__ import annotations

import time

from regrow.agents.base import Event
from regrow.catalogue import say
from regrow.jobs.work import Work
from regrow.models.usage import Usage

_DETAIL_CHARACTERS = 80


class Hearsay:
    """Receives the events of an agent.

    The job's log keeps all of them whole, which is the transcript; the live message shows the last one, what it has
    cost so far and the time that is left.

    Args:
        work: the step.
        name: what people call the agent.
        within_s: seconds it has.
        prefix: which attempt it is, where there are several.

    Attributes:
        cost: what it has cost so far, in words; empty while that is not known.
    """

    def __init__(self, work: Work, name: str, within_s: float, prefix: str = "") -> None:
        self._work, self._name, self._within_s, self._prefix = work, name, within_s, prefix
        self._until = time.monotonic() + within_s
        self._doing = ""
        self._counted = False
        self.cost = ""

    def __call__(self, event: Event) -> None:
        """Hear one."""
        work = self._work
        text = work.care.redactor.redact(event.text)
        work.log(f"{self._name}: {event.kind}: {text}")
        if event.kind == "log":
            return
        if event.kind == "cost":
            # What an agent says of its cost is a guess; what went through the door is counted.
            self.cost = self.cost if self._counted else text.strip()
        else:
            short = " ".join(work.care.redactor.shorten_paths(text).split())
            short = short if len(short) <= _DETAIL_CHARACTERS else short[: _DETAIL_CHARACTERS - 1] + "…"
            self._doing = say(work.job.language, f"live.agent_{event.kind}", what=short)
        self._tell()

    def usage(self, usage: Usage) -> None:
        """What has gone through the door to the model."""
        self._counted = True
        self.cost = f"{usage.cost:.2f} {usage.currency}" if usage.cost else f"{usage.tokens} tokens"
        self._tell()

    def _tell(self) -> None:
        work = self._work
        left_s = max(self._until - time.monotonic(), 0.0)
        left = say(work.job.language, "live.agent_left", minutes=max(round(left_s / 60), 1))
        said = self._prefix + " · ".join(filter(None, (self._doing, self.cost, left)))
        work.tell(detail=said, part=1 - left_s / self._within_s)
