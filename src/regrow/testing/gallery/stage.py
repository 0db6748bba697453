"""Where scenes are played: jobs that stand where a scene says, and what is sent because of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from regrow.api.types import ENDED, JobStatus, Kind
from regrow.catalogue import LANGUAGES, Language
from regrow.channels.base import Address, Content
from regrow.jobs.ledger import Record
from regrow.jobs.plans import plan
from regrow.jobs.work import Progress
from regrow.testing.parts import Parts

WHO = "林涛"
AGENT = "Claude Code"
_SECONDS = {
    **{"check": 0.02, "workspace": 0.4, "test": 11.6, "build": 72.3, "release": 0.3, "turn": 0.01, "snapshot": 0.2},
    **{"rehearse": 2.1, "candidate": 3.4, "switch": 0.2, "bake": 30.0, "promote": 0.1, "reproduce": 41.0},
    **{"agent": 96.0, "gate": 0.2, "verify": 25.0, "weigh": 0.01, "approve": 61.0, "commit": 0.1},
}


@dataclass(frozen=True)
class Message:
    """One message of the page.

    Attributes:
        section: of the page.
        title: what it is, in English.
        text: as it is sent.
        buttons: their labels.
        bar: 0 to 1, where a bar is shown.
    """

    section: str
    title: str
    text: str
    buttons: tuple[str, ...] = ()
    bar: float | None = None


class Stage:
    """See the head of this file.

    Args:
        parts: everything around one service.
        language: of all that is said.

    Attributes:
        shown: what was sent so far.
    """

    def __init__(self, parts: Parts, language: Language) -> None:
        self.parts, self.language = parts, language
        self.shown: list[Message] = []
        self._section = ""
        self._said = self._jobs = 0
        self._names: dict[str, str] = {}

    def section(self, title: str) -> None:
        """Begin a part of the page."""
        self._section = title

    def show(self, title: str, content: Content | str) -> None:
        """Put a message on the page."""
        content = Content(content) if isinstance(content, str) else content
        text = content.text
        for real, name in self._names.items():
            text, title = text.replace(real, name), title.replace(real, name)
        labels = tuple(choice.label for choice in content.choices)
        self.shown.append(Message(self._section, title, text, labels, content.bar))

    def call(self, real: str, name: str) -> None:
        """Show what is made by chance, such as a commit's id, under a name that stays the same; before and after."""
        self._names[real] = name
        self.shown = [
            replace(one, title=one.title.replace(real, name), text=one.text.replace(real, name)) for one in self.shown
        ]

    async def serve(self, version: str = "abc1234", **changes: Any) -> None:
        """Let a release serve."""
        release = await self.parts.release()
        self.call(release.version, version)
        self.parts.serve(release, **changes)

    async def clear(self) -> None:
        """End what is under way, so that the next scene begins with nothing."""
        for record in await self.parts.ledger.live():
            await self.parts.ledger.change(record.id, status="cancelled")
        self.parts.runner.progresses.clear()

    def settings(self, section: str, **values: Any) -> None:
        """Change settings of the service."""
        config = self.parts.care.config
        changed = getattr(config, section).model_copy(update=values)
        object.__setattr__(self.parts.care, "config", config.model_copy(update={section: changed}))

    def part(self, **parts: Any) -> None:
        """Change what the service is surrounded by."""
        for name, value in parts.items():
            object.__setattr__(self.parts.care, name, value)

    # What people say

    def spoken(self, zh: str, en: str) -> str:
        """The words of a request: Chinese for Chinese, English for everybody else."""
        return zh if self.language == LANGUAGES[0] else en

    async def says(self, title: str, zh: str, en: str, *, who: str = "owner", age: float = 0.0) -> None:
        """Somebody says something, and the answers are shown."""
        before = len(await self.parts.sent())
        self._said += 1
        words = self.spoken(zh, en)
        await self.parts.conversations.handle(self.parts.message(words, f"m{self._said}", who=who, age=age))
        rows = (await self.parts.outgoing())[before:]
        for row in rows:
            if row.key.startswith("notice-"):
                continue  # has a section of its own
            self.show(f"{title}: “{en}”", row.content)

    # Jobs

    async def job(
        self,
        kind: Kind,
        *,
        at: str = "",
        mark: str = "doing",
        status: JobStatus | None = None,
        args: Mapping[str, str] | None = None,
        result: Mapping[str, Any] | None = None,
        progress: Progress | None = None,
        undone: Sequence[str] = (),
        settings: bool = False,
        start: bool = True,
        language: Language | None = None,
        **columns: Any,
    ) -> Record:
        """A job that stands at a step.

        Args:
            kind: what it does.
            at: the step it has come to; "" for not begun, or for done where it has ended.
            mark: the status of that step.
            status: of the job; that of the step unless given.
            args: of the request.
            result: the facts so far.
            progress: of the running step.
            undone: steps that were taken back.
            settings: whether the service has files of settings.
            start: whether a changed setting takes a fresh process.
            columns: more of the job, e.g. `error`.
        """
        parts = self.parts
        steps = plan(kind, data=True, keep=True, settings=settings, start=start)
        self._jobs += 1
        about = {"bug": self.spoken("定时任务在北京时间7点没触发", "the 7 o'clock job did not run")}
        base = about if kind == "repair" else {"release": "r7"}
        record, _ = await parts.ledger.open(
            service="tiny",
            kind=kind,
            plan=steps,
            # No two are the same request: the second would join the first.
            args={**base, "stage": str(self._jobs), **(args or {})},
            key=f"job {self._jobs}",
            language=language or self.language,
            asked_by=WHO,
            person="owner",
            address=Address("feishu", "oc_team", "om_1"),
        )
        ended = status in ENDED
        reached = steps.index(at) if at else (len(steps) if ended else -1)
        rows = [self._row(name, number, reached, mark, undone) for number, name in enumerate(steps)]
        now = parts.clock.now()
        await parts.ledger.change(
            record.id,
            steps=rows,
            status=status or (mark if at else "todo"),
            started_at=now - 300 if at or ended else None,
            ended_at=now if ended else None,
            result=dict(result or {}),
            **columns,
        )
        if progress is not None:
            began = parts.clock.monotonic() + progress.began
            parts.runner.progresses[record.id] = replace(progress, began=began)
        return await parts.ledger.get(record.id)

    @staticmethod
    def _row(name: str, number: int, reached: int, mark: str, undone: Sequence[str]) -> dict[str, Any]:
        if name in undone:
            return {"name": name, "status": "undone", "seconds": _SECONDS.get(name, 0.1)}
        if number < reached:
            return {"name": name, "status": "done", "seconds": _SECONDS.get(name, 0.1)}
        if number == reached:
            return {"name": name, "status": mark} | ({} if mark in {"doing", "waiting"} else {"seconds": 4.2})
        return {"name": name, "status": "todo"}

    async def tell(self, title: str, record: Record, *, live: bool = True, result: bool = False) -> None:
        """Show what a job's messages say now."""
        await self.parts.conversations.tell(record.id)
        for row in await self.parts.outgoing():
            if live and row.key == f"job-{record.id}-live":
                self.show(title, row.content)
            if result and row.key == f"job-{record.id}-result":
                self.show(title, row.content)

    async def live(self, title: str, kind: Kind, **at: Any) -> None:
        """A job's live message."""
        await self.tell(title, await self.job(kind, **at))

    async def ended(self, title: str, kind: Kind, status: JobStatus = "done", **at: Any) -> None:
        """A job's last message."""
        await self.tell(title, await self.job(kind, status=status, **at), live=False, result=True)


def running(
    seconds: float, detail: str = "", part: float | None = None, estimate: tuple[float, float] | None = None
) -> Progress:
    """How far a step is that has run for some seconds when it is put on a stage."""
    return Progress(detail, part, estimate, -seconds)
