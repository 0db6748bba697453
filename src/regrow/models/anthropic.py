"""Anthropic Messages, also as other providers and local servers speak it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from regrow.models.base import Ask, Estimate, objects, reaches
from regrow.models.stream import event
from regrow.models.usage import Tokens, whole
from regrow.secret import Secret

_VERSION = "2023-06-01"
# Tools that the agent itself runs in its box, or that only search among its tools; all others the provider runs.
_OWN_TOOLS = re.compile(r"custom|(?:bash|text_editor|computer|memory)_\d{8}|tool_search_tool_\w+")
_OWN_SOURCES = frozenset({"base64", "text", "content"})
_REACHING = ("mcp_servers", "container")
_DEARER = ("service_tier", "speed", "inference_geo")
_ERRORS = {400: "invalid_request_error", 403: "permission_error", 404: "not_found_error", 413: "request_too_large"}
_ERRORS |= {429: "rate_limit_error", 529: "overloaded_error"}


class Anthropic:
    """See `regrow.models.base.Dialect`."""

    name = "anthropic"
    base_url = "https://api.anthropic.com"
    paths: Mapping[str, str] = {
        "/v1/messages": "/v1/messages",
        "/v1/messages/count_tokens": "/v1/messages/count_tokens",
    }

    def headers(self, key: Secret | None, given: Mapping[str, str]) -> dict[str, str]:
        """The key, the version and the betas."""
        headers = {"anthropic-version": given.get("anthropic-version", _VERSION)}
        if "anthropic-beta" in given:
            headers["anthropic-beta"] = given["anthropic-beta"]
        if key is not None:
            headers["x-api-key"] = key.reveal()
        return headers

    def ask(self, path: str, body: dict[str, Any], query: str) -> Ask:
        """The request without what makes it dearer."""
        _refuse_reaching(body)
        kept = {name: value for name, value in body.items() if name not in _DEARER}
        answers = path == "/v1/messages"
        beta = "?beta=true" if query == "beta=true" else ""
        return Ask(self.paths[path] + beta, kept, stream=answers and bool(body.get("stream")), answers=answers)

    def limit(self, ask: Ask, tokens: int) -> Ask:
        """With a smaller `max_tokens`."""
        most = ask.body.get("max_tokens")
        if not ask.answers or not isinstance(most, int) or most <= tokens:
            return ask
        return replace(ask, body={**ask.body, "max_tokens": max(1, tokens)})

    def meter(self, ask: Ask, size: int) -> AnthropicMeter:
        """Counts an answer."""
        return AnthropicMeter(size)

    def error(self, status: int, kind: str, message: str) -> dict[str, Any]:
        """An error object."""
        return {"type": "error", "error": {"type": _ERRORS.get(status, "api_error"), "message": message, "kind": kind}}

    def error_event(self, kind: str, message: str) -> bytes:
        """The event `error`."""
        return event("error", json.dumps(self.error(400, kind, message), ensure_ascii=False))

    def trial(self, model: str) -> tuple[str, str, dict[str, Any] | None]:
        """Counting tokens costs nothing."""
        return (
            "POST",
            self.paths["/v1/messages/count_tokens"],
            {
                "model": model,
                "messages": [{"role": "user", "content": "Are you there?"}],
            },
        )


class AnthropicMeter:
    """Usage comes twice: with the first event for the request, and near the end, as a sum, for the answer."""

    def __init__(self, size: int) -> None:
        self._estimate = Estimate(size // 4 + 1)
        self._said: dict[str, int] = {}
        self._begun = False
        self._summed = False
        self.finished = False

    def see(self, said: Mapping[str, Any]) -> bool:
        """Take an event, or a whole message."""
        kind = said.get("type")
        if kind == "message_start":
            message = said.get("message")
            self._take(message.get("usage") if isinstance(message, dict) else None)
        elif kind == "content_block_start":
            self._block(said.get("content_block"))
        elif kind == "content_block_delta":
            self._block(said.get("delta"))
        elif kind == "message_delta":
            self._summed = self._take(said.get("usage"))
        elif kind == "message_stop":
            self.finished = True
        elif kind == "message":
            for block in objects(said.get("content")):
                self._block(block)
            self._summed = self._take(said.get("usage"))
            self.finished = True
        return self._summed or self.finished

    @property
    def tokens(self) -> Tokens:
        """What the upstream said; the answer's own only after it has summed it up."""
        said = self._said
        output = max(said.get("output_tokens", 0), 0 if self._summed else self._estimate.output)
        if not self._begun:
            return Tokens(self._estimate.input, max(output, self._estimate.output), estimated=True, guessed_input=True)
        hour = min(said.get("hour", 0), said.get("cache_creation_input_tokens", 0))
        return Tokens(
            said.get("input_tokens", 0),
            output,
            said.get("cache_read_input_tokens", 0),
            said.get("cache_creation_input_tokens", 0) - hour,
            hour,
            estimated=not self._summed,
        )

    def _take(self, usage: object) -> bool:
        if not isinstance(usage, dict):
            return False
        for name in ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens"):
            if name in usage:  # a later figure is a sum: it takes the place of an earlier one, and never a smaller
                self._said[name] = max(self._said.get(name, 0), whole(usage, name))
                self._begun = True
        if isinstance(made := usage.get("cache_creation"), dict):
            self._said["hour"] = max(self._said.get("hour", 0), whole(made, "ephemeral_1h_input_tokens"))
        return "output_tokens" in usage

    def _block(self, block: object) -> None:
        if not isinstance(block, dict):
            return
        for name in ("text", "thinking", "partial_json"):
            self._estimate.add(block.get(name))
        if isinstance(given := block.get("input"), dict) and given:
            self._estimate.add(json.dumps(given))


def _refuse_reaching(body: Mapping[str, Any]) -> None:
    for name in _REACHING:
        if body.get(name):
            raise reaches(name)
    for tool in objects(body.get("tools")):
        kind = tool.get("type")
        if kind is not None and not (isinstance(kind, str) and _OWN_TOOLS.fullmatch(kind)):
            raise reaches(f"the tool {str(kind)[:60]}")
    for message in objects(body.get("messages")):
        for block in _blocks(message.get("content")):
            source = block.get("source")
            if block.get("type") == "container_upload":
                raise reaches("container_upload")
            if isinstance(source, dict) and source.get("type") not in _OWN_SOURCES:
                raise reaches(f"a source of type {str(source.get('type'))[:60]}")


def _blocks(content: object) -> Iterator[dict[str, Any]]:
    """Blocks of content, those of tool results included; what a tool was called with is not content."""
    for block in objects(content):
        yield block
        if isinstance(block.get("content"), list):
            yield from _blocks(block["content"])
        if isinstance(inner := block.get("source"), dict) and isinstance(inner.get("content"), list):
            yield from _blocks(inner["content"])
