"""`regrow repair`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from regrow.cli.follow import ask
from regrow.cli.options import AsJson, NoWait, Service, Session, Socket
from regrow.errors import RegrowError

Bug = Annotated[
    str, typer.Argument(metavar="[TEXT]", help="What is wrong, in your words; - reads it from standard input.")
]
Incident = Annotated[
    int | None,
    typer.Option("--incident", metavar="N", min=1, help="What is wrong is incident N, as `regrow incidents` lists it."),
]
Command = Annotated[str, typer.Option("--reproduce", metavar="CMD", help="A command that fails because of the bug.")]
File = Annotated[
    Path | None,
    typer.Option("--reproduce-file", "-f", metavar="FILE", help="A script that fails because of the bug."),
]
Continue = Annotated[
    int,
    typer.Option(
        "--continue",
        "-c",
        metavar="JOB",
        help="Go on with an earlier repair: TEXT is your answer to its agent; without TEXT it is done once more.",
    ),
]
Agent = Annotated[str, typer.Option("--agent", metavar="NAME", help="Which coding agent; the configured one if none.")]


def repair(
    *,
    bug: Bug = "",
    incident: Incident = None,
    reproduce: Command = "",
    file: File = None,
    agent: Agent = "",
    earlier: Continue = 0,
    service: Service = "",
    socket: Socket = None,
    as_json: AsJson = False,
    no_wait: NoWait = False,
) -> int:
    """Let a coding agent mend a bug, prove the change, ask for approval, and deploy it."""
    if incident is not None and (bug or file):
        raise RegrowError("cannot repair two things at once: give --incident or a description, not both", kind="usage")
    text = sys.stdin.read().strip() if bug == "-" else bug.strip()
    if not text and not earlier and incident is None:
        raise RegrowError("cannot repair without a description: say what is wrong", kind="usage")
    if reproduce and file:
        raise RegrowError("cannot reproduce in two ways: give --reproduce or -f, not both", kind="usage")
    if file:
        try:
            reproduce = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise RegrowError(f"cannot read the reproduction {file}: {error}; name a text file", kind="usage") from None
    what = {"bug": text} if incident is None else {"incident": str(incident)}
    args = {**what, "reproduction": reproduce, "agent": agent, "job": str(earlier or "")}
    return ask(Session(socket, as_json, service), "repair", args, no_wait)
