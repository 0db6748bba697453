"""`regrow down`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.words import say
from regrow.errors import RegrowError

if TYPE_CHECKING:
    from regrow.api.client import Client

Keep = Annotated[bool, typer.Option("--keep-services", help="Stop the daemon only; the services go on.")]
GONE_S = 90.0
POLL_S = 0.05


def down(keep_services: Keep = False, socket: Socket = None, as_json: AsJson = False) -> int:
    """Stop the daemon and the services, and wait until nothing is left running."""
    session = Session(socket, as_json)
    client = session.client(patience_s=0)
    try:
        left = stop(client, services=not keep_services)
    except RegrowError as error:
        # Services outlive their daemon, so without one nobody can say that they are down.
        if error.kind != "no_daemon" or not keep_services:
            raise
        left = []
    if as_json:
        terminal.document({"stopped": not left, "left": left})
    else:
        terminal.line(say("stopped_daemon" if keep_services else "stopped"))
    return exits.DONE


def stop(client: Client, *, services: bool) -> list[int]:
    """Stop the daemon, with `services` the services too, and wait for every process of theirs.

    Raises:
        RegrowError: kind "still_running", when some are left after GONE_S seconds.
    """
    status = client.status()
    running = [status.daemon.pid]
    for one in status.services if services else []:
        copies = [copy.pid for copy in (one.active, one.standby, one.candidate) if copy]
        running += [*copies, *([one.supervisor_pid] if one.supervisor_pid else [])]
    terminal.note(say("stopping" if services else "stopping_daemon"))
    client.stop(services=services)
    deadline = time.monotonic() + GONE_S
    while (left := [pid for pid in running if alive(pid)]) or _answers(client):
        if time.monotonic() > deadline:
            raise RegrowError(
                f"cannot say that all has stopped: {left} still run after {GONE_S:.0f} s; look at the daemon's log",
                kind="still_running",
            )
        time.sleep(POLL_S)
    return left


def _answers(client: Client) -> bool:
    try:
        client.document("GET", "/v1/status")
    except RegrowError as error:
        return error.kind != "no_daemon"
    return True


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except (OSError, IndexError):
        return False
