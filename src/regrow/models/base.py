"""A dialect: what one kind of upstream differs in. It speaks about a request and an answer, and touches no network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from regrow.errors import Refused
from regrow.models.usage import Tokens
from regrow.secret import Secret


@dataclass(frozen=True)
class Ask:
    """What is sent to the upstream.

    Attributes:
        path: below the upstream's base URL, with its query.
        body: the JSON object.
        stream: whether events are wanted.
        answers: whether it is a request for an answer, which costs; otherwise it is only counted by the rate limit.
        hide_usage: whether the agent did not ask for the usage that the gateway asks for.
    """

    path: str
    body: dict[str, Any]
    stream: bool = False
    answers: bool = True
    hide_usage: bool = False


class Meter(Protocol):
    """Counts one answer as it goes by."""

    def see(self, said: Mapping[str, Any]) -> bool:
        """Take one event of the stream, or the whole answer.

        Returns:
            Whether it was the last word about the usage: what comes after it costs nothing.
        """

    @property
    def tokens(self) -> Tokens:
        """What the answer has used so far; where the upstream has not said it yet, counted from the text."""

    @property
    def finished(self) -> bool:
        """Whether the answer came to its end; one that did not may have been cut on its way."""


class Dialect(Protocol):
    """One kind of upstream."""

    name: str
    base_url: str
    """Where it is when the settings say nothing."""

    paths: Mapping[str, str]
    """What an agent may call by POST, and where that is below the upstream's base URL."""

    def headers(self, key: Secret | None, given: Mapping[str, str]) -> dict[str, str]:
        """The headers of a request to the upstream.

        Args:
            key: the key; None where the upstream needs none.
            given: the agent's own, names in lower case; only those that the protocol needs are taken over.
        """

    def ask(self, path: str, body: dict[str, Any], query: str) -> Ask:
        """What is sent for an agent's request; without what only makes it dearer.

        Args:
            path: a key of `paths`.
            body: the agent's JSON object, whose model was checked.
            query: of the address.

        Raises:
            Refused: kind "model_feature", when the model's provider would fetch, run or keep something for the agent:
                the box has no network, and this would be one.
        """

    def limit(self, ask: Ask, tokens: int) -> Ask:
        """The same, with an answer of at most so many tokens, where the request sets a limit at all."""

    def meter(self, ask: Ask, size: int) -> Meter:
        """A meter for the answer to a request of `size` bytes."""

    def error(self, status: int, kind: str, message: str) -> dict[str, Any]:
        """The body of an error as agents of this dialect show it."""

    def error_event(self, kind: str, message: str) -> bytes:
        """The same in the middle of a stream."""

    def trial(self, model: str) -> tuple[str, str, dict[str, Any] | None]:
        """A request that costs nothing and needs the key: method, path below the base URL, body."""


@dataclass
class Estimate:
    """Text that went by and that no usage has been told of yet.

    Attributes:
        input: tokens of the request, guessed from its size.
        latin, other: characters of the answer, of Latin scripts and of others.
    """

    input: int
    latin: int = 0
    other: int = 0

    def add(self, text: object) -> None:
        """Count a piece of the answer; what is no text counts nothing."""
        if isinstance(text, str):
            latin = len(text) if text.isascii() else sum(map(str.isascii, text))
            self.latin += latin
            self.other += len(text) - latin

    @property
    def output(self) -> int:
        """Tokens: four letters of a Latin script are about one, of any other one is."""
        return -(-self.latin // 4) + self.other


def objects(value: object) -> Iterator[dict[str, Any]]:
    """The objects of a list; none of what is no list."""
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def reaches(what: str) -> Refused:
    """The refusal of something that the model's provider would do with a network of its own."""
    return Refused(
        f"cannot let the agent use {what}: the provider would reach the network for it, which the box has not; "
        "switch it off in the agent's settings",
        kind="model_feature",
    )
