"""What the scripted model says, and what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Tokens:
    """What one answer is said to have used.

    Args:
        input: tokens of the request that came from no cache; -1: about a quarter of its bytes.
        output: tokens of the answer; -1: about a quarter of its bytes.
        cache_read, cache_write: tokens read from and written to the prompt cache.
    """

    input: int = -1
    output: int = -1
    cache_read: int = 0
    cache_write: int = 0


@dataclass(frozen=True)
class Call:
    """A tool that the model calls.

    Args:
        name: of the tool, as the agent offered it ("Edit", "Bash", "write", ...).
        input: its arguments.
    """

    name: str
    input: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Turn:
    """One answer of the model, or one thing that goes wrong.

    Args:
        text: what it says. A lone surrogate from "surrogateescape" becomes the byte it stands for, so that an answer
            can hold invalid UTF-8: `b"\\xff".decode(errors="surrogateescape")`.
        calls: tools it calls, after the text.
        thinking: what it thinks before it speaks.
        tokens: the usage it reports.
        stop: the stop reason in the words of Anthropic; by default "tool_use" when it calls a tool, else "end_turn".
        status: an HTTP status other than 200: the request fails with it.
        error: the type of that error; by default the one that belongs to the status.
        message: its text.
        retry_after: seconds for the header of that name; 0: none.
        headers: further headers of the answer.
        delay_s: seconds before the answer begins.
        pause_s: seconds between two pieces of a stream.
        piece: characters of a piece of a stream; 0: chosen so that there are about a hundred.
        cut: the connection is closed after this many bytes of the body; None: never.
        hang: nothing comes after the bytes of `cut` (or none at all), and the connection stays open.
        without_usage: the usage is left out, as some local servers do.
        repeat: how many requests it answers.
    """

    text: str = ""
    calls: Sequence[Call] = ()
    thinking: str = ""
    tokens: Tokens = Tokens()
    stop: str = ""
    status: int = 200
    error: str = ""
    message: str = ""
    retry_after: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    pause_s: float = 0.0
    piece: int = 0
    cut: int | None = None
    hang: bool = False
    without_usage: bool = False
    repeat: int = 1

    @classmethod
    def from_json(cls, said: Mapping[str, Any]) -> Turn:
        """A turn as the script of the program writes it: the same names, `calls` and `tokens` as objects.

        Raises:
            TypeError: there is no such name.
        """
        values = dict(said)
        if "calls" in values:
            values["calls"] = tuple(Call(**one) for one in values["calls"])
        if "tokens" in values:
            values["tokens"] = Tokens(**values["tokens"])
        return cls(**values)

    @property
    def stop_reason(self) -> str:
        """Why it ends, in the words of Anthropic."""
        return self.stop or ("tool_use" if self.calls else "end_turn")

    def pieces(self, text: str) -> list[str]:
        """A text in the pieces in which it is streamed."""
        size = self.piece or max(16, len(text) // 100)
        return [text[at : at + size] for at in range(0, len(text), size)]


@dataclass(frozen=True)
class Asked:
    """One request for an answer.

    Args:
        protocol: "anthropic", "chat" or "responses".
        body: the JSON object.
        size: bytes of the body.
        headers: of the request, names in lower case.
    """

    protocol: str
    body: dict[str, Any]
    size: int
    headers: Mapping[str, str]

    @property
    def model(self) -> str:
        """The model it is for."""
        return str(self.body.get("model", ""))

    @property
    def stream(self) -> bool:
        """Whether events are wanted."""
        return bool(self.body.get("stream"))

    @property
    def tools(self) -> list[str]:
        """The names of the tools on offer."""
        found = []
        for tool in self.body.get("tools") or []:
            inner = tool.get("function")
            found.append(str((inner if isinstance(inner, dict) else tool).get("name", tool.get("type", ""))))
        return found

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The conversation so far, as the protocol writes it."""
        given = self.body.get("messages", self.body.get("input"))
        return [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []

    @property
    def turns(self) -> int:
        """How many answers of the model the conversation holds already."""
        found, inside = 0, False
        for one in self.messages:
            mine = one.get("role") == "assistant" or one.get("type") in {"function_call", "reasoning"}
            found += mine and not (inside and self.protocol == "responses")
            inside = mine
        return found


Script = Sequence[Turn] | Callable[[Asked], Turn]


def by_conversation(turns: Sequence[Turn], then: Turn | None = None) -> Callable[[Asked], Turn]:
    """A script that answers each conversation from its own beginning: the turn is chosen by how many answers the
    request already holds. For agents that run beside one another, that try again, or that go on later.

    Args:
        turns: what is said, in order.
        then: what is said after them; "Done." when not given.
    """
    last = then or Turn("Done.")
    return lambda asked: turns[asked.turns] if asked.turns < len(turns) else last


@dataclass(frozen=True)
class Received:
    """One request as it came.

    Args:
        method, path: path with its query.
        headers: names in lower case.
        body: all bytes of it.
        status: what it was answered with; 0 while it is not, or when the connection was cut.
    """

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    status: int = 0
