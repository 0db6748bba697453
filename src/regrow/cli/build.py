"""`regrow build`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket

Target = Annotated[str, typer.Argument(metavar="[TARGET]", help="A branch, tag or commit; the configured one if none.")]


def build(
    target: Target = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Build and test a release without starting it."""
    return ask(Session(socket, as_json, service), "build", {"target": target}, no_wait)
