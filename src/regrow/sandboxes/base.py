"""The box in which agents, tests and builds run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from regrow.process import Completed, LineSink, Talk


@dataclass(frozen=True)
class Box:
    """What a command may see and write; everything else is absent.

    Attributes:
        workspace: the directory the command starts in, seen at its own path, read-only.
        writable: directories inside or outside the workspace that may be written; each must exist and, resolved,
            be what it says.
        readable: further directories seen read-only (toolchains, the git directory).
        masked: files inside the workspace that read as empty.
        env: the whole environment beyond PATH, HOME and LANG.
        home: a directory of the job's own that becomes HOME; a fresh empty one when None.
        memory_bytes: address space of each process; 0 = no limit.
        file_bytes: size of any one file it writes; 0 = no limit.
        processes: processes and threads of the user; 0 = no limit.
        nice: added niceness.
    """

    workspace: Path
    writable: Sequence[Path] = ()
    readable: Sequence[Path] = ()
    masked: Sequence[Path] = ()
    env: Mapping[str, str] = field(default_factory=dict)
    home: Path | None = None
    memory_bytes: int = 0
    file_bytes: int = 0
    processes: int = 0
    nice: int = 0


class Sandbox(Protocol):
    """Runs commands in a box."""

    name: str

    async def check(self) -> None:
        """Prove that the box can be made on this machine.

        Raises:
            Refused: kind "no_sandbox"; says what to install or set.
        """

    async def run(
        self,
        argv: Sequence[str],
        box: Box,
        *,
        timeout_s: float,
        stdin: bytes | None = None,
        on_line: LineSink | None = None,
        keep_bytes: int = 1_000_000,
    ) -> Completed:
        """Run a command in the box to its end; errors as `regrow.process.run`."""

    def talk(
        self,
        argv: Sequence[str],
        box: Box,
        *,
        stdin: int = asyncio.subprocess.PIPE,
        stdout: int = asyncio.subprocess.PIPE,
    ) -> AbstractAsyncContextManager[Talk]:
        """A command in the box that is talked to; leaving the block ends it with all it started.

        Args:
            stdin, stdout: descriptors to give it; pipes, whose other ends are in the result, when not given.

        Raises:
            Refused, ProcessError: as `run`; that the box could not be made is raised when the block is left.
        """
