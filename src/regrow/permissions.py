"""Who may ask for what: people with a role, and the role that each intent needs.

Nothing is allowed that is not written down: an unknown identity is nobody, an intent without a row needs more than
any role, and an empty list of people lets nobody in but the local user (F37). Callers check when a request arrives,
again at a click, and again when the step that changes something begins; `check` therefore reads the present list, and
a person who has lost a role since loses it at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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


LOCAL = Person(id="local", name="local", role=Role.owner)
"""Whoever sits at this machine: the unix user that runs the daemon, or the holder of the console token."""


DECISIONS = frozenset({"approve", "reject", "keep", "undo", "admit", "dismiss", "remove"})
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
    """The people of one configuration and the role each intent needs.

    Args:
        people: everyone who may ask for anything. Empty means nobody (F37).
        required: role by the intent's name; an intent that is missing here is refused to all.

    Raises:
        ConfigError: two people share an id or an identity, so that "who asked" would have two answers.
    """

    def __init__(self, people: Iterable[Person], required: Mapping[str, Role]) -> None:
        self._required = {str(intent): role for intent, role in required.items()}
        self.replace(people)

    def replace(self, people: Iterable[Person]) -> None:
        """From now on these are the people, for every check that comes.

        Raises:
            ConfigError: as for a new list; the old one stays.
        """
        listed: dict[str, Person] = {}
        identities: dict[str, Person] = {}
        for person in people:
            if person.id in listed or person.id == LOCAL.id:
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
        return LOCAL if person_id == LOCAL.id else self._people.get(person_id)

    def required(self, intent: str) -> Role | None:
        """The role an intent needs, or None when no role is enough."""
        return self._required.get(str(intent))

    def allowed(self, person: Person | None, intent: str) -> bool:
        """Whether `check` would let the person pass."""
        needed = self.required(intent)
        present = None if person is None else self.person(person.id)
        if present is None or needed is None or (present.program and str(intent) in DECISIONS):
            return False
        return present.role >= needed

    def check(self, person: Person | None, intent: str) -> None:
        """Refuse unless the person, as the list has them now, may ask for the intent.

        Args:
            person: who asks, or None for a stranger. Only the id is believed; the role is read from the list.
            intent: the intent's name.

        Raises:
            Refused: with the kind "forbidden"; nothing has changed.
        """
        if self.allowed(person, intent):
            return
        needed = self.required(intent)
        if needed is None:
            raise Refused(
                f"cannot {intent}: no role allows it; see `regrow doctor` for the permissions", kind="forbidden"
            )
        present = None if person is None else self.person(person.id)
        if present is not None and present.program and str(intent) in DECISIONS:
            raise Refused(
                f"cannot {intent}: a program may not decide that; a person says it in the chat", kind="forbidden"
            )
        who = "you are not on the list of people" if present is None else "yours is lower"
        raise Refused(f"cannot {intent}: it needs the role {needed.name} and {who}; ask an owner", kind="forbidden")

    def by_role(self, intent: str) -> tuple[Person, ...]:
        """The people on the list who may do `intent`, to be asked for an approval."""
        return tuple(person for person in self._people.values() if self.allowed(person, intent))

    def table(self) -> list[tuple[str, str, dict[str, bool]]]:
        """The matrix, for printing.

        Returns:
            One row an intent: its name, the role it needs, and whether each role may ask for it.
        """
        return [
            (intent, needed.name, {role.name: role >= needed for role in Role})
            for intent, needed in self._required.items()
        ]
