"""`regrow freeze`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, Service, Session, Socket

Reason = Annotated[str, typer.Argument(metavar="[REASON]", help="Why; told to everybody who is refused.")]


def freeze(reason: Reason = "", service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Let nobody change the service until `regrow unfreeze`; the ways back stay open."""
    return ask(Session(socket, as_json, service), "freeze", {"reason": reason})
