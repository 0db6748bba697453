"""Known secrets in a request: found in every form that is promised, and nothing harmless taken for one."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import regrow
from regrow.errors import Refused
from regrow.models.leaks import Leaks
from regrow.secret import Secret

VALUE = secrets.token_urlsafe(18)
LEAKS = Leaks({"env:KEY": Secret(VALUE), "file:/etc/pin": Secret("8301-4477")})

AROUND = st.text(max_size=12)


@given(AROUND, AROUND, st.integers(0, 3))
def test_a_value_is_found_whatever_stands_around_it(before: str, after: str, wrapped: int) -> None:
    text = f"{before}{VALUE}{after}"
    for _ in range(wrapped):
        text = json.dumps(text)
    assert LEAKS.find(text) == "env:KEY"


@given(st.binary(max_size=40), st.binary(max_size=40), st.integers(4, 76))
def test_base64_of_a_file_is_found_at_any_width(before: bytes, after: bytes, width: int) -> None:
    encoded = base64.b64encode(before + VALUE.encode() + after).decode()
    lines = [encoded[at : at + width] for at in range(0, len(encoded), width)]
    assert LEAKS.find("\n".join(lines)) == "env:KEY"
    assert LEAKS.find(json.dumps({"output": "\r\n".join(lines)})) == "env:KEY"


@given(st.lists(st.integers(1, len(VALUE) - 1), max_size=6))
def test_a_value_in_pieces_of_one_message_is_found(at: list[int]) -> None:
    ends = [0, *sorted(set(at)), len(VALUE)]
    blocks = [{"type": "text", "text": VALUE[a:b]} for a, b in itertools.pairwise(ends)]
    assert LEAKS.check({"messages": [{"role": "user", "content": blocks}]}) == "env:KEY"
    assert LEAKS.check({"system": blocks, "messages": []}) == "env:KEY"


def test_short_values_are_found_as_they_are() -> None:
    assert LEAKS.find("the pin is 8301-4477.") == "file:/etc/pin"
    assert LEAKS.find("83014477 is another number") == ""
    assert LEAKS.find('{"pin": "8301\\u002d4477"}') == "file:/etc/pin"


def test_names_of_fields_and_numbers_are_looked_at() -> None:
    pin = str(secrets.randbelow(10**12) + 10**12)
    leaks = Leaks({"pin": Secret(pin)})
    assert leaks.check({"a": [{"b": int(pin)}]}) == "pin"
    assert leaks.check({pin: 1}) == "pin"
    assert leaks.check({"a": [1.5, True, None, {}]}) == ""


def test_harmless_text_is_no_leak() -> None:
    for path in Path(regrow.__file__).parent.rglob("*.py"):
        text = path.read_text()
        assert LEAKS.find(text) == ""
        assert LEAKS.check({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]}) == ""


def test_a_text_that_was_clean_is_not_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    leaks = Leaks({"env:KEY": Secret(VALUE)})
    body = {"messages": [{"role": "user", "content": "word " * 20_000}]}
    looked: list[int] = []
    known = leaks._redactor.known
    monkeypatch.setattr(leaks._redactor, "known", lambda text: looked.append(len(text)) or known(text))
    assert leaks.check(body) == ""
    first = sum(looked)
    body["messages"].append({"role": "assistant", "content": "short"})
    assert leaks.check(body) == ""
    assert first >= 100_000
    assert sum(looked) - first < 100


def test_redacting_takes_out_what_stands_plainly() -> None:
    body: dict[str, Any] = {"model": "m", "n": 1, "messages": [{"role": "user", "content": f"a {VALUE} b"}]}
    assert LEAKS.redact(body) == {"model": "m", "n": 1, "messages": [{"role": "user", "content": "a [redacted] b"}]}
    assert LEAKS.redact({"a": "b"}) == {"a": "b"}
    hidden = {"messages": [{"role": "user", "content": "-".join(VALUE)}]}
    with pytest.raises(Refused) as caught:
        LEAKS.redact(hidden)
    assert caught.value.kind == "model_secret"
    assert caught.value.values == {"secret": "env:KEY"}
    assert VALUE not in str(caught.value)


@given(st.recursive(st.none() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_request_can_be_looked_through(body: Any) -> None:
    assert LEAKS.check(body) == ""
