"""The box in which agents, tests and builds run."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol, TypeVar, runtime_checkable

from regrow.process import Completed, LineSink, Talk


@dataclass(frozen=True)
class Box:
    """What a command may see and write; everything else is absent.

    Attributes:
        workspace: the directory the command starts in, seen at its own path, read-only.
        writable: directories inside or outside the workspace that may be written; each must exist and, resolved,
            be what it says.
        readable: further directories seen read-only (toolchains, the git directory). Where a box has a user of its own,
            others must be able to read them; a directory with a socket in it is lent to that user.
        masked: files inside the workspace that read as empty.
        env: the whole environment beyond PATH, HOME and LANG.
        home: a directory of the job's own that becomes HOME; a fresh empty one when None.
        memory_bytes: memory of all its processes together where a control group can be made, else private data of each
            process; 0 = no limit.
        file_bytes: size of any one file it writes; 0 = no limit.
        processes: processes and threads at once; 0 = no limit.
        nice: added niceness.
        cpus: processors' worth of time, as in 1.5, where a control group can be made; 0 = no limit.
        temporary_bytes: size of /tmp, and of a fresh home; both are memory.
        sockets: unix sockets of the daemon by the name they get in /run/regrow: doors out of the box, each with its
            own doorkeeper.
        egress: host names that may be reached on port 443 (see `regrow.sandboxes.egress`); no network when empty.
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
    cpus: float = 0.0
    temporary_bytes: int = 512 * 1024 * 1024
    sockets: Mapping[str, Path] = field(default_factory=dict)
    egress: Sequence[str] = ()


@dataclass(frozen=True)
class Most:
    """What any box may use at most, whatever it asks for; figures as in `Box`, 0 = no limit."""

    memory_bytes: int = 0
    processes: int = 0
    cpus: float = 0.0
    temporary_bytes: int = 0

    def of(self, box: Box) -> Box:
        """The box within these figures."""
        return replace(
            box,
            memory_bytes=_least(box.memory_bytes, self.memory_bytes),
            processes=_least(box.processes, self.processes),
            cpus=_least(box.cpus, self.cpus),
            temporary_bytes=_least(box.temporary_bytes, self.temporary_bytes),
        )


NO_MOST = Most()

_Figure = TypeVar("_Figure", int, float)


def _least(one: _Figure, other: _Figure) -> _Figure:
    return min(one, other) if one and other else one or other


@dataclass(frozen=True)
class Attempt:
    """One try to get out of a box, by the box itself.

    Attributes:
        name: what was tried.
        held: whether the box held it off.
        detail: what was seen, when it did not.
    """

    name: str
    held: bool
    detail: str = ""


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


@runtime_checkable
class Proving(Protocol):
    """What a sandbox offers that can say what it holds."""

    async def prove(self) -> Sequence[Attempt]:
        """Try to get out, once for each thing a box must hold.

        Raises:
            Refused: kind "no_sandbox", when no box can be made at all.
        """

    async def held_limits(self) -> frozenset[str]:
        """Which limits of a whole box this machine enforces, of "pids", "memory" and "cpu"."""
