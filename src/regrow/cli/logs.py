"""`regrow logs`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Service, Session, Socket

Lines = Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on with each new line.")]
Release = Annotated[str, typer.Option("--release", metavar="ID", help="Of which release; the active one if none.")]


def logs(
    *,
    lines: Lines = 100,
    follow: Follow = False,
    release: Release = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Print the log of the service, without secrets."""
    client = Session(socket, as_json, service).client()
    for one in client.logs(lines, release, follow, service):
        if as_json:
            terminal.document({"line": one})
        else:
            terminal.line(one)
    return exits.DONE
