"""`regrow restart`."""

from __future__ import annotations

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket, When


def restart(
    when: When = "",
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Prove a fresh process of the active release, then switch to it."""
    return ask(Session(socket, as_json, service), "restart", {"when": when}, no_wait)
