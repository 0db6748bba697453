"""Any program that edits the workspace."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from pathspec import GitIgnoreSpec

from regrow.agents.base import Event, Outcome, Task
from regrow.errors import ProcessTimeout, Refused
from regrow.gate import SECRET_FILES
from regrow.process import exit_words
from regrow.sandboxes.base import Box, Sandbox

_WILD = re.compile(r"[*?\[\\]")
_TEXT = 2000
_HASHED_BYTES = 16 * 1024 * 1024
_EVENTS = get_args(get_type_hints(Event)["kind"])


class CommandAgent:
    """Runs a program in the box and believes nothing but the tree.

    The program starts in the workspace and gets one JSON object on stdin, then the end of the input:

        bug             the person's words
        workspace       path of the workspace, the working directory
        git_directory   path of the repository's git directory, read-only; GIT_DIR and GIT_WORK_TREE say the same
        allowed         patterns of the paths that may change
        goal            "reproduce": write a test that fails because of the bug; "fix": mend it, tests stay as they are
        reproduction    shell script that fails while the bug is there, or ""
        failing         what the reproduction printed, or ""
        earlier         why earlier attempts were not accepted
        attempt         the number of this one, from 1
        spans           [{"good": id, "bad": id}], where the bug can have come in
        timeout_s       seconds it has

    Each line of its output that is a JSON object like {"event": "editing", "text": "src/chat.py"} becomes an event
    (thinking, reading, editing, running, cost, log); {"event": "summary", "text": ...} becomes the summary; any other
    line is a log event. Exit code 0 and a changed file: changed.

    Args:
        command: program and arguments, as the box sees them.
        env: further environment of the program.
        memory_bytes, file_bytes, processes, nice: limits as in `Box`.
    """

    name = "command"

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Sequence[tuple[str, str]] = (),
        memory_bytes: int = 0,
        file_bytes: int = 512 * 1024 * 1024,
        processes: int = 512,
        nice: int = 10,
    ) -> None:
        if isinstance(command, str) or not command:
            raise TypeError("command must be a list of words, program first")
        self._command = tuple(command)
        self._env = tuple(env)
        self._memory_bytes, self._file_bytes, self._processes, self._nice = memory_bytes, file_bytes, processes, nice

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Run the program once; arguments, result and errors as in `regrow.agents.base`."""
        writable = await asyncio.to_thread(writable_directories, task.workspace, task.allowed)
        before = await asyncio.to_thread(_signature, writable)
        has_git = await asyncio.to_thread(task.git_directory.is_dir)
        box = Box(
            workspace=task.workspace,
            writable=writable,
            readable=(*task.readable, *((task.git_directory,) if has_git else ())),
            masked=await asyncio.to_thread(_masked, task),
            env={
                "PYTHONDONTWRITEBYTECODE": "1",
                **(_git_environment(task) if has_git else {}),
                **dict(task.env),
                **dict(self._env),
            },
            memory_bytes=self._memory_bytes,
            file_bytes=self._file_bytes,
            processes=self._processes,
            nice=self._nice,
        )
        summary = ""

        def hear(line: str) -> None:
            nonlocal summary
            kind, text = _parsed(line)
            if kind == "summary":
                summary = text
            elif text:
                tell(Event(kind, text))  # type: ignore[arg-type]  # it is one of the type's words

        try:
            done = await sandbox.run(self._command, box, timeout_s=task.timeout_s, stdin=_told(task), on_line=hear)
        except ProcessTimeout as error:
            return Outcome(False, f"the agent was still working after {task.timeout_s:g} s", "timeout", log=error.log)
        if done.code != 0:
            last = next((text for line in reversed(done.output.splitlines()) if (text := _parsed(line)[1])), "")
            said = f"the agent ended with {exit_words(done.code)}" + (f": {last}" if last else "")
            return Outcome(False, said[:_TEXT], "agent_failed", log=done.output)
        if await asyncio.to_thread(_signature, writable) == before:
            return Outcome(False, summary or "the agent changed nothing", "no_change", log=done.output)
        return Outcome(True, summary or "the agent changed the workspace", log=done.output)


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


def _told(task: Task) -> bytes:
    return json.dumps(
        {
            "bug": task.bug,
            "workspace": str(task.workspace),
            "git_directory": str(task.git_directory),
            "goal": task.goal,
            "allowed": list(task.allowed),
            "reproduction": task.reproduction,
            "failing": task.failing,
            "earlier": list(task.earlier),
            "attempt": task.attempt,
            "spans": [{"good": span.good, "bad": span.bad} for span in task.spans],
            "timeout_s": task.timeout_s,
        },
        ensure_ascii=False,
    ).encode()


def _parsed(line: str) -> tuple[str, str]:
    """The kind and text of a line of output."""
    if line.lstrip().startswith("{"):
        try:
            said = json.loads(line)
        except (ValueError, RecursionError):
            said = None
        if isinstance(said, dict) and said.get("event") in (*_EVENTS, "summary") and isinstance(said.get("text"), str):
            return str(said["event"]), said["text"][:_TEXT]
    return "log", line.strip()[:_TEXT]


def _git_environment(task: Task) -> dict[str, str]:
    return {
        "GIT_DIR": str(task.git_directory),
        "GIT_WORK_TREE": str(task.workspace),
        "GIT_INDEX_FILE": "/tmp/index",  # noqa: S108  the box's own; the repository's cannot be written
        "GIT_OPTIONAL_LOCKS": "0",
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "safe.directory",
        "GIT_CONFIG_VALUE_0": "*",
    }


def _masked(task: Task) -> tuple[Path, ...]:
    """Secret files of the workspace, and what of the git directory can hold an address with a password in it."""
    secret = GitIgnoreSpec.from_lines(SECRET_FILES)
    hidden = [
        Path(entry.path)
        for entry in _below(task.workspace)
        if entry.is_file(follow_symlinks=False) and secret.match_file(os.path.relpath(entry.path, task.workspace))
    ]
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
                digest.update(b"%d" % status.st_ctime_ns)
    return digest.digest()
