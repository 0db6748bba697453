"""Counting a stream: the events and the usage are the same wherever the bytes were cut on their way."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.models import dialect
from regrow.models.base import Ask, Meter
from regrow.models.stream import LARGEST, Events, TooLarge, data, event
from regrow.models.usage import Tokens
from regrow.testing.model_api import anthropic, openai
from regrow.testing.model_api.turns import Asked, Call, Turn
from regrow.testing.model_api.turns import Tokens as Said


def cuts(content: bytes, at: Sequence[int]) -> list[bytes]:
    """The content in pieces."""
    ends = sorted({one % (len(content) + 1) for one in at} | {0, len(content)})
    return [content[begin:end] for begin, end in itertools.pairwise(ends)]


def collected(parts: Sequence[bytes]) -> list[bytes]:
    events = Events()
    found = [one for part in parts for one in events.feed(part)]
    rest = events.close()
    return [*found, rest] if rest else found


ENDS = st.sampled_from([b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b"\n", b"\r", b"\r\n", b": here\n\n", b""])
PIECES = st.lists(st.binary(max_size=9) | st.just(b"data: {}") | ENDS, max_size=40)
PLACES = st.lists(st.integers(min_value=0), max_size=40)


@given(PIECES, PLACES)
def test_the_events_are_the_same_wherever_the_bytes_are_cut(pieces: list[bytes], at: list[int]) -> None:
    content = b"".join(pieces)
    whole = collected([content])
    assert collected(cuts(content, at)) == whole
    assert b"".join(whole) == content


@given(st.text(), st.sampled_from(["", "error"]))
def test_an_event_is_read_as_it_is_written(text: str, name: str) -> None:
    written = event(name, json.dumps(text))
    assert collected([written]) == [written]
    assert json.loads(data(written)) == text


def test_the_data_of_an_event() -> None:
    assert data(b"event: a\r\ndata: 1\r\ndata:2\r\nid: 3\r\n\r\n") == "1\n2"
    assert data(b": nothing\n\n") == ""
    assert data(b"data: a\xffb\n\n") == "a\ufffdb"


def test_an_event_without_an_end_is_given_up() -> None:
    events = Events()
    part = b"x" * 1024 * 1024
    with pytest.raises(TooLarge):
        for _ in range(LARGEST // len(part) + 1):
            list(events.feed(part))


TURNS = st.builds(
    Turn,
    text=st.text(max_size=60),
    calls=st.lists(
        st.builds(Call, st.just("Edit"), st.dictionaries(st.text(max_size=4), st.text(max_size=9))), max_size=2
    ),
    thinking=st.text(max_size=20),
    tokens=st.builds(Said, *[st.integers(0, 10**6)] * 4),
    piece=st.integers(1, 9),
)


def streamed(protocol: str, turn: Turn, **more: Any) -> bytes:
    """A turn as bytes."""
    asked = Asked(protocol, {"model": "m", "stream": True, "stream_options": {"include_usage": True}, **more}, 40, {})
    if protocol == "anthropic":
        return b"".join(event(name, json.dumps(one)) for name, one in anthropic.events(asked, turn, turn.tokens))
    return (
        b"".join(event("", json.dumps(one)) for one in openai.chat_events(asked, turn, turn.tokens))
        + b"data: [DONE]\n\n"
    )


def metered(kind: str, parts: Sequence[bytes]) -> tuple[Meter, list[Tokens]]:
    """The meter after a stream, and what it said after each event."""
    meter = dialect(kind).meter(Ask("/", {}), 40)
    course = []
    for one in collected(parts):
        if (text := data(one)).startswith("{"):
            meter.see(json.loads(text))
            course.append(meter.tokens)
    return meter, course


@given(TURNS, PLACES)
def test_any_cut_of_a_messages_stream_gives_its_usage(turn: Turn, at: list[int]) -> None:
    content = streamed("anthropic", turn)
    meter, course = metered("anthropic", cuts(content, at))
    said = turn.tokens
    assert meter.tokens == Tokens(said.input, max(1, said.output), said.cache_read, said.cache_write)
    assert meter.finished
    # What it costs never falls while the answer is on its way, but for the last word of the upstream.
    before = [one.total for one in course if one.estimated]
    assert before == sorted(before)


@given(TURNS, PLACES)
def test_any_cut_of_a_chat_stream_gives_its_usage(turn: Turn, at: list[int]) -> None:
    meter, course = metered("openai", cuts(streamed("chat", turn), at))
    said = turn.tokens
    assert meter.tokens == Tokens(said.input, said.output, said.cache_read)
    assert meter.finished
    before = [one.total for one in course if one.estimated]
    assert before == sorted(before)


@pytest.mark.parametrize(
    ("kind", "protocol", "last"), [("anthropic", "anthropic", b"message_delta"), ("openai", "chat", b"total_tokens")]
)
@given(turn=TURNS, share=st.floats(0, 1))
def test_a_stream_that_ends_early_is_estimated(kind: str, protocol: str, last: bytes, turn: Turn, share: float) -> None:
    content = streamed(protocol, turn)
    whole = collected([content[: int(len(content) * share)]])
    whole = [one for one in whole if one.endswith(b"\n\n")]
    meter, _ = metered(kind, whole)
    assert meter.tokens.estimated == (last not in b"".join(whole))
    assert meter.tokens.total > 0 or not meter.tokens.estimated


NAMES = st.sampled_from(
    [
        *("type", "message", "usage", "delta", "choices", "content", "input_tokens", "output_tokens", "finish_reason"),
        *("completion_tokens", "prompt_tokens", "prompt_tokens_details", "tool_calls", "function", "content_block"),
        *("cache_creation", "cache_creation_input_tokens", "text"),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["message", "message_start", "message_delta", "x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(NAMES, VALUES, max_size=6), st.sampled_from(["anthropic", "openai"]))
def test_a_meter_bears_whatever_an_upstream_says(said: dict[str, Any], kind: str) -> None:
    meter = dialect(kind).meter(Ask("/", {}), 40)
    meter.see(said)
    assert meter.tokens.total >= 0


def test_the_hour_cache_is_told_apart() -> None:
    made = {"ephemeral_5m_input_tokens": 30, "ephemeral_1h_input_tokens": 70}
    usage = {"input_tokens": 5, "output_tokens": 1, "cache_creation_input_tokens": 100, "cache_creation": made}
    meter = dialect("anthropic").meter(Ask("/", {}), 40)
    meter.see({"type": "message", "content": [], "usage": usage})
    assert meter.tokens == Tokens(5, 1, 0, 30, 70)


def test_the_cache_of_other_providers() -> None:
    meter = dialect("openai").meter(Ask("/", {}), 40)
    usage = {"prompt_tokens": 100, "completion_tokens": 7, "prompt_cache_hit_tokens": 60}
    meter.see({"choices": [{"message": {"content": "a"}, "finish_reason": "stop"}], "usage": usage})
    assert meter.tokens == Tokens(40, 7, 60)
