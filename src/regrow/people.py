"""People beyond the settings: those admitted from a chat by a code, and those whose rights have ended.

A stranger who asks for something is given a code; an owner approves that code with a role. The code is no secret: it
binds the owner's yes to the identity behind it, and is worth nothing without that yes. Every change is in the store
before it counts, and counts at once: `Permissions` reads the list that is renewed here (F37).
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from regrow.channels.base import Address
from regrow.clock import Clock, SystemClock
from regrow.errors import NotFound, Refused
from regrow.permissions import LOCAL, Permissions, Person, Role
from regrow.store import Store, barred, pairings, people

_ALPHABET = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"  # what cannot be misread
_CODE_LENGTH = 6
_OPEN_S = 3600.0
_MOST_OPEN = 50
"""Codes open at once: more strangers than that are no team that is being set up."""


@dataclass(frozen=True)
class Pairing:
    """A stranger's wish to be let in.

    Attributes:
        code: what an owner approves.
        channel, identity: who it is, as the platform says.
        name: what the platform calls them.
        chat: where they asked.
        language: of the chat.
        expires_at: seconds since 1970.
        state: open, admitted or dismissed; one past its time reads as expired.
    """

    code: str
    channel: str
    identity: str
    name: str
    chat: str
    language: str
    expires_at: float
    state: str
    decided_by: str


class People:
    """The list of people, settings and admissions together.

    Args:
        store: where admissions and ended rights are.
        permissions: is kept up to date.
        configured: the people of the settings; they win over an admission of the same identity.
    """

    def __init__(
        self, store: Store, permissions: Permissions, configured: Sequence[Person], clock: Clock | None = None
    ) -> None:
        self._store = store
        self._permissions = permissions
        self._configured = tuple(configured)
        self._clock = clock or SystemClock()

    async def load(self) -> None:
        """Make the list what the settings and the store say now."""
        ended = {f"{row['channel']}:{row['identity']}" for row in await self._store.rows(sa.select(barred))}
        # One identity that has ended ends the person of the settings: open_id and union_id name the same one. An
        # owner's later yes, with a role of its own, is a row that was written after that end.
        listed = [person for person in self._configured if not person.identities & ended]
        known = {identity for person in listed for identity in person.identities}
        names = {person.id for person in listed}
        for row in await self._store.rows(sa.select(people).order_by(people.c.admitted_at, people.c.id)):
            identity = f"{row['channel']}:{row['identity']}"
            if identity not in known and row["id"] not in names:
                listed.append(Person(row["id"], row["name"], Role[row["role"]], frozenset({identity})))
        self._permissions.replace(listed)

    # Asking

    async def pair(self, channel: str, identity: str, name: str, chat: str, language: str) -> str | None:
        """The code under which an owner can let a stranger in; the same one until it expires.

        Args:
            channel: the channel's name.
            identity: the stranger, as the platform says.
            name: what the platform calls them.
            chat: where they asked; the answer is told there.
            language: of that chat.

        Returns:
            None when too many wait already.
        """
        now = self._clock.now()

        def find_or_make(connection: sa.Connection) -> str | None:
            open_ = (pairings.c.state == "open", pairings.c.expires_at > now)
            mine = (pairings.c.channel == channel, pairings.c.identity == identity)
            code = connection.execute(sa.select(pairings.c.code).where(*open_, *mine)).scalar()
            if code is not None:
                return str(code)
            count = connection.execute(sa.select(sa.func.count()).select_from(pairings).where(*open_)).scalar_one()
            if count >= _MOST_OPEN:
                return None
            code = "".join(secrets.choice(_ALPHABET) for _ in range(_CODE_LENGTH))
            connection.execute(
                pairings.insert().values(
                    code=code,
                    channel=channel,
                    identity=identity,
                    name=name,
                    chat=chat,
                    language=language,
                    expires_at=now + _OPEN_S,
                    state="open",
                    decided_by="",
                )
            )
            return code

        return await self._store.transact(find_or_make)

    async def waiting(self) -> list[Pairing]:
        """Those who wait for an owner's word, the one that expires first at the top."""
        query = sa.select(pairings).where(pairings.c.state == "open", pairings.c.expires_at > self._clock.now())
        return [Pairing(**row) for row in await self._store.rows(query.order_by(pairings.c.expires_at))]

    async def of(self, code: str) -> Pairing:
        """The pairing with this code.

        Raises:
            NotFound: kind "no_such_code".
        """
        row = await self._store.row(sa.select(pairings).where(pairings.c.code == code.upper()))
        if row is None:
            raise _unknown(code)
        return Pairing(**row)

    # Deciding

    async def admit(self, code: str, role: str, by: str, name: str = "") -> Person:
        """Let the person behind a code in.

        Args:
            code: as it was told to the stranger; case does not matter.
            role: viewer, operator, maintainer or owner.
            by: who says so, for the record.
            name: what to call them; empty: as the platform does.

        Raises:
            NotFound: kind "no_such_code".
            Refused: kind "code_decided" or "code_expired", or "bad_request" for an unknown role.
        """
        if role not in Role.__members__:
            raise Refused(f"cannot give the role {role!r}: there are {', '.join(Role.__members__)}", kind="bad_request")
        now = self._clock.now()

        def decide(connection: sa.Connection) -> Person:
            found = self._take(connection, code, "admitted", by)
            identity = f"{found.channel}:{found.identity}"
            person = Person(_id(identity), name or found.name, Role[role], frozenset({identity}))
            connection.execute(people.delete().where(people.c.id == person.id))
            row = {"id": person.id, "name": person.name, "role": role, "admitted_by": by, "admitted_at": now}
            connection.execute(people.insert().values(channel=found.channel, identity=found.identity, **row))
            return person

        person = await self._store.transact(decide)
        await self.load()
        return person

    async def dismiss(self, code: str, by: str) -> Pairing:
        """Answer a code with no. Raises as `admit`."""
        return await self._store.transact(lambda connection: self._take(connection, code, "dismissed", by))

    def _take(self, connection: sa.Connection, code: str, state: str, by: str) -> Pairing:
        where = pairings.c.code == code.upper()
        row = connection.execute(sa.select(pairings).where(where)).mappings().first()
        if row is None:
            raise _unknown(code)
        if row["state"] != "open":
            raise Refused(
                f"cannot decide: {row['decided_by']} has {row['state']} {row['code']} already",
                kind="code_decided",
                by=row["decided_by"],
            )
        if row["expires_at"] <= self._clock.now():
            raise Refused(f"cannot decide: the code {row['code']} has expired; let them ask again", kind="code_expired")
        connection.execute(pairings.update().where(where).values(state=state, decided_by=by))
        return Pairing(**row)

    # The end of rights

    async def remove(self, person_id: str, by: str) -> Person:
        """End a person's rights now, whoever gave them.

        Raises:
            NotFound: kind "no_such_person".
            Refused: kind "bad_request" for the local user.
        """
        if person_id == LOCAL.id:
            raise Refused("cannot remove the local user: whoever sits at this machine owns it", kind="bad_request")
        person = self._permissions.person(person_id)
        if person is None:
            raise NotFound(
                f"cannot remove {person_id}: nobody on the list has that id; `regrow people` lists them",
                kind="no_such_person",
            )
        await self._bar(person.identities, by)
        return person

    async def left(self, channel: str, identities: Sequence[str]) -> Person | None:
        """Somebody is no longer with the organisation, says the platform.

        Args:
            channel: which platform.
            identities: every id that the platform knows them by.

        Returns:
            The person whose rights have ended, or None for a stranger.
        """
        found = (self._permissions.find(channel, identity) for identity in identities if identity)
        person = next((one for one in found if one is not None), None)
        if person is not None:
            await self._bar(person.identities, channel)
        return person

    async def _bar(self, identities: frozenset[str], by: str) -> None:
        now = self._clock.now()

        def write(connection: sa.Connection) -> None:
            for name in sorted(identities):
                channel, _, identity = name.partition(":")
                mine = (people.c.channel == channel, people.c.identity == identity)
                connection.execute(people.delete().where(*mine))
                where = (barred.c.channel == channel, barred.c.identity == identity)
                connection.execute(barred.delete().where(*where))
                connection.execute(barred.insert().values(channel=channel, identity=identity, at=now, by=by))

        await self._store.transact(write)
        await self.load()


def owners(permissions: Permissions, channel: str) -> list[Address]:
    """Where each owner who is known on a channel can be told something alone.

    Returns:
        Addresses whose chat is the person's identity; the channel finds the private chat.
    """
    found = (person.alone_on(channel) for person in permissions.people if person.role is Role.owner)
    return [Address(channel, chat) for chat in found if chat]


def _id(identity: str) -> str:
    """A short name that stays the same when somebody is let in again."""
    return "p-" + hashlib.sha256(identity.encode()).hexdigest()[:8]


def _unknown(code: str) -> NotFound:
    return NotFound(f"cannot find the code {code}; `regrow people` lists those that wait", kind="no_such_code")
