"""`regrow confine`."""

from __future__ import annotations

import os
import shutil
from typing import Annotated

import typer

from regrow import confinement
from regrow.errors import Refused
from regrow.places import Places

Command = Annotated[list[str], typer.Argument(metavar="COMMAND...", help="What to run, after --.")]


def confine(command: Command) -> int:
    """Run a command that cannot stop, kill or restart the service: for the shell of a bot's own model."""
    bwrap = shutil.which("bwrap")
    if bwrap is None:
        raise Refused(
            "cannot confine a command: bubblewrap is not there; run apt install bubblewrap", kind="no_sandbox"
        )
    os.execv(bwrap, confinement.argv(command, Places.of(), os.environ, bwrap))  # noqa: S606  no shell is meant
