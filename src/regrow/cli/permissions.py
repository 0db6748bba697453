"""`regrow permissions`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import Refused

if TYPE_CHECKING:
    from regrow.api.types import PlaceRule, Right

PersonId = Annotated[str, typer.Option("--person", metavar="ID", help="Whether this person may, by `regrow people`.")]
Chat = Annotated[str, typer.Option("--chat", metavar="CHANNEL:CHAT", help="As it is in this chat, or on this channel.")]


def permissions(person: PersonId = "", chat: Chat = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Show who may ask for what and where, and what comes before it is done."""
    session = Session(socket, as_json)
    channel, _, room = chat.partition(":")
    found = session.client().permissions(person, channel, room)
    if person and not found.person:
        raise Refused(f"cannot show the rights of {person}: `regrow people` lists the ids", kind="no_such_person")
    if as_json:
        terminal.document(found.model_dump(mode="json"))
        return exits.DONE
    for right in found.rights:
        terminal.line(_line(right))
    for place in found.places:
        terminal.line(_place(place))
    if found.per_minute or found.jobs_per_hour:
        terminal.line(
            say("permissions_limits", per_minute=found.per_minute or "∞", per_hour=found.jobs_per_hour or "∞")
        )
    return exits.DONE


def _line(right: Right) -> str:
    may = {None: "", True: "✓  ", False: "✗  "}[right.allowed]
    said = {
        "confirm": "permissions_confirm",
        "ask_when_busy": "permissions_ask_when_busy",
        "held": "permissions_held",
        "limited": "permissions_limited",
    }
    notes = ", ".join(say(key) for name, key in said.items() if getattr(right, name))
    return f"{may}{right.intent:<10}  {right.role:<10}  {notes}".rstrip()


def _place(place: PlaceRule) -> str:
    parts = [] if place.most == "owner" else [say("permissions_most", role=place.most)]
    parts += [f"{intent}: {role}" for intent, role in place.roles.items()]
    parts += [f"{intent}: {say('permissions_confirm')}" for intent in place.confirm]
    return f"{place.place}  {', '.join(parts)}".rstrip()
