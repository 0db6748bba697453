"""Events and history of the platform become messages. What is quoted or attached comes along as evidence."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from regrow.channels.base import Address, Incoming
from regrow.channels.feishu.api import Api
from regrow.channels.feishu.refusals import FeishuError

log = structlog.get_logger("feishu")

NAME = "feishu"
_EVIDENCE_S = 1.6  # for quote and attachment; an event has to be on disk well before 3 s
_EVIDENCE_BYTES = 32 * 1024
_EVIDENCE_LINES = 400
_TEXT_CHARACTERS = 100_000
_MENTION = re.compile(r"@_user_\d+")
_ID = re.compile(r"[A-Za-z0-9_=-]{1,128}")


@dataclass(frozen=True)
class Said:
    """A message as event and history have it in common.

    Attributes:
        message, parent, chat, thread: ids; "" where there is none.
        private: whether it was said to the bot alone.
        sender_open, sender_union: ids of the person.
        outside: the sender belongs to another tenant.
        kind: text, post, file, image, interactive ...
        content: its JSON as text.
        mentions: open_id and name by key.
        created_at: seconds since 1970.
    """

    message: str
    parent: str
    chat: str
    thread: str
    private: bool
    sender_open: str
    sender_union: str
    outside: bool
    kind: str
    content: str
    mentions: Mapping[str, tuple[str, str]]
    created_at: float

    @property
    def place(self) -> str:
        """The chat of the address: a topic is a chat of its own, so that answers go there."""
        return f"{self.chat}/{self.thread}" if self.thread else self.chat


def place(chat: str) -> tuple[str, str]:
    """The inverse of `Said.place`: chat and topic."""
    room, _, thread = chat.partition("/")
    return room, thread


def of_event(event: Mapping[str, Any]) -> Said | None:
    """The message of an `im.message.receive_v1`, or None when it is no person's or cannot be used."""
    body, header = _map(event, "event"), _map(event, "header")
    message, sender = _map(body, "message"), _map(body, "sender")
    if _text(sender, "sender_type") != "user":
        return None
    ids = _map(sender, "sender_id")
    mentions = {
        _text(m, "key"): (_text(_map(m, "id"), "open_id"), _text(m, "name")) for m in _maps(message, "mentions")
    }
    home, from_ = _text(header, "tenant_key"), _text(sender, "tenant_key")
    return _checked(
        Said(
            message=_text(message, "message_id"),
            parent=_text(message, "parent_id"),
            chat=_text(message, "chat_id"),
            thread=_text(message, "thread_id"),
            private=_text(message, "chat_type") == "p2p",
            sender_open=_text(ids, "open_id"),
            sender_union=_text(ids, "union_id"),
            outside=bool(home and from_ and home != from_),
            kind=_text(message, "message_type"),
            content=_text(message, "content"),
            mentions=mentions,
            created_at=_seconds(_text(message, "create_time")),
        )
    )


def ids_of_leaver(event: Mapping[str, Any]) -> list[str]:
    """The ids of who has left, in a `contact.user.deleted_v3`."""
    person = _map(_map(event, "event"), "object")
    return [found for name in ("open_id", "union_id") if (found := _text(person, name))]


def of_history(item: Mapping[str, Any], private: bool) -> Said | None:
    """A message of the history; its mentions and sender have another shape there."""
    sender = _map(item, "sender")
    if _text(sender, "sender_type") != "user" or item.get("deleted") is True:
        return None
    mentions = {_text(m, "key"): (_text(m, "id"), _text(m, "name")) for m in _maps(item, "mentions")}
    return _checked(
        Said(
            message=_text(item, "message_id"),
            parent=_text(item, "parent_id"),
            chat=_text(item, "chat_id"),
            thread=_text(item, "thread_id"),
            private=private,
            sender_open=_text(sender, "id"),
            sender_union="",
            outside=False,
            kind=_text(item, "msg_type"),
            content=_text(_map(item, "body"), "content"),
            mentions=mentions,
            created_at=_seconds(_text(item, "create_time")),
        )
    )


def _checked(said: Said) -> Said | None:
    ids = (said.message, said.chat, said.sender_open)
    optional = (said.parent, said.thread)
    if not all(map(_ID.fullmatch, ids)) or not all(map(_ID.fullmatch, filter(None, optional))) or not said.created_at:
        log.warning("a message without its ids", action="feishu_bad_message", message=said.message[:80])
        return None
    return said


class Reader:
    """Turns what was said into an `Incoming`.

    Args:
        api: for quotes and attachments.
        name_of: what people call an identity, None for a stranger. A person may be known by open_id or union_id.
    """

    def __init__(self, api: Api, name_of: Callable[[str], str | None]) -> None:
        self._api = api
        self._name_of = name_of

    def identity(self, open_id: str, union_id: str, outside: bool = False) -> tuple[str, str]:
        """Who somebody is: the identity people are looked up by, and a name for the record.

        A person of another tenant is nobody, whatever their ids are.
        """
        if outside:
            return f"outside:{open_id}", open_id
        for known in (union_id, open_id):
            if known and (name := self._name_of(known)) is not None:
                return known, name
        return open_id, open_id

    async def read(self, said: Said, bot: str) -> Incoming | None:
        """The message with its evidence.

        Args:
            said: what was said.
            bot: the bot's own open_id.

        Returns:
            None when it was said in a group and not to the bot.
        """
        addressed = said.private or any(open_id == bot for open_id, _ in said.mentions.values())
        if not addressed:
            return None
        sender, name = self.identity(said.sender_open, said.sender_union, said.outside)
        words = text_of(said.kind, said.content, said.mentions, bot)
        evidence = await self._evidence(said)
        return Incoming(
            address=Address(NAME, said.place, said.message),
            sender=sender,
            sender_name=name,
            text="\n".join(filter(None, (words, evidence)))[:_TEXT_CHARACTERS],
            created_at=said.created_at,
        )

    async def _evidence(self, said: Said) -> str:
        """Quoted lines: of the message answered to, and of a file that came with either."""
        lines: list[str] = []
        try:
            async with asyncio.timeout(_EVIDENCE_S):
                lines += await self._attached(said.message, said.kind, said.content)
                if said.parent:
                    lines += await self._quoted(said.parent, topic=bool(said.thread))
        except TimeoutError:
            lines.append("[what was quoted or attached could not be read in time]")
        return quoted(lines)

    async def _quoted(self, message: str, *, topic: bool) -> list[str]:
        try:
            item = await self._api.message(message)
        except FeishuError as error:
            # In a topic everything answers to its first message: nobody misses that as much as what they quoted.
            return [] if topic else [f"[the quoted message could not be read: {error.kind}]"]
        if item is None or item.get("deleted") is True:
            return []
        kind, content = _text(item, "msg_type"), _text(_map(item, "body"), "content")
        mentions = {_text(m, "key"): (_text(m, "id"), _text(m, "name")) for m in _maps(item, "mentions")}
        return [
            *text_of(kind, content, mentions, "").splitlines(),
            *await self._attached(_text(item, "message_id") or message, kind, content),
        ]

    async def _attached(self, message: str, kind: str, content: str) -> list[str]:
        if kind != "file":
            return []
        value = _object(content)
        key, name = _text(value, "file_key"), _text(value, "file_name")
        if not _ID.fullmatch(key):
            return []
        try:
            data = await self._api.resource(message, key, "file", _EVIDENCE_BYTES)
        except FeishuError as error:
            return [f"[{name} could not be read: {error.kind}]"]
        if b"\0" in data:
            return [f"[{name} is not text]"]
        return data.decode(errors="replace").splitlines()[-_EVIDENCE_LINES:]


def quoted(lines: list[str]) -> str:
    """Lines as a quotation. Evidence is never a script, so it may not open a block of code either."""
    inert = (line.replace("```", "'''").replace("~~~", "---") for line in lines)
    return "\n".join(f"> {line}" for line in inert)


def text_of(kind: str, content: str, mentions: Mapping[str, tuple[str, str]], bot: str) -> str:
    """The words of a message; the mention of the bot is taken out, others become "@name".

    Args:
        kind: the message's type.
        content: its JSON as text.
        mentions: open_id and name by key.
        bot: the bot's own open_id, "" to keep every mention.
    """
    value = _object(content)

    def name(match: re.Match[str]) -> str:
        open_id, known = mentions.get(match[0], ("", ""))
        return "" if bot and open_id == bot else f"@{known}" if known else match[0]

    match kind:
        case "text":
            return _MENTION.sub(name, _text(value, "text")).strip()
        case "post":
            return _MENTION.sub(name, "\n".join(_post(value))).strip()
        case "file":
            return f"[file: {_text(value, 'file_name')}]"
        case "image":
            return "[image]"
        case "interactive":
            return "\n".join(_texts(value)).strip()
        case _:
            return f"[{kind}]"


def _post(value: Mapping[str, Any]) -> Iterator[str]:
    """A rich text; as it is sent it has a level of languages, as it is received it has none."""
    if "content" not in value:
        value = next((v for v in value.values() if isinstance(v, dict)), {})
    if title := _text(value, "title"):
        yield title
    paragraphs = value.get("content")
    for paragraph in paragraphs if isinstance(paragraphs, list) else ():
        yield "".join(_run(run) for run in paragraph if isinstance(run, dict)) if isinstance(paragraph, list) else ""


def _run(run: Mapping[str, Any]) -> str:
    match _text(run, "tag"):
        case "at":
            key = _text(run, "user_id")
            return key if _MENTION.fullmatch(key) else f"@{_text(run, 'user_name')}"
        case "code_block":
            return f"\n```{_text(run, 'language').lower()}\n{_text(run, 'text').strip()}\n```\n"
        case "img" | "media":
            return "[image]"
        case "emotion":
            return f"[{_text(run, 'emoji_type')}]"
        case "hr":
            return "\n"
        case _:
            return _text(run, "text")


def _texts(value: Any, depth: int = 0) -> Iterator[str]:
    """Whatever reads like text in a card; cards do not come back as they were sent."""
    if depth > 12:
        return
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in {"text", "content", "title"} and isinstance(inner, str):
                yield inner
            else:
                yield from _texts(inner, depth + 1)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner, depth + 1)


def _seconds(text: str) -> float:
    """Milliseconds as text; sixteen digits are microseconds."""
    if not text.isascii() or not text.isdigit() or len(text) > 16:
        return 0.0
    return int(text) / (1e6 if len(text) == 16 else 1e3)


def _object(content: str) -> dict[str, Any]:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return {"text": content}
    return value if isinstance(value, dict) else {}


def _map(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = value.get(key)
    return found if isinstance(found, dict) else {}


def _maps(value: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = value.get(key)
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _text(value: Mapping[str, Any], key: str) -> str:
    found = value.get(key)
    return found if isinstance(found, str) else ""
