"""People who speak, mention, quote, click, react, recall, come and go."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from regrow.testing.feishu import cards
from regrow.testing.feishu.chats import Chat, Mention, Message, Person, Reaction
from regrow.testing.feishu.clicks import Click
from regrow.testing.feishu.gateway import Delivery
from regrow.testing.feishu.messages import put
from regrow.testing.feishu.tokens import App

if TYPE_CHECKING:
    from regrow.testing.feishu.emulator import FeishuEmulator

_LEFT = "contact.user.deleted_v3"


class User:
    """The hands of a person.

    Args:
        feishu: the emulator.
        person: who it is.
    """

    def __init__(self, feishu: FeishuEmulator, person: Person) -> None:
        self._feishu = feishu
        self.person = person

    @property
    def name(self) -> str:
        """What others write after the @."""
        return self.person.name

    @property
    def union_id(self) -> str:
        """The id over all apps of one developer."""
        return self.person.union_id

    def open_id(self, app: App | None = None) -> str:
        """The id within an app (the first one when not given)."""
        return self.person.open_id(app or self._feishu.app)

    def private(self, app: App | None = None) -> Chat:
        """The private chat with an app's bot."""
        return self._feishu.messages.private(self.person, app or self._feishu.app)

    async def say(
        self,
        chat: Chat,
        text: str,
        *,
        quote: Message | str | None = None,
        thread: Message | str | None = None,
        kind: str = "text",
        at: float | None = None,
    ) -> Message:
        """Say something. `@name` calls a person or bot of the chat, `@all` everyone.

        Args:
            chat: where.
            text: what; in a `post` every line is a paragraph.
            quote: the message that is answered.
            thread: a message whose topic it goes into; the topic is begun where there is none.
            kind: `text` or `post`.
            at: when, in seconds since 1970, in place of now.

        Returns:
            the message; its events are on their way (see `FeishuEmulator.delivery`).
        """
        mentions: list[Mention] = []
        members: list[Person | App] = [*chat.apps, *chat.people]
        for who in sorted(members, key=lambda each: -len(each.name)):
            if f"@{who.name}" in text:
                key = f"@_user_{len(mentions) + 1}"
                mentions.append(Mention(key, who))
                text = text.replace(f"@{who.name}", key)
        if "@all" in text or "@所有人" in text:
            text = text.replace("@所有人", "@_all").replace("@all", "@_all")
            mentions.append(Mention("@_all", None))
        content: dict[str, Any] = {"text": text}
        if kind == "post":
            content = {"title": "", "content": [_runs(line, mentions) for line in text.split("\n")]}
        return self._put(chat, kind, content, mentions, quote=quote, thread=thread, at=at)

    async def send(
        self,
        chat: Chat,
        kind: str,
        content: dict[str, Any],
        *,
        quote: Message | str | None = None,
        at: float | None = None,
    ) -> Message:
        """Send a message of any kind: `image` `{"image_key"}`, `file` `{"file_key", "file_name"}`, `sticker`, ...

        Args:
            chat: where.
            kind: `msg_type`.
            content: its JSON.
            quote, at: as for `say`.
        """
        return self._put(chat, kind, content, [], quote=quote, thread=None, at=at)

    def _put(
        self,
        chat: Chat,
        kind: str,
        content: dict[str, Any],
        mentions: list[Mention],
        *,
        quote: Message | str | None,
        thread: Message | str | None,
        at: float | None,
    ) -> Message:
        created = self._feishu.clock.now_ms() if at is None else int(at * 1000)
        message = Message(chat, self.person, kind, json.dumps(content, ensure_ascii=False), created, mentions=mentions)
        above = quote if thread is None else thread
        parent = None if above is None else self._feishu.message(above)
        put(message, parent, in_thread=thread is not None)
        self._feishu.messages.add(message)
        self._feishu.announce(message)
        return message

    async def click(
        self, message: Message | str, action: str, *, confirm: bool = False, form: dict[str, Any] | None = None
    ) -> Click:
        """Press a button of a card, by its text, name or element_id, and wait for what is shown.

        Args:
            message: with the card.
            action: the button.
            confirm: say yes to its question.
            form: values by the names of the form's elements.

        Raises:
            LookupError: no such button.
        """
        return await self._feishu.clicks.press(
            self.person, self._feishu.message(message), action, confirm=confirm, form=form
        )

    async def forge(
        self,
        message: Message | str,
        value: Any,
        *,
        message_id: str = "",
        chat_id: str = "",
        event_id: str = "",
    ) -> Click:
        """Send a press that the card does not offer: another value, another message or chat, an old event.

        Args:
            message: whose card an answer would change.
            value: of the button.
            message_id, chat_id, event_id: in place of the right ones.
        """
        target = self._feishu.message(message)
        app = target.sender
        if not isinstance(app, App):
            raise LookupError("cannot forge a press on a message of a person: take one of a bot")
        context = {"open_message_id": message_id or target.id, "open_chat_id": chat_id or target.chat.id}
        action = {"tag": "button", "value": value, "timezone": "Asia/Shanghai"}
        return await self._feishu.clicks.send(self.person, app, target, action, context=context, event_id=event_id)

    async def forward(self, message: Message | str, chat: Chat) -> Message:
        """Forward a message into another chat.

        Raises:
            PermissionError: the card does not allow it, or it is streaming.
        """
        original = self._feishu.message(message)
        card = original.card
        if card is not None and (not cards.config(card, "enable_forward", True) or cards.streaming(card)):
            raise PermissionError("cannot forward this card: its settings forbid it")
        copy = Message(
            chat,
            original.sender,
            original.kind,
            json.dumps(card, ensure_ascii=False) if card is not None else original.content,
            self._feishu.clock.now_ms(),
            forwarded=original,
        )
        return self._feishu.messages.add(copy)

    async def react(self, message: Message | str, emoji: str = "THUMBSUP") -> list[Delivery]:
        """Put an emoji on a message; apps that subscribed get `im.message.reaction.created_v1`."""
        target = self._feishu.message(message)
        target.reactions.append(Reaction(f"r_{secrets.token_hex(12)}", emoji, self.person))
        return self._tell(
            target,
            "im.message.reaction.created_v1",
            lambda app: {
                "message_id": target.id,
                "reaction_type": {"emoji_type": emoji},
                "operator_type": "user",
                "user_id": self.person.ids(app),
                "action_time": str(self._feishu.clock.now_ms()),
            },
        )

    async def recall(self, message: Message | str) -> list[Delivery]:
        """Take a message back; apps that subscribed get `im.message.recalled_v1`."""
        target = self._feishu.message(message)
        target.recalled = True
        return self._tell(
            target,
            "im.message.recalled_v1",
            lambda app: {
                "message_id": target.id,
                "chat_id": target.chat.id,
                "recall_time": str(self._feishu.clock.now_ms()),
                "recall_type": "message_owner",
            },
        )

    def _tell(self, message: Message, event_type: str, event: Any) -> list[Delivery]:
        return [
            self._feishu.gateway.publish(app, event_type, event(app))
            for app in message.chat.apps
            if event_type in app.events and app.published
        ]

    def leave(self, chat: Chat | None = None) -> None:
        """Leave a chat, or the tenant when none is given; apps that subscribed get `contact.user.deleted_v3`."""
        if chat is not None:
            chat.people.remove(self.person)
            return
        self.person.employed = False
        for app in self._feishu.messages.apps:
            if _LEFT in app.events and app.published:
                self._feishu.gateway.publish(app, _LEFT, {"object": {"name": self.name, **self.person.ids(app)}})
        for each in self._feishu.messages.chats.values():
            if each.kind == "group" and self.person in each.people:
                each.people.remove(self.person)


def _runs(line: str, mentions: list[Mention]) -> list[dict[str, Any]]:
    """A paragraph of a post: texts and calls in the order of the line."""
    runs: list[dict[str, Any]] = [{"tag": "text", "text": line}]
    for mention in sorted(mentions, key=lambda each: -len(each.key)):
        split: list[dict[str, Any]] = []
        for run in runs:
            if run["tag"] != "text":
                split.append(run)
                continue
            for index, piece in enumerate(run["text"].split(mention.key)):
                if index:
                    split.append({"tag": "at", "user_id": mention.key, "user_name": mention.name, "style": []})
                if piece:
                    split.append({"tag": "text", "text": piece, "style": []})
        runs = split
    return runs
