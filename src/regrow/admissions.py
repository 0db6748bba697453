"""Letting people in, told on both sides: the stranger gets a code, the owners a question, both hear what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from regrow.api import types
from regrow.audit import Audit
from regrow.catalogue import Language, known_language, say
from regrow.channels.base import Address, Choice, Content
from regrow.outbox import Outbox
from regrow.people import Pairing, People, owners
from regrow.permissions import Permissions, Person

_CONSOLE = Address("web", "main")
_OUTSIDE = "outside:"
_OFFERED = ("operator", "viewer")
"""Roles behind a button; the higher ones take a sentence of an owner's own."""


@dataclass(frozen=True)
class Decider:
    """Who decides (their name and id), through which channel, in which language the answer is wanted, and with which
    words, as the audit log keeps them."""

    name: str
    via: str
    language: Language
    id: str = ""
    words: Mapping[str, Any] = field(default_factory=dict)


class Admissions:
    """Talks with strangers and owners about who is let in.

    Args:
        people: the list.
        permissions: as it stands.
        outbox: carries what is told.
        audit: keeps who decided.
        language: in which owners are asked.
    """

    def __init__(
        self, *, people: People, permissions: Permissions, outbox: Outbox, audit: Audit, language: Language
    ) -> None:
        self._people = people
        self._permissions = permissions
        self._outbox = outbox
        self._audit = audit
        self._language = language

    async def offer(
        self, address: Address, identity: str, name: str, language: Language, words: Mapping[str, Any] | None = None
    ) -> str:
        """What a stranger who asked for something is told; the owners are asked.

        Args:
            address: the message that asked.
            identity: the stranger, as the platform says; one of another organisation is not let in from a chat.
            name: what the platform calls them.
            language: of the answer.
            words: what they asked for, as the audit log keeps it.
        """
        if identity.startswith(_OUTSIDE):
            return say(language, "people.outside")
        code = await self._people.pair(address.channel, identity, name, address.chat, language)
        if code is None:
            return say(language, "people.too_many")
        await self._audit.write(name, address.channel, "pairing", code=code, chat=address.chat, **(words or {}))
        await self._show(await self._people.of(code))
        return say(language, "people.code", code=code)

    async def admit(self, code: str, role: str, by: Decider, name: str = "") -> str:
        """Let the person behind a code in, tell them, and answer who decided.

        Args:
            code, role, name: as `People.admit`.
            by: who decides.

        Raises:
            RegrowError: as `People.admit`.
        """
        person = await self._people.admit(code, role, by.name, name)
        found = await self._people.of(code)
        given: dict[str, Any] = {"code": found.code, "whom": person.id, "role": person.role.name}
        await self._audit.write(by.name, by.via, "admitted", person=by.id, **given, **by.words)
        await self._show(found)
        told: Language = known_language(found.language) or "en"
        text = say(told, "people.welcome", role=say(told, f"roles.{person.role.name}"))
        await self._tell(found, "welcome", text)
        title = say(by.language, f"roles.{person.role.name}")
        return say(by.language, "people.admitted", name=person.name, id=person.id, role=title)

    async def dismiss(self, code: str, by: Decider) -> str:
        """Answer a code with no. Raises RegrowError as `People.dismiss`."""
        found = await self._people.dismiss(code, by.name)
        await self._audit.write(by.name, by.via, "dismissed", person=by.id, code=found.code, **by.words)
        await self._show(await self._people.of(code))
        await self._tell(found, "sorry", say(known_language(found.language) or "en", "people.sorry"))
        return say(by.language, "people.dismissed", name=found.name)

    async def remove(self, person_id: str, by: Decider) -> str:
        """End a person's rights. Raises RegrowError as `People.remove`."""
        person = await self._people.remove(self._named(person_id), by.name)
        await self._audit.write(by.name, by.via, "removed", person=by.id, whom=person.id, **by.words)
        return say(by.language, "people.removed", name=person.name)

    async def left(self, channel: str, identities: Sequence[str]) -> None:
        """The platform says that somebody is gone: their rights end, and the owners hear of it."""
        person = await self._people.left(channel, identities)
        if person is None:
            return
        await self._audit.write(channel, channel, "left", whom=person.id)
        text = say(self._language, "people.left", name=person.name)
        for address in [_CONSOLE, *owners(self._permissions, channel)]:
            await self._outbox.put(f"left-{person.id}-{address.channel}-{address.chat}", address, Content(text))

    async def listed(self) -> types.People:
        """Who is on the list, and who would like to be."""
        people = [
            types.Person(id=one.id, name=one.name, role=one.role.name, identities=sorted(one.identities))
            for one in self._permissions.people
        ]
        fields = types.Pairing.model_fields
        waiting = [
            types.Pairing(**{name: getattr(one, name) for name in fields}) for one in await self._people.waiting()
        ]
        return types.People(people=people, waiting=waiting)

    async def text(self, language: Language) -> str:
        """Who may do what, and who waits."""
        people = [self._line(person, language) for person in self._permissions.people]
        waiting = [
            say(language, "people.waits", code=one.code, name=one.name, channel=one.channel)
            for one in await self._people.waiting()
        ]
        return "\n".join([say(language, "people.heading"), *(people or [say(language, "people.nobody")]), *waiting])

    @staticmethod
    def _line(person: Person, language: Language) -> str:
        role = say(language, f"roles.{person.role.name}")
        return say(language, "people.line", name=person.name, id=person.id, role=role)

    def _named(self, word: str) -> str:
        """The id behind an id or a name that only one person has."""
        named = [person.id for person in self._permissions.people if person.name == word]
        return named[0] if len(named) == 1 and self._permissions.person(word) is None else word

    async def _show(self, found: Pairing) -> None:
        """The question as it stands now, to every owner; decided, its buttons are gone."""
        language = self._language
        fields = {"name": found.name, "channel": found.channel, "code": found.code}
        if found.state == "open":
            buttons = [
                Choice(say(language, f"people.as_{role}"), f"admit:{found.code}:{role}", "primary") for role in _OFFERED
            ]
            refuse = Choice(say(language, "people.refuse"), f"dismiss:{found.code}", "danger")
            content = Content(say(language, "people.asks", **fields), (*buttons, refuse))
        else:
            content = Content(say(language, f"people.was_{found.state}", by=found.decided_by, **fields))
        for address in [_CONSOLE, *owners(self._permissions, found.channel)]:
            await self._outbox.put(f"pair-{found.code}-{address.channel}-{address.chat}", address, content)

    async def _tell(self, found: Pairing, what: str, text: str) -> None:
        await self._outbox.put(f"pair-{found.code}-{what}", Address(found.channel, found.chat), Content(text))
