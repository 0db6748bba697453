"""Chat completions of OpenAI, as most local servers and many providers speak them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from regrow.models.base import Ask, Estimate, objects, reaches
from regrow.models.stream import event
from regrow.models.usage import Tokens, whole
from regrow.secret import Secret

_OWN_TOOLS = frozenset({"function", "custom"})
_REACHING = ("web_search_options",)
_DEARER = ("service_tier", "store", "n")
_LIMITS = ("max_completion_tokens", "max_tokens")


class OpenAI:
    """See `regrow.models.base.Dialect`."""

    name = "openai"
    base_url = "https://api.openai.com/v1"
    paths: Mapping[str, str] = {"/v1/chat/completions": "/chat/completions", "/chat/completions": "/chat/completions"}

    def headers(self, key: Secret | None, given: Mapping[str, str]) -> dict[str, str]:
        """The key; the agent has nothing to add."""
        return {} if key is None else {"authorization": f"Bearer {key.reveal()}"}

    def ask(self, path: str, body: dict[str, Any], query: str) -> Ask:
        """The request, which asks for the usage at the end of a stream."""
        _refuse_reaching(body)
        kept = {name: value for name, value in body.items() if name not in _DEARER}
        stream = bool(body.get("stream"))
        hide = False
        if stream:
            options = body.get("stream_options")
            options = dict(options) if isinstance(options, dict) else {}
            hide = not options.get("include_usage")
            kept["stream_options"] = {**options, "include_usage": True}
        return Ask(self.paths[path], kept, stream=stream, hide_usage=hide)

    def limit(self, ask: Ask, tokens: int) -> Ask:
        """With a smaller limit, by either of its names."""
        smaller = {
            name: max(1, tokens)
            for name in _LIMITS
            if isinstance(most := ask.body.get(name), int) and not isinstance(most, bool) and most > tokens
        }
        return replace(ask, body={**ask.body, **smaller}) if smaller else ask

    def meter(self, ask: Ask, size: int) -> OpenAIMeter:
        """Counts an answer."""
        return OpenAIMeter(size)

    def error(self, status: int, kind: str, message: str) -> dict[str, Any]:
        """An error object."""
        names = {400: "invalid_request_error", 403: "permission_error", 404: "invalid_request_error"}
        named = names.get(status, "rate_limit_exceeded" if status == 429 else "server_error")
        return {"error": {"message": message, "type": named, "param": None, "code": kind}}

    def error_event(self, kind: str, message: str) -> bytes:
        """A chunk that holds an error, which clients of this protocol raise."""
        return event("", json.dumps(self.error(400, kind, message), ensure_ascii=False))

    def trial(self, model: str) -> tuple[str, str, dict[str, Any] | None]:
        """The list of models."""
        return "GET", "/models", None


class OpenAIMeter:
    """Usage comes once, with the last chunk; some servers repeat a growing one with each."""

    def __init__(self, size: int) -> None:
        self._estimate = Estimate(size // 4 + 1)
        self._usage: Mapping[str, Any] | None = None
        self._stopped = False

    @property
    def finished(self) -> bool:
        """Whether every word has come."""
        return self._stopped

    def see(self, said: Mapping[str, Any]) -> bool:
        """Take a chunk, or a whole completion."""
        for choice in said.get("choices") or ():
            if not isinstance(choice, dict):
                continue
            for holder in (choice.get("delta"), choice.get("message")):
                self._count(holder)
            self._stopped = self._stopped or choice.get("finish_reason") is not None
        usage = said.get("usage")
        if isinstance(usage, dict) and "completion_tokens" in usage:
            self._usage = usage
        return self._stopped

    @property
    def tokens(self) -> Tokens:
        """What the upstream said last; what has gone by since is counted from the text."""
        if self._usage is None:
            return Tokens(self._estimate.input, self._estimate.output, estimated=True)
        details = self._usage.get("prompt_tokens_details")
        prompt = whole(self._usage, "prompt_tokens")
        cached = whole(details, "cached_tokens") if isinstance(details, dict) else 0
        cached = min(prompt, cached or whole(self._usage, "prompt_cache_hit_tokens"))
        output = whole(self._usage, "completion_tokens")
        if not self._stopped:
            output = max(output, self._estimate.output)
        return Tokens(prompt - cached, output, cached, estimated=not self._stopped)

    def _count(self, holder: object) -> None:
        if not isinstance(holder, dict):
            return
        for name in ("content", "reasoning_content", "reasoning", "refusal"):
            self._estimate.add(holder.get(name))
        for call in holder.get("tool_calls") or ():
            if isinstance(call, dict) and isinstance(function := call.get("function"), dict):
                self._estimate.add(function.get("name"))
                self._estimate.add(function.get("arguments"))


def _refuse_reaching(body: Mapping[str, Any]) -> None:
    for name in _REACHING:
        if body.get(name) is not None:
            raise reaches(name)
    for tool in objects(body.get("tools")):
        if tool.get("type") not in _OWN_TOOLS:
            raise reaches(f"the tool {str(tool.get('type'))[:60]}")
    for message in objects(body.get("messages")):
        for part in objects(message.get("content")):
            image = part.get("image_url")
            url = image.get("url") if isinstance(image, dict) else image
            if url is not None and not (isinstance(url, str) and url.startswith("data:")):
                raise reaches("an image by its address")
            if isinstance(file := part.get("file"), dict) and file.get("file_id") is not None:
                raise reaches("a file that the provider keeps")
