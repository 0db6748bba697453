"""`regrow mcp`."""

from __future__ import annotations

from typing import Annotated

import typer

from regrow.cli import exits
from regrow.cli.options import Session, Socket
from regrow.errors import RegrowError

Chat = Annotated[
    str, typer.Option("--chat", metavar="CHANNEL:CHAT", help="The chat that hears of jobs, where a call names none.")
]


def mcp(*, chat: Chat = "", socket: Socket = None) -> int:
    """Serve the tools of a program's own model on standard input and output (Model Context Protocol)."""
    import asyncio

    try:
        from regrow.api.mcp import Tools, server
    except ImportError:
        raise RegrowError(
            "cannot speak the Model Context Protocol: its library is not there; install regrow[mcp]", kind="no_mcp"
        ) from None
    from regrow.api.client import Client

    # Who waits here is a program: a daemon that is being replaced is waited for in silence.
    client = Client(Session(socket).path, principal="mcp")
    asyncio.run(server(Tools(client, chat)).run_stdio_async())
    return exits.DONE
