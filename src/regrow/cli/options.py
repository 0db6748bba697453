"""The options that verbs share, and the session they make."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from regrow.cli import terminal, words
from regrow.places import Places

if TYPE_CHECKING:
    from regrow.api.client import Client

Service = Annotated[str, typer.Option("--service", "-s", metavar="NAME", help="Which service, where there are many.")]
Socket = Annotated[
    Path | None, typer.Option("--socket", envvar="REGROW_SOCKET", metavar="PATH", help="Where the daemon listens.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON: one document, or one a line where it is live.")]
NoWait = Annotated[bool, typer.Option("--no-wait", help="Return once the job is accepted.")]
WithData = Annotated[
    bool, typer.Option("--with-data", help="Restore the data as it was then, too; what was written since is set aside.")
]
When = Annotated[
    str,
    typer.Option(
        "--when",
        metavar="WHEN",
        help="idle: once nothing is interrupted; now: in quiet hours too; force: call off others.",
    ),
]
Number = Annotated[int, typer.Argument(metavar="JOB", help="The number of the job.")]


@dataclass(frozen=True)
class Session:
    """Which daemon and service a verb speaks of, and how it answers."""

    socket: Path | None = None
    as_json: bool = False
    service: str = ""

    @property
    def path(self) -> Path:
        """The daemon's socket."""
        if self.socket is not None:
            return self.socket.absolute()
        path = Places.of().socket
        system = Places.of({}, 0).socket
        # A root shell has a runtime directory of its own, and yet means the system's daemon when that is the one.
        chosen = os.environ.get("REGROW_RUNTIME_DIR") or os.getuid() != 0 or path.exists()
        return path if chosen or not system.exists() else system

    def client(self, patience_s: float = 60.0) -> Client:
        """A client that says once when it waits for a daemon that went away."""
        from regrow.api.client import Client

        def away() -> None:
            terminal.note(words.say("daemon_away"))

        said = " ".join(["regrow", *sys.argv[1:]])
        return Client(self.path, patience_s=patience_s, on_wait=away, language=words.language(), words=said)
