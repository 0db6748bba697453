"""Feishu and Lark over the long connection."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence

from regrow.channels.base import Press, Pressed
from regrow.channels.feishu.api import DOMAINS, App
from regrow.channels.feishu.channel import FeishuChannel
from regrow.channels.feishu.messages import NAME
from regrow.config import FeishuSection
from regrow.permissions import Permissions, Person, Role
from regrow.secret import resolve


def people(section: FeishuSection | None) -> list[Person]:
    """The people of the settings; none without a section (F37)."""
    return [
        Person(
            id=person.id,
            name=person.name,
            role=Role[person.role],
            identities=frozenset(f"{NAME}:{identity}" for identity in (person.open_id, person.union_id) if identity),
        )
        for person in (section.people if section else ())
    ]


def feishu_channel(
    section: FeishuSection,
    permissions: Permissions,
    press: Callable[[Press], Awaitable[Pressed]],
    newest: Callable[[str], Awaitable[Mapping[str, float]]],
    left: Callable[[str, Sequence[str]], Awaitable[None]] | None = None,
) -> FeishuChannel:
    """The channel of the settings.

    Args:
        section: the settings.
        permissions: who is who.
        press: carries out a pressed button.
        newest: the chats of a channel that were ever heard of, with the time of the newest message.
        left: told of somebody who left the tenant, by channel and every id they had.

    Raises:
        ConfigError: the app's secret cannot be read.
    """
    base_url = section.base_url or DOMAINS[section.domain]
    app = App(section.app_id, resolve(section.app_secret), base_url, section.proxy)

    def name_of(identity: str) -> str | None:
        person = permissions.find(NAME, identity)
        return person.name if person else None

    return FeishuChannel(
        app,
        name_of=name_of,
        press=press,
        known=lambda: newest(NAME),
        left=None if left is None else lambda identities: left(NAME, identities),
        hears=section.listen,
    )
