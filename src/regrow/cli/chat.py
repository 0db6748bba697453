"""`regrow chat`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from regrow.cli import terminal
from regrow.cli.options import AsJson, Session, Socket
from regrow.cli.talk import Talk

Chat = Annotated[str, typer.Option("--chat", metavar="ID", help="Which chat of the terminal channel.")]


def chat(chat_id: Chat = "main", socket: Socket = None, as_json: AsJson = False) -> int:
    """Talk to Regrow; in a pipe, say each line of standard input and print each answer once."""
    client = Session(socket, as_json).client()
    talk = Talk(client, chat_id)
    if as_json or terminal.plain() or not sys.stdin.isatty():
        from regrow.cli.talk_pipe import run
    else:
        from regrow.cli.talk_screen import run
    return run(talk, as_json)
