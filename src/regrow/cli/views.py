"""How a job looks while it runs: JSON lines, plain lines, or a live table."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Protocol

from regrow.cli import terminal
from regrow.cli.words import say

if TYPE_CHECKING:
    from rich.console import RenderableType

    from regrow.api.types import Job, Step

MARKS = {"todo": "·", "doing": "…", "waiting": "?", "done": "✓", "failed": "✗", "undoing": "↩", "undone": "↩"}
COLOURS = {"done": "green", "failed": "red", "waiting": "yellow", "undoing": "yellow", "undone": "yellow"}
TAIL_LINES = 20


class View(Protocol):
    """What following a job needs of a view."""

    def show(self, job: Job) -> None:
        """The job as it is now."""

    def pause(self) -> None:
        """Leave the screen to a question."""

    def end(self) -> None:
        """Nothing more will be shown."""


class JsonView:
    """One line a snapshot."""

    def show(self, job: Job) -> None:
        """Print the snapshot."""
        terminal.document(job.model_dump(mode="json"))

    def pause(self) -> None:
        """Nothing is in the way."""

    def end(self) -> None:
        """Nothing is open."""


class PlainView:
    """One line a change of a step: for logs, pipes and terminals without colours."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def show(self, job: Job) -> None:
        """Print what has not been printed."""
        self._once(say("job", job=job.id, title=job.title))
        for step in job.steps:
            if step.status != "todo":
                self._once(step_line(step), key=f"{step.name} {step.status} {step.started_at}")
        if job.waiting_for and job.status == "waiting":
            self._once(say("waiting_for", what=job.waiting_for))

    def pause(self) -> None:
        """Nothing is in the way."""

    def end(self) -> None:
        """Nothing is open."""

    def _once(self, text: str, key: str = "") -> None:
        if (key or text) not in self._told:
            self._told.add(key or text)
            terminal.line(text)


class LiveView:
    """A table that moves: steps, spinner, seconds, a bar where the end is known."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.live import Live

        self._job: Job | None = None
        self._console = Console(highlight=False)
        self._live = Live(get_renderable=self._table, console=self._console, refresh_per_second=8, transient=False)

    def show(self, job: Job) -> None:
        """Draw the snapshot."""
        self._job = job
        if not self._live.is_started:
            self._live.start()
        self._live.refresh()

    def pause(self) -> None:
        """Stop drawing; the next snapshot starts again below."""
        self._live.stop()

    def end(self) -> None:
        """Leave the last picture on the screen."""
        self._live.stop()

    def _table(self) -> RenderableType:
        return job_table(self._job) if self._job else ""


def choose(as_json: bool) -> View:
    """The view for this terminal."""
    if as_json:
        return JsonView()
    return PlainView() if terminal.plain() else LiveView()


def step_line(step: Step) -> str:
    """A step in one line."""
    parts = [f"{MARKS[step.status]} {step.title or step.name}"]
    if step.status == "doing" and step.estimate_s:
        low, high = step.estimate_s
        parts.append(f"({say('expected', low=round(low), high=round(high))})")
    if step.seconds is not None and step.status != "doing":
        parts.append(terminal.spell(step.seconds))
    if step.detail:
        parts.append(f"— {step.detail}")
    return " ".join(parts)


def job_table(job: Job) -> RenderableType:
    """A job with its steps, for a terminal that can redraw."""
    from rich.console import Group
    from rich.progress_bar import ProgressBar
    from rich.spinner import Spinner
    from rich.table import Table
    from rich.text import Text

    now = time.time()
    table = Table.grid(padding=(0, 1))
    for step in job.steps:
        colour = COLOURS.get(step.status, "dim" if step.status == "todo" else "")
        mark: RenderableType = Text(MARKS[step.status], colour)
        seconds, bar = step.seconds, step_progress(step, now)
        if step.status in ("doing", "undoing"):
            # The spinner's time is the wall clock's, so that a new table goes on where the last one was.
            mark = Spinner("dots", style="cyan")
            mark.start_time = 0.0
            seconds = now - step.started_at if step.started_at else None
        note: RenderableType = Text(terminal.clean(step.detail), "dim")
        if bar is not None:
            note = ProgressBar(total=1.0, completed=bar, width=24)
        spelled = Text(terminal.spell(seconds) if seconds is not None else "", "dim")
        table.add_row(" ", mark, Text(terminal.clean(step.title or step.name), colour), spelled, note)
    head = Text(terminal.clean(say("job", job=job.id, title=job.title)), "bold")
    waiting = job.status == "waiting" and job.waiting_for
    foot = Text(terminal.clean(say("waiting_for", what=job.waiting_for)), "yellow") if waiting else Text("")
    return Group(head, table, foot) if waiting else Group(head, table)


def step_progress(step: Step, now: float) -> float | None:
    """How far a step is, 0 to 1: as reported, else by its estimate (never quite 1), else unknown."""
    if step.status != "doing":
        return None
    if step.progress is not None:
        return min(max(step.progress, 0.0), 1.0)
    if step.estimate_s is None or step.started_at is None or step.estimate_s[1] <= 0:
        return None
    return min(max(now - step.started_at, 0.0) / step.estimate_s[1], 0.99)


def story(job: Job) -> None:
    """How a job ended, with the last lines of the log where it failed."""
    text = job.story or f"{MARKS.get(job.status, '·')} {say(job.status)}"
    terminal.line(text, {"done": "green", "failed": "red", "undone": "yellow"}.get(job.status, ""))
    if job.error is None:
        return
    if job.error.text and job.error.text not in text:
        terminal.line(job.error.text, "red")
    tail = job.error.log_tail.rstrip().splitlines()[-TAIL_LINES:]
    if tail:
        terminal.line(say("log_tail"))
        terminal.line("\n".join(f"  {one}" for one in tail), "dim")
