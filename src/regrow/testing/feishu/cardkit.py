"""CardKit: cards as entities, changed in parts, with a strictly increasing sequence."""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.testing.feishu import cards
from regrow.testing.feishu.clock import EmulatorClock, Limit
from regrow.testing.feishu.codes import ApiError, CardError, required
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App

if TYPE_CHECKING:
    from regrow.testing.feishu.chats import Message


@dataclass(eq=False)
class Entity:
    """A card entity.

    Args:
        app: who made it; nobody else may use it.
        card: what it shows.
        created: seconds since 1970.
        sequence: the highest so far.
        sent: it can be sent once.
        streaming_since: of the timeline; None when streaming is off.
        closed: streaming ended by itself and nobody was told yet (200850 once).
    """

    app: App
    card: dict[str, Any]
    created: float
    id: str = field(default_factory=lambda: secrets.token_hex(9))
    sequence: int = 0
    sent: bool = False
    message: Message | None = None
    streaming_since: float | None = None
    closed: bool = False
    uuids: set[str] = field(default_factory=set)


class CardKit:
    """The entities of every app."""

    def __init__(self, clock: EmulatorClock, settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._entities: dict[str, Entity] = {}
        self._limit = Limit(clock, lambda: settings.per_card, 1.0)

    def limits(self) -> cards.Limits:
        """What a card is held to now."""
        own = self._settings
        return cards.Limits(own.card_bytes, own.card_elements, own.card_depth, own.card_tables)

    def create(self, app: App, body: dict[str, Any]) -> dict[str, Any]:
        """POST cards: `type` `card_json`, `data` the card."""
        if body.get("type") != "card_json":
            raise ApiError(99992402, "field validation failed: type is card_json")
        entity = Entity(app, self._parse(required(body, "data")), self._clock.now())
        self._set_streaming(entity, cards.streaming(entity.card))
        self._entities[entity.id] = entity
        return {"card_id": entity.id}

    def for_message(self, app: App, card_id: str) -> Entity:
        """The entity for a message that shows it.

        Raises:
            ApiError: 230099 around 200740, 300311, 200750, or for the second send.
        """
        entity = self._entities.get(card_id)
        if entity is None:
            raise CardError(200740, "card entity not found").for_message()
        if entity.app is not app:
            raise CardError(300311, "no permission for the card entity").for_message()
        if self._old(entity):
            raise CardError(200750, "card entity expired").for_message()
        if entity.sent:
            # That it is refused with 230099 is documented, the code inside is an assumption.
            raise CardError(11310, "the card entity was sent already").for_message()
        return entity

    def convert(self, app: App, body: dict[str, Any], messages: dict[str, Message]) -> dict[str, Any]:
        """POST cards/id_convert: the entity of a message."""
        message = messages.get(required(body, "message_id"))
        if message is None or message.entity is None or message.entity.app is not app:
            raise ApiError(200740, "card entity not found")
        return {"card_id": message.entity.id}

    def put(self, app: App, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT cards/{id}: the whole card."""
        entity = self._open(app, card_id, body)
        card = body.get("card")
        if not isinstance(card, dict) or card.get("type") != "card_json":
            raise ApiError(99992402, "field validation failed: card.type is card_json")
        return self._change(entity, body, self._parse(required(card, "data")))

    def settings(self, app: App, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH cards/{id}/settings: `config` of the card."""
        entity = self._open(app, card_id, body)
        return self._change(entity, body, self._with_settings(entity.card, required(body, "settings")))

    def batch(self, app: App, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST cards/{id}/batch_update: several actions, all or none."""
        entity = self._open(app, card_id, body)
        card = _copy(entity.card)
        for action in _json(required(body, "actions"), list, 99992402):
            card = self._act(card, action)
        return self._change(entity, body, card)

    def add(self, app: App, card_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST cards/{id}/elements."""
        entity = self._open(app, card_id, body)
        elements = _json(required(body, "elements"), list, 300315)
        return self._change(
            entity, body, _added(entity.card, str(body.get("type")), str(body.get("target_element_id") or ""), elements)
        )

    def element(self, app: App, card_id: str, element_id: str, body: dict[str, Any], verb: str) -> dict[str, Any]:
        """PUT, PATCH, DELETE cards/{id}/elements/{element_id}.

        Args:
            app: who calls.
            card_id, element_id: which.
            body: `element` or `partial_element`, `sequence`.
            verb: `PUT`, `PATCH` or `DELETE`.
        """
        entity = self._open(app, card_id, body)
        if verb == "DELETE":
            new = _deleted(entity.card, [element_id])
        elif verb == "PUT":
            new = _replaced(entity.card, element_id, _json(required(body, "element"), dict, 300313))
        else:
            new = _merged(entity.card, element_id, _json(required(body, "partial_element"), dict, 300313))
        return self._change(entity, body, new)

    def content(self, app: App, card_id: str, element_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT cards/{id}/elements/{element_id}/content: the whole text so far, while streaming."""
        entity = self._open(app, card_id, body)
        text = required(body, "content")
        if len(text) > 100_000:
            raise ApiError(99992402, "field validation failed: content has at most 100000 characters")
        if entity.streaming_since is None:
            if entity.closed:
                entity.closed = False
                raise ApiError(200850, "streaming mode was closed after its time")
            raise ApiError(300309, "streaming mode is closed")
        card = _copy(entity.card)
        place, index = _place(card, element_id)
        if place[index].get("tag") not in ("markdown", "plain_text"):
            raise ApiError(300310, "the element is neither markdown nor plain_text")
        place[index]["content"] = text
        return self._change(entity, body, card)

    def refresh(self) -> None:
        """Switch streaming off where its time is over."""
        for entity in self._entities.values():
            since = entity.streaming_since
            if since is not None and self._clock.timeline() - since >= self._settings.streaming_life:
                self._set_streaming(entity, False)
                entity.closed = True

    def answered(self, entity: Entity, card: dict[str, Any]) -> None:
        """Show the card of a click's answer."""
        entity.card = card

    def _open(self, app: App, card_id: str, body: dict[str, Any]) -> Entity:
        """Check everything that every operation on an entity has in common."""
        self.refresh()
        entity = self._entities.get(card_id)
        if entity is None:
            raise ApiError(200740, "card entity not found")
        if entity.app is not app:
            raise ApiError(300311, "no permission for the card entity")
        if self._old(entity):
            raise ApiError(200750, "card entity expired")
        if entity.message is not None and entity.message.locked:
            raise ApiError(200810, "a click on the card is being answered")
        if (wait := self._limit.take(card_id)) > 0:
            # The code of this limit is not documented: an assumption.
            raise ApiError(
                99991400,
                "request trigger frequency limit",
                status=429,
                headers={
                    "x-ogw-ratelimit-limit": str(self._settings.per_card),
                    "x-ogw-ratelimit-reset": str(int(wait) + 1),
                },
            )
        uuid = body.get("uuid")
        if uuid is not None and (not isinstance(uuid, str) or len(uuid) > 64):
            raise ApiError(99992402, "field validation failed: uuid has at most 64 characters")
        if uuid and uuid in entity.uuids:
            raise ApiError(200770, "uuid repeated")
        sequence = body.get("sequence")
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not entity.sequence < sequence < 1 << 31:
            raise ApiError(300317, "sequence number compare failed")
        return entity

    def _change(self, entity: Entity, body: dict[str, Any], card: dict[str, Any]) -> dict[str, Any]:
        card = self._parse(json.dumps(card, ensure_ascii=False))
        self._set_streaming(entity, cards.streaming(card))
        entity.card = card
        entity.sequence = body["sequence"]
        if body.get("uuid"):
            entity.uuids.add(body["uuid"])
        if entity.message is not None:
            entity.message.updated = self._clock.now_ms()
            entity.message.note(entity.message.updated)
        return {}

    def _set_streaming(self, entity: Entity, on: bool) -> None:
        if on and entity.streaming_since is None:
            entity.streaming_since = self._clock.timeline()
            entity.closed = False
        elif not on:
            entity.streaming_since = None
            if cards.streaming(entity.card):
                entity.card = _copy(entity.card)
                entity.card["config"]["streaming_mode"] = False

    def _old(self, entity: Entity) -> bool:
        return self._clock.now() - entity.created > self._settings.card_life

    def _parse(self, text: str) -> dict[str, Any]:
        try:
            return cards.parse(text, self.limits(), schema_2_only=True)
        except CardError as error:
            raise error.for_kit() from error

    def _with_settings(self, card: dict[str, Any], text: str) -> dict[str, Any]:
        changed = _json(text, dict, 300122)
        card = _copy(card)
        if not isinstance(changed.get("config", {}), dict) or set(changed) - {"config", "card_link"}:
            raise ApiError(300122, "settings hold config and card_link")
        card.setdefault("config", {}).update(changed.get("config", {}))
        if "card_link" in changed:
            card["card_link"] = changed["card_link"]
        return card

    def _act(self, card: dict[str, Any], action: Any) -> dict[str, Any]:
        params = action.get("params") if isinstance(action, dict) else None
        if not isinstance(params, dict):
            raise ApiError(99992402, "field validation failed: an action has params")
        name = action.get("action")
        if name == "partial_update_setting":
            settings = params.get("settings")
            return self._with_settings(card, settings if isinstance(settings, str) else json.dumps(settings))
        if name == "add_elements":
            elements = params.get("elements")
            if not isinstance(elements, list):
                raise ApiError(300315, "add_elements without elements")
            return _added(card, str(params.get("type")), str(params.get("target_element_id") or ""), elements)
        if name == "delete_elements":
            return _deleted(card, list(params.get("element_ids", [])))
        if name == "partial_update_element":
            return _merged(card, str(params.get("element_id")), dict(params.get("partial_element") or {}))
        if name == "update_element":
            return _replaced(card, str(params.get("element_id")), dict(params.get("element") or {}))
        raise ApiError(99992402, f"field validation failed: unknown action {name!r}")


def _copy(card: dict[str, Any]) -> dict[str, Any]:
    copy: dict[str, Any] = json.loads(json.dumps(card))
    return copy


def _json(text: str, kind: type, code: int) -> Any:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ApiError(code, "not JSON") from error
    if not isinstance(value, kind):
        raise ApiError(code, "wrong kind of JSON")
    return value


def _place(card: Any, element_id: str, code: int = 300313) -> tuple[list[Any], int]:
    """The list an element is in and its index there."""
    lists = [card.get("body", {}).get("elements", [])]
    while lists:
        elements = lists.pop()
        for index, element in enumerate(elements):
            if element.get("element_id") == element_id:
                return elements, index
            lists += [element[key] for key in ("elements", "columns") if isinstance(element.get(key), list)]
    raise ApiError(code, f"element {element_id} not found")


def _added(card: dict[str, Any], how: str, target: str, elements: list[Any]) -> dict[str, Any]:
    card = _copy(card)
    root = card.setdefault("body", {}).setdefault("elements", [])
    if how == "append" and not target:
        root += elements
    elif how == "append":
        place, index = _place(card, target, 300315)
        place[index].setdefault("elements", []).extend(elements)
    elif how in ("insert_before", "insert_after"):
        place, index = _place(card, target, 300315)
        index += how == "insert_after"
        place[index:index] = elements
    else:
        raise ApiError(300315, f"unknown type {how!r}")
    return card


def _deleted(card: dict[str, Any], element_ids: list[str]) -> dict[str, Any]:
    card = _copy(card)
    for element_id in element_ids:
        place, index = _place(card, element_id, 300314)
        del place[index]
    return card


def _replaced(card: dict[str, Any], element_id: str, element: dict[str, Any]) -> dict[str, Any]:
    card = _copy(card)
    place, index = _place(card, element_id)
    place[index] = {"element_id": element_id, **element}
    return card


def _merged(card: dict[str, Any], element_id: str, part: dict[str, Any]) -> dict[str, Any]:
    card = _copy(card)
    place, index = _place(card, element_id)
    if part.get("tag", place[index]["tag"]) != place[index]["tag"]:
        raise ApiError(300312, "the tag of an element cannot change")
    place[index].update(part)
    return card
