"""`regrow up`."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import daemon_process, exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import ConfigError, RegrowError

if TYPE_CHECKING:
    from regrow.api.types import DaemonStatus

Configs = Annotated[
    list[Path] | None,
    typer.Option("--config", "-c", metavar="FILE", help="A service's settings; may be given many times. [regrow.toml]"),
]
Foreground = Annotated[bool, typer.Option("--foreground", help="Stay, pass signals on, and end with the daemon.")]
Live = Annotated[bool, typer.Option("--live", help="Stay and show what happens; Ctrl-C stops everything.")]
READY_S = 60.0
POLL_S = 0.05


def up(
    config: Configs = None,
    foreground: Foreground = False,
    live: Live = False,
    socket: Socket = None,
    as_json: AsJson = False,
) -> int:
    """Start the daemon and its services; with neither --foreground nor --live, in the background."""
    session = Session(socket, as_json)
    if running := answering(session):
        return _say(session, running, "already_up")
    configs = [one.absolute() for one in config or [Path("regrow.toml")]]
    for one in configs:
        if not one.is_file():
            raise ConfigError(f"cannot find {one}: write it, or name another with --config")
    if foreground and not live:
        return daemon_process.in_foreground(configs, session.path)
    if live:
        from regrow.cli.live import end_alike, stop_all, watch

        end_alike()
    process, log = daemon_process.start(configs, session.path)
    try:
        ready = wait_ready(session, process, log)
    except KeyboardInterrupt:
        if live:
            return stop_all(session, process)
        process.terminate()
        raise
    if isinstance(ready, int):
        return ready
    if live:
        if ready.console:
            terminal.line(say("console", address=ready.console))
        return watch(session, process)
    return _say(session, ready, "up")


def answering(session: Session) -> DaemonStatus | None:
    """The daemon, if one answers now."""
    client = session.client(patience_s=0)
    try:
        return client.status().daemon
    except RegrowError as error:
        if error.kind in ("no_daemon", "starting", "lost"):
            return None
        raise


def wait_ready(session: Session, process: subprocess.Popen[bytes], log: daemon_process.Log) -> DaemonStatus | int:
    """Wait for a started daemon to answer; its exit code when it ended instead."""
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        code = process.poll()
        if ready := answering(session):
            return ready
        if code is not None:
            line = log.last_line()
            # Its own words are the error; around anything else, such as a traceback, it must be said what happened.
            terminal.note(f"regrow: {line}" if line.startswith("cannot ") else say("died", code=code, line=line))
            return daemon_process.exit_status(code) or exits.BUG
        time.sleep(POLL_S)
    raise RegrowError(
        f"cannot see the daemon answer within {READY_S:.0f} s; it goes on starting: look at {log.path}",
        kind="no_answer",
    )


def _say(session: Session, daemon: DaemonStatus, key: str) -> int:
    if session.as_json:
        terminal.document(daemon.model_dump(mode="json"))
        return exits.DONE
    terminal.line(say(key, version=daemon.version, pid=daemon.pid))
    if daemon.console:
        terminal.line(say("console", address=daemon.console))
    return exits.DONE
