"""A way to talk. A channel takes messages from people to the inbox and carries what the outbox holds to them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from regrow.api.types import Finding


@dataclass(frozen=True)
class Address:
    """Where a message came from and its answer goes: never "last active" (F27).

    Attributes:
        channel: the channel's name.
        chat: the chat within it, threads included: a thread of a room is "room/thread".
        message: the platform's id of the message that asked; empty for what nobody asked.
    """

    channel: str
    chat: str
    message: str = ""

    @property
    def in_thread(self) -> bool:
        """Whether it is a thread, where everything is about what it began with."""
        return "/" in self.chat


@dataclass(frozen=True)
class Incoming:
    """A message from a person.

    Attributes:
        address: where it came from.
        sender: the platform's id of the person.
        sender_name: what people call them.
        text: what they said.
        created_at: the platform's own time, seconds since 1970.
        addressed: whether it was said to Regrow (a mention, or a private chat).
    """

    address: Address
    sender: str
    sender_name: str
    text: str
    created_at: float
    addressed: bool = True


@dataclass(frozen=True)
class Choice:
    """A button; `action` comes back as it is."""

    label: str
    action: str
    style: Literal["primary", "danger", "plain"] = "plain"


@dataclass(frozen=True)
class Content:
    """What a message shows: text, choices under it, a progress bar (0 to 1)."""

    text: str
    choices: tuple[Choice, ...] = ()
    bar: float | None = None

    def to_json(self) -> dict[str, object]:
        """As stored in the outbox."""
        return {"text": self.text, "choices": [vars(c) for c in self.choices], "bar": self.bar}

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Content:
        """The inverse of `to_json`."""
        choices = value["choices"]
        assert isinstance(choices, list)
        bar = value["bar"]
        assert bar is None or isinstance(bar, int | float)
        return cls(str(value["text"]), tuple(Choice(**c) for c in choices), bar)


@dataclass(frozen=True)
class Outgoing:
    """A message on its way out.

    Attributes:
        key: the same for every try of the same message: a platform that knows idempotency keys gets it (F26).
        address: where it goes.
        content: what it shows.
        job: the job it tells of.
    """

    key: str
    address: Address
    content: Content
    job: int | None = None


@dataclass(frozen=True)
class Health:
    """Whether a channel can hear and speak right now."""

    healthy: bool
    detail: str = ""


class Receive(Protocol):
    """Takes what a channel hears."""

    async def __call__(self, message: Incoming, after: asyncio.Future[None] | None = None, /) -> bool:
        """Make a message durable, and return whether it is new.

        Args:
            message: what was said.
            after: until it is done nothing of the chat is handled: something said earlier may be on its way.
        """


class Channel(Protocol):
    """The part every channel has."""

    name: str

    async def run(self, receive: Receive) -> None:
        """Hear until cancelled. `receive` returns when the message is durable; only then may it be acknowledged."""

    async def send(self, message: Outgoing) -> str:
        """Send a new message and return the platform's id; raises RegrowError when it was not taken."""

    def health(self) -> Health:
        """Whether it can hear and speak right now."""


@runtime_checkable
class Edits(Protocol):
    """The ability to change a message in place."""

    async def edit(self, platform_id: str, message: Outgoing) -> str | None:
        """Show the new content in the message that was sent as `platform_id`.

        Returns:
            The id of the message that shows it now, when that had to be another one.
        """


@runtime_checkable
class Paced(Protocol):
    """The ability to say how soon a message may be changed again; what comes meanwhile is never sent."""

    def wait_s(self, platform_id: str) -> float:
        """Seconds until the message may be changed; 0 for now."""


@runtime_checkable
class Checked(Protocol):
    """The ability to look at what it needs from its platform, and to say how to mend what is missing (F16)."""

    async def findings(self) -> list[Finding]:
        """Each thing it needs, its present connection among them; never an error."""


@dataclass(frozen=True)
class Press:
    """A button was pressed.

    Attributes:
        channel: the channel's name.
        chat: the chat in which it was pressed, as the platform says.
        message: the platform's id of the message with the button, as the platform says.
        sender: the platform's id of the person.
        sender_name: what people call them.
        action: what came with the button.
    """

    channel: str
    chat: str
    message: str
    sender: str
    sender_name: str
    action: str


@dataclass(frozen=True)
class Pressed:
    """What became of a press.

    Attributes:
        ok: whether it counted.
        text: one line for the person.
        shown: what the message shows from now on, where that is known.
    """

    ok: bool
    text: str
    shown: Outgoing | None = None
