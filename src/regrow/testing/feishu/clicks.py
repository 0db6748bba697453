"""Presses of buttons: one attempt, an answer in time, a toast, another card; and the delayed update by its token."""

from __future__ import annotations

import asyncio
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from regrow.testing.feishu import cards
from regrow.testing.feishu.cardkit import CardKit
from regrow.testing.feishu.chats import Message, Person
from regrow.testing.feishu.clock import EmulatorClock
from regrow.testing.feishu.codes import ApiError, CardError
from regrow.testing.feishu.gateway import CLICK, Delivery, Gateway
from regrow.testing.feishu.journal import Journal
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App

TOASTS = frozenset({"info", "success", "error", "warning"})


@dataclass
class Click:
    """What a person sees after a press.

    Args:
        shown: `toast`, `nothing` (answered without a toast), `error` (with `code`), or, when nothing was sent:
            `dialog` (the button asks for a confirmation), `disabled`, `required` (a field of the form is empty),
            `expired` (the card is too old), `inert` (a forwarded card).
        code: 0, or the number that the person sees: 200340, 200341, 200671, 200672, 200673, 200830.
        toast: of the answer.
        dialog: title and text of the question.
        changed: whether the answer changed the card.
        token: the credential of the delayed update.
        delivery: of the callback, None when nothing was sent.
        again: of the second delivery, where a fault asked for one.
    """

    shown: str
    code: int = 0
    toast: dict[str, Any] | None = None
    dialog: dict[str, Any] | None = None
    changed: bool = False
    token: str = field(default="", repr=False)
    delivery: Delivery | None = None
    again: Delivery | None = None

    @property
    def text(self) -> str:
        """The words of the toast, or ''."""
        return str(self.toast.get("content", "")) if self.toast else ""


@dataclass(eq=False)
class _Token:
    message: Message
    app: App
    until: float
    answered: bool = False
    uses: int = 0


class Clicks:
    """Sends presses to their app and shows what it answers."""

    def __init__(
        self, clock: EmulatorClock, settings: Settings, journal: Journal, gateway: Gateway, kit: CardKit
    ) -> None:
        self._clock = clock
        self._settings = settings
        self._journal = journal
        self._gateway = gateway
        self._kit = kit
        self._tokens: dict[str, _Token] = {}

    async def press(
        self,
        person: Person,
        message: Message,
        action: str,
        *,
        confirm: bool = False,
        form: dict[str, Any] | None = None,
    ) -> Click:
        """Press a button.

        Args:
            person: who presses; anyone who sees a card can.
            message: with the card.
            action: text, name or element_id of the button.
            confirm: answer the question of the button with yes.
            form: values of the form that the button is in.

        Raises:
            LookupError: there is no such button; the text has the card as people read it.
        """
        card = message.card
        if card is None or message.recalled:
            raise LookupError(f"cannot press {action!r}: message {message.id} shows no card")
        button, within = self._find(card, action)
        if button.get("disabled"):
            return self._note(Click("disabled"), person, action)
        if self._clock.now() - message.created / 1000 > self._settings.card_life:
            return self._note(Click("expired"), person, action)
        if message.forwarded is not None and not cards.config(card, "enable_forward_interaction", False):
            return self._note(Click("inert"), person, action)
        if button.get("form_action_type") == "reset":
            return self._note(Click("nothing"), person, action)
        values = self._filled(within, form or {}) if within is not None else None
        if within is not None and values is None:
            return self._note(Click("required"), person, action)
        question = button.get("confirm") or (within or {}).get("confirm")
        if question and not confirm:
            return self._note(Click("dialog", dialog=question), person, action)
        callbacks = [each for each in button.get("behaviors", []) if each.get("type") == "callback"]
        value = callbacks[0].get("value") if callbacks else button.get("value")
        app = message.sender
        assert isinstance(app, App)
        if value is None and values is None:
            return self._note(Click("error", 200340), person, action)
        event: dict[str, Any] = {"tag": "button", "timezone": "Asia/Shanghai"}
        if value is not None:
            event["value"] = value
        if values is not None:
            event["name"] = button.get("name", "")
            event["form_value"] = values
        return self._note(await self.send(person, app, message, event), person, action)

    async def send(
        self,
        person: Person,
        app: App,
        message: Message,
        action: dict[str, Any],
        *,
        context: dict[str, str] | None = None,
        event_id: str = "",
    ) -> Click:
        """Send a callback as it is, whatever the card says: for presses that nobody could make.

        Args:
            person: the operator.
            app: whose callback it is.
            message: whose card an answer changes.
            action: the part `action` of the event.
            context: ids in place of the message's own.
            event_id: in place of a new one.
        """
        if not app.published or CLICK not in app.callbacks or app.callback_mode != "websocket":
            return Click("error", 200340)
        token = f"c-{secrets.token_hex(16)}"
        known = self._tokens[token] = _Token(message, app, self._clock.monotonic() + self._settings.click_token_life)
        operator = {"tenant_key": person.tenant_key, **person.ids(app)}
        event = {
            "operator": operator,
            "token": token,
            "action": action,
            "host": "im_message",
            "context": {"open_message_id": message.id, "open_chat_id": message.chat.id, **(context or {})},
        }
        header = {"event_id": event_id} if event_id else None
        delivery = Delivery(app, self._gateway.envelope(app, CLICK, event, header))
        again = None
        message.locked = True
        try:
            if self._gateway.faults.take("repeat_clicks"):
                again = Delivery(app, delivery.body)
                result, _ = await asyncio.gather(self._gateway.call(delivery), self._gateway.call(again))
            else:
                result = await self._gateway.call(delivery)
        finally:
            message.locked = False
            known.answered = True
        click = self._show(message, result, delivery.answer)
        click.token, click.delivery, click.again = token, delivery, again
        return click

    def _show(self, message: Message, result: str, answer: Any) -> Click:
        # 200341 without any client is an assumption.
        if result in ("no client", "timeout"):
            return Click("error", 200341)
        if result != "200":
            return Click("error", 200671)
        if answer is None or answer == {}:
            return Click("nothing")
        if not isinstance(answer, dict) or set(answer) - {"toast", "card"}:
            return Click("error", 200672)
        toast, part = answer.get("toast"), answer.get("card")
        if toast is not None and (
            not isinstance(toast, dict)
            or toast.get("type", "info") not in TOASTS
            or not isinstance(toast.get("content", ""), str)
        ):
            return Click("error", 200672)
        changed = False
        if part is not None:
            code = self._replace(message, part)
            if code:
                return Click("error", code)
            changed = not cards.streaming(message.card or {})
        return Click("toast" if toast else "nothing", toast=toast, changed=changed)

    def _replace(self, message: Message, part: Any) -> int:
        """Show the card of an answer; the result is a code that the person sees, or 0."""
        if not isinstance(part, dict) or part.get("type") != "raw" or not isinstance(part.get("data"), dict):
            return 200673
        old = message.card or {}
        try:
            new = cards.parse(json.dumps(part["data"], ensure_ascii=False), self._kit.limits())
        except CardError:
            return 200673
        if cards.is_2(old) and not cards.is_2(new):
            return 200830
        if cards.streaming(old):
            return 0
        self._put(message, new)
        return 0

    def _put(self, message: Message, card: dict[str, Any]) -> None:
        message.alerts_all |= "all" in cards.mentioned(card)
        if message.entity is not None:
            message.entity.card = card
            message.updated = self._clock.now_ms()
            message.note(message.updated)
        else:
            message.say(json.dumps(card, ensure_ascii=False), self._clock.now_ms())

    def update(self, app: App, body: dict[str, Any]) -> dict[str, Any]:
        """POST /interactive/v1/card/update: half an hour, twice, and only after the click was answered."""
        known = self._tokens.get(str(body.get("token")))
        if known is None:
            raise ApiError(300020, "token is malformed")
        if known.app is not app:
            raise ApiError(200310, "card of another app")
        if known.until <= self._clock.monotonic():
            raise ApiError(300030, "token expired")
        if known.uses >= self._settings.click_token_uses:
            raise ApiError(300040, "token used up")
        if known.message.recalled:
            raise ApiError(200000, "card was recalled")
        text = json.dumps(body.get("card"), ensure_ascii=False)
        if len(text.encode()) > self._settings.card_bytes:
            raise ApiError(100000, "card is too large")
        try:
            card = cards.parse(text, self._kit.limits())
        except CardError as error:
            raise ApiError(11311, error.reason) from error
        if not known.answered:
            self._journal.record("note", what="delayed update before the answer: undone", message_id=known.message.id)
            return {}
        known.uses += 1
        self._put(known.message, card)
        return {}

    def _find(self, card: dict[str, Any], action: str) -> tuple[dict[str, Any], dict[str, Any] | None]:
        found: dict[str, tuple[dict[str, Any], dict[str, Any] | None]] = {}
        for button, form in cards.find_buttons(card):
            for rank, name in enumerate(
                (button.get("element_id"), button.get("name"), (button.get("text") or {}).get("content"))
            ):
                if name == action:
                    found.setdefault(str(rank), (button, form))
        if found:
            return found[min(found)]
        raise LookupError(f"cannot press {action!r}: no such button on the card\n{cards.reading(card)}")

    def _filled(self, form: dict[str, Any], given: dict[str, Any]) -> dict[str, Any] | None:
        """The values of a form, or None when a required one is empty (or too long) and the client does not send it."""
        values: dict[str, Any] = {}
        for element in cards.walk(form):
            name = element.get("name")
            if not name or element["tag"] in ("form", "button"):
                continue
            value = given.get(name, element.get("default_value", ""))
            if element.get("required") and not value:
                return None
            if element["tag"] == "input" and len(str(value)) > element.get("max_length", 1000):
                return None
            values[name] = value
        return values

    def _note(self, click: Click, person: Person, action: str) -> Click:
        self._journal.record(
            "click", who=person.name, action=action, shown=click.shown, code=click.code, toast=click.text
        )
        return click
