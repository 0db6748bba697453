"""`regrow rollback`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket, WithData

Target = Annotated[
    str,
    typer.Argument(metavar="[TARGET]", help="A release or version; the last good one if none."),
]


def rollback(  # noqa: PLR0917 - typer makes options of arguments
    target: Target = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    with_data: WithData = False,
) -> int:
    """Go back to an older release."""
    return ask(
        Session(socket, as_json, service), "rollback", {"target": target, "data": "yes" if with_data else ""}, no_wait
    )
