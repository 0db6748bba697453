from __future__ import annotations

import errno
import os
import struct

import pytest

from regrow.errors import Refused
from regrow.sandboxes import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
X86, ARM = (0xC000003E, "x86_64"), (0xC00000B7, "aarch64")


def decide(program: bytes, number: int, architecture: int, arguments: tuple[int, ...] = ()) -> int:
    """What the kernel would answer: a small interpreter of the instructions that the filter uses."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *(0,) * (6 - len(arguments)))
    code = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = accumulator = 0
    while True:
        operation, true, false, value = code[at]
        at += 1
        if operation == 0x06:
            return value
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("<I", data, value)
            continue
        held = {0x15: accumulator == value, 0x35: accumulator >= value, 0x45: bool(accumulator & value)}[operation]
        at += true if held else false


def refused(code: int) -> int:
    return 0x00050000 | code


@pytest.mark.parametrize(
    ("machine", "ptrace", "socket", "clone", "read", "unshare"),
    [(X86, 101, 41, 56, 0, 272), (ARM, 117, 198, 220, 63, 97)],
)
def test_the_filter_decides(
    machine: tuple[int, str], ptrace: int, socket: int, clone: int, read: int, unshare: int
) -> None:
    architecture, name = machine
    program = seccomp.program(name)
    assert decide(program, read, architecture) == ALLOW
    for number in (ptrace, unshare, 429, 438):
        assert decide(program, number, architecture) == refused(errno.EPERM)
    for number in (425, 426, 427, 435):
        assert decide(program, number, architecture) == refused(errno.ENOSYS)
    for family in (1, 2, 10, 16):
        assert decide(program, socket, architecture, (family, 1)) == ALLOW
    for family in (0, 3, 9, 17, 29, 38, 40, 44):
        assert decide(program, socket, architecture, (family, 1)) == refused(errno.EAFNOSUPPORT)
    assert decide(program, clone, architecture, (0x01200011,)) == ALLOW
    for flag in (0x10000000, 0x00020000, 0x40000000):
        assert decide(program, clone, architecture, (flag | 17,)) == refused(errno.EPERM)
    assert decide(program, read, 0x40000003) == KILL


def test_the_x32_numbers_are_absent() -> None:
    for number in (0x40000000, 0x40000000 | 101, 0xFFFFFFFF):
        assert decide(seccomp.program("x86_64"), number, X86[0]) == refused(errno.ENOSYS)


def test_a_machine_without_known_numbers_is_refused() -> None:
    with pytest.raises(Refused) as caught:
        seccomp.program("riscv64")
    assert caught.value.kind == "no_sandbox"


def test_a_memory_file_is_read_from_its_beginning() -> None:
    descriptor = seccomp.memory_file(b"abc" * 100, "x")
    try:
        assert os.read(descriptor, 1000) == b"abc" * 100
    finally:
        os.close(descriptor)
