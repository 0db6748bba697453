"""The emulator's codec against bytes made by the official SDK's encoder, and against itself."""

from __future__ import annotations

import contextlib
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.testing.feishu import frames
from regrow.testing.feishu.frames import BadFrame, Frame, cut, decode, encode

SERVICE = 33554678
PING = bytes.fromhex("0800100018f681801020002a0c0a0474797065120470696e67")
EVENT = bytes.fromhex(
    "080710ffffffffffffffffff0118f681801020012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d31"
    "2a080a0373756d1201312a080a037365711201302a0e0a0874726163655f69641202743142077b2261223a317d"
)
ACK = bytes.fromhex(
    "080710ffffffffffffffffff0118f681801020012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d31"
    "2a080a0373756d1201312a080a037365711201302a0e0a0874726163655f6964120274312a0c0a0662697a5f727412023132"
    "420c7b22636f6465223a3230307d"
)
INCOMPLETE = bytes.fromhex("18f68180102a0c0a0474797065120470696e67")

A_PING = Frame(0, 0, SERVICE, frames.CONTROL, (("type", "ping"),))
AN_EVENT = Frame(
    7,
    2**64 - 1,
    SERVICE,
    frames.DATA,
    (("type", "event"), ("message_id", "m1"), ("sum", "1"), ("seq", "0"), ("trace_id", "t1")),
    b'{"a":1}',
)
AN_ACK = replace(AN_EVENT, headers=(*AN_EVENT.headers, ("biz_rt", "12")), payload=b'{"code":200}')


@pytest.mark.parametrize(
    ("frame", "data", "size"),
    [(A_PING, PING, 25), (AN_EVENT, EVENT, 98), (AN_ACK, ACK, 117)],
    ids=["ping", "event", "ack"],
)
def test_golden_vectors_byte_for_byte(frame: Frame, data: bytes, size: int) -> None:
    assert len(data) == size
    assert encode(frame) == data
    assert decode(data) == frame
    assert decode(data).missing == ()


def test_missing_required_fields_are_named() -> None:
    assert decode(INCOMPLETE).missing == ("SeqID", "LogID", "method")
    assert decode(b"").missing == ("SeqID", "LogID", "service", "method")


def test_an_empty_payload_is_not_no_payload() -> None:
    assert decode(PING + bytes.fromhex("4200")).payload == b""
    assert decode(PING).payload is None


def test_unknown_fields_of_every_wire_type_are_skipped_in_any_order() -> None:
    unknown = bytes.fromhex("500151010203040506070852036162635501020304")
    assert decode(unknown + PING) == A_PING
    assert decode(PING[:2] + unknown + PING[2:] + unknown) == A_PING


def test_the_last_of_a_repeated_header_counts() -> None:
    assert replace(A_PING, headers=(("a", "1"), ("b", "2"), ("a", "3"))).header("a") == "3"


@pytest.mark.parametrize(
    "data",
    [
        PING[:-1],
        b"\x08",
        b"\x08" + b"\xff" * 10 + b"\x01",
        b"\x0b",
        b"\x00\x00",
        b"\x0a\x01a",
        b"\x2a\x03\x0a\x01a",
        b"\x40\x01",
        b"\x32\x01\xff",
        b"\x42\xff\xff\xff\xff\x0f",
    ],
)
def test_what_is_no_frame_is_refused(data: bytes) -> None:
    with pytest.raises(BadFrame):
        decode(data)


_WORDS = st.text(max_size=20)
FRAMES = st.builds(
    Frame,
    seq_id=st.integers(0, 2**64 - 1),
    log_id=st.integers(0, 2**64 - 1),
    service=st.integers(-(2**31), 2**31 - 1),
    method=st.integers(0, 1),
    headers=st.lists(st.tuples(_WORDS, _WORDS), max_size=5).map(tuple),
    payload=st.none() | st.binary(max_size=300),
    payload_encoding=st.none() | _WORDS,
    payload_type=st.none() | _WORDS,
    log_id_new=st.none() | _WORDS,
)


@given(FRAMES)
def test_every_frame_comes_back(frame: Frame) -> None:
    assert decode(encode(frame)) == frame
    assert decode(encode(frame)).missing == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with contextlib.suppress(BadFrame):
        decode(data)


@given(FRAMES, st.data())
def test_a_frame_cut_short_is_refused_or_another_frame(frame: Frame, data: st.DataObject) -> None:
    whole = encode(frame)
    short = whole[: data.draw(st.integers(0, len(whole) - 1))]
    with contextlib.suppress(BadFrame):
        assert decode(short) != frame or decode(short).missing


@given(st.text(min_size=1, max_size=400), st.integers(1, 12))
def test_parts_join_and_none_is_empty(text: str, parts: int) -> None:
    payload = text.encode()
    pieces = cut(payload, parts)
    assert b"".join(pieces) == payload
    assert all(pieces)
    assert len(pieces) == min(parts, len(payload))


def test_parts_are_cut_inside_of_characters() -> None:
    pieces = cut("重启一下服务，然后告诉我结果。".encode(), 3)
    assert len(pieces) == 3
    for piece in pieces[1:]:
        assert piece[0] & 0xC0 == 0x80
