"""Notices: what Regrow says unasked. Each event is told once; many of one kind within a window are one message.

They go to the chats that the settings name, or else to the owners alone, to whoever has asked for them, and always to
the console (F27, F28, F29).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from regrow.catalogue import Language, say
from regrow.channels.base import Address, Choice, Content
from regrow.clock import Clock, SystemClock
from regrow.events import Events
from regrow.outbox import Outbox
from regrow.people import owners
from regrow.permissions import Permissions
from regrow.store import Store, listeners, notices

_CONSOLE = Address("web", "main")
_SHOWN = 6
GOOD_NEWS = frozenset({"up", "upgraded", "restarted", "hears", "disk_well", "unfrozen"})
"""What can wait until the morning, where the settings say so; everything else wakes people."""
_CHOICES = 6


class Notices:
    """Tells people what happened.

    Args:
        store: what was told.
        outbox: carries it.
        events: woken when something is to be carried.
        permissions: who the owners are.
        channels: names of the channels on which owners can be reached alone, asked for when there is something to tell.
        chats: "channel:chat" of the settings; owners are then told nothing alone.
        language: of all notices.
        window_s: seconds after the first notice of a subject in which more of it join its message.
        clean: takes secrets and long paths out of a text.
        hold: until when good news waits, from the present; None: it does not.
    """

    def __init__(
        self,
        *,
        store: Store,
        outbox: Outbox,
        events: Events,
        permissions: Permissions,
        channels: Iterable[str],
        chats: Sequence[str],
        language: Language,
        window_s: float,
        clean: Callable[[str], str],
        hold: Callable[[float], float | None] = lambda _: None,
        clock: Clock | None = None,
    ) -> None:
        self._store = store
        self._outbox = outbox
        self._events = events
        self._permissions = permissions
        self._channels = channels
        self._chats = [Address(*chat.split(":", 1)) for chat in chats]
        self._language = language
        self._window_s = window_s
        self._clean = clean
        self._hold = hold
        self._clock = clock or SystemClock()

    async def tell(
        self, event: str, subject: str, key: str, choices: Sequence[Choice] = (), /, **values: object
    ) -> bool:
        """Tell of an event, once.

        Args:
            event: its own name, for ever; a second call changes nothing.
            subject: what it is about; notices of one subject share a message while they come close together.
            key: of the text, below "notice." in the catalogue.
            choices: buttons under the message, until they are withdrawn.
            values: its fields.

        Returns:
            Whether it was news.
        """
        now = self._clock.now()
        not_before = (self._hold(now) or 0.0) if key in GOOD_NEWS else 0.0
        row = {"event": event, "subject": subject, "key": key, "at": now}
        row |= {"choices": [vars(choice) for choice in choices]}
        texts = {name: self._clean(str(value)) for name, value in values.items()}

        def write(connection: sa.Connection) -> bool:
            if connection.execute(sa.select(notices.c.id).where(notices.c.event == event)).first() is not None:
                return False
            mine = notices.c.subject == subject
            newest = connection.execute(sa.select(notices).where(mine).order_by(notices.c.id.desc())).mappings().first()
            first = newest["window"] if newest else 0
            began = connection.execute(sa.select(notices.c.at).where(notices.c.id == first)).scalar()
            joins = began is not None and now - began < self._window_s
            made = connection.execute(notices.insert().values(**row, values=texts, window=first if joins else 0))
            number = made.inserted_primary_key[0]  # type: ignore[index]
            window = first if joins else number
            connection.execute(notices.update().where(notices.c.id == number).values(window=window))
            self._show(connection, window, not_before)
            return True

        news = await self._store.transact(write)
        if news:
            self._events.touch("outbox")
        return news

    async def withdraw(self, prefix: str) -> None:
        """Take the buttons away from every notice whose event begins so: what they offered is settled."""

        def write(connection: sa.Connection) -> bool:
            mine = notices.c.event.startswith(prefix, autoescape=True)
            found = connection.execute(sa.select(notices.c.id, notices.c.window, notices.c.choices).where(mine)).all()
            windows = {row.window for row in found if row.choices}
            if windows:
                connection.execute(notices.update().where(mine).values(choices=[]))
            for window in windows:
                self._show(connection, window)
            return bool(windows)

        if await self._store.transact(write):
            self._events.touch("outbox")

    def _show(self, connection: sa.Connection, window: int, not_before: float = 0.0) -> None:
        """Bring the message of a window up to date wherever it goes; not before a time, in seconds since 1970."""
        query = sa.select(notices).where(notices.c.window == window).order_by(notices.c.id)
        told = [dict(one) for one in connection.execute(query).mappings()]
        choices = [Choice(**one) for notice in told for one in notice["choices"] or ()]
        content = Content(self._text(told), tuple(choices[-_CHOICES:]))
        for address in self._addresses(connection):
            name = f"notice-{window}-{address.channel}-{address.chat}"
            self._outbox.write(connection, name, address, content, not_before=not_before)

    async def backup_failed(self, reason: str) -> None:
        """Tell that the store could not be backed up."""
        await self.tell(f"backup failed {self._clock.now()}", "backups", "backup_failed", reason=reason)

    async def last(self, subject: str) -> str:
        """The key of the newest notice of a subject, "" when there was none."""
        query = sa.select(notices.c.key).where(notices.c.subject == subject).order_by(notices.c.id.desc())
        row = await self._store.row(query)
        return str(row["key"]) if row else ""

    # Who is told

    async def listen(self, channel: str, identity: str, *, wants: bool) -> None:
        """Tell somebody from now on, alone, or tell them no more. Who is on no list any more is told nothing (F27)."""
        row = {"channel": channel, "identity": identity, "wants": wants, "at": self._clock.now()}
        where = (listeners.c.channel == channel, listeners.c.identity == identity)

        def write(connection: sa.Connection) -> None:
            connection.execute(listeners.delete().where(*where))
            connection.execute(listeners.insert().values(**row))

        await self._store.transact(write)

    async def home(self) -> Address:
        """The one place where a job is told of that nobody has asked for: the first chat that is told of notices."""
        found = await self._store.read(self._addresses)
        return found[1] if len(found) > 1 else _CONSOLE

    def _addresses(self, connection: sa.Connection) -> list[Address]:
        asked = connection.execute(sa.select(listeners).order_by(listeners.c.at)).mappings().all()
        refused = {(row["channel"], row["identity"]) for row in asked if not row["wants"]}
        alone = [address for channel in self._channels for address in owners(self._permissions, channel)]
        alone = [address for address in alone if (address.channel, address.chat) not in refused]
        wanted = [
            Address(row["channel"], row["identity"])
            for row in asked
            if row["wants"]
            and row["channel"] in self._channels
            and self._permissions.find(row["channel"], row["identity"]) is not None
        ]
        return list(dict.fromkeys([_CONSOLE, *(self._chats or alone), *wanted]))

    def _text(self, told: Sequence[Mapping[str, Any]]) -> str:
        """The newest of a message's notices, each with its time when there are several."""
        lines = [say(self._language, f"notice.{one['key']}", **one["values"]) for one in told[-_SHOWN:]]
        if len(told) == 1:
            return lines[0]
        times = (time.strftime("%H:%M:%S", time.localtime(one["at"])) for one in told[-_SHOWN:])
        shown = [f"{at} {line}" for at, line in zip(times, lines, strict=True)]
        left_out = len(told) - len(shown)
        return "\n".join([say(self._language, "notice.more", count=left_out), *shown] if left_out else shown)
