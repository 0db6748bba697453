"""The platform's own reading of `pbbp2.Frame`. The client has another one: two codecs written apart cannot share a
misreading, so neither may import the other.

`pbbp2.Frame` is proto2: `SeqID`, `LogID`, `service` and `method` are required and are written when they are 0.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise

CONTROL = 0
DATA = 1
REQUIRED = {1: "SeqID", 2: "LogID", 3: "service", 4: "method"}
_WORD = 1 << 64


class BadFrame(ValueError):
    """The bytes are not a frame; the text says where they stop being one."""


@dataclass(frozen=True)
class Frame:
    """One frame.

    Args:
        seq_id: number of the frame, unsigned 64 bit.
        log_id: number for the logs, unsigned 64 bit.
        service: `service_id` of the address, signed 32 bit.
        method: 0 control, 1 data.
        headers: pairs in the order of the wire; of a repeated key the last one counts.
        payload: the bytes, or None when the field was not there.
        payload_encoding: as received; unused by the platform.
        payload_type: as received; unused by the platform.
        log_id_new: as received.
        missing: names of required fields that were not there (only after `decode`).
    """

    seq_id: int = 0
    log_id: int = 0
    service: int = 0
    method: int = CONTROL
    headers: tuple[tuple[str, str], ...] = ()
    payload: bytes | None = None
    payload_encoding: str | None = None
    payload_type: str | None = None
    log_id_new: str | None = None
    missing: tuple[str, ...] = field(default=(), compare=False)

    def header(self, key: str, default: str = "") -> str:
        """The value of the last header `key`."""
        for name, value in reversed(self.headers):
            if name == key:
                return value
        return default

    def without_payload(self) -> Frame:
        """The same frame with no payload, for comparing an acknowledgement with what was sent."""
        return replace(self, payload=None)


def encode(frame: Frame) -> bytes:
    """The bytes of `frame`, fields in the order of their numbers, required ones always written."""
    out = bytearray()
    for number, value in ((1, frame.seq_id), (2, frame.log_id), (3, frame.service), (4, frame.method)):
        _put_number(out, number, value)
    for key, value_text in frame.headers:
        inner = bytearray()
        _put_bytes(inner, 1, key.encode())
        _put_bytes(inner, 2, value_text.encode())
        _put_bytes(out, 5, bytes(inner))
    if frame.payload_encoding is not None:
        _put_bytes(out, 6, frame.payload_encoding.encode())
    if frame.payload_type is not None:
        _put_bytes(out, 7, frame.payload_type.encode())
    if frame.payload is not None:
        _put_bytes(out, 8, frame.payload)
    if frame.log_id_new is not None:
        _put_bytes(out, 9, frame.log_id_new.encode())
    return bytes(out)


def decode(data: bytes) -> Frame:
    """The frame in `data`. Required fields that are not there are named in `missing`, not raised, so that the
    platform can report them and still answer.

    Raises:
        BadFrame: the bytes are not protobuf, a length runs past the end, or a text is not UTF-8.
    """
    numbers: dict[int, int] = {}
    blobs: dict[int, bytes] = {}
    headers: list[tuple[str, str]] = []
    for number, wire, value in _fields(data):
        if number in REQUIRED:
            if wire != 0 or not isinstance(value, int):
                raise BadFrame(f"field {number} has wire type {wire}, not 0")
            numbers[number] = value
        elif 5 <= number <= 9:
            if wire != 2 or not isinstance(value, bytes):
                raise BadFrame(f"field {number} has wire type {wire}, not 2")
            if number == 5:
                headers.append(_header(value))
            else:
                blobs[number] = value
    service = numbers.get(3, 0) & 0xFFFFFFFF
    return Frame(
        seq_id=numbers.get(1, 0),
        log_id=numbers.get(2, 0),
        service=service - (1 << 32) if service >= 1 << 31 else service,
        method=numbers.get(4, 0),
        headers=tuple(headers),
        payload=blobs.get(8),
        payload_encoding=_text(blobs[6]) if 6 in blobs else None,
        payload_type=_text(blobs[7]) if 7 in blobs else None,
        log_id_new=_text(blobs[9]) if 9 in blobs else None,
        missing=tuple(name for number, name in REQUIRED.items() if number not in numbers),
    )


def _header(data: bytes) -> tuple[str, str]:
    found: dict[int, str] = {}
    for number, wire, value in _fields(data):
        if number in (1, 2):
            if wire != 2 or not isinstance(value, bytes):
                raise BadFrame(f"header field {number} has wire type {wire}, not 2")
            found[number] = _text(value)
    if len(found) != 2:
        raise BadFrame("a header lacks its key or its value")
    return found[1], found[2]


def _fields(data: bytes) -> list[tuple[int, int, int | bytes]]:
    """Every field as (number, wire type, value); numbers of varints, bytes of everything else."""
    found: list[tuple[int, int, int | bytes]] = []
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise BadFrame(f"field number 0 before byte {at}")
        if wire == 0:
            value, at = _number(data, at)
            found.append((number, wire, value))
            continue
        if wire == 2:
            size, at = _number(data, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise BadFrame(f"wire type {wire} before byte {at}")
        if at + size > len(data):
            raise BadFrame(f"{size} bytes promised at byte {at}, {len(data) - at} there")
        found.append((number, wire, data[at : at + size]))
        at += size
    return found


def _number(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for place in range(10):
        if at + place >= len(data):
            raise BadFrame(f"a number is cut off at byte {at + place}")
        byte = data[at + place]
        value |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return value % _WORD, at + place + 1
    raise BadFrame(f"a number at byte {at} has more than ten bytes")


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise BadFrame("a text is not UTF-8") from error


def _put_number(out: bytearray, number: int, value: int) -> None:
    _put_varint(out, number << 3)
    # int32 and int64 alike: a negative number is its 64-bit two's complement, ten bytes long.
    _put_varint(out, value % _WORD)


def _put_bytes(out: bytearray, number: int, value: bytes) -> None:
    _put_varint(out, number << 3 | 2)
    _put_varint(out, len(value))
    out += value


def _put_varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def cut(payload: bytes, parts: int) -> list[bytes]:
    """`payload` in `parts` pieces, none empty, each cut moved into the middle of a multi-byte character where one is
    near, because a client that decodes before joining must be found out."""
    parts = max(1, min(parts, len(payload)))
    cuts: list[int] = []
    for index in range(1, parts):
        even = len(payload) * index // parts
        low = (cuts[-1] if cuts else 0) + 1
        high = len(payload) - (parts - index)
        even = min(max(even, low), high)
        near = sorted(range(max(low, even - 64), min(high, even + 64) + 1), key=lambda place: abs(place - even))
        cuts.append(next((place for place in near if payload[place] & 0xC0 == 0x80), even))
    edges = [0, *cuts, len(payload)]
    return [payload[start:end] for start, end in pairwise(edges)]
