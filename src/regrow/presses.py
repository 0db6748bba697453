"""A button pressed in a chat, made a request.

It counts only when its message shows it now, in its own chat, pressed by a person with the role, and once. Forwarded
and outdated messages do nothing (F35, F37).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from regrow.api import types
from regrow.asking import SAY, Asked, button
from regrow.catalogue import Language, say
from regrow.channels.base import Address, Outgoing, Press, Pressed
from regrow.errors import RegrowError
from regrow.jobs.ledger import Ledger
from regrow.outbox import Outbox
from regrow.permissions import Permissions
from regrow.requests import Requests


class Presses:
    """Carries out presses.

    Args:
        outbox: what messages show.
        ledger: in which language.
        requests: the way of every request.
        permissions: who pressed.
        refusal: a refusal in words.
        tell: brings a job's messages up to date.
        answer: takes a button of a question for the words it stands for, and returns whether it counted.
        language: of what is about no job.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        ledger: Ledger,
        requests: Requests,
        permissions: Permissions,
        refusal: Callable[[RegrowError, Language], str],
        tell: Callable[[int], Awaitable[object]],
        answer: Callable[[Press, Outgoing], Awaitable[bool]],
        language: Language,
    ) -> None:
        self._language = language
        self._outbox = outbox
        self._ledger = ledger
        self._requests = requests
        self._permissions = permissions
        self._refusal = refusal
        self._tell = tell
        self._answer = answer

    async def take(self, press: Press) -> Pressed:
        """Carry out a press, or say why not. The press of somebody without the role changes nothing and is recorded."""
        message = await self._outbox.shown(press.channel, press.message)
        if message is None:
            return Pressed(False, say(self._language, "press.changed"))  # not one of ours, or not recorded yet
        language = self._language if message.job is None else (await self._ledger.get(message.job)).language
        if not self._at_home(press, message.address):
            return Pressed(False, say(language, "press.elsewhere"))
        if press.action not in {choice.action for choice in message.content.choices}:
            return Pressed(False, say(language, "press.changed"), message)
        if press.action.startswith(SAY):
            if not await self._answer(press, message):
                return Pressed(False, say(language, "press.changed"), message)
            return Pressed(True, "", await self._outbox.shown(press.channel, press.message))
        asked = Asked(
            person=self._permissions.find(press.channel, press.sender),
            name=press.sender_name,
            address=Address(press.channel, message.address.chat, press.message),
            language=language,
            identity=press.sender,
            words=next(shown.label for shown in message.content.choices if shown.action == press.action),
            understood="button",
        )
        ok, text = True, ""
        try:
            intent, args = button(press.action)
            done = await self._requests.carry_out(intent, args, asked)
            text = done.text if isinstance(done, types.Answer) else ""
        except RegrowError as error:
            ok, text = False, self._refusal(error, language)
        if message.job is not None:
            await self._tell(message.job)
        return Pressed(ok, text, await self._outbox.shown(press.channel, press.message))

    def _at_home(self, press: Press, address: Address) -> bool:
        """Whether it was pressed where it was sent: in that chat or topic, or by the one person it was sent to."""
        if address.chat == press.chat or address.chat.startswith(f"{press.chat}/"):
            return True
        receiver = self._permissions.find(address.channel, address.chat)
        return receiver is not None and receiver == self._permissions.find(press.channel, press.sender)
