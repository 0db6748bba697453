"""The first words between a person and the bot, while no daemon runs yet.

A message with a code proves that events arrive, and tells who wrote it; a press of the button on the test message
proves that callbacks do. The connection stays open all the while: the platform's console takes the setting "long
connection" only from an app that has one. Whatever else is said meanwhile is not acknowledged: the platform brings it
again, to the daemon.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import secrets
from collections.abc import Awaitable
from contextlib import ExitStack
from typing import Any, Self, TypeVar

from regrow.catalogue import Language, say
from regrow.channels.base import Address, Choice, Content, Outgoing
from regrow.channels.feishu import cards, messages
from regrow.channels.feishu.api import Api, App
from regrow.channels.feishu.checks import CLICK, MESSAGE
from regrow.channels.feishu.connection import Answer, Connection, Timing
from regrow.channels.feishu.lease import lease
from regrow.channels.feishu.messages import Said
from regrow.clock import Clock, SystemClock
from regrow.errors import Refused, RegrowError

_DIGITS = 8  # nobody who does not see it will guess it in the minutes it is good for
_SPACE = re.compile(r"[\s\-]")
T = TypeVar("T")


class Greeting:
    """One connection of an app that waits for its first message.

    Args:
        app: which.
        api: its calls.
        language: of the test message.
        clock: the time.
        timing: of the connection.

    Attributes:
        code: what the message has to have in it.
    """

    def __init__(
        self, app: App, api: Api, language: Language, clock: Clock | None = None, timing: Timing | None = None
    ) -> None:
        self._app = app
        self._api = api
        self._language: Language = language
        self._stack = ExitStack()
        self._task: asyncio.Task[None] | None = None
        self._opened = asyncio.Event()
        self._heard: asyncio.Queue[Said] = asyncio.Queue()
        self._pressed = asyncio.Event()
        self._connection = Connection(
            api, self._handle, self._opened.set, clock or SystemClock(), proxy=app.proxy, timing=timing
        )
        self.code = f"{secrets.randbelow(10**_DIGITS):0{_DIGITS}}"

    async def __aenter__(self) -> Self:
        """Begin to connect.

        Raises:
            Refused: kind "locked": another process of this machine has the app's connection.
        """
        self._stack.enter_context(lease(self._app.base_url, self._app.app_id))
        self._task = asyncio.create_task(self._connection.run(), name="feishu greeting")
        return self

    async def __aexit__(self, *_: object) -> None:
        """End the connection; what was heard is acknowledged."""
        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RegrowError):
            await self._task
        self._stack.close()

    async def opened(self, within_s: float) -> str:
        """Wait for the connection; "" once it is open, else why it is not."""
        try:
            opened = await self._within(self._opened.wait(), within_s)
        except RegrowError as refused:
            return str(refused)
        return "" if opened else self._connection.error

    async def hear(self, within_s: float) -> Said | None:
        """Wait for the message with the code, whatever else is said meanwhile; None when none came.

        Raises:
            RegrowError: the platform ended the connection for good.
        """
        return await self._within(self._heard.get(), within_s)

    async def test(self, receiver: str) -> None:
        """Send the message with the button.

        Args:
            receiver: a chat ("oc_...") or a person ("ou_...").

        Raises:
            FeishuError: it was not taken.
        """
        button = Choice(self._say("button"), self._action)
        card = cards.card(self._outgoing(Content(self._say("text"), (button,))))
        await self._api.send(receiver, "interactive", card, f"regrow-setup-{secrets.token_hex(8)}")

    async def pressed(self, within_s: float) -> bool:
        """Wait for a press of the button.

        Raises:
            RegrowError: the platform ended the connection for good.
        """
        return bool(await self._within(self._pressed.wait(), within_s))

    async def _within(self, wait: Awaitable[T], within_s: float) -> T | None:
        """The result of a wait; None when time is up. The end of the connection ends the wait too."""
        assert self._task is not None
        waiting = asyncio.ensure_future(wait)
        try:
            await asyncio.wait({waiting, self._task}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if waiting.done():
                return waiting.result()
            if self._task.done():
                self._task.result()
            return None
        finally:
            waiting.cancel()

    async def _handle(self, event: dict[str, Any]) -> Answer:
        header = event.get("header")
        kind = header.get("event_type") if isinstance(header, dict) else ""
        if kind == MESSAGE:
            said = messages.of_event(event)
            if said is None or said.outside or self.code not in _SPACE.sub("", _words(said)):
                raise Refused("cannot take this message: it is for the daemon; the platform brings it again")
            self._heard.put_nowait(said)
        elif kind == CLICK and self._action == _action(event):
            self._pressed.set()
            shown = json.loads(cards.card(self._outgoing(Content(self._say("done")))))
            toast = {"type": "success", "content": self._say("done")}
            return Answer({"toast": toast, "card": {"type": "raw", "data": shown}})
        return Answer()

    @property
    def _action(self) -> str:
        return f"setup:{self.code}"

    def _outgoing(self, content: Content) -> Outgoing:
        return Outgoing(self._action, Address(messages.NAME, ""), content)

    def _say(self, key: str) -> str:
        return say(self._language, f"setup.card.{key}")


def _words(said: Said) -> str:
    return messages.text_of(said.kind, said.content, said.mentions, "")


def _action(event: dict[str, Any]) -> str:
    found: Any = event
    for key in ("event", "action", "value", "action"):
        found = found.get(key) if isinstance(found, dict) else None
    return str(found)
