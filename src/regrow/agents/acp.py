"""Any agent that speaks the Agent Client Protocol, inside the box (extra `acp`).

Tried with `claude-agent-acp` and `opencode`. Its questions are answered here: what leads out of the allowed paths is
refused, and so is the network. That is a courtesy which keeps an agent from running into walls; the box is the wall.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from pathspec import GitIgnoreSpec

from regrow import __version__
from regrow.agents import below
from regrow.agents.base import Event, Outcome, Task
from regrow.agents.briefing import briefing
from regrow.agents.told import Telling, summary_of, with_trouble
from regrow.agents.workplace import Limits, Workplace, behind_relay, located, parts_of
from regrow.errors import ProcessError, Refused
from regrow.gate import SECRET_FILES
from regrow.process import Talk, exit_words
from regrow.rehearsals import INTERPRETER
from regrow.sandboxes.base import Box, Sandbox

if TYPE_CHECKING:
    from acp import Client
    from acp.client.connection import ClientSideConnection
    from acp.schema import (
        InitializeResponse,
        PermissionOption,
        ReadTextFileResponse,
        RequestPermissionResponse,
        ToolCallUpdate,
    )

_LONGEST_MESSAGE = 64 * 1024 * 1024
_LONGEST_FILE = 4 * 1024 * 1024
_CHUNK = 65536
_BEGIN_S = 90.0
_CANCEL_S = 2.0
_AUTH_REQUIRED = -32000
_Kind = Literal["thinking", "reading", "editing", "running", "log"]
_KINDS: dict[str, _Kind] = {
    "read": "reading",
    "search": "reading",
    "edit": "editing",
    "delete": "editing",
    "move": "editing",
}
_KINDS |= {"execute": "running", "think": "thinking"}
# What each of the agents that were tried needs to find the model and nothing else; the others do not look at it.
_ENV = {
    "ANTHROPIC_API_KEY": "held-by-regrow",
    "ANTHROPIC_BASE_URL": "{model}",
    "CLAUDE_CODE_DISABLE_BACKGROUND_TASKS": "1",
    "CLAUDE_CODE_DISABLE_FILE_MENTIONS": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "CLAUDE_CODE_MAX_RETRIES": "1",
    "IS_SANDBOX": "1",
    "NO_BROWSER": "1",
    "OPENAI_API_KEY": "held-by-regrow",
    "OPENAI_BASE_URL": "{model}/v1",
    "OPENCODE_DISABLE_AUTOUPDATE": "1",
    "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
    "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
    "OPENCODE_DISABLE_MODELS_FETCH": "1",
    "OPENCODE_DISABLE_PROJECT_CONFIG": "1",
    "OPENCODE_DISABLE_SHARE": "1",
}
# For claude-agent-acp, which would otherwise run the hooks and servers of the repository.
_CLAUDE: dict[str, Any] = {
    "claudeCode": {"options": {"settingSources": [], "strictMcpConfig": True, "disallowedTools": ["Agent", "Task"]}}
}


class _TooManyTurns(Exception):
    """The agent has had its turns."""


@dataclass
class _Ending:
    """How a conversation ended."""

    stop: str = ""
    session: str = ""
    failure: str = ""
    reason: str = ""


class AcpAgent:
    """Drives an agent of the protocol.

    Args:
        name: what people call it.
        command: program and arguments, e.g. ["opencode", "acp"]. "{model}" in them stands for the model's address.
        model: which model it is to ask for, where it can be told; its own choice when empty.
        max_turns: tools it may use before it has failed.
        readable: what the program consists of besides its own package.
        env: further environment, in which "{model}" stands for the model's address.
        limits: of its box.

    Raises:
        ImportError: agent-client-protocol is not installed.
        TypeError: `command` is no list of words.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        name: str = "acp",
        model: str = "",
        max_turns: int = 100,
        readable: Sequence[Path] = (),
        env: Sequence[tuple[str, str]] = (),
        limits: Limits | None = None,
    ) -> None:
        if isinstance(command, str) or not command:
            raise TypeError("command must be a list of words, program first")
        if importlib.util.find_spec("acp") is None:
            raise ImportError("agent-client-protocol is not installed")
        self.name = name
        self._command, self._model, self._max_turns = tuple(command), model, max_turns
        self._readable, self._env, self._limits = tuple(readable), tuple(env), limits or Limits()

    async def repair(self, task: Task, sandbox: Sandbox, tell: Callable[[Event], None]) -> Outcome:
        """Let it work on `task`; arguments, result and errors as in `regrow.agents.base`."""
        await asyncio.to_thread(importlib.import_module, "acp")
        program = await asyncio.to_thread(self.find)
        env = {**_ENV, **self._models(task), **dict(self._env)}
        command = [str(program), *self._command[1:]]
        if task.door is not None:
            command = behind_relay(task.door, sandbox, command)
        place = await Workplace.of(task, self._limits, env, readable=self._seen(program))
        telling = Telling(tell)
        ending, timed_out = _Ending(), False
        async with sandbox.talk(command, place.box) as talk:
            try:
                async with asyncio.timeout(task.timeout_s):
                    await self._converse(task, place, talk, telling, ending)
            except TimeoutError:
                timed_out = True
        return await self._outcome(task, place, talk, ending, telling.last, timed_out=timed_out)

    def _seen(self, program: Path) -> tuple[Path, ...]:
        return (*INTERPRETER, *parts_of(program), *self._readable)

    async def check(self, sandbox: Sandbox, workspace: Path) -> str:
        """Greet the agent in the box; arguments, result and errors as in `regrow.agents.base`."""
        await asyncio.to_thread(importlib.import_module, "acp")
        program = await asyncio.to_thread(self.find)
        box = Box(workspace=workspace, readable=self._seen(program), env={**_ENV, **dict(self._env)})
        lines = asyncio.StreamReader(limit=_LONGEST_MESSAGE)
        async with sandbox.talk([str(program), *self._command[1:]], box) as talk:
            from acp import connect_to_agent

            assert talk.stdin is not None and talk.stdout is not None
            reading = asyncio.create_task(_sift(talk.stdout, lines, Telling(lambda _: None)))
            connection = connect_to_agent(cast("Client", _Nobody()), talk.stdin, lines)
            try:
                about = (await _greet(connection)).agent_info
            except (ConnectionError, TimeoutError) as error:
                raise ProcessError(
                    f"cannot talk to {self.name}: {talk.complaints.strip()[-200:] or 'it does not answer'}; "
                    f"correct [agent.{self.name}] command",
                    log=talk.complaints,
                ) from error
            finally:
                reading.cancel()
                await connection.close()
                await asyncio.gather(reading, return_exceptions=True)
        return f"{about.name} {about.version}" if about else "it speaks the protocol"

    def find(self) -> Path:
        """The program's real path.

        Raises:
            ConfigError: kind "agent_missing".
        """
        return located(self._command[0], self.name)

    def _models(self, task: Task) -> dict[str, str]:
        """How an agent is told which model to ask, and where."""
        model = self._model or (task.door.model if task.door else "")
        if not model:
            return {}
        library = "@ai-sdk/openai-compatible" if task.door and task.door.kind == "openai" else "@ai-sdk/anthropic"
        options = {"baseURL": "{model}/v1", "apiKey": "held-by-regrow"}
        opencode = {
            "provider": {
                "regrow": {
                    "npm": library,
                    "name": "regrow",
                    "options": options,
                    "models": {model: {"name": model, "tool_call": True}},
                }
            },
            "model": f"regrow/{model}",
            "small_model": f"regrow/{model}",
            "enabled_providers": ["regrow"],
            "autoupdate": False,
            "share": "disabled",
            "permission": {"webfetch": "deny", "websearch": "deny", "external_directory": "deny"},
        }
        return {"ANTHROPIC_MODEL": model, "OPENCODE_CONFIG_CONTENT": json.dumps(opencode)}

    async def _converse(self, task: Task, place: Workplace, talk: Talk, telling: Telling, ending: _Ending) -> None:
        from acp import RequestError, connect_to_agent, text_block

        assert talk.stdin is not None and talk.stdout is not None
        too_many = asyncio.Event()
        person = _Person(task, place, telling, too_many.set, self._max_turns)
        lines = asyncio.StreamReader(limit=_LONGEST_MESSAGE)
        reading = asyncio.create_task(_sift(talk.stdout, lines, telling))
        connection = connect_to_agent(cast("Client", person), talk.stdin, lines)
        try:
            session = ending.session = await self._session(task, connection, person)
            told: list[Any] = [text_block(text) for text in (task.instructions, briefing(task)) if text]
            answering = asyncio.ensure_future(connection.prompt(session_id=session, prompt=told))
            stopping = asyncio.ensure_future(too_many.wait())
            try:
                await asyncio.wait({answering, stopping}, return_when=asyncio.FIRST_COMPLETED)
                if not answering.done():
                    ending.reason = "agent_turns"
                    ending.failure = f"it used more than {self._max_turns} tools"
                    await _cancel(connection, session)
                    return
                ending.stop = (await answering).stop_reason
            except asyncio.CancelledError:
                await _cancel(connection, session)
                raise
            finally:
                person.pause()
                for waiting in (answering, stopping):
                    waiting.cancel()
                await asyncio.gather(answering, stopping, return_exceptions=True)
        except RequestError as error:
            ending.failure = _said(error)
            ending.reason = "agent_login" if error.code == _AUTH_REQUIRED else "agent_failed"
        except (ConnectionError, OSError):
            ending.reason = "agent_failed"
        finally:
            reading.cancel()
            await connection.close()
            await asyncio.gather(reading, return_exceptions=True)

    async def _session(self, task: Task, connection: ClientSideConnection, person: _Person) -> str:
        """The session to talk in: the one to go on with, where the agent can, else a new one."""
        cwd = str(task.workspace)
        able = await _greet(connection)
        async with asyncio.timeout(_BEGIN_S):
            can = able.agent_capabilities
            if task.session and can is not None:
                if can.session_capabilities and can.session_capabilities.resume is not None:
                    await connection.resume_session(cwd=cwd, session_id=task.session, mcp_servers=[], **_CLAUDE)
                    return task.session
                if can.load_session:
                    person.deaf = True  # it tells the whole conversation again
                    await connection.load_session(cwd=cwd, session_id=task.session, mcp_servers=[], **_CLAUDE)
                    person.deaf = False
                    return task.session
            return (await connection.new_session(cwd=cwd, mcp_servers=[], **_CLAUDE)).session_id

    async def _outcome(
        self, task: Task, place: Workplace, talk: Talk, ending: _Ending, last: str, *, timed_out: bool
    ) -> Outcome:
        reason, summary, code = ending.reason, ending.failure or last, talk.code
        if timed_out:
            reason, summary = "timeout", f"the agent was still working after {task.timeout_s:g} s"
        elif not ending.stop and not ending.failure:
            reason = "agent_killed" if code is not None and (code < 0 or code > 128) else "agent_failed"
            lines = [line for line in talk.complaints.splitlines() if line.strip()]
            ended = "no answer" if code is None else exit_words(code)
            summary = f"the agent ended with {ended}: {lines[-1] if lines else 'it said nothing'}"
        elif ending.stop == "max_turn_requests":
            reason = "agent_turns"
        elif ending.stop in {"refusal", "cancelled"}:
            reason = "agent_failed"
        elif not reason and not await place.changed():
            reason, summary = "no_change", summary or "the agent changed nothing"
        reason, summary = with_trouble(reason, summary, task)
        return Outcome(not reason, summary_of(summary), reason, log=talk.complaints, session=ending.session)


class _Person:
    """The other side of the protocol: answers the agent's questions, and hears what it does."""

    def __init__(
        self, task: Task, place: Workplace, telling: Telling, too_many: Callable[[], None], max_turns: int
    ) -> None:
        self.deaf = False
        self._root = str(task.workspace)
        self._writable = [str(path) for path in place.box.writable]
        self._allowed = GitIgnoreSpec.from_lines(task.allowed)
        self._secret = GitIgnoreSpec.from_lines(SECRET_FILES)
        self._telling, self._too_many, self._left = telling, too_many, max_turns
        self._words = ""
        self._tools: dict[str, tuple[_Kind, str, str]] = {}

    # Questions

    async def request_permission(
        self, session_id: str, tool_call: ToolCallUpdate, options: list[PermissionOption], **_: Any
    ) -> RequestPermissionResponse:
        """Yes to what stays among the allowed paths, once; no to everything else."""
        from acp.schema import AllowedOutcome, DeniedOutcome, RequestPermissionResponse

        fine = self._fine(tool_call)
        kinds = ("allow_once", "allow_always") if fine else ("reject_once", "reject_always")
        chosen = next((o for kind in kinds for o in options if o.kind == kind), None)
        if not fine:
            self._telling(Event("log", f"refused: {tool_call.title or tool_call.kind or 'something'}"))
        if chosen is None:
            return RequestPermissionResponse(outcome=DeniedOutcome(outcome="cancelled"))
        return RequestPermissionResponse(outcome=AllowedOutcome(outcome="selected", option_id=chosen.option_id))

    def _fine(self, call: ToolCallUpdate) -> bool:
        if call.kind in {"fetch", "switch_mode"}:
            return False
        if call.kind in {"edit", "delete", "move"}:
            places = [place.path for place in call.locations or ()]
            return all(self._may_write(self._inside(place)) for place in places)
        return True  # commands run in the box

    def _inside(self, path: str) -> str:
        """A path relative to the workspace; "" when it is not in it by its words."""
        full = os.path.normpath(os.path.join(self._root, path))  # noqa: PTH118
        return full[len(self._root) + 1 :] if full.startswith(self._root + "/") else ""

    def _may_write(self, inside: str) -> bool:
        full = f"{self._root}/{inside}"
        return bool(
            inside
            and any(full.startswith(f"{directory}/") for directory in self._writable)
            and self._allowed.match_file(inside)
            and not self._secret.match_file(inside)
        )

    async def read_text_file(
        self, session_id: str, path: str, line: int | None = None, limit: int | None = None, **_: Any
    ) -> ReadTextFileResponse:
        """A file of the workspace that is no secret; never through a link."""
        from acp import RequestError
        from acp.schema import ReadTextFileResponse

        inside = self._inside(path)
        try:
            if not inside or self._secret.match_file(inside):
                raise Refused(f"cannot read {path}: it is no file for you; read another", kind="agent_path")
            data = await asyncio.to_thread(below.read, self._root, inside, longest=_LONGEST_FILE)
        except Refused as error:
            raise RequestError.invalid_params({"details": str(error)}) from None
        text = data.decode(errors="replace")
        if line is not None or limit is not None:
            lines = text.splitlines(keepends=True)
            first = max((line or 1) - 1, 0)
            text = "".join(lines[first : None if limit is None else first + limit])
        return ReadTextFileResponse(content=text)

    async def write_text_file(self, session_id: str, path: str, content: str, **_: Any) -> None:
        """A file that may change; never through a link."""
        from acp import RequestError

        inside = self._inside(path)
        try:
            if not self._may_write(inside):
                raise Refused(f"cannot write {path}: only the allowed paths may change", kind="agent_path")
            await asyncio.to_thread(below.write, self._root, inside, content.encode(errors="replace"))
        except Refused as error:
            self._telling(Event("log", f"refused: {error}"))
            raise RequestError.invalid_params({"details": str(error)}) from None

    # What it does

    async def session_update(self, session_id: str, update: Any, **_: Any) -> None:
        """Make an event of it."""
        if self.deaf:
            return
        kind = getattr(update, "session_update", "")
        if kind in {"agent_message_chunk", "agent_thought_chunk"}:
            self._words += getattr(update.content, "text", "") or ""
            return
        self.pause()
        if kind == "tool_call":
            self._left -= 1
            if self._left < 0:
                self._too_many()
        if kind in {"tool_call", "tool_call_update"}:
            self._tool(update)
        elif kind == "usage_update" and update.cost is not None:
            self._telling(
                Event("cost", f"${update.cost.amount:.4f}" if update.cost.currency == "USD" else str(update.cost))
            )

    def _tool(self, update: ToolCallUpdate) -> None:
        """Tell of a use of a tool, and again when it becomes known of what."""
        word, known, came = self._tools.get(update.tool_call_id, ("log", "", ""))
        word = _KINDS.get(update.kind, "log") if update.kind else word
        places = ", ".join(self._inside(place.path) or place.path for place in update.locations or ())
        command = update.raw_input.get("command") if isinstance(update.raw_input, dict) else None
        what = {"reading": places, "editing": places, "running": command}.get(word) or update.title or ""
        content = _content(update)
        self._tools[update.tool_call_id] = (word, str(what or known), content or came)
        if what != known:
            self._telling(Event(word, str(what)))
        if content != came:
            self._telling(Event("log", content))

    def pause(self) -> None:
        """The agent has finished a sentence: tell it."""
        words, self._words = self._words, ""
        self._telling(Event("thinking", words))

    def on_connect(self, conn: object) -> None:
        """Nothing is asked of the agent unasked."""


async def _sift(source: asyncio.StreamReader, sink: asyncio.StreamReader, telling: Telling) -> None:
    """Pass on the lines that are messages. Whatever else an agent prints is told, and a line without an end is not
    waited for until the memory is full."""
    rest = b""
    while chunk := await source.read(_CHUNK):
        *lines, rest = (rest + chunk).split(b"\n") if b"\n" in chunk else (rest + chunk,)
        if len(rest) > _LONGEST_MESSAGE:
            telling(Event("log", f"[a line of more than {len(rest)} bytes]"))
            rest = b""
        for line in lines:
            if _is_message(line):
                sink.feed_data(line + b"\n")
            else:
                telling(Event("log", line.decode(errors="replace")))
    sink.feed_eof()


def _is_message(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


async def _greet(connection: ClientSideConnection) -> InitializeResponse:
    from acp import PROTOCOL_VERSION
    from acp.schema import ClientCapabilities, FileSystemCapabilities, Implementation

    files = FileSystemCapabilities(read_text_file=True, write_text_file=True)
    async with asyncio.timeout(_BEGIN_S):
        return await connection.initialize(
            protocol_version=PROTOCOL_VERSION,
            client_capabilities=ClientCapabilities(fs=files),
            client_info=Implementation(name="regrow", version=__version__),
        )


class _Nobody:
    """Answers nothing: the agent is only greeted."""

    def on_connect(self, conn: object) -> None:
        """As in `_Person`."""


async def _cancel(connection: ClientSideConnection, session: str) -> None:
    """Ask it to stop; whether it does is not waited for long, since the box is ended next."""
    try:
        async with asyncio.timeout(_CANCEL_S):
            await connection.cancel(session_id=session)
    except (TimeoutError, ConnectionError, OSError):
        pass


def _content(update: Any) -> str:
    """What came of a tool."""
    parts = []
    for part in update.content or ():
        inner = getattr(part, "content", None)
        if text := getattr(inner, "text", None):
            parts.append(text)
        elif (path := getattr(part, "path", None)) is not None:
            parts.append(f"{path}: changed")
    return "\n".join(parts)


def _said(error: Any) -> str:
    data = error.data
    detail = data.get("details") or data.get("message") if isinstance(data, dict) else data
    return f"{error}: {detail}" if detail else str(error)
