"""`regrow watch`."""

from __future__ import annotations

from regrow.cli.options import AsJson, Session, Socket


def watch(socket: Socket = None, as_json: AsJson = False) -> int:
    """Watch services, the running job and the last messages until Ctrl-C, which stops nothing."""
    from regrow.cli import live

    session = Session(socket, as_json)
    return live.look_on_as_json(session) if as_json else live.look_on(session)
