"""Claude Code, driven by claude-agent-sdk (extra `claude`), its program inside the box.

Rules inside the agent are a courtesy and the box is the boundary, so every tool is allowed there but those that would
escape a single answer (subagents, background work). The options and variables are those that were found to matter
(evidence of issue 6, agents.md section 1): without `setting_sources=[]` and `strict_mcp_config` the repository's own
hooks and servers run, without `verbatim_prompts` an "@path" in a chat message is sent as that file.
"""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regrow.agents.base import Event, Outcome, Task
from regrow.agents.briefing import briefing
from regrow.agents.told import Telling, summary_of, with_trouble
from regrow.agents.workplace import Limits, Workplace, behind_relay, located, parts_of, seen
from regrow.agents.wrapper import Wrapped, wrapper
from regrow.errors import Refused
from regrow.process import exit_words
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes.base import Box, Sandbox

if TYPE_CHECKING:
    from claude_agent_sdk import ClaudeAgentOptions, Message, ResultMessage

_TOOLS = ("Bash", "Edit", "Glob", "Grep", "MultiEdit", "Read", "TodoWrite", "Write")
_KINDS = {"Read": "reading", "Grep": "reading", "Glob": "reading", "Bash": "running"}
_KINDS |= dict.fromkeys(("Edit", "MultiEdit", "Write"), "editing")
_LARGEST_MESSAGE = 64 * 1024 * 1024
_LET_GO_S = 10.0
_CHECK_S = 60.0
ENV = {
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    # This one alone leaves no request but those for the model: no telemetry, no updates, no look-up of a name.
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "1",  # a wrong key was tried for 172 s without it
    "DISABLE_AUTOUPDATER": "1",
    "IS_SANDBOX": "1",  # it refuses to work without questions as root anywhere else
    "ANTHROPIC_API_KEY": "held-by-regrow",
}
"""Of the program, wherever it runs."""
_SOCKET = {"ANTHROPIC_BASE_URL": "http://127.0.0.1:9"}
"""Any http address, with ANTHROPIC_UNIX_SOCKET: with none it would try TLS over the socket."""
_RELAY = {"ANTHROPIC_BASE_URL": "{model}"}
_PASSED = ("CLAUDE_AGENT_SDK_VERSION", "CLAUDE_CODE_ENTRYPOINT", "CLAUDE_CODE_SDK_READS_SESSION_STATE")


@dataclass
class _Said:
    """What the conversation came to."""

    result: ResultMessage | None = None
    session: str = ""
    failure: str = ""


class ClaudeAgent:
    """Drives Claude Code.

    Args:
        name: what people call it.
        program: the CLI; the one that the library brings when empty.
        model: which model it asks for; its own choice when empty.
        max_turns: answers of the model after which it has failed.
        relay: give it a port of the box's loopback instead of the socket, for a CLI that does not know that variable.
        readable: what the program consists of besides the directory it lies in.
        env: further environment.
        limits: of its box.

    Raises:
        ImportError: claude-agent-sdk is not installed.
    """

    def __init__(
        self,
        *,
        name: str = "claude",
        program: str = "",
        model: str = "",
        max_turns: int = 100,
        relay: bool = False,
        readable: Sequence[Path] = (),
        env: Sequence[tuple[str, str]] = (),
        limits: Limits | None = None,
    ) -> None:
        if importlib.util.find_spec("claude_agent_sdk") is None:  # importing it takes a second
            raise ImportError("claude-agent-sdk is not installed")
        self.name = name
        self._program, self._model, self._max_turns, self._relay = program, model, max_turns, relay
        self._readable, self._env, self._limits = tuple(readable), tuple(env), limits or Limits()

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Let it work on `task`; arguments, result and errors as in `regrow.agents.base`."""
        if task.door is not None and task.door.kind != "anthropic":
            raise Refused(
                f"cannot repair with {self.name}: the model in the settings speaks {task.door.kind}; use an agent that "
                "does, or set [model] kind to anthropic",
                kind="agent_model",
            )
        await asyncio.to_thread(importlib.import_module, "claude_agent_sdk")
        program = await asyncio.to_thread(self.find)
        env = {**ENV, **(_RELAY if self._relay else _SOCKET), **dict(self._env)}
        command = [str(program)]
        if task.door is not None and self._relay:
            command = behind_relay(task.door, sandbox, command)
        elif task.door is not None:
            env["ANTHROPIC_UNIX_SOCKET"] = seen(task.door, sandbox)
        place = await Workplace.of(task, self._limits, env, readable=self._seen(program))
        said, telling = _Said(), Telling(tell)
        async with wrapper(sandbox, place.box, command, _PASSED) as wrapped:
            talking = asyncio.create_task(self._talk(task, wrapped, said, telling))
            try:
                done, _ = await asyncio.wait({talking}, timeout=task.timeout_s)
            finally:
                # The box goes first: the library then sees its program's end and lets go by itself.
                wrapped.end()
                await asyncio.wait({talking}, timeout=_LET_GO_S)
                talking.cancel()
                await asyncio.gather(talking, return_exceptions=True)
        if wrapped.error is not None:
            raise wrapped.error
        return await self._outcome(task, place, wrapped, said, telling.last, timed_out=not done)

    def _seen(self, program: Path) -> tuple[Path, ...]:
        return (*INTERPRETER, *parts_of(program), *self._readable)

    async def check(self, sandbox: Sandbox, workspace: Path) -> str:
        """Call the program in the box; arguments, result and errors as in `regrow.agents.base`."""
        program = await asyncio.to_thread(self.find)
        box = Box(workspace=workspace, readable=self._seen(program), env=ENV)
        done = await sandbox.run([str(program), "--version"], box, timeout_s=_CHECK_S)
        return done.check(f"call {self.name}").output.strip()

    def find(self) -> Path:
        """The program's real path.

        Raises:
            ConfigError: kind "agent_missing".
        """
        import claude_agent_sdk

        bundled = Path(claude_agent_sdk.__file__).parent / "_bundled" / "claude"
        return located(self._program or (str(bundled) if bundled.is_file() else "claude"), self.name)

    def options(self, task: Task, program: Path) -> ClaudeAgentOptions:
        """What the library is told for a task, with the executable that it is to start."""
        from claude_agent_sdk import ClaudeAgentOptions

        return ClaudeAgentOptions(
            cli_path=program,
            cwd=task.workspace,
            tools=list(_TOOLS),
            permission_mode="bypassPermissions",
            system_prompt={"type": "preset", "preset": "claude_code", "append": task.instructions},
            setting_sources=[],
            strict_mcp_config=True,
            verbatim_prompts=True,
            max_turns=self._max_turns,
            model=self._model or (task.door.model if task.door else None),
            resume=task.session or None,
            max_buffer_size=_LARGEST_MESSAGE,
        )

    async def _talk(self, task: Task, wrapped: Wrapped, said: _Said, telling: Telling) -> None:
        from claude_agent_sdk import ClaudeSDKClient, ClaudeSDKError, ResultMessage

        try:
            async with ClaudeSDKClient(self.options(task, wrapped.path)) as client:
                await client.query(briefing(task))
                async for message in client.receive_response():
                    said.session = getattr(message, "session_id", None) or said.session
                    if isinstance(message, ResultMessage):
                        said.result = message
                    for event in _events(message, task.workspace):
                        telling(event)
        except ClaudeSDKError as error:
            said.failure = str(error)

    async def _outcome(
        self, task: Task, place: Workplace, wrapped: Wrapped, said: _Said, last: str, *, timed_out: bool
    ) -> Outcome:
        result = said.result
        reason, summary = "", (result.result if result else "") or last
        if timed_out:
            reason, summary = "timeout", f"the agent was still working after {task.timeout_s:g} s"
        elif result is None:
            code = wrapped.code
            reason = "agent_killed" if code is not None and (code < 0 or code > 128) else "agent_failed"
            lines = [line for line in wrapped.complaints.splitlines() if line.strip()]
            ended = "no result" if code is None else exit_words(code)
            summary = f"the agent ended with {ended}: {(lines or [said.failure])[-1]}"
        elif result.is_error:
            reason, summary = _why(result), (result.result or "; ".join(result.errors or ()) or result.subtype)
        elif not await place.changed():
            reason, summary = "no_change", summary or "the agent changed nothing"
        reason, summary = with_trouble(reason, summary, task)
        return Outcome(not reason, summary_of(summary), reason, log=wrapped.complaints, session=said.session)


def _why(result: ResultMessage) -> str:
    if result.subtype == "error_max_turns":
        return "agent_turns"
    if result.subtype == "error_max_budget_usd":
        return "agent_budget"
    return "agent_login" if result.api_error_status in {401, 403} else "agent_failed"


def _events(message: Message, workspace: Path) -> list[Event]:
    """What a message says that it does."""
    from claude_agent_sdk import (
        AssistantMessage,
        ResultMessage,
        TextBlock,
        ThinkingBlock,
        ToolResultBlock,
        ToolUseBlock,
        UserMessage,
    )

    if isinstance(message, ResultMessage):
        cost = message.total_cost_usd
        return [] if cost is None else [Event("cost", f"${cost:.4f}")]
    if not isinstance(message, AssistantMessage | UserMessage) or isinstance(message.content, str):
        return []
    events: list[Event] = []
    for block in message.content:
        if isinstance(block, TextBlock):
            events.append(Event("thinking" if isinstance(message, AssistantMessage) else "log", block.text))
        elif isinstance(block, ThinkingBlock):
            events.append(Event("thinking", block.thinking))
        elif isinstance(block, ToolUseBlock):
            events.append(_tool(block.name, block.input, workspace))
        elif isinstance(block, ToolResultBlock):
            events.append(Event("log", _plain(block.content)))
    return [event for event in events if event.text.strip()]


def _tool(name: str, given: dict[str, Any], workspace: Path) -> Event:
    what = next((str(given[key]) for key in ("file_path", "command", "pattern", "path") if given.get(key)), "")
    what = what.removeprefix(f"{workspace}/")
    kind = _KINDS.get(name, "log")
    return Event(kind, what or name) if kind != "log" else Event("log", f"{name} {what}")  # type: ignore[arg-type]


def _plain(content: object) -> str:
    if isinstance(content, list):
        return "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
