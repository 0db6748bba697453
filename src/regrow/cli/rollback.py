"""`regrow rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket, When, WithData

Target = Annotated[
    str,
    typer.Argument(metavar="[TARGET]", help="A release or version; the last good one if none."),
]


def rollback(
    target: Target = "",
    *,
    when: When = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    with_data: WithData = False,
) -> int:
    """Go back to an older release."""
    args = {"target": target, "data": "yes" if with_data else "", "when": when}
    return ask(Session(socket, as_json, service), "rollback", args, no_wait)
