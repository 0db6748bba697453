"""Who may ask for what and where: people with a role, the role that each intent needs, and places where it needs more.

Nothing is allowed that is not written down: an unknown identity is nobody, an intent without a row needs more than
any role, and an empty list of people lets nobody in but the local user (F37). A channel or a chat may ask for more than
the table does and never for less. Callers check when a request arrives, again at a click, and again when the step that
changes something begins; `check` therefore reads the present list, and a person who has lost a role since loses it at
once. The settings become these tables in rights.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from regrow.errors import ConfigError, Refused


class Role(IntEnum):
    """What a person may do; each role may do all that the ones before it may."""

    viewer = 1
    operator = 2
    maintainer = 3
    owner = 4


@dataclass(frozen=True)
class Person:
    """Someone with identities on channels.

    Attributes:
        id: the stable name in settings, jobs and the audit log.
        name: the name shown to people.
        role: what the person may do.
        identities: "channel:identity" of each channel, e.g. "feishu:ou_..." or "web:alice".
        program: whether it is a program with a role of its own, which decides nothing that people are asked.
    """

    id: str
    name: str
    role: Role
    identities: frozenset[str] = frozenset()
    program: bool = False

    def alone_on(self, channel: str) -> str:
        """The chat in which a person is alone with Regrow on a channel; "" for who is not known there.

        It is the person's identity there: the channel finds the chat.
        """
        prefix = f"{channel}:"
        return max((one.removeprefix(prefix) for one in self.identities if one.startswith(prefix)), default="")


@dataclass(frozen=True)
class Place:
    """What a channel or a chat asks for beyond the table.

    Attributes:
        most: nobody counts for more than this role here, so that what needs more is refused to all.
        roles: least role by the intent's name; None: nobody.
        confirm: intents that are confirmed first here.
    """

    most: Role = Role.owner
    roles: Mapping[str, Role | None] = field(default_factory=dict)
    confirm: frozenset[str] = frozenset()


EVERY_OTHER = "*"
"""The name of a chat that stands for all of its channel that are not named."""

LOCAL = Person(id="local", name="local", role=Role.owner)
"""Whoever sits at this machine: the unix user that runs the daemon, or the holder of the console token."""


REGROW = Person(id="regrow", name="regrow", role=Role.maintainer)
"""Regrow itself, where the settings let it ask for a repair. Nobody can be it: it has no identity on any channel, and
its own changes it may not approve."""

DECISIONS = frozenset({"approve", "reject", "keep", "undo", "configure", "admit", "dismiss", "remove", "unfreeze"})
"""What only people may say, whatever role a program has: it would otherwise approve what it has asked for."""

AUDIT = "audit"
READS: Mapping[str, Role] = {AUDIT: Role.maintainer}
"""What no message asks for and still not everybody may read."""


def local_person(uid: int) -> Person | None:
    """The person behind a unix socket.

    Args:
        uid: the peer's user id, from SO_PEERCRED.

    Returns:
        `LOCAL` when it is the daemon's own user or root (who could do everything anyway), else None.
    """
    return LOCAL if uid in (0, os.geteuid()) else None


class Permissions:
    """The people of one configuration, the role each intent needs, and where it needs more.

    Args:
        people: everyone who may ask for anything. Empty means nobody (F37).
        required: role by the intent's name; an intent that is missing here is refused to all.
        places: what channels ("web") and chats ("feishu:oc_...", "feishu:*" for all others) ask for beyond that.
        confirm: intents that are confirmed first when they are asked for in words.

    Raises:
        ConfigError: two people share an id or an identity, so that "who asked" would have two answers.
    """

    def __init__(
        self,
        people: Iterable[Person],
        required: Mapping[str, Role | None],
        places: Mapping[str, Place] | None = None,
        confirm: Iterable[str] = (),
    ) -> None:
        self._required = {str(intent): role for intent, role in required.items()}
        self._places = dict(places or {})
        self._confirm = frozenset(map(str, confirm))
        self.replace(people)

    def replace(self, people: Iterable[Person]) -> None:
        """From now on these are the people, for every check that comes.

        Raises:
            ConfigError: as for a new list; the old one stays.
        """
        listed: dict[str, Person] = {}
        identities: dict[str, Person] = {}
        for person in people:
            if person.id in listed or person.id in {LOCAL.id, REGROW.id}:
                raise ConfigError(f"cannot tell people apart: the id {person.id!r} is used twice; give each their own")
            listed[person.id] = person
            for identity in person.identities:
                if identity in identities:
                    raise ConfigError(f"cannot tell people apart: {identity} belongs to two; remove one of them")
                identities[identity] = person
        self._people, self._identities = listed, identities

    @property
    def people(self) -> tuple[Person, ...]:
        """Everyone on the list, in its order; the local user is not on it."""
        return tuple(self._people.values())

    def find(self, channel: str, identity: str) -> Person | None:
        """The person with this identity on a channel, or None for a stranger."""
        return self._identities.get(f"{channel}:{identity}")

    def person(self, person_id: str) -> Person | None:
        """The person with this id as the list has them now, or None when they are no longer on it."""
        return {LOCAL.id: LOCAL, REGROW.id: REGROW}.get(person_id) or self._people.get(person_id)

    def places(self, channel: str, chat: str) -> list[tuple[str, Place]]:
        """The rules that hold in a chat, by name: that of its channel, and its own or else that of every other one.

        A thread of a room is that room.
        """
        room = f"{channel}:{chat.partition('/')[0]}"
        mine = room if room in self._places else f"{channel}:{EVERY_OTHER}"
        return [(name, self._places[name]) for name in (channel, mine) if name in self._places]

    def required(self, intent: str, channel: str = "", chat: str = "") -> Role | None:
        """The role an intent needs in a chat, or None when no role is enough; without a channel, by the table alone."""
        needed = self._required.get(str(intent))
        for _, place in self.places(channel, chat):
            least = place.roles.get(str(intent), Role.viewer)
            if needed is None or least is None or max(needed, least) > place.most:
                return None
            needed = max(needed, least)
        return needed

    def confirmed(self, intent: str, channel: str = "", chat: str = "") -> bool:
        """Whether an intent that is asked for in words is confirmed first."""
        return str(intent) in self._confirm.union(*(place.confirm for _, place in self.places(channel, chat)))

    def allowed(self, person: Person | None, intent: str, channel: str = "", chat: str = "") -> bool:
        """Whether `check` would let the person pass."""
        needed = self.required(intent, channel, chat)
        present = None if person is None else self.person(person.id)
        if present is None or needed is None or (present.program and str(intent) in DECISIONS):
            return False
        if present is REGROW and intent != "repair":
            return False
        return present.role >= needed

    def check(self, person: Person | None, intent: str, channel: str = "", chat: str = "") -> None:
        """Refuse unless the person, as the list has them now, may ask for the intent in a chat.

        Args:
            person: who asks, or None for a stranger. Only the id is believed; the role is read from the list.
            intent: the intent's name.
            channel, chat: where they ask.

        Raises:
            Refused: with the kind "forbidden", or "forbidden_here" where the person might elsewhere; nothing has
                changed.
        """
        if self.allowed(person, intent, channel, chat):
            return
        if self.allowed(person, intent):
            where = " and ".join(name for name, _ in self.places(channel, chat))
            raise Refused(
                f"cannot {intent} here: the rules for {where} do not allow it to you; ask somewhere else, "
                "or see `regrow permissions`",
                kind="forbidden_here",
                where=where,
            )
        needed = self.required(intent)
        if needed is None:
            raise Refused(
                f"cannot {intent}: no role allows it; see `regrow permissions` for what does", kind="forbidden"
            )
        present = None if person is None else self.person(person.id)
        if present is not None and present.program and str(intent) in DECISIONS:
            raise Refused(
                f"cannot {intent}: a program may not decide that; a person says it in the chat", kind="forbidden"
            )
        who = "you are not on the list of people" if present is None else "yours is lower"
        raise Refused(
            f"cannot {intent}: it needs the role {needed.name} and {who}; ask an owner",
            kind="forbidden",
            needed=needed.name,
        )

    def by_role(self, intent: str) -> tuple[Person, ...]:
        """The people on the list who may do `intent`, to be asked for an approval."""
        return tuple(person for person in self._people.values() if self.allowed(person, intent))

    @property
    def intents(self) -> tuple[str, ...]:
        """Every intent of the table, in its order."""
        return tuple(self._required)

    @property
    def rules(self) -> Mapping[str, Place]:
        """Every place with rules of its own, by name."""
        return self._places
