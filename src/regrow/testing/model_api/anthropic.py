"""Anthropic Messages: an answer whole and as events (docs of the Messages API, "Streaming messages")."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from typing import Any

from regrow.testing.model_api.turns import Asked, Tokens, Turn

ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}


def error(status: int, kind: str, message: str) -> dict[str, Any]:
    """The body of an error."""
    kind = kind or ERRORS.get(status, "api_error")
    return {"type": "error", "error": {"type": kind, "message": message}, "request_id": f"req_{secrets.token_hex(12)}"}


def usage(tokens: Tokens) -> dict[str, Any]:
    """The usage of an answer."""
    return {
        "input_tokens": tokens.input,
        "cache_creation_input_tokens": tokens.cache_write,
        "cache_read_input_tokens": tokens.cache_read,
        "output_tokens": tokens.output,
    }


def whole(asked: Asked, turn: Turn, tokens: Tokens) -> dict[str, Any]:
    """The answer as one object."""
    body = {**_message(asked), "content": _blocks(turn), "stop_reason": turn.stop_reason, "usage": usage(tokens)}
    if turn.without_usage:
        del body["usage"]
    return body


def events(asked: Asked, turn: Turn, tokens: Tokens) -> Iterator[tuple[str, dict[str, Any]]]:
    """The answer as events: name and data."""
    begun = {**_message(asked), "usage": {**usage(tokens), "output_tokens": 1}}
    delta: dict[str, Any] = {"delta": {"stop_reason": turn.stop_reason, "stop_sequence": None}}
    if turn.without_usage:
        del begun["usage"]
    else:
        delta["usage"] = {"output_tokens": tokens.output}
    yield _event("message_start", message=begun)
    yield _event("ping")
    for index, block in enumerate(_blocks(turn)):
        kind = block["type"]
        empty: dict[str, Any] = {"input": {}} if kind == "tool_use" else {kind: ""}
        yield _event("content_block_start", index=index, content_block={**block, **empty})
        if kind == "tool_use":
            deltas = [("input_json_delta", "partial_json", turn.pieces(json.dumps(block["input"], ensure_ascii=False)))]
        elif kind == "text":
            deltas = [("text_delta", "text", turn.pieces(block["text"]))]
        else:
            deltas = [("thinking_delta", "thinking", turn.pieces(block["thinking"]))]
            deltas.append(("signature_delta", "signature", [block["signature"]]))
        for name, field, pieces in deltas:
            for piece in pieces:
                yield _event("content_block_delta", index=index, delta={"type": name, field: piece})
        yield _event("content_block_stop", index=index)
    yield _event("message_delta", **delta)
    yield _event("message_stop")


def _event(name: str, **data: Any) -> tuple[str, dict[str, Any]]:
    return name, {"type": name, **data}


def _message(asked: Asked) -> dict[str, Any]:
    return {
        "id": f"msg_{secrets.token_hex(12)}",
        "type": "message",
        "role": "assistant",
        "model": asked.model,
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
    }


def _blocks(turn: Turn) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    if turn.thinking:
        blocks.append({"type": "thinking", "thinking": turn.thinking, "signature": secrets.token_urlsafe(32)})
    if turn.text:
        blocks.append({"type": "text", "text": turn.text})
    for call in turn.calls:
        called = {"type": "tool_use", "id": f"toolu_{secrets.token_hex(12)}", "name": call.name}
        blocks.append({**called, "input": dict(call.input)})
    return blocks
