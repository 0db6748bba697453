"""`regrow snapshots`: copies of the service's data, and how to have one back."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket
from regrow.cli.words import say
from regrow.errors import Refused

Which = Annotated[int, typer.Argument(metavar="N", help="The number of the snapshot, as `regrow snapshots` lists it.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

REASONS = {
    "change": "snapshot_change",
    "schedule": "snapshot_schedule",
    "asked": "snapshot_asked",
    "displaced": "snapshot_displaced",
}


def snapshots(ctx: typer.Context, service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """List snapshots of the data, newest first."""
    if ctx.invoked_subcommand:
        return exits.DONE
    found = Session(socket, as_json, service).client().snapshots(service)
    if as_json:
        terminal.document([one.model_dump(mode="json") for one in found])
        return exits.DONE
    if not found:
        terminal.line(say("nothing_yet"))
    for one in found:
        why = say(REASONS.get(one.reason, "snapshot_change")) + (
            f" ({say('snapshot_job', job=one.job)})" if one.job else ""
        )
        rest = f"{_when(one.at)}  {terminal.spell_bytes(one.bytes):<8}  {' '.join(one.releases):<12}  {why}"
        terminal.write(f"{one.id:>4}  {terminal.clean(rest)}\n")
    return exits.DONE


def take(service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Copy the data now."""
    return ask(Session(socket, as_json, service), "snapshot", {})


def restore(  # noqa: PLR0917 - typer makes options of arguments
    number: Which,
    yes: Yes = False,
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Put a snapshot in the place of the data, and start the release that works with it."""
    session = Session(socket, as_json, service)
    if not yes and not terminal.can_ask():
        raise Refused("cannot ask whether to restore: there is no terminal; give --yes", kind="usage")
    plan = session.client().restore_plan(number, service)
    told = {"files": ", ".join(plan.snapshot.files), "at": _when(plan.snapshot.at), "rows": plan.rows}
    terminal.note(say("restore_plan", snapshot=number, release=plan.release, version=plan.version, **told))
    if not yes and not terminal.yes(say("restore_ask") + " "):
        return exits.INTERRUPTED
    return ask(session, "rollback", {"snapshot": str(number)}, no_wait)


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at))


def application() -> typer.Typer:
    """The verb with those below it."""
    app = typer.Typer(name="snapshots", no_args_is_help=False, invoke_without_command=True, callback=snapshots)
    for verb in (take, restore):
        app.command()(verb)
    return app
