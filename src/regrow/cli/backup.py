"""`regrow backup`: copies of Regrow's own store, and the way back to one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import Refused, RegrowError
from regrow.files import exclusive_lock, private_directory
from regrow.places import Places

if TYPE_CHECKING:
    from regrow.backups import Restored

File = Annotated[str, typer.Argument(metavar="FILE", help="A backup, as `regrow backup list` names it, or its path.")]


def backup(ctx: typer.Context, socket: Socket = None, as_json: AsJson = False) -> int:
    """List the backups of the store."""
    return exits.DONE if ctx.invoked_subcommand else listed(socket, as_json)


def now(socket: Socket = None, as_json: AsJson = False) -> int:
    """Take a backup now."""
    session = Session(socket, as_json)
    taken = session.client().back_up()
    if as_json:
        terminal.document(taken.model_dump(mode="json"))
    else:
        terminal.line(say("backup_taken", path=taken.path, size=terminal.spell_bytes(taken.bytes)))
    return exits.DONE


def listed(socket: Socket = None, as_json: AsJson = False) -> int:
    """List the backups, newest first; also without a daemon."""
    from regrow import backups

    session = Session(socket, as_json)
    try:
        files = [Path(one.path) for one in session.client(patience_s=0).backups()]
    except RegrowError as error:
        if error.kind not in ("no_daemon", "starting", "lost"):
            raise
        files = backups.found(_here().state)
    if as_json:
        known = [(one, one.stat()) for one in files]
        terminal.document([{"path": str(one), "bytes": stat.st_size, "at": stat.st_mtime} for one, stat in known])
        return exits.DONE
    for one in files:
        size = terminal.spell_bytes(one.stat().st_size)
        terminal.line(say("backup_line", at=_when(one), size=f"{size:>8}", path=one))
    if not files:
        terminal.line(say("nothing_yet"))
    return exits.DONE


def restore(file: File, as_json: AsJson = False) -> int:
    """Make a backup the store again, while no daemon runs; what was there is kept beside it."""
    from regrow import backups

    places = _here()
    private_directory(places.state)
    with exclusive_lock(places.state / "daemon.lock", "daemon"):
        done = backups.restore(places.database, file)
    if as_json:
        terminal.document({"backup": str(done.backup), "displaced": str(done.displaced or ""), "lost_jobs": done.lost})
        return exits.DONE
    terminal.line(say("restored", path=done.backup))
    if done.displaced is not None:
        terminal.line(say("restored_aside", path=done.displaced))
    terminal.line(_lost(done))
    return exits.DONE


def _lost(done: Restored) -> str:
    if done.lost is None:
        return say("restored_unknown", at=_when(done.backup))
    return (
        say("restored_lost", jobs=", ".join(f"#{job}" for job in done.lost))
        if done.lost
        else say("restored_lost_nothing")
    )


def _when(path: Path) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(path.stat().st_mtime))


def _here() -> Places:
    """The places of this user.

    Raises:
        Refused: kind "not_here", when the last daemon kept its store on a server.
    """
    from regrow.backups import NOT_HERE

    places = Places.of()
    if places.served_by.exists():
        raise Refused(f"cannot do that with {places.served_by.read_text().strip()}: {NOT_HERE}", kind="not_here")
    return places


def application() -> typer.Typer:
    """The verb with its own verbs."""
    app = typer.Typer(name="backup", help="Copies of Regrow's own store.", invoke_without_command=True)
    app.callback()(backup)
    app.command()(now)
    app.command(name="list")(listed)
    app.command()(restore)
    return app
