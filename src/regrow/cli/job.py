"""`regrow job`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import exits, terminal, views
from regrow.cli.follow import follow
from regrow.cli.options import AsJson, Number, Session, Socket

if TYPE_CHECKING:
    from regrow.api.client import Client

Log = Annotated[bool, typer.Option("--log", help="Print the job's log.")]
Diff = Annotated[bool, typer.Option("--diff", help="Print the change the job made, or asks to have approved.")]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Stay until the job has ended; exit with its code.")]


def job(
    *,
    number: Number,
    log: Log = False,
    diff: Diff = False,
    follow_it: Follow = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Show one job: its steps, its log or its change."""
    session = Session(socket, as_json)
    client = session.client()
    if log:
        terminal.text(client.job_log(number), as_json, "log")
    elif diff:
        _diff(client, number, as_json)
    elif follow_it:
        return follow(session, client, number)
    elif as_json:
        terminal.document(client.document("GET", f"/v1/jobs/{number}"))
    else:
        found = client.job(number)
        views.PlainView().show(found)
        views.story(found)
    return exits.DONE


def _diff(client: Client, number: int, as_json: bool) -> None:
    approval = client.job(number).approval
    if as_json:
        terminal.document(approval.model_dump(mode="json") if approval else None)
    elif approval:
        terminal.diff(approval.diff)
