"""What comes in at any door: who asks, from where, and what a body of the API or a pressed button asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from regrow.api import types
from regrow.catalogue import Language
from regrow.channels.base import Address
from regrow.errors import Refused
from regrow.intents import Args, Intent
from regrow.jobs import holds
from regrow.jobs.plans import PLANS
from regrow.permissions import Person

SAY = "say:"
"""Begins the action of a button that stands for words: pressed, it is as if the person had said them."""


@dataclass(frozen=True)
class Asked:
    """Who asks, from where, and in which language the answer is wanted.

    Attributes:
        person: the person, or None for a stranger.
        name: what people call them.
        address: the chat and message that asked; where every answer goes.
        language: "zh" or "en".
        key: the same for every delivery of the same request; "" when there is none.
        identity: who it is, as the platform says; "" where the channel lets nobody else in.
        words: what was said, for the audit log; of a button, what it is called.
        understood: by what the words were understood: grammar, answer (to a question), button, link, cli,
            api, mcp, daemon.
        via: the way in, where that is not the channel of the address.
    """

    person: Person | None
    name: str
    address: Address
    language: Language
    key: str = ""
    identity: str = ""
    words: str = ""
    understood: str = ""
    via: str = ""

    @property
    def where(self) -> tuple[str, str]:
        """The channel and the chat."""
        return self.address.channel, self.address.chat

    @property
    def way(self) -> str:
        """The way in, as the audit log has it."""
        return self.via or self.address.channel


ARGUMENTS = frozenset(
    {"target", "bug", "reproduction", "job", "lines", "agent", "role", "name", "data", "snapshot", "when", "incident"}
    | {"off", "reason", "set"}
)
"""What an API request may say beside its intent."""


def from_body(body: types.RequestBody) -> tuple[Intent, Args]:
    """The intent and arguments of an API request.

    Raises:
        Refused: kind "bad_request", for an unknown intent or argument.
    """
    try:
        intent = Intent(body.intent)
    except ValueError:
        raise Refused(f'cannot carry out "{body.intent}": it is not an intent', kind="bad_request") from None
    if unknown := set(body.args) - ARGUMENTS:
        known = sorted(ARGUMENTS)
        raise Refused(f"cannot use the argument {sorted(unknown)[0]}: known are {known}", kind="bad_request")
    args = Args(
        target=body.args.get("target", ""),
        bug=body.args.get("bug", ""),
        reproduction=body.args.get("reproduction", ""),
        role=body.args.get("role", ""),
        name=body.args.get("name", ""),
        data=body.args.get("data", "") == "yes",
        when=body.args.get("when", ""),
        reason=body.args.get("reason", ""),
        changes=tuple(line for line in body.args.get("set", "").splitlines() if line.strip()),
        off=body.args.get("off", "") == "yes",
    )

    def number(name: str) -> int | None:
        text = body.args.get(name, "")
        if text and not re.fullmatch(r"\d{1,9}", text):
            raise Refused(f"cannot use {name}={text}: it is a number", kind="bad_request")
        return int(text) if text else None

    args = replace(args, job=number("job"), lines=number("lines"), snapshot=number("snapshot"))
    return intent, replace(args, incident=number("incident"))


def button(action: str) -> tuple[Intent, Args]:
    """The intent behind a button: "approve:JOB:DIGEST", "reject:JOB:DIGEST", "cancel:JOB", "keep:JOB", "undo:JOB",
    "now:JOB:KIND", "force:JOB:KIND", "admit:CODE:ROLE", "dismiss:CODE", "fix:INCIDENT", "ignore:INCIDENT".

    Raises:
        Refused: kind "bad_request".
    """
    word, _, rest = action.partition(":")
    number, _, digest = rest.partition(":")
    if word in {"approve", "reject", "cancel", "keep", "undo"} and re.fullmatch(r"[0-9]{1,9}", number):
        return Intent(word), Args(job=int(number), target=digest)
    if word in holds.AT_ONCE and re.fullmatch(r"[0-9]{1,9}", number) and digest in PLANS:
        return Intent(digest), Args(job=int(number), when=word)
    if word in {"fix", "ignore"} and re.fullmatch(r"[0-9]{1,9}", number):
        return Intent.repair if word == "fix" else Intent.ignore, Args(incident=int(number))
    if word in {"admit", "dismiss"} and number:
        return Intent(word), Args(target=number, role=digest)
    raise Refused("cannot use this button: it is not one of mine", kind="bad_request")
