"""`regrow jobs`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from regrow.cli import exits, terminal, views
from regrow.cli.options import AsJson, Service, Session, Socket
from regrow.cli.words import say

Count = Annotated[int, typer.Option("--number", "-n", min=1, help="How many, newest first.")]


def jobs(number: Count = 20, service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """List jobs, newest first."""
    session = Session(socket, as_json, service)
    client = session.client()
    found = client.jobs(number, service)
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in found])
        return exits.DONE
    if not found:
        terminal.line(say("nothing_yet"))
    for one in found:
        end = one.ended_at or time.time()
        took = terminal.spell(end - one.started_at) if one.started_at else "-"
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.created_at))
        mark = terminal.paint(
            views.MARKS[one.status] if one.status != "cancelled" else "✗", views.COLOURS.get(one.status, "")
        )
        rest = f"{one.id:>5}  {when}  {one.kind:<8}  {say(one.status):<9}  {took:>12}  {one.asked_by}  {one.title}"
        terminal.write(f"{mark} {terminal.clean(rest)}\n")
    return exits.DONE
