"""The whole table of who may ask for what, where: made of the settings, and shown to people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from regrow.api import types
from regrow.catalogue import Language, say
from regrow.config import Config, PermissionsSection, PlaceSection, only
from regrow.intents import HELD, ROLES, TABLE, Intent
from regrow.permissions import READS, Permissions, Person, Place, Role
from regrow.rates import FREE

NOBODY = "nobody"


def section(configs: Sequence[Config]) -> PermissionsSection:
    """The one `[permissions]` of all configuration files.

    Raises:
        ConfigError: there are two.
    """
    return only("permissions", (config.permissions for config in configs)) or PermissionsSection()


def permissions(settings: PermissionsSection, people: Iterable[Person]) -> Permissions:
    """The people and the table that the settings make."""
    places = {**settings.channels, **settings.chats}
    return Permissions(
        people,
        {**ROLES, **READS} | _roles(settings.roles),
        {name: _place(place) for name, place in places.items()},
        settings.confirm,
    )


def _roles(given: Mapping[str, str]) -> dict[str, Role | None]:
    return {intent: None if role == NOBODY else Role[role] for intent, role in given.items()}


def _place(given: PlaceSection) -> Place:
    effects: dict[str, Role | None] = {row.intent.value: None for row in TABLE.values() if row.effect}
    roles = _roles(given.roles) | (effects if given.read_only else {})
    return Place(Role[given.most], roles, frozenset(given.confirm))


def table(
    known: Permissions, settings: PermissionsSection, person: Person | None = None, channel: str = "", chat: str = ""
) -> types.Permissions:
    """Every intent: who may ask for it in a chat, and what comes before it is done.

    Args:
        known: the people and the table.
        settings: what else is asked for.
        person: whose rights are wanted, or None.
        channel, chat: where; "": by the table alone.
    """

    def row(intent: str) -> types.Right:
        needed = known.required(intent, channel, chat)
        return types.Right(
            intent=intent,
            role=needed.name if needed is not None else NOBODY,
            allowed=None if person is None else known.allowed(person, intent, channel, chat),
            confirm=known.confirmed(intent, channel, chat),
            ask_when_busy=intent in settings.ask_when_busy,
            held=intent in HELD,
            limited=intent in Intent.__members__ and intent not in FREE,
        )

    places = known.rules if not channel else dict(known.places(channel, chat))
    return types.Permissions(
        person=person.id if person else "",
        person_role=person.role.name if person else "",
        channel=channel,
        chat=chat,
        rights=[row(intent) for intent in known.intents],
        places=[
            types.PlaceRule(
                place=name,
                most=place.most.name,
                roles={intent: role.name if role else NOBODY for intent, role in place.roles.items()},
                confirm=sorted(place.confirm),
            )
            for name, place in places.items()
        ],
        per_minute=settings.per_minute,
        jobs_per_hour=settings.jobs_per_hour,
    )


def text(known: Permissions, language: Language, channel: str, chat: str) -> str:
    """The table for a chat, as it is there: a line a role, with the intents that need it."""
    lines = []
    for role in (*Role, None):
        named = [
            say(language, f"intents.{intent}.short") + ("✋" if known.confirmed(intent, channel, chat) else "")
            for intent in known.intents
            if intent in TABLE and known.required(intent, channel, chat) is role
        ]
        if named:
            who = say(language, f"roles.{role.name if role else NOBODY}")
            lines.append(say(language, "permissions.line", role=who, intents=", ".join(named)))
    return "\n".join([say(language, "permissions.heading"), *lines])
