"""What the filter stops, and which binds are given a socket of the supervisor."""

import os
import socket
import struct
from pathlib import Path

import pytest

from regrow.supervisor import trap

MACHINES = {
    "x86_64": {"audit": 0xC000003E, "bind": 49, "listen": 50, "shutdown": 48, "connect": 42, "accept4": 288},
    "aarch64": {"audit": 0xC00000B7, "bind": 200, "listen": 201, "shutdown": 210, "connect": 203, "accept4": 242},
}
ALLOWED, STOPPED = 0x7FFF0000, 0x7FC00000


def run(program, number, architecture, *arguments):
    """The kernel's interpreter, as far as the filter needs it."""
    data = struct.pack("<IIQ6Q", number, architecture, 0, *arguments, *[0] * (6 - len(arguments)))
    lines = [struct.unpack_from("<HBBI", program, at) for at in range(0, len(program), 8)]
    at = held = 0
    while True:
        code, true, false, value = lines[at]
        at += 1
        if code == 0x06:  # BPF_RET | BPF_K
            return value
        if code == 0x20:  # BPF_LD | BPF_W | BPF_ABS
            held = struct.unpack_from("<I", data, value)[0]
        else:
            at += true if {0x15: held == value, 0x35: held >= value}[code] else false


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_stops_three_calls_and_these_only_where_they_can_matter(machine):
    numbers = MACHINES[machine]
    program = trap.filter_program(machine)

    def ends(call, *arguments, architecture=numbers["audit"]):
        return run(program, numbers.get(call, call), architecture, *arguments)

    for length in (16, 28, 110, 128):
        assert ends("bind", 3, 0x7FFF0000, length) == STOPPED
    assert ends("bind", 3, 0x7FFF0000, 12) == ALLOWED, "struct sockaddr_nl"
    assert ends("listen", 3, 128) == STOPPED
    assert ends("shutdown", 3, socket.SHUT_RD) == STOPPED
    assert ends("shutdown", 3, socket.SHUT_RDWR) == STOPPED
    assert ends("shutdown", 3, socket.SHUT_WR) == ALLOWED, "each connection of many programs ends with it"
    for other in ("connect", "accept4", 0, 1, 63, 500):
        assert ends(other, 3, 16, 16) == ALLOWED
    # The same numbers mean something else to a 32-bit program and to x32.
    for call in ("bind", "listen", "shutdown"):
        assert ends(call, 3, 2, 16, architecture=0x40000003) == ALLOWED
        assert ends(numbers[call] | 0x40000000, 3, 2, 16) == ALLOWED


def test_an_unknown_machine_is_refused_with_the_reason(monkeypatch):
    monkeypatch.setattr(trap, "_MACHINES", {"pdp11": trap._MACHINES["x86_64"]})
    assert trap.supported() == "the numbers of its system calls are known for pdp11 only"


def inet(host, port, size=16):
    return struct.pack("=H", socket.AF_INET) + struct.pack(">H", port) + socket.inet_aton(host).ljust(size - 4, b"\0")


def inet6(host, port, size=28):
    packed = b"\0" * 4 + socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=H", socket.AF_INET6) + struct.pack(">H", port) + packed.ljust(size - 4, b"\0")


@pytest.mark.parametrize(
    ("address", "wanted"),
    [
        (inet("127.0.0.1", 8080), ("127.0.0.1", 8080)),
        (inet("0.0.0.0", 80, 28), ("0.0.0.0", 80)),
        (inet6("::", 8080), ("::", 8080)),
        (inet6("::1", 8080, 24), ("::1", 8080)),
        (inet6("::ffff:10.0.0.7", 8080), ("10.0.0.7", 8080)),
        (inet6("::1", 8080)[:20], None),
        (inet("127.0.0.1", 8080)[:6], None),
        (struct.pack("=H", socket.AF_UNIX) + b"/run/some.socket", None),
        (b"", None),
    ],
)
def test_an_address_is_read_as_the_kernel_reads_it(address, wanted):
    assert trap.asked(address) == wanted


@pytest.mark.parametrize(
    ("wanted", "declared", "found"),
    [
        # The very address, and the port alone is not enough.
        (("127.0.0.1", 80), ["127.0.0.1:80"], "127.0.0.1:80"),
        (("127.0.0.1", 81), ["127.0.0.1:80"], None),
        (("127.0.0.1", 0), ["127.0.0.1:80"], None),
        (("10.0.0.7", 80), ["127.0.0.1:80"], None),
        (("2001:db8::1", 80), ["[2001:DB8:0::1]:80"], "[2001:DB8:0::1]:80"),
        # Whoever asks for all interfaces gets what is declared of them.
        (("0.0.0.0", 80), ["127.0.0.1:80"], "127.0.0.1:80"),
        (("::", 80), ["10.0.0.7:80"], "10.0.0.7:80"),
        (("::", 80), ["0.0.0.0:80"], "0.0.0.0:80"),
        # The loopback is one place in both families.
        (("::1", 80), ["localhost:80"], "localhost:80"),
        (("127.0.0.1", 80), ["[::1]:80"], "[::1]:80"),
        # Never a socket that can be reached from farther away than the program wants.
        (("127.0.0.1", 80), ["0.0.0.0:80"], None),
        (("::1", 80), ["[::]:80"], None),
        (("10.0.0.7", 80), ["0.0.0.0:80"], None),
        (("127.0.0.2", 80), ["127.0.0.1:80"], None),
        # Of several the nearest.
        (("::", 80), ["0.0.0.0:80", "[::]:80"], "[::]:80"),
        (("0.0.0.0", 80), ["[::]:80", "0.0.0.0:80"], "0.0.0.0:80"),
        (("0.0.0.0", 80), ["[::1]:80", "127.0.0.1:80"], "127.0.0.1:80"),
        (("127.0.0.1", 80), ["[::1]:80", "127.0.0.1:80"], "127.0.0.1:80"),
        (("::1", 80), ["127.0.0.1:81", "[::1]:81", "[::1]:80"], "[::1]:80"),
    ],
)
def test_what_is_declared_must_lie_within_what_is_asked_for(wanted, declared, found):
    assert trap.match(wanted, declared) == found


@pytest.mark.parametrize(
    ("family", "kind", "protocol", "name"),
    [
        (socket.AF_INET, socket.SOCK_STREAM, 0, "TCP"),
        (socket.AF_INET6, socket.SOCK_STREAM, 0, "TCPv6"),
        (socket.AF_INET, socket.SOCK_DGRAM, 0, "UDP"),
    ],
)
def test_a_descriptor_is_seen_as_its_owner_made_it(family, kind, protocol, name):
    with socket.socket(family, kind, protocol) as made:
        seen = trap._descriptor(os.getpid(), made.fileno())
        assert (seen.protocol, seen.inode) == (name, os.fstat(made.fileno()).st_ino)
        assert (seen.nonblocking, seen.cloexec) == (False, True)
        made.setblocking(False)
        made.set_inheritable(True)
        seen = trap._descriptor(os.getpid(), made.fileno())
        assert (seen.nonblocking, seen.cloexec) == (True, False)


def test_a_file_is_no_socket():
    with Path(os.devnull).open("rb") as file, pytest.raises(OSError):
        trap._descriptor(os.getpid(), file.fileno())
