"""`regrow upgrade-self`."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from regrow import __version__
from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.up import answering
from regrow.cli.words import say
from regrow.errors import Refused, RegrowError
from regrow.places import Places
from regrow.versions import Version, Versions

What = Annotated[str, typer.Argument(metavar="[WHAT]", help="What pip installs: regrow==1.2, a wheel.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
REPLACED_S = 300.0
POLL_S = 0.2


def upgrade_self(what: What = "regrow", yes: Yes = False, socket: Socket = None, as_json: AsJson = False) -> int:
    """Install another version of Regrow and let the daemon become it; services and jobs go on.

    The version that runs is not touched: when the new one does not come up, the old one is back by itself.
    """
    session = Session(socket, as_json)
    if not yes and not terminal.can_ask():
        raise Refused("cannot ask whether to upgrade: there is no terminal; give --yes", kind="usage")
    versions = Versions(Places.of().state)
    terminal.note(say("upgrade_installing", what=what))
    version = versions.install(what)
    running = answering(session)
    if running is not None and running.version == version.number:
        versions.prune()
        terminal.document({"version": version.number, "from": running.version}) if as_json else terminal.line(
            say("upgrade_same", version=version.number)
        )
        return exits.DONE
    terminal.note(say("upgrade_plan", old=running.version if running else __version__, new=version.number))
    if not yes and not terminal.yes(say("upgrade_ask") + " "):
        versions.prune()
        return exits.INTERRUPTED
    versions.use(version)
    if running is None:
        return _done(session, version, running_now=False)
    try:
        session.client().replace_daemon()
    except RegrowError:
        versions.back()
        raise
    return _wait(session, versions, version, running.started_at)


def _wait(session: Session, versions: Versions, version: Version, old_start: float) -> int:
    """Until the daemon is the new version, or the old one again."""
    deadline = time.monotonic() + REPLACED_S
    while time.monotonic() < deadline:
        time.sleep(POLL_S)
        now = answering(session)
        if now is not None and now.version == version.number:
            return _done(session, version, running_now=True)
        if now is not None and now.started_at != old_start:
            raise RegrowError(
                f"cannot upgrade to {version.number}: it did not come up; {now.version} is back. "
                f"Look at {Places.of().daemon_log}",
                kind="went_back",
            )
    raise RegrowError(
        f"cannot see the daemon answer within {REPLACED_S:.0f} s; look at {Places.of().daemon_log}", kind="no_answer"
    )


def _done(session: Session, version: Version, *, running_now: bool) -> int:
    if session.as_json:
        terminal.document({"version": version.number, "from": __version__, "running": running_now})
    else:
        terminal.line(say("upgrade_done" if running_now else "upgrade_installed", version=version.number))
    return exits.DONE
