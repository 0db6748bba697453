"""`regrow undo`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket, WithData

Job = Annotated[int | None, typer.Argument(metavar="[JOB]", help="Which job; the last one that changed what runs.")]


def undo(  # noqa: PLR0917 - typer makes options of arguments
    number: Job = None,
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
    with_data: WithData = False,
) -> int:
    """Go back to what served before a job; one that is under way is called off."""
    given = {"job": "" if number is None else str(number), "data": "yes" if with_data else ""}
    return ask(Session(socket, as_json, service), "undo", given, no_wait)
