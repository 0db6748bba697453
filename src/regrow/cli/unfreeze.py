"""`regrow unfreeze`."""

from __future__ import annotations

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, Service, Session, Socket


def unfreeze(service: Service = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Let the service be changed again."""
    return ask(Session(socket, as_json, service), "unfreeze", {})
