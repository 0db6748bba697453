"""`regrow deploy`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket, When

Target = Annotated[
    str,
    typer.Argument(metavar="[TARGET]", help="A branch, tag, commit or release; the configured one if none."),
]


def deploy(
    target: Target = "",
    *,
    when: When = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Build, prove and switch to a new release; the old one comes back by itself when it is worse."""
    return ask(Session(socket, as_json, service), "deploy", {"target": target, "when": when}, no_wait)
