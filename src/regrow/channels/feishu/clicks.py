"""Card actions: answered before the platform gives up on them, carried out elsewhere.

Whether a press counts is decided by `regrow.presses`, as for every other button.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog

from regrow.catalogue import languages, say
from regrow.channels.base import Press, Pressed
from regrow.channels.feishu.connection import Answer
from regrow.channels.feishu.messages import NAME, Reader

log = structlog.get_logger("feishu")

_ANSWER_S = 2.2  # the user sees an error after 3 s, both ways included
_REMEMBERED = 2000
_LOCALES = {
    **{"zh": "zh_cn", "zh-TW": "zh_tw", "zh-HK": "zh_hk", "en": "en_us", "ja": "ja_jp", "ko": "ko_kr", "vi": "vi_vn"},
    **{"th": "th_th", "id": "id_id", "ms": "ms_my", "de": "de_de", "es": "es_es", "fr": "fr_fr", "it": "it_it"},
    **{"pt": "pt_br", "ru": "ru_ru"},
}
"""What the platform calls the languages of its clients."""
_KINDS = {True: "success", False: "error"}

Draw = Callable[[Pressed, str], dict[str, Any] | None]
TakePress = Callable[[Press], Awaitable[Pressed]]


class Clicks:
    """Answers presses of one app.

    Args:
        reader: for who pressed.
        take: decides and carries out.
        draw: the card that shows a message now, or None.
        answer_s: seconds until the person is told that it takes longer.
    """

    def __init__(self, reader: Reader, take: TakePress, draw: Draw, answer_s: float = _ANSWER_S) -> None:
        self._reader = reader
        self._take = take
        self._draw = draw
        self._answer_s = answer_s
        self._known: OrderedDict[str, asyncio.Task[Pressed]] = OrderedDict()
        self._open: dict[str, int] = {}

    def locked(self, message: str) -> bool:
        """Whether a press of a button of this message is being answered: the platform refuses to change it then."""
        return message in self._open

    async def handle(self, event: Mapping[str, Any]) -> Answer:
        """Answer one `card.action.trigger`, always in time and always with code 200."""
        body, header = _map(event, "event"), _map(event, "header")
        operator, context, action = _map(body, "operator"), _map(body, "context"), _map(body, "action")
        message = str(context.get("open_message_id") or "")
        self._open[message] = self._open.get(message, 0) + 1

        def sent() -> None:
            self._open[message] -= 1
            if not self._open[message]:
                del self._open[message]

        value = action.get("value")
        home, from_ = header.get("tenant_key"), operator.get("tenant_key")
        sender, name = self._reader.identity(
            str(operator.get("open_id") or ""),
            str(operator.get("union_id") or ""),
            outside=bool(home and from_ and home != from_),
        )
        press = Press(
            channel=NAME,
            chat=str(context.get("open_chat_id") or ""),
            message=message,
            sender=sender,
            sender_name=name,
            action=str(value.get("action") or "") if isinstance(value, dict) else "",
        )
        task = self._once(str(header.get("event_id") or ""), press)
        try:
            done, _ = await asyncio.wait({task}, timeout=self._answer_s)
        except asyncio.CancelledError:
            sent()
            raise
        if not done:
            return Answer(_toast("info", "press.working"), sent)
        if task.cancelled() or task.exception() is not None:
            return Answer(_toast("error", "press.failed"), sent)
        pressed = task.result()
        answer: dict[str, Any] = {"toast": {"type": _KINDS[pressed.ok], "content": pressed.text or "✓"}}
        if (card := self._draw(pressed, message)) is not None:
            answer["card"] = {"type": "raw", "data": card}
        return Answer(answer, sent)

    async def close(self) -> None:
        """Let presses that are being carried out end."""
        running = [task for task in self._known.values() if not task.done()]
        if running:
            await asyncio.wait(running, timeout=self._answer_s)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    def _once(self, event_id: str, press: Press) -> asyncio.Task[Pressed]:
        """The press behind an event; one delivered twice is one press."""
        known = self._known.get(event_id) if event_id else None
        if known is not None:
            return known
        task = asyncio.create_task(self._carry_out(press), name="feishu press")
        self._known[event_id or f"?{id(task)}"] = task
        while len(self._known) > _REMEMBERED and next(iter(self._known.values())).done():
            self._known.popitem(last=False)
        return task

    async def _carry_out(self, press: Press) -> Pressed:
        try:
            return await self._take(press)
        except Exception:
            log.exception("a press could not be carried out", action="feishu_press_failure", message=press.message)
            raise


def _toast(kind: str, key: str) -> dict[str, Any]:
    """A toast in the language of the person's client, where it is one that can be spoken."""
    words = {_LOCALES[tag]: say(tag, key) for tag in languages() if tag in _LOCALES}
    return {"toast": {"type": kind, "content": words["zh_cn"], "i18n": words}}


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}
