"""The OpenAI-compatible protocols: chat completions, which local servers speak too, and responses."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Iterator
from typing import Any

from regrow.testing.model_api.turns import Asked, Tokens, Turn

ERRORS = {
    400: "invalid_request_error",
    401: "invalid_request_error",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_exceeded",
}
_STOPS = {"tool_use": "tool_calls", "end_turn": "stop", "max_tokens": "length", "refusal": "content_filter"}


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of an error."""
    code = "invalid_api_key" if status == 401 else None
    kind = kind or ERRORS.get(status, "server_error")
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def chat_usage(tokens: Tokens) -> dict[str, Any]:
    """The usage of a chat completion: what came from a cache is part of the prompt."""
    prompt = tokens.input + tokens.cache_read
    return {
        "prompt_tokens": prompt,
        "completion_tokens": tokens.output,
        "total_tokens": prompt + tokens.output,
        "prompt_tokens_details": {"cached_tokens": tokens.cache_read},
    }


def chat(asked: Asked, turn: Turn, tokens: Tokens) -> dict[str, Any]:
    """A chat completion as one object."""
    message: dict[str, Any] = {"role": "assistant", "content": turn.text or None}
    if turn.thinking:
        message["reasoning_content"] = turn.thinking
    if turn.calls:
        message["tool_calls"] = [
            {"id": _call_id(), "type": "function", "function": {"name": one.name, "arguments": _arguments(one.input)}}
            for one in turn.calls
        ]
    reason = _STOPS.get(turn.stop_reason, turn.stop_reason)
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
    usage = {} if turn.without_usage else {"usage": chat_usage(tokens)}
    return {**_completion(asked, "chat.completion"), "choices": [choice], **usage}


def chat_events(asked: Asked, turn: Turn, tokens: Tokens) -> Iterator[dict[str, Any]]:
    """A chat completion as chunks; the usage comes last, where the request asked for it."""
    head = _completion(asked, "chat.completion.chunk")

    def chunk(delta: dict[str, Any], reason: str | None = None) -> dict[str, Any]:
        return {**head, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": reason}]}

    yield chunk({"role": "assistant", "content": ""})
    for piece in turn.pieces(turn.thinking):
        yield chunk({"reasoning_content": piece})
    for piece in turn.pieces(turn.text):
        yield chunk({"content": piece})
    for index, call in enumerate(turn.calls):
        begun = {"id": _call_id(), "type": "function", "function": {"name": call.name, "arguments": ""}}
        yield chunk({"tool_calls": [{"index": index, **begun}]})
        for piece in turn.pieces(_arguments(call.input)):
            yield chunk({"tool_calls": [{"index": index, "function": {"arguments": piece}}]})
    yield chunk({}, _STOPS.get(turn.stop_reason, turn.stop_reason))
    options = asked.body.get("stream_options")
    if not turn.without_usage and isinstance(options, dict) and options.get("include_usage"):
        yield {**head, "choices": [], "usage": chat_usage(tokens)}


def response(asked: Asked, turn: Turn, tokens: Tokens) -> dict[str, Any]:
    """A response as one object."""
    usage = {
        "input_tokens": tokens.input + tokens.cache_read,
        "input_tokens_details": {"cached_tokens": tokens.cache_read},
        "output_tokens": tokens.output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens.input + tokens.cache_read + tokens.output,
    }
    return {
        **_response(asked),
        "status": "completed",
        "output": _items(turn),
        "usage": None if turn.without_usage else usage,
    }


def response_events(asked: Asked, turn: Turn, tokens: Tokens) -> Iterator[tuple[str, dict[str, Any]]]:
    """A response as events: name and data."""
    done = response(asked, turn, tokens)
    begun = {**done, "status": "in_progress", "output": [], "usage": None}
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(done["output"]):
        at = {"output_index": index, "item_id": item["id"]}
        called = item["type"] == "function_call"
        empty: dict[str, Any] = {"arguments": ""} if called else {"content": []}
        yield "response.output_item.added", {"output_index": index, "item": {**item, **empty, "status": "in_progress"}}
        if called:
            for piece in turn.pieces(item["arguments"]):
                yield "response.function_call_arguments.delta", {**at, "delta": piece}
            yield "response.function_call_arguments.done", {**at, "arguments": item["arguments"]}
        else:
            part = item["content"][0]
            at["content_index"] = 0
            yield "response.content_part.added", {**at, "part": {**part, "text": ""}}
            for piece in turn.pieces(part["text"]):
                yield "response.output_text.delta", {**at, "delta": piece}
            yield "response.output_text.done", {**at, "text": part["text"]}
            yield "response.content_part.done", {**at, "part": part}
        yield "response.output_item.done", {"output_index": index, "item": item}
    yield "response.completed", {"response": done}


def _completion(asked: Asked, kind: str) -> dict[str, Any]:
    return {
        "id": f"chatcmpl-{secrets.token_hex(12)}",
        "object": kind,
        "created": int(time.time()),
        "model": asked.model,
    }


def _response(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"resp_{secrets.token_hex(12)}",
        "object": "response",
        "created_at": int(time.time()),
        "model": asked.model,
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "parallel_tool_calls": True,
        "tools": asked.body.get("tools") or [],
        "tool_choice": "auto",
        "temperature": None,
        "top_p": None,
    }


def _items(turn: Turn) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    if turn.text or not turn.calls:
        part = {"type": "output_text", "text": turn.text, "annotations": []}
        message = {"id": f"msg_{secrets.token_hex(12)}", "type": "message", "role": "assistant", "status": "completed"}
        items.append({**message, "content": [part]})
    for call in turn.calls:
        called = {"id": f"fc_{secrets.token_hex(12)}", "type": "function_call", "status": "completed"}
        items.append({**called, "call_id": _call_id(), "name": call.name, "arguments": _arguments(call.input)})
    return items


def _call_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _arguments(given: Any) -> str:
    return json.dumps(dict(given), ensure_ascii=False)
