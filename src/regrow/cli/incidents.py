"""`regrow incidents`: what goes wrong again and again, and what is done about it."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.follow import ask
from regrow.cli.options import AsJson, Service, Session, Socket
from regrow.cli.words import say

Which = Annotated[int, typer.Argument(metavar="N", help="The number of the incident, as `regrow incidents` lists it.")]
Lines = Annotated[bool, typer.Option("--lines", "-l", help="Also the decisive lines of each.")]

COLOURS = {"open": "red", "came_back": "red", "tried": "red", "repairing": "yellow", "mended": "green"}


def incidents(
    ctx: typer.Context,
    *,
    lines: Lines = False,
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """List incidents, the one seen last first; `regrow repair --incident N` repairs one."""
    if ctx.invoked_subcommand:
        return exits.DONE
    found = Session(socket, as_json, service).client().incidents(service)
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in found])
        return exits.DONE
    if not found:
        terminal.line(say("nothing_yet"))
    for one in found:
        state = terminal.paint(f"{one.state:<9}", COLOURS.get(one.state, ""))
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(one.last_at))
        job = f"  (job {one.job})" if one.job else ""
        rest = f"{one.kind:<8}  {one.count:>6}x  {when}  {' '.join(one.releases[-3:]):<8}  {one.cause}{job}"
        terminal.write(f"{'#I' + str(one.id):>5}  {state}  {terminal.clean(rest)}\n")
        if lines:
            terminal.line("\n".join(f"       {line}" for line in one.lines), "dim")
    return exits.DONE


def ignore(number: Which, service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Hear nothing of an incident for some days, unless it becomes much worse."""
    return ask(Session(socket, as_json, service), "ignore", {"incident": str(number)})


def application() -> typer.Typer:
    """The verb with the one below it."""
    app = typer.Typer(name="incidents", no_args_is_help=False, invoke_without_command=True, callback=incidents)
    app.command()(ignore)
    return app
