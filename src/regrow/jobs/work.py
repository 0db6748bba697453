"""What a step is given to work with."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from regrow.approvals import Approvals
from regrow.care import Care
from regrow.clock import Clock
from regrow.events import Events
from regrow.jobs.estimates import Estimates
from regrow.jobs.ledger import Ledger, Record


@dataclass
class Progress:
    """How far the running step is; told to watchers, written down only when the step ends."""

    detail: str = ""
    part: float | None = None
    estimate_s: tuple[float, float] | None = None
    began: float = field(default_factory=time.monotonic)


@dataclass
class Work:
    """One step of one job.

    Attributes:
        job: the job as it stood when the step began.
        facts: what earlier steps found out.
        care: the service's parts.
        progress: see `tell`.
    """

    job: Record
    facts: Mapping[str, Any]
    care: Care
    ledger: Ledger
    approvals: Approvals
    estimates: Estimates
    events: Events
    clock: Clock
    log_file: Path
    progress: Progress = field(default_factory=Progress)

    @property
    def token(self) -> str:
        """Names this job's copy of the service, so that a repeated start adopts it."""
        return f"job-{self.job.id}"

    def tell(
        self, detail: str | None = None, part: float | None = None, estimate_s: tuple[float, float] | None = None
    ) -> None:
        """Say how far the step is.

        Args:
            detail: a few words, already free of secrets and long paths.
            part: 0 to 1, where it can be told.
            estimate_s: shortest and longest expected duration, from the past.
        """
        if detail is not None:
            self.progress.detail = detail
        if part is not None:
            self.progress.part = min(max(part, 0.0), 1.0)
        if estimate_s is not None:
            self.progress.estimate_s = estimate_s
        self.events.touch(("job", self.job.id))

    def log(self, text: str) -> None:
        """Append to the job's log, redacted."""
        self.log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with self.log_file.open("a", encoding="utf-8", errors="replace") as file:
            file.write(self.care.redactor.redact(text.rstrip("\n")) + "\n")
