"""`regrow keep`."""

from __future__ import annotations

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, Number, Session, Socket


def keep(number: Number, socket: Socket = None, as_json: AsJson = False) -> int:
    """Say that the new version of a job is to stay, where `[switch] confirm_within` asks for that word."""
    return ask(Session(socket, as_json), "keep", {"job": str(number)})
