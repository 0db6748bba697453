"""Whether a service is idle: nothing that people said to it is unanswered, and it says itself that it does nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from regrow.store import Store, forwards

if TYPE_CHECKING:
    import httpx

_ANSWER_S = 2.0
_LONGEST = 120


@dataclass(frozen=True)
class Busy:
    """What a service is busy with.

    Attributes:
        messages: how many that Regrow forwards are not answered yet.
        said: the first line of what the service says of itself, "" when it says nothing.
    """

    messages: int
    said: str


class Idle:
    """Asks one service.

    Args:
        store: the messages on their way.
        service: its name.
        url: an address of the service that answers 200 when it is idle, and otherwise says what it does; "" for none.
    """

    def __init__(self, store: Store, service: str, url: str) -> None:
        self._store = store
        self._service = service
        self._url = url

    async def busy(self) -> Busy | None:
        """What it is busy with, or None. One that cannot be asked is idle: nothing there would be interrupted."""
        waiting = (forwards.c.service == self._service, forwards.c.state == "waiting")
        count = sa.select(sa.func.count()).select_from(forwards).where(*waiting)
        messages = await self._store.read(lambda connection: int(connection.execute(count).scalar_one()))
        said = await self._ask() if self._url else ""
        return Busy(messages, said) if messages or said else None

    async def _ask(self) -> str:
        import httpx  # only a job that waits for idleness needs it

        try:
            async with httpx.AsyncClient(timeout=_ANSWER_S, trust_env=False) as client:
                answer: httpx.Response = await client.get(self._url)
        except (httpx.HTTPError, OSError):
            return ""
        if answer.status_code == httpx.codes.OK:
            return ""
        first = next((line.strip() for line in answer.text.splitlines() if line.strip()), f"HTTP {answer.status_code}")
        return first[:_LONGEST]
