"""People, chats and messages as the platform holds them. What may be done to them over HTTP is in `messages.py`, what
people do is in `users.py`."""

from __future__ import annotations

import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from regrow.testing.feishu import cards
from regrow.testing.feishu.tokens import App

if TYPE_CHECKING:
    from regrow.testing.feishu.cardkit import Entity


@dataclass(eq=False, repr=False)
class Person:
    """Someone of the tenant (or, with another `tenant_key`, a guest).

    Args:
        name: what others write after the @.
        tenant_key: the tenant of the person.
        employed: False after leaving the tenant.
        email, mobile: by which an app may look the person up.
    """

    name: str
    tenant_key: str
    union_id: str = field(default_factory=lambda: f"on_{secrets.token_hex(16)}")
    user_id: str = field(default_factory=lambda: secrets.token_hex(4))
    employed: bool = True
    email: str = ""
    mobile: str = ""

    def __repr__(self) -> str:
        return f"<person {self.name}>"

    def open_id(self, app: App) -> str:
        """The person's id within `app`; every app sees another one."""
        return "ou_" + hashlib.sha256(f"{app.app_id} {self.union_id}".encode()).hexdigest()[:32]

    def ids(self, app: App) -> dict[str, str]:
        """The ids as events carry them; `user_id` only with the permission for it."""
        ids = {"open_id": self.open_id(app), "union_id": self.union_id}
        if "contact:user.employee_id:readonly" in app.scopes:
            ids["user_id"] = self.user_id
        return ids


@dataclass(eq=False, repr=False)
class Chat:
    """A group or a private chat.

    Args:
        name: for people.
        kind: `group` or `p2p`.
        people: who is in it.
        apps: whose bots are in it.
        dissolved: 232009 on sending.
        muted: bots may not speak, 230018.
        topics: False: a reply in a thread is refused with 230071.
    """

    name: str
    kind: str
    people: list[Person] = field(default_factory=list)
    apps: list[App] = field(default_factory=list)
    id: str = field(default_factory=lambda: f"oc_{secrets.token_hex(16)}")
    dissolved: bool = False
    muted: bool = False
    topics: bool = True
    messages: list[Message] = field(default_factory=list)

    def __repr__(self) -> str:
        return f"<chat {self.name} {self.id}>"


@dataclass(frozen=True)
class Mention:
    """`key` in the text stands for `who`; None is everyone."""

    key: str
    who: Person | App | None

    @property
    def name(self) -> str:
        """The name people see."""
        return "all" if self.who is None else self.who.name


@dataclass(frozen=True)
class Version:
    """What a message said from `at` (ms since 1970) on."""

    content: str
    at: int
    text: str


@dataclass(frozen=True)
class Reaction:
    """An emoji on a message."""

    id: str
    emoji: str
    who: Person | App


@dataclass(eq=False, repr=False)
class Message:
    """A message in a chat.

    Args:
        kind: `text`, `post`, `interactive`, `image`, `file`.
        content: the JSON text as last sent or edited.
        created, updated: ms since 1970.
        versions: everything it ever said, oldest first.
        alerts_all: it called everyone in the chat.
        locked: a click on it is being answered.
        alias_of: a redelivery with a new message id shows the same message under another id.
    """

    chat: Chat
    sender: Person | App
    kind: str
    content: str
    created: int
    id: str = field(default_factory=lambda: f"om_{secrets.token_hex(16)}")
    updated: int = 0
    parent: Message | None = None
    root: Message | None = None
    thread_id: str = ""
    mentions: list[Mention] = field(default_factory=list)
    versions: list[Version] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    entity: Entity | None = None
    forwarded: Message | None = None
    alerts_all: bool = False
    recalled: bool = False
    deleted: bool = False
    locked: bool = False
    edits: int = 0
    urgent: list[str] = field(default_factory=list)
    uuid: str = ""

    def __repr__(self) -> str:
        return f"<message {self.id} of {self.sender.name} in {self.chat.name}: {self.text!r}>"

    @property
    def from_bot(self) -> bool:
        """Whether an app sent it."""
        return isinstance(self.sender, App)

    @property
    def card(self) -> dict[str, Any] | None:
        """The card people see now, None when it is not one."""
        if self.entity is not None:
            return self.entity.card
        if self.kind != "interactive":
            return None
        card: dict[str, Any] = json.loads(self.content)
        return card

    @property
    def text(self) -> str:
        """What people read: names in place of mention keys, a card as plain text."""
        card = self.card
        if card is not None:
            return cards.reading(card)
        return plain(self.kind, json.loads(self.content), self.mentions)

    @property
    def history(self) -> list[str]:
        """What people read at every version, oldest first."""
        return [version.text for version in self.versions]

    def say(self, content: str, at: int) -> None:
        """Let it say something (else)."""
        self.content = content
        self.updated = at
        self.note(at)

    def note(self, at: int) -> None:
        """Keep what it says now as a version."""
        self.versions.append(Version(self.content, at, self.text))


def plain(kind: str, content: dict[str, Any], mentions: list[Mention]) -> str:
    """A text or post as people read it."""
    if kind == "text":
        text = str(content.get("text", ""))
        # The longest first: "@_user_1" is the beginning of "@_user_12".
        for mention in sorted(mentions, key=lambda mention: -len(mention.key)):
            text = text.replace(mention.key, f"@{mention.name}")
        return text
    if kind == "post":
        post = post_of(content)
        lines = ["".join(_run(run, mentions) for run in line) for line in post.get("content", [])]
        return "\n".join(([post["title"]] if post.get("title") else []) + lines)
    return f"[{kind}]"


def post_of(content: dict[str, Any]) -> dict[str, Any]:
    """The part of a post with `title` and `content`; posts that are sent have a language around it."""
    if "content" in content:
        return content
    for part in content.values():
        if isinstance(part, dict) and "content" in part:
            return part
    return {}


def _run(run: dict[str, Any], mentions: list[Mention]) -> str:
    if run.get("tag") == "at":
        for mention in mentions:
            if mention.key == run.get("user_id"):
                return f"@{mention.name}"
        return f"@{run.get('user_name') or run.get('user_id')}"
    return str(run.get("text", ""))
