"""`regrow reject`."""

from __future__ import annotations

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Number, Session, Socket
from regrow.cli.words import say


def reject(number: Number, socket: Socket = None, as_json: AsJson = False) -> int:
    """Answer the question of a job with no."""
    client = Session(socket, as_json).client()
    answered = client.reject(number)
    terminal.document(answered.model_dump(mode="json")) if as_json else terminal.line(say("rejected", job=number))
    return exits.DONE
