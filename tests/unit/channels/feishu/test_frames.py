"""C1: the frames, byte for byte."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.channels.feishu import frames
from regrow.channels.feishu.frames import Frame, FrameError

SERVICE = 33554678
PING = "0800100018f681801020002a0c0a0474797065120470696e67"
EVENT = (
    "080710ffffffffffffffffff0118f681801020012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d31"
    "2a080a0373756d1201312a080a037365711201302a0e0a0874726163655f69641202743142077b2261223a317d"
)
ACK = (
    "080710ffffffffffffffffff0118f681801020012a0d0a047479706512056576656e742a100a0a6d6573736167655f696412026d31"
    "2a080a0373756d1201312a080a037365711201302a0e0a0874726163655f6964120274312a0c0a0662697a5f727412023132"
    "420c7b22636f6465223a3230307d"
)
INCOMPLETE = "18f68180102a0c0a0474797065120470696e67"
U64 = st.integers(0, 2**64 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
OPTIONAL = st.none() | st.binary(max_size=40)
FRAMES = st.builds(
    Frame,
    seq_id=U64,
    log_id=U64,
    service=I32,
    method=I32,
    headers=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=5).map(tuple),
    payload_encoding=OPTIONAL,
    payload_type=OPTIONAL,
    payload=OPTIONAL,
    log_id_new=OPTIONAL,
)


def test_c1_the_ping_is_the_golden_one() -> None:
    assert frames.ping(SERVICE).hex() == PING


def test_c1_the_event_is_read_and_written_byte_for_byte() -> None:
    event = Frame.decode(bytes.fromhex(EVENT))
    assert (event.seq_id, event.log_id, event.service, event.method) == (7, 2**64 - 1, SERVICE, frames.DATA)
    assert (event.header("message_id"), event.header("trace_id"), event.payload) == ("m1", "t1", b'{"a":1}')
    assert event.encode().hex() == EVENT


def test_c1_c4_the_acknowledgement_is_the_same_frame_with_two_changes() -> None:
    assert Frame.decode(bytes.fromhex(EVENT)).answered(12, b'{"code":200}').encode().hex() == ACK


def test_c1_zeros_are_written_and_their_lack_is_reported() -> None:
    assert Frame().encode().hex() == "0800100018002000"
    with pytest.raises(FrameError, match="SeqID, LogID, method"):
        Frame.decode(bytes.fromhex(INCOMPLETE))


@pytest.mark.parametrize(
    "unknown", ["5005", "510102030405060708", "5203616263", "5501020304", "a2060161"], ids=lambda value: value
)
def test_c1_unknown_fields_are_skipped(unknown: str) -> None:
    for data in (unknown + PING, PING + unknown, PING[:4] + unknown + PING[4:]):
        assert Frame.decode(bytes.fromhex(data)).encode().hex() == PING


@pytest.mark.parametrize("broken", ["08", "42ff01", "2a0c0a0474", "00", "0b", "80" * 11, PING + "4205"])
def test_c10_what_is_no_frame_is_said_to_be_none(broken: str) -> None:
    with pytest.raises(FrameError):
        Frame.decode(bytes.fromhex(broken))


def test_the_last_of_a_repeated_header_counts() -> None:
    assert Frame(headers=(("a", "1"), ("a", "2"))).header("a") == "2"
    assert Frame().header("a") == ""


@settings(deadline=None)
@given(FRAMES)
def test_c1_what_is_written_is_read(frame: Frame) -> None:
    assert Frame.decode(frame.encode()) == frame


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_c10_any_bytes_are_a_frame_or_an_error(data: bytes) -> None:
    with contextlib.suppress(FrameError):
        Frame.decode(data)
