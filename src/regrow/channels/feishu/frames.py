"""The frame of the long connection, `pbbp2.Frame` of proto2, by hand.

Nine fields, four of them required and therefore written also when they are zero. Fields that are not known are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

CONTROL, DATA = 0, 1
_VARINT, _EIGHT, _LENGTH, _FOUR = 0, 1, 2, 5
_REQUIRED = {1: "SeqID", 2: "LogID", 3: "service", 4: "method"}
_U64 = (1 << 64) - 1


class FrameError(ValueError):
    """Bytes that are no frame, or one without a required field."""


@dataclass(frozen=True)
class Frame:
    """One message of the connection.

    Attributes:
        seq_id: the server's number of a data frame; 64 bits, unsigned.
        log_id: the same; echoed with all its bits.
        service: `service_id` of the connection's URL.
        method: `CONTROL` or `DATA`.
        headers: in their order; a repeated key is kept and the last one counts.
        payload_encoding, payload_type, log_id_new: echoed when they came.
        payload: JSON as UTF-8, or a part of it.
    """

    seq_id: int = 0
    log_id: int = 0
    service: int = 0
    method: int = CONTROL
    headers: tuple[tuple[str, str], ...] = ()
    payload_encoding: bytes | None = None
    payload_type: bytes | None = None
    payload: bytes | None = None
    log_id_new: bytes | None = None

    def header(self, key: str) -> str:
        """The value of a header, "" when there is none."""
        return next((value for name, value in reversed(self.headers) if name == key), "")

    def answered(self, took_ms: int, payload: bytes) -> Frame:
        """The acknowledgement: this very frame with the time it took and another payload."""
        return replace(self, headers=(*self.headers, ("biz_rt", str(max(0, took_ms)))), payload=payload)

    def encode(self) -> bytes:
        """As it goes over the wire."""
        out = bytearray()
        for number, value in enumerate((self.seq_id, self.log_id, self.service, self.method), 1):
            out += _varint(number << 3 | _VARINT) + _varint(value & _U64)
        for key, text in self.headers:
            out += _field(5, _field(1, key.encode()) + _field(2, text.encode()))
        optional = (self.payload_encoding, self.payload_type, self.payload, self.log_id_new)
        for number, content in enumerate(optional, 6):
            if content is not None:
                out += _field(number, content)
        return bytes(out)

    @classmethod
    def decode(cls, data: bytes) -> Frame:
        """The inverse of `encode`, for any order of fields.

        Raises:
            FrameError: it is cut off, malformed or incomplete; the text names what is missing.
        """
        numbers: dict[int, int] = {}
        contents: dict[int, bytes] = {}
        headers: list[tuple[str, str]] = []
        for number, value in _fields(data):
            if isinstance(value, int) and number in _REQUIRED:
                numbers[number] = value
            elif isinstance(value, bytes) and number == 5:
                headers.append(_header(value))
            elif isinstance(value, bytes) and 6 <= number <= 9:
                contents[number] = value
        missing = [name for number, name in _REQUIRED.items() if number not in numbers]
        if missing:
            raise FrameError(f"a frame without {', '.join(missing)}")
        optional = (contents.get(number) for number in range(6, 10))
        return cls(numbers[1], numbers[2], _int32(numbers[3]), _int32(numbers[4]), tuple(headers), *optional)


def ping(service: int) -> bytes:
    """The application's own ping.

    Args:
        service: `service_id` of the connection's URL.
    """
    return Frame(service=service, method=CONTROL, headers=(("type", "ping"),)).encode()


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH) + _varint(len(content)) + content


def _int32(value: int) -> int:
    low = value & 0xFFFFFFFF
    return low - (1 << 32) if low & 0x80000000 else low


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise FrameError("a number runs past the end")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & _U64, at
    raise FrameError("a number of more than ten bytes")


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes | None]]:
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        number, kind = tag >> 3, tag & 7
        if number == 0:
            raise FrameError("a field of number 0")
        if kind == _VARINT:
            value, at = _read_varint(data, at)
            yield number, value
            continue
        if kind == _LENGTH:
            size, at = _read_varint(data, at)
        elif kind in (_EIGHT, _FOUR):
            size = 8 if kind == _EIGHT else 4
        else:
            raise FrameError(f"a field of wire type {kind}")
        if at + size > len(data):
            raise FrameError("a field runs past the end")
        yield number, data[at : at + size] if kind == _LENGTH else None
        at += size


def _header(data: bytes) -> tuple[str, str]:
    found = {number: value for number, value in _fields(data) if isinstance(value, bytes)}
    if 1 not in found or 2 not in found:
        raise FrameError("a header without key or value")
    try:
        return found[1].decode(), found[2].decode()
    except UnicodeDecodeError:
        raise FrameError("a header that is not UTF-8") from None
