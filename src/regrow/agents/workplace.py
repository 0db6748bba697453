"""Where an agent works: what of the world its box shows, what it may write there, and whether it changed anything."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from regrow.agents import relay
from regrow.agents.base import Door, Task
from regrow.errors import ConfigError, Refused
from regrow.sandboxes.base import Box, Sandbox
from regrow.sandboxes.masks import INDEX, secret_files

_WILD = re.compile(r"[*?\[\\]")
_HASHED_BYTES = 16 * 1024 * 1024
_SOCKET = "model.sock"


@dataclass(frozen=True)
class Limits:
    """What an agent's box may use: as in `Box`."""

    memory_bytes: int = 0
    file_bytes: int = 512 * 1024 * 1024
    processes: int = 512
    nice: int = 10


@dataclass(frozen=True)
class Workplace:
    """The box of a task, and what its tree looked like before.

    Attributes:
        box: for the sandbox.
        before: digest of everything that can be written.
    """

    box: Box
    before: bytes

    @classmethod
    async def of(
        cls, task: Task, limits: Limits, env: Mapping[str, str] | None = None, readable: Sequence[Path] = ()
    ) -> Workplace:
        """Prepare one.

        Args:
            task: the task.
            limits: of the box.
            env: what the agent needs in its environment.
            readable: what the agent itself consists of.

        Raises:
            Refused: kind "box_path", when an allowed pattern leads out of the workspace.
        """
        writable = await asyncio.to_thread(writable_directories, task.workspace, task.allowed)
        git = (task.git_directory,) if await asyncio.to_thread(task.git_directory.is_dir) else ()
        box = Box(
            workspace=task.workspace,
            writable=writable,
            readable=tuple(dict.fromkeys((*task.readable, *readable, *git))),
            masked=await asyncio.to_thread(masked, task),
            env={
                "PYTHONDONTWRITEBYTECODE": "1",
                **(_git_environment(task) if git else {}),
                **dict(task.env),
                **(env or {}),
            },
            home=task.home,
            sockets={_SOCKET: task.door.socket} if task.door else {},
            memory_bytes=limits.memory_bytes,
            file_bytes=limits.file_bytes,
            processes=limits.processes,
            nice=limits.nice,
        )
        return cls(box, await asyncio.to_thread(_signature, writable))

    async def changed(self) -> bool:
        """Whether anything in it is different now."""
        return await asyncio.to_thread(_signature, self.box.writable) != self.before


def located(program: str, agent: str) -> Path:
    """Where an agent's program really is.

    Raises:
        ConfigError: kind "agent_missing".
    """
    found = shutil.which(program)
    if found is None:
        raise ConfigError(
            f"cannot use the agent {agent!r}: {program} is not installed; install it, or correct [agent.{agent}]",
            kind="agent_missing",
        )
    return Path(os.path.realpath(found))


def parts_of(program: Path) -> tuple[Path, ...]:
    """What has to be seen of a program: of one of npm the directory with all packages, else its own directory; nothing
    of what lies in /usr, which every box shows."""
    if program.is_relative_to("/usr"):
        return ()
    packages = next((parent for parent in reversed(program.parents) if parent.name == "node_modules"), program.parent)
    return (packages,)


def seen(door: Door, sandbox: Sandbox) -> str:
    """Where the socket of a door is for what runs in a sandbox."""
    return str(door.socket) if sandbox.name == "unconfined" else f"/run/regrow/{_SOCKET}"


def behind_relay(door: Door, sandbox: Sandbox, command: Sequence[str]) -> list[str]:
    """`command` with a relay: "{model}" in its words and environment is an http address that leads to `door`."""
    return [sys.executable, "-I", "-S", "-c", inspect.getsource(relay), seen(door, sandbox), *command]


def writable_directories(workspace: Path, allowed: Sequence[str]) -> tuple[Path, ...]:
    """The directories that an agent must be able to write for its allowed patterns: their fixed leading parts.

    Directories and not files, since editors write a temporary file beside and rename it; what else lies in them is
    the gate's to refuse. Missing ones are created.

    Args:
        workspace: the job's workspace, real path.
        allowed: patterns in gitignore syntax; those that begin with "!" give nothing.

    Raises:
        Refused: kind "box_path", when one leads out of the workspace.
    """
    found: list[Path] = []
    for pattern in allowed:
        if not pattern.strip() or pattern.startswith(("!", "#")):
            continue
        words = [word for word in pattern.strip().split("/") if word]
        fixed: list[str] = []
        for word in words:
            if _WILD.search(word):
                break
            fixed.append(word)
        directory = workspace.joinpath(*fixed)
        whole = len(fixed) == len(words)
        if whole and (directory.is_file() or (not pattern.endswith("/") and not directory.is_dir())):
            directory = directory.parent
        real = Path(os.path.realpath(directory))
        if ".." in fixed or (real != workspace and workspace not in real.parents) or real != directory:
            raise Refused(
                f"cannot let an agent write {pattern!r}: it leads to {real}; name a directory of the workspace",
                kind="box_path",
            )
        real.mkdir(parents=True, exist_ok=True)
        found.append(real)
    unique = sorted(set(found))
    return tuple(path for path in unique if not any(other in path.parents for other in unique))


def _git_environment(task: Task) -> dict[str, str]:
    index = task.git_directory / INDEX
    return {
        "GIT_DIR": str(task.git_directory),
        "GIT_WORK_TREE": str(task.workspace),
        # One that was made for this agent; the repository's is somebody's own, and /tmp is the box's.
        "GIT_INDEX_FILE": str(index) if index.is_file() else "/tmp/index",  # noqa: S108
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def masked(task: Task) -> tuple[Path, ...]:
    """Secret files of the workspace, and what of the git directory can hold an address with a password in it."""
    hidden = secret_files(task.workspace)
    if (task.git_directory / INDEX).is_file():
        return hidden  # made for this agent: there is nothing in it to mask
    git = [task.git_directory / name for name in ("config", "config.worktree", "FETCH_HEAD", "logs", "hooks")]
    return (*hidden, *(path for path in git if path.exists()))


def _below(root: Path) -> Iterator[os.DirEntry[str]]:
    """Everything below a directory but directories, in a fixed order. A loop and not a recursion: an agent can nest
    directories deeper than one goes; what lies deeper than a path is long is left out, and the gate refuses it."""
    waiting = [str(root)]
    while waiting:
        try:
            entries = sorted(os.scandir(waiting.pop()), key=lambda entry: entry.name)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(entry.path)
            else:
                yield entry


def _signature(directories: Sequence[Path]) -> bytes:
    """A digest of everything that can be written; large files count by their figures."""
    digest = hashlib.sha256()
    for root in directories:
        for entry in _below(root):
            status = entry.stat(follow_symlinks=False)
            digest.update(os.fsencode(entry.path) + b"\0%o\0%d\0" % (status.st_mode, status.st_size))
            if entry.is_symlink():
                digest.update(os.fsencode(os.readlink(entry.path)))  # noqa: PTH115
            elif entry.is_file(follow_symlinks=False) and status.st_size <= _HASHED_BYTES:
                digest.update(hashlib.sha256(Path(entry.path).read_bytes()).digest())
            else:
                digest.update(b"%d" % status.st_mtime_ns)  # not of its inode, which changes with its owner
    return digest.digest()
