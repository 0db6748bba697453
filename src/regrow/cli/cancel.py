"""`regrow cancel`."""

from __future__ import annotations

from regrow.cli import exits, terminal
from regrow.cli.options import AsJson, Number, Session, Socket
from regrow.cli.words import say


def cancel(number: Number, socket: Socket = None, as_json: AsJson = False) -> int:
    """Ask a job to stop and to undo what it did."""
    client = Session(socket, as_json).client()
    answered = client.cancel(number)
    terminal.document(answered.model_dump(mode="json")) if as_json else terminal.line(say("cancelling", job=number))
    return exits.DONE
