"""Whether a service is idle: nothing that people said to it is unanswered, and it says itself that it does nothing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regrow.errors import ProcessError
from regrow.process import run
from regrow.store import Store, forwards

if TYPE_CHECKING:
    import httpx

_ANSWER_S = 2.0
_COMMAND_S = 5.0
_LONGEST = 120
_MOST_BYTES = 65536


@dataclass(frozen=True)
class Busy:
    """What a service is busy with.

    Attributes:
        messages: how many that Regrow forwards are not answered yet.
        said: the first line of what the service says of itself, "" when it says nothing.
        conversations: how many it says it has under way.
        due: how many of its reminders are due before a drain would be over.
        drain_s: how long that is.
    """

    messages: int
    said: str
    conversations: int = 0
    due: int = 0
    drain_s: float = 0.0

    @property
    def interrupted(self) -> bool:
        """Whether a switch would cut anything off: forwarded messages alone are delivered through it (F33)."""
        return bool(self.said or self.conversations or self.due)


class Idle:
    """Asks one service.

    Args:
        store: the messages on their way.
        service: its name.
        url: an address of the service that answers 200 when it is idle, and otherwise says what it does; "" for none.
            An object of JSON may say more, with any status: `conversations`, how many are under way, and `due_in`, in
            how many seconds each of its next reminders is due.
        drain_s: how long the service goes on at a switch; what is due in that time would be interrupted.
        command: a program that says the same of a service that has no such address: its output is the answer, and code
            0 stands for 200. Empty for none.
    """

    def __init__(self, store: Store, service: str, url: str, drain_s: float = 0.0, command: Sequence[str] = ()) -> None:
        self._store = store
        self._service = service
        self._url = url
        self._drain_s = drain_s
        self._command = command

    async def busy(self) -> Busy | None:
        """What it is busy with, or None. One that cannot be asked is idle: nothing there would be interrupted."""
        waiting = (forwards.c.service == self._service, forwards.c.state == "waiting")
        count = sa.select(sa.func.count()).select_from(forwards).where(*waiting)
        messages = await self._store.read(lambda connection: int(connection.execute(count).scalar_one()))
        said, conversations, due = await self._ask()
        busy = messages or said or conversations or due
        return Busy(messages, said, conversations, due, self._drain_s) if busy else None

    async def _ask(self) -> tuple[str, int, int]:
        if self._command:
            try:
                done = await run(self._command, timeout_s=_COMMAND_S, keep_bytes=_MOST_BYTES)
            except ProcessError:
                return "", 0, 0
            return self._heard(done.output, done.code == 0, f"{self._command[0]}: {done.code}")
        if not self._url:
            return "", 0, 0
        import httpx  # only a job that waits for idleness needs it

        try:
            async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as client:
                answer: httpx.Response = await client.get(self._url)
        except (httpx.HTTPError, OSError):
            return "", 0, 0
        return self._heard(answer.text, answer.status_code == httpx.codes.OK, f"HTTP {answer.status_code}")

    def _heard(self, text: str, well: bool, otherwise: str) -> tuple[str, int, int]:
        """What an answer says: what it is busy with, conversations, reminders that are due."""
        if (told := _told(text)) is not None:
            due = sum(second <= self._drain_s for second in told[1])
            says = not well and not told[0] and not due
            return otherwise if says else "", told[0], due
        if well:
            return "", 0, 0
        first = next((line.strip() for line in text.splitlines() if line.strip()), otherwise)
        return first[:_LONGEST], 0, 0


def _told(text: str) -> tuple[int, list[float]] | None:
    """The conversations, and the seconds until each reminder, of an answer that is such an object; None otherwise."""
    if not text.lstrip().startswith("{") or len(text) > _MOST_BYTES:
        return None
    try:
        found = json.loads(text)
        conversations, due = found.get("conversations", 0), found.get("due_in", [])
        return max(0, int(conversations)), [float(seconds) for seconds in due]
    except (ValueError, TypeError):
        return None
