"""The message calls of an app: send, reply, patch, edit, recall, read, history, reactions, uploads, who is where."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

from regrow.testing.feishu import cards
from regrow.testing.feishu.cardkit import CardKit
from regrow.testing.feishu.chats import Chat, Mention, Message, Person, Reaction, post_of
from regrow.testing.feishu.clock import EmulatorClock, Limit
from regrow.testing.feishu.codes import ApiError, CardError, required
from regrow.testing.feishu.journal import Journal
from regrow.testing.feishu.settings import Settings
from regrow.testing.feishu.tokens import App

KINDS = frozenset(
    {"text", "post", "interactive", "image", "file", "audio", "media", "sticker", "share_chat", "share_user"}
)
RECEIVERS = frozenset({"chat_id", "open_id", "union_id", "user_id", "email"})
_TEXT_AT = re.compile(r"<at\s+user_id\s*=\s*[\"']?([^\s\"'>]+)[\"']?\s*>(.*?)</at>")
_EVERYONE = ("all", "@all", "@_all")


class Messages:
    """Every chat, person and message, and what an app may do to them.

    Args:
        clock, journal: the platform's.
        settings: limits.
        kit: CardKit, for messages that show an entity.
        tenant_key: of the tenant.
    """

    def __init__(
        self, clock: EmulatorClock, settings: Settings, journal: Journal, *, kit: CardKit, tenant_key: str
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._settings = settings
        self._kit = kit
        self.tenant_key = tenant_key
        self.apps: list[App] = []
        self.people: list[Person] = []
        self.chats: dict[str, Chat] = {}
        self.messages: dict[str, Message] = {}
        self.uploads: dict[str, tuple[App, str, bytes]] = {}
        self._by_uuid: dict[tuple[App, str], tuple[Message, float]] = {}
        self._by_second = Limit(clock, lambda: settings.per_chat, 1.0)
        self._by_patch = Limit(clock, lambda: settings.per_message, 1.0)

    # Sending

    def send(self, app: App, receiver: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST messages.

        Args:
            app: who sends.
            receiver: `receive_id_type`.
            body: `receive_id`, `msg_type`, `content`, `uuid`.

        Returns:
            the message as `data`.

        Raises:
            ApiError: codes of section 4 of the protocol notes.
        """
        if receiver not in RECEIVERS:
            raise ApiError(99992402, "field validation failed: receive_id_type is required")
        chat = self._target(app, receiver, required(body, "receive_id"))
        return self._place(app, chat, body, parent=None, in_thread=False)

    def reply(self, app: App, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST messages/{id}/reply: `content`, `msg_type`, `reply_in_thread`, `uuid`."""
        parent = self._find(message_id)
        if parent.recalled:
            raise ApiError(230011, "The message was withdrawn.")
        in_thread = bool(body.get("reply_in_thread"))
        if in_thread and not parent.chat.topics:
            raise ApiError(230071, "The operator does not support replying in a thread.")
        return self._place(app, parent.chat, body, parent=parent, in_thread=in_thread)

    def _place(
        self, app: App, chat: Chat, body: dict[str, Any], *, parent: Message | None, in_thread: bool
    ) -> dict[str, Any]:
        kind, content = required(body, "msg_type"), required(body, "content")
        uuid = body.get("uuid") or ""
        if not isinstance(uuid, str) or len(uuid) > 50:
            raise ApiError(99992402, "field validation failed: uuid has at most 50 characters")
        if uuid and (known := self._by_uuid.get((app, uuid))) and known[1] > self._clock.monotonic():
            return self.view(known[0], app)
        self._may_speak(app, chat)
        message = Message(chat, app, kind, content, self._clock.now_ms(), uuid=uuid)
        self._check(app, message)
        if self._by_second.take(chat.id):
            raise ApiError(230020, "This operation triggers the frequency limit.")
        if message.entity is not None:
            message.entity.sent = True
        put(message, parent, in_thread=in_thread)
        self.add(message)
        if uuid:
            self._by_uuid[app, uuid] = (message, self._clock.monotonic() + self._settings.uuid_life)
        return self.view(message, app)

    def add(self, message: Message) -> Message:
        """Let a message be seen in its chat."""
        message.updated = message.created
        message.note(message.created)
        message.chat.messages.append(message)
        self.messages[message.id] = message
        self._journal.record(
            "message", message_id=message.id, chat=message.chat.name, who=message.sender.name, kind=message.kind
        )
        return message

    def crowd(self, chat: Chat) -> None:
        """Let another bot use up what may be said in a chat in this second."""
        while not self._by_second.take(chat.id):
            pass

    def _target(self, app: App, receiver: str, identity: str) -> Chat:
        if receiver == "chat_id":
            chat = self.chats.get(identity)
            if chat is None:
                raise ApiError(230001, "Your request contains an invalid request parameter, ext=invalid receive_id")
            return chat
        return self.private(self.person(app, receiver, identity), app)

    def person(self, app: App, kind: str, identity: str) -> Person:
        """The person with this id.

        Raises:
            ApiError: 99992361 an open_id of another app, 99992351 unknown.
        """
        for person in self.people:
            known = {"open_id": person.open_id(app), "union_id": person.union_id, "user_id": person.user_id}
            if known.get(kind, person.email or None) == identity:
                return person
            if kind == "open_id" and any(person.open_id(other) == identity for other in self.apps):
                raise ApiError(99992361, "open_id cross app")
        raise ApiError(99992351, f"not a valid {{{kind}}} {{id not exist}}, example value: {identity[:8]}")

    def private(self, person: Person, app: App) -> Chat:
        """The private chat of a person and a bot; made when there is none."""
        for chat in self.chats.values():
            if chat.kind == "p2p" and chat.people == [person] and chat.apps == [app]:
                return chat
        chat = Chat(f"{person.name} and {app.name}", "p2p", [person], [app])
        self.chats[chat.id] = chat
        return chat

    def _may_speak(self, app: App, chat: Chat) -> None:
        if not app.bot:
            raise ApiError(230006, "Bot ability is not activated.")
        if chat.dissolved:
            raise ApiError(232009, "Your request specifies a chat which has already been dissolved.")
        if app not in chat.apps:
            raise ApiError(230002, "The bot can not be outside the group.")
        if chat.kind == "p2p" and not chat.people[0].employed:
            raise ApiError(230029, "User has resigned.")
        if chat.muted:
            raise ApiError(230018, "These operations are not allowed at current group settings.")

    def _check(self, app: App, message: Message) -> None:
        """Check the content of a message that an app sends or edits, and note whom it calls."""
        if message.kind not in KINDS:
            raise ApiError(230001, "Your request contains an invalid request parameter, ext=invalid msg_type")
        size = len(message.content.encode())
        if message.kind == "text" and size > self._settings.text_bytes:
            raise ApiError(230025, "The length of the message content reaches its limit.")
        if message.kind == "post" and size > self._settings.card_bytes:
            raise ApiError(230025, "The length of the message content reaches its limit.")
        if message.kind == "interactive":
            self._check_card(app, message)
            return
        try:
            content = json.loads(message.content)
        except ValueError:
            content = None
        if not isinstance(content, dict):
            raise ApiError(
                230001, "Your request contains an invalid request parameter, ext=content is not in JSON format"
            )
        if message.kind == "text":
            if not isinstance(content.get("text"), str) or not content["text"]:
                raise ApiError(230001, "Your request contains an invalid request parameter, ext=text is empty")
            message.content = self._take_mentions(app, message, content)
        elif message.kind == "post":
            if not isinstance(post_of(content).get("content"), list):
                raise ApiError(230001, "Your request contains an invalid request parameter, ext=post has no content")
            for run in (run for line in post_of(content)["content"] for run in line):
                message.alerts_all |= run.get("tag") == "at" and run.get("user_id") in _EVERYONE
        elif message.kind in ("image", "file"):
            key = content.get(f"{message.kind}_key")
            if key not in self.uploads or self.uploads[key][0] is not app:
                raise ApiError(230017, "The bot is not the owner of the resource.")

    def _take_mentions(self, app: App, message: Message, content: dict[str, Any]) -> str:
        def take(match: re.Match[str]) -> str:
            if match[1] in _EVERYONE:
                message.alerts_all = True
                return "@_all"
            mention = Mention(f"@_user_{len(message.mentions) + 1}", self.person(app, "open_id", match[1]))
            message.mentions.append(mention)
            return mention.key

        message.mentions = []
        content["text"] = _TEXT_AT.sub(take, content["text"])
        if "@_all" in content["text"]:
            message.mentions.append(Mention("@_all", None))
        return json.dumps(content, ensure_ascii=False)

    def _check_card(self, app: App, message: Message) -> None:
        try:
            content = json.loads(message.content)
        except ValueError:
            content = None
        if isinstance(content, dict) and content.get("type") == "card":
            entity = self._kit.for_message(app, str(content.get("data", {}).get("card_id", "")))
            message.entity = entity
            entity.message = message
            return
        try:
            card = cards.parse(message.content, self._kit.limits())
        except CardError as error:
            raise error.for_message() from error
        for identity in cards.mentioned(card):
            if identity == "all":
                message.alerts_all = True
                continue
            try:
                self.person(app, "open_id", identity)
            except ApiError as error:
                raise CardError(100290, f"invalid user {identity[:8]} in an at").for_message() from error

    # Changing

    def patch(self, app: App, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH messages/{id}: another card in its place."""
        message = self._find(message_id)
        content = required(body, "content")
        if message.kind != "interactive":
            raise ApiError(230054, "This operation is not supported for this message type.")
        if message.recalled:
            raise ApiError(230011, "The message was withdrawn.")
        if message.sender is not app:
            raise ApiError(230031, "The app that patches is not the sender.")
        if self._clock.now() - message.created / 1000 > self._settings.card_life:
            raise ApiError(230031, "The message was sent more than 14 days ago.")
        if message.locked:
            raise CardError(11310, "card action is lock").for_message()
        old = message.card or {}
        draft = Message(message.chat, app, "interactive", content, self._clock.now_ms())
        self._check(app, draft)
        new = draft.card or {}
        if any(not cards.is_2(card) and not cards.config(card, "update_multi", False) for card in (old, new)):
            raise ApiError(230031, "update_multi is not true before and after.")
        if self._by_patch.take(message.id):
            raise ApiError(230020, "This operation triggers the frequency limit.")
        message.entity = draft.entity
        message.alerts_all |= draft.alerts_all
        message.say(content, self._clock.now_ms())
        return {}

    def edit(self, app: App, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PUT messages/{id}: other words in a text or post."""
        message = self._find(message_id)
        kind, content = required(body, "msg_type"), required(body, "content")
        if kind not in ("text", "post") or message.kind not in ("text", "post"):
            raise ApiError(230054, "This operation is not supported for this message type.")
        if message.recalled:
            raise ApiError(230011, "The message was withdrawn.")
        if message.sender is not app:
            raise ApiError(230071, "The operator is not the sender of the message.")
        if message.edits >= self._settings.edits:
            raise ApiError(230072, "The message has reached the number of times it can be edited.")
        if self._clock.now() - message.created / 1000 > self._settings.edit_life:
            raise ApiError(230075, "The message is past the time in which it can be edited.")
        draft = Message(message.chat, app, kind, content, self._clock.now_ms())
        self._check(app, draft)
        message.edits += 1
        message.kind, message.mentions = kind, draft.mentions
        message.alerts_all |= draft.alerts_all
        message.say(draft.content, self._clock.now_ms())
        return self.view(message, app)

    def recall(self, app: App, message_id: str) -> dict[str, Any]:
        """DELETE messages/{id}."""
        message = self._find(message_id)
        if message.sender is not app:
            raise ApiError(230026, "No permission to recall this message.")
        if message.recalled:
            raise ApiError(230011, "The message was withdrawn.")
        message.recalled = True
        return {}

    def urgent(self, app: App, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """PATCH messages/{id}/urgent_app."""
        message = self._find(message_id)
        who = body.get("user_id_list")
        if not isinstance(who, list) or not 1 <= len(who) <= 200:
            raise ApiError(230001, "Your request contains an invalid request parameter, ext=user_id_list")
        if message.sender is not app:
            raise ApiError(230026, "No permission: only own messages can be urgent.")
        for identity in who:
            self.person(app, "open_id", identity)
        message.urgent += who
        return {"invalid_user_id_list": []}

    # Reading

    def read(self, app: App, message_id: str) -> dict[str, Any]:
        """GET messages/{id}."""
        message = self._find(message_id)
        self._may_read(app, message.chat)
        return {"items": [self.view(message, app)]}

    def history(self, app: App, query: dict[str, str]) -> dict[str, Any]:
        """GET messages: by `container_id_type` `chat` (roots of topics only) or `thread` (times are ignored)."""
        kind, container = query.get("container_id_type"), query.get("container_id", "")
        try:
            size = int(query.get("page_size", "20"))
            start, end = (int(query[name]) if query.get(name) else None for name in ("start_time", "end_time"))
            offset = int(query.get("page_token") or 0)
        except ValueError as error:
            raise ApiError(230001, "Your request contains an invalid request parameter, ext=not a number") from error
        if not 1 <= size <= 50:
            raise ApiError(99992402, "field validation failed: page_size is 1 to 50")
        order = query.get("sort_type", "ByCreateTimeAsc")
        if order not in ("ByCreateTimeAsc", "ByCreateTimeDesc"):
            raise ApiError(99992402, "field validation failed: sort_type")
        if kind == "chat":
            chat = self.chats.get(container)
            if chat is None:
                raise ApiError(230001, "Your request contains an invalid request parameter, ext=invalid container_id")
            found = [message for message in chat.messages if not message.thread_id or message.parent is None]
            found = [
                message
                for message in found
                # Seconds in, milliseconds out; both ends belong to it.
                if (start is None or message.created // 1000 >= start)
                and (end is None or message.created // 1000 <= end)
            ]
        elif kind == "thread":
            found = [message for message in self.messages.values() if message.thread_id == container]
            if not found:
                raise ApiError(230001, "Your request contains an invalid request parameter, ext=invalid container_id")
            chat = found[0].chat
        else:
            raise ApiError(99992402, "field validation failed: container_id_type is chat or thread")
        self._may_read(app, chat)
        found = [message for message in dict.fromkeys(found) if not message.deleted]
        found.sort(key=lambda message: message.created)
        if order.endswith("Desc"):
            found.reverse()
        page = found[offset : offset + size]
        more = offset + size < len(found)
        return {
            "has_more": more,
            "page_token": str(offset + size) if more else "",
            "items": [self.view(message, app, historic=True) for message in page],
        }

    def _may_read(self, app: App, chat: Chat) -> None:
        if app not in chat.apps:
            raise ApiError(230002, "The bot can not be outside the group.")
        if chat.kind == "group" and "im:message.group_msg" not in app.scopes:
            # The code is an assumption; that the permission is needed is documented.
            raise ApiError(230027, "Lack of necessary permissions, ext=need scope: im:message.group_msg")

    def _find(self, message_id: str) -> Message:
        message = self.messages.get(message_id)
        if message is None:
            raise ApiError(99992354, "not a valid {message_id}, id not exist")
        if message.deleted:
            raise ApiError(230110, "The message has been deleted.")
        return message

    def view(self, message: Message, app: App, *, historic: bool = False) -> dict[str, Any]:
        """A message as answers carry it: ids as texts with their type, times in milliseconds.

        Args:
            message: which.
            app: for whose ids.
            historic: cards come back changed, as they do from the history.
        """
        sender = message.sender
        content = message.content
        if message.recalled:
            content = "This message was recalled"
        elif message.kind == "interactive" and historic and not self._settings.full_cards_in_history:
            lines = message.text.split("\n")
            content = json.dumps(
                {"title": None, "elements": [[{"tag": "text", "text": line}] for line in lines]}, ensure_ascii=False
            )
        view: dict[str, Any] = {
            "message_id": message.id,
            "msg_type": message.kind,
            "create_time": str(message.created),
            "update_time": str(message.updated),
            "deleted": message.recalled,
            "updated": len(message.versions) > 1,
            "chat_id": message.chat.id,
            "sender": {
                "id": sender.app_id if isinstance(sender, App) else sender.open_id(app),
                "id_type": "app_id" if isinstance(sender, App) else "open_id",
                "sender_type": "app" if isinstance(sender, App) else "user",
                "tenant_key": self.tenant_key if isinstance(sender, App) else sender.tenant_key,
            },
            "body": {"content": content},
        }
        view.update(_threads(message))
        if message.mentions and not message.recalled:
            view["mentions"] = [
                {
                    "key": mention.key,
                    "id": "all" if mention.who is None else _open_id(mention.who, app),
                    "id_type": "open_id",
                    "name": mention.name,
                    "tenant_key": self.tenant_key,
                }
                for mention in message.mentions
            ]
        return view

    def event(self, message: Message, app: App) -> dict[str, Any]:
        """A person's message as `im.message.receive_v1` carries it to `app`: ids of mentions are objects here."""
        assert isinstance(message.sender, Person)
        body: dict[str, Any] = {
            "message_id": message.id,
            "create_time": str(message.created),
            "update_time": str(message.updated),
            "chat_id": message.chat.id,
            "chat_type": message.chat.kind,
            "message_type": message.kind,
            "content": message.content,
        }
        body.update(_threads(message))
        mentions = [
            {
                "key": mention.key,
                "id": {"open_id": mention.who.open_id} if isinstance(mention.who, App) else mention.who.ids(app),
                "name": mention.name,
                "tenant_key": self.tenant_key,
            }
            for mention in message.mentions
            if mention.who is not None
        ]
        if mentions:
            body["mentions"] = mentions
        return {
            "sender": {
                "sender_id": message.sender.ids(app),
                "sender_type": "user",
                "tenant_key": message.sender.tenant_key,
            },
            "message": body,
        }

    # Reactions

    def react(self, app: App, message_id: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST messages/{id}/reactions."""
        message = self._find(message_id)
        if app not in message.chat.apps:
            raise ApiError(230002, "The bot can not be outside the group.")
        kind = body.get("reaction_type")
        emoji = required(kind if isinstance(kind, dict) else {}, "emoji_type")
        if not re.fullmatch(r"[A-Za-z0-9_]+", emoji):
            raise ApiError(231001, "reaction type is invalid")
        reaction = Reaction(f"r_{secrets.token_hex(12)}", emoji, app)
        message.reactions.append(reaction)
        return self._reaction(reaction, app)

    def reactions(self, app: App, message_id: str) -> dict[str, Any]:
        """GET messages/{id}/reactions."""
        message = self._find(message_id)
        return {"items": [self._reaction(each, app) for each in message.reactions], "has_more": False, "page_token": ""}

    def unreact(self, app: App, message_id: str, reaction_id: str) -> dict[str, Any]:
        """DELETE messages/{id}/reactions/{reaction_id}."""
        message = self._find(message_id)
        for reaction in message.reactions:
            if reaction.id == reaction_id:
                if reaction.who is not app:
                    raise ApiError(231007, "only own reactions can be removed")
                message.reactions.remove(reaction)
                return self._reaction(reaction, app)
        raise ApiError(231003, "the reaction does not exist")

    def _reaction(self, reaction: Reaction, app: App) -> dict[str, Any]:
        bot = isinstance(reaction.who, App)
        return {
            "reaction_id": reaction.id,
            "operator": {
                "operator_id": reaction.who.app_id if isinstance(reaction.who, App) else reaction.who.open_id(app),
                "operator_type": "app" if bot else "user",
            },
            "action_time": str(self._clock.now_ms()),
            "reaction_type": {"emoji_type": reaction.emoji},
        }

    # Files, chats, people

    def upload(self, app: App, kind: str, fields: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
        """POST images, files.

        Args:
            app: who uploads, and may send it.
            kind: `image` or `file`.
            fields: of the form, each with its file name.
        """
        name, data = fields.get(kind, ("", b""))
        wanted = "image_type" if kind == "image" else "file_type"
        if wanted not in fields:
            raise ApiError(234001, f"Invalid request param: {wanted} is missing")
        if not data:
            raise ApiError(234010, "File's size can't be 0.")
        if len(data) > self._settings.file_bytes:
            raise ApiError(234006, "The file size exceed the max value.")
        if kind == "file" and "file_name" in fields:
            name = fields["file_name"][1].decode()
        key = f"{'img' if kind == 'image' else 'file'}_{secrets.token_hex(16)}"
        self.uploads[key] = (app, name, data)
        return {f"{kind}_key": key}

    def chat(self, app: App, chat_id: str) -> dict[str, Any]:
        """GET chats/{id}."""
        chat = self._chat(app, chat_id)
        return {
            "name": chat.name if chat.kind == "group" else "",
            "chat_mode": chat.kind,
            "chat_type": "private",
            "chat_status": "dissolved" if chat.dissolved else "normal",
            "tenant_key": self.tenant_key,
            "user_count": str(len(chat.people)),
            "bot_count": str(len(chat.apps)),
        }

    def joined(self, app: App) -> dict[str, Any]:
        """GET chats: the groups a bot is in."""
        items = [
            {"chat_id": chat.id, "name": chat.name, "tenant_key": self.tenant_key, "chat_status": "normal"}
            for chat in self.chats.values()
            if chat.kind == "group" and app in chat.apps and not chat.dissolved
        ]
        return {"items": items, "has_more": False, "page_token": ""}

    def members(self, app: App, chat_id: str) -> dict[str, Any]:
        """GET chats/{id}/members: people only, bots are not listed."""
        chat = self._chat(app, chat_id)
        items = [
            {
                "member_id": person.open_id(app),
                "member_id_type": "open_id",
                "name": person.name,
                "tenant_key": person.tenant_key,
            }
            for person in chat.people
        ]
        return {"items": items, "has_more": False, "page_token": "", "member_total": len(items)}

    def _chat(self, app: App, chat_id: str) -> Chat:
        chat = self.chats.get(chat_id)
        if chat is None:
            raise ApiError(232006, "Your request specifies a chat_id which is invalid.")
        if app not in chat.apps:
            raise ApiError(232011, "Operator can NOT be out of the chat.")
        return chat

    def user(self, app: App, kind: str, identity: str) -> dict[str, Any]:
        """GET contact users/{id}."""
        return {"user": self._user(app, self.person(app, kind, identity))}

    def users(self, app: App, kind: str, identities: list[str]) -> dict[str, Any]:
        """GET contact users/batch: those not found are left out."""
        items = []
        for identity in identities:
            try:
                items.append(self._user(app, self.person(app, kind, identity)))
            except ApiError:
                continue
        return {"items": items}

    def found(self, app: App, kind: str, body: dict[str, Any]) -> dict[str, Any]:
        """POST contact users/batch_get_id: one row for every address and number, without an id where nobody is seen."""
        rows: list[dict[str, Any]] = []
        for name, values in (("email", body.get("emails")), ("mobile", body.get("mobiles"))):
            for value in values if isinstance(values, list) else []:
                who = next((person for person in self.people if value and getattr(person, name) == value), None)
                ids = {**who.ids(app), "open_id": who.open_id(app)} if who is not None and who.employed else {}
                rows.append({name: value} | ({"user_id": ids[kind]} if kind in ids else {}))
        return {"user_list": rows}

    def _user(self, app: App, person: Person) -> dict[str, Any]:
        return {
            **person.ids(app),
            "name": person.name,
            "status": {
                "is_frozen": False,
                "is_resigned": not person.employed,
                "is_activated": person.employed,
                "is_exited": False,
                "is_unjoin": False,
            },
        }

    def seen_by(self, app: App) -> Iterator[Message]:
        """Every message in chats the app's bot is in, oldest first."""
        for message in self.messages.values():
            if app in message.chat.apps:
                yield message


def put(message: Message, parent: Message | None, *, in_thread: bool) -> None:
    """Say where a message stands: under `parent`, and in its topic when there is one or one is asked for."""
    if parent is None:
        return
    message.parent = parent
    message.root = parent.root or parent
    if in_thread or parent.thread_id:
        root = message.root
        if not parent.thread_id:
            # The message that is answered becomes the root of the new topic.
            root = message.root = parent
            root.thread_id = root.thread_id or f"omt_{secrets.token_hex(8)}"
        message.thread_id = parent.thread_id or root.thread_id
        # Inside a topic root and parent are both the topic's root.
        message.parent = root


def _threads(message: Message) -> dict[str, str]:
    found = {}
    if message.root is not None:
        found["root_id"] = message.root.id
    if message.parent is not None:
        found["parent_id"] = message.parent.id
    if message.thread_id:
        found["thread_id"] = message.thread_id
    return found


def _open_id(who: Person | App, app: App) -> str:
    return who.open_id if isinstance(who, App) else who.open_id(app)
