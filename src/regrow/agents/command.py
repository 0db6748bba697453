"""Any program that edits the workspace."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import get_args, get_type_hints

from regrow.agents.base import Event, Outcome, Task
from regrow.agents.workplace import Limits, Workplace, located
from regrow.errors import ProcessTimeout
from regrow.process import exit_words
from regrow.sandboxes.base import Sandbox

_TEXT = 2000
_NOT_STARTED = (126, 127)
_EVENTS = get_args(get_type_hints(Event)["kind"])


class CommandAgent:
    """Runs a program in the box and believes nothing but the tree.

    The program starts in the workspace and gets one JSON object on stdin, then the end of the input:

        bug             the person's words
        workspace       path of the workspace, the working directory
        git_directory   path of a git directory with the history of the commit, read-only; as in GIT_DIR
        allowed         patterns of the paths that may change
        goal            "reproduce": write a test that fails because of the bug; "fix": mend it
        sealed          whether tests have to stay as they are while it is mended
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
        name: what people call it.
        env: further environment of the program.
        readable: what the program itself consists of.
        limits: of its box; the defaults when None.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str = "command",
        env: Sequence[tuple[str, str]] = (),
        readable: Sequence[Path] = (),
        limits: Limits | None = None,
    ) -> None:
        if isinstance(command, str) or not command:
            raise TypeError("command must be a list of words, program first")
        self._command = tuple(command)
        self.name = name
        self._env, self._readable = tuple(env), tuple(readable)
        self._limits = limits or Limits()

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Run the program once; arguments, result and errors as in `regrow.agents.base`."""
        place = await Workplace.of(task, self._limits, dict(self._env), self._readable)
        summary = ""

        def hear(line: str) -> None:
            nonlocal summary
            kind, text = _parsed(line)
            if kind == "summary":
                summary = text
            elif text:
                tell(Event(kind, text))  # type: ignore[arg-type]  # it is one of the type's words

        try:
            done = await sandbox.run(
                self._command, place.box, timeout_s=task.timeout_s, stdin=_told(task), on_line=hear
            )
        except ProcessTimeout as error:
            return Outcome(False, f"the agent was still working after {task.timeout_s:g} s", "timeout", log=error.log)
        if done.code in _NOT_STARTED:
            await asyncio.to_thread(self._find)
        if done.code != 0:
            last = next((text for line in reversed(done.output.splitlines()) if (text := _parsed(line)[1])), "")
            said = f"the agent ended with {exit_words(done.code)}" + (f": {last}" if last else "")
            killed = done.code < 0 or done.code > 128
            return Outcome(False, said[:_TEXT], "agent_killed" if killed else "agent_failed", log=done.output)
        if not await place.changed():
            return Outcome(False, summary or "the agent changed nothing", "no_change", log=done.output)
        return Outcome(True, summary or "the agent changed the workspace", log=done.output)

    def _find(self) -> None:
        """Look for the program where a box finds it too; one of the workspace's own is the workspace's affair.

        Raises:
            ConfigError: kind "agent_missing".
        """
        program = self._command[0]
        if "/" not in program or program.startswith("/"):
            located(program, self.name)


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
            "sealed": task.sealed,
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
