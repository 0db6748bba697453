"""`regrow approve`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli import exits, terminal
from regrow.cli.follow import show_reasons
from regrow.cli.options import AsJson, Number, Session, Socket
from regrow.cli.words import say
from regrow.errors import Refused

Digest = Annotated[str, typer.Option("--digest", help="Approve only the change with this digest.")]


def approve(number: Number, digest: Digest = "", socket: Socket = None, as_json: AsJson = False) -> int:
    """Approve the change a job waits with. What is approved is bound to the digest of what was shown."""
    client = Session(socket, as_json).client()
    if not digest:
        asked = client.job(number).approval
        if asked is None or asked.state != "open":
            raise Refused(f"cannot approve job {number}: it asks nothing now; look with `regrow job {number}`")
        digest = asked.digest
        if not as_json:
            terminal.line(asked.summary)
            show_reasons(asked)
    answered = client.approve(number, digest)
    terminal.document(answered.model_dump(mode="json")) if as_json else terminal.line(say("approved", job=number))
    return exits.DONE
