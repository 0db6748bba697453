"""What an agent hears: one answer to one of its requests."""

from __future__ import annotations

import json
from collections.abc import Mapping

from starlette.types import Send

from regrow.errors import RegrowError
from regrow.models.base import Dialect

NEVER_AGAIN = {"x-should-retry": "false"}
"""Tells the clients of both providers not to try again."""


class Answer:
    """Writes an answer, whole or in parts, or says why there is none.

    Attributes:
        begun: whether the agent has heard the status.
        failure: what it was told that went wrong; None: nothing.
    """

    def __init__(self, send: Send, speaks: Dialect) -> None:
        self._send = send
        self._dialect = speaks
        self.begun = False
        self.failure: RegrowError | None = None

    async def empty(self) -> None:
        """200, and nothing."""
        await self._head(200, {"content-length": "0"})
        await self._body(b"", more=False)

    async def whole(self, status: int, content: bytes, headers: Mapping[str, str]) -> None:
        """A JSON object in one piece."""
        size = {"content-type": "application/json", "content-length": str(len(content))}
        await self._head(status, {**size, **headers})
        await self._body(content, more=False)

    async def begin(self, headers: Mapping[str, str]) -> None:
        """Events follow, by `part`, up to `end`."""
        kinds = {"content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store"}
        await self._head(200, {**kinds, **headers})

    async def part(self, content: bytes) -> None:
        """More of the events."""
        await self._body(content, more=True)

    async def end(self) -> None:
        """No more of them."""
        await self._body(b"", more=False)

    async def fail(self, status: int, error: RegrowError, headers: Mapping[str, str]) -> None:
        """An error in the agent's dialect; in the middle of events it is one more, and the last."""
        self.failure = error
        if self.begun:
            await self.part(self._dialect.error_event(error.kind, str(error)))
            await self.end()
        else:
            said = json.dumps(self._dialect.error(status, error.kind, str(error)), ensure_ascii=False)
            await self.whole(status, said.encode(), headers)

    async def _head(self, status: int, headers: Mapping[str, str]) -> None:
        self.begun = True
        pairs = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send({"type": "http.response.start", "status": status, "headers": pairs})

    async def _body(self, content: bytes, *, more: bool) -> None:
        await self._send({"type": "http.response.body", "body": content, "more_body": more})
