"""The trap: a program that binds a hard-coded port itself gets the supervisor's listening socket in its place.

Before exec the child puts a filter on itself (seccomp user notification, Linux 5.9 or later) that stops it in `bind`,
`listen` and `shutdown` and shows each such call to the holder of a descriptor, which the child sends to us. We answer:

bind      to a declared address: the program's socket is replaced by ours, under the same number, and 0 is returned
listen    on one of ours: 0; the backlog stays ours, and the program is known to be ready
shutdown  on one of ours: 0; it would end the listening for every copy, where `close` ends it for one
all else  goes on in the kernel as if nothing had been there

The filter is inherited by all that the program starts, and cannot be taken off. It is no protection: it sees neither
io_uring nor a 32-bit call, and those calls just go on. When nobody holds the descriptor any more these three calls fail
with ENOSYS; so a copy of it is in the daemon's escrow, like the sockets.

Names are those of <linux/seccomp.h>, <linux/filter.h>, <linux/audit.h> and <linux/prctl.h>.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import sys
from collections.abc import Callable, Iterable
from typing import NamedTuple

from . import processes
from .loop import Loop
from .sockets import parse


class _Machine(NamedTuple):
    """AUDIT_ARCH_* and the numbers of the system calls."""

    architecture: int
    bind: int
    listen: int
    shutdown: int
    seccomp: int


_MACHINES = {
    "x86_64": _Machine(0xC000003E, bind=49, listen=50, shutdown=48, seccomp=317),
    "aarch64": _Machine(0xC00000B7, bind=200, listen=201, shutdown=210, seccomp=277),
}

# struct sock_filter: code, steps to jump if true, if false, value.
_INSTRUCTION = struct.Struct("<HBBI")
_LOAD, _JUMP_EQUAL, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x35, 0x06
_ALLOW, _NOTIFY = 0x7FFF0000, 0x7FC00000  # SECCOMP_RET_ALLOW, SECCOMP_RET_USER_NOTIF
# struct seccomp_data: number, architecture, instruction pointer, six arguments of 64 bits.
_NUMBER, _ARCHITECTURE, _SECOND, _THIRD = 0, 4, 16 + 8, 16 + 16
_SHORTEST_INET = 16  # sizeof(struct sockaddr_in); that of netlink, which resolvers bind all the time, is shorter

_PR_SET_NO_NEW_PRIVS = 38
_SECCOMP_SET_MODE_FILTER = 1
_SPEC_ALLOW, _NEW_LISTENER = 1 << 2, 1 << 3  # no sandbox, so none of its slow mitigations either

_CALL = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif with its seccomp_data
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp
_SWAP = struct.Struct("=QIIII")  # struct seccomp_notif_addfd
_CONTINUE = 1  # SECCOMP_USER_NOTIF_FLAG_CONTINUE
_SETFD = 1  # SECCOMP_ADDFD_FLAG_SETFD


def _ioctl(direction: int, number: int, size: int) -> int:
    """_IOC of <asm-generic/ioctl.h>, which x86 and Arm share; direction 1 writes, 2 reads."""
    return direction << 30 | size << 16 | ord("!") << 8 | number


_RECEIVE = _ioctl(3, 0, _CALL.size)  # SECCOMP_IOCTL_NOTIF_RECV
_SEND = _ioctl(3, 1, _ANSWER.size)  # SECCOMP_IOCTL_NOTIF_SEND
_IS_VALID = _ioctl(2, 2, 8)  # SECCOMP_IOCTL_NOTIF_ID_VALID, in the direction that the first kernels insisted on
_ADD = _ioctl(1, 3, _SWAP.size)  # SECCOMP_IOCTL_NOTIF_ADDFD

_TCP = ("TCP", "TCPv6", "MPTCP", "MPTCPv6")  # Go listens with MPTCP; a plain listening socket serves it as well
_LONGEST_ADDRESS = 28  # sizeof(struct sockaddr_in6)
_INSTALL_S = 10.0


def filter_program(machine: str) -> bytes:
    """The filter as an array of struct sock_filter. Raises KeyError for a machine whose numbers are not known here."""
    calls = _MACHINES[machine]
    table = [
        (_LOAD, 0, 0, _ARCHITECTURE),
        (_JUMP_EQUAL, 0, 8, calls.architecture),  # a 32-bit call is not looked at
        (_LOAD, 0, 0, _NUMBER),  # one of x32 has a bit that makes it another number
        (_JUMP_EQUAL, 7, 0, calls.listen),
        (_JUMP_EQUAL, 3, 0, calls.shutdown),
        (_JUMP_EQUAL, 0, 4, calls.bind),
        (_LOAD, 0, 0, _THIRD),
        (_JUMP_AT_LEAST, 3, 2, _SHORTEST_INET),  # bind: how long the address is
        (_LOAD, 0, 0, _SECOND),
        (_JUMP_EQUAL, 0, 1, socket.SHUT_WR),  # shutdown: the writing half is a matter of connections only
        (_RETURN, 0, 0, _ALLOW),
        (_RETURN, 0, 0, _NOTIFY),
    ]
    return b"".join(_INSTRUCTION.pack(*line) for line in table)


def install(channel: int) -> None:
    """In the child: put the filter on, and send the descriptor that shows its calls over the socket `channel`.

    Raises:
        OSError: ENOSYS or EINVAL (the kernel knows no such filter), EBUSY (an outer one has the only place).
    """
    machine = os.uname().machine
    code = filter_program(machine)
    held = ctypes.create_string_buffer(code, len(code))

    class Program(ctypes.Structure):  # struct sock_fprog
        _fields_ = (("length", ctypes.c_ushort), ("code", ctypes.c_void_p))

    program = Program(len(code) // _INSTRUCTION.size, ctypes.addressof(held))
    libc = ctypes.CDLL(None, use_errno=True)
    zero = ctypes.c_ulong(0)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, ctypes.c_ulong(1), zero, zero, zero) < 0:
        raise OSError(ctypes.get_errno(), "prctl")
    flags = ctypes.c_ulong(_SPEC_ALLOW | _NEW_LISTENER)
    calls = libc.syscall(_MACHINES[machine].seccomp, _SECCOMP_SET_MODE_FILTER, flags, ctypes.byref(program))
    if calls < 0:
        raise OSError(ctypes.get_errno(), "seccomp")
    sender = socket.socket(fileno=channel)
    socket.send_fds(sender, [b"t"], [calls])
    sender.detach()
    os.close(calls)


# What a program asks for


def asked(address: bytes) -> tuple[str, int] | None:
    """Host and port of a struct sockaddr_in or sockaddr_in6; None for any other."""
    family = int.from_bytes(address[:2], sys.byteorder)
    port = int.from_bytes(address[2:4], "big")
    if family == socket.AF_INET and len(address) >= 8:
        return socket.inet_ntop(socket.AF_INET, address[4:8]), port
    if family == socket.AF_INET6 and len(address) >= 24:
        return socket.inet_ntop(socket.AF_INET6, address[8:24]).removeprefix("::ffff:"), port
    return None


def _reach(host: str) -> str:
    """From where a host can be reached, whatever its family."""
    return {"0.0.0.0": "all", "::": "all", "127.0.0.1": "loopback", "::1": "loopback"}.get(host, host)  # noqa: S104


def match(wanted: tuple[str, int], addresses: Iterable[str]) -> str | None:
    """The declared address that a program gets when it binds `wanted`; None when the call is no business of ours.

    The port must be the same, and what is declared must lie within what was asked for: a program that wants only the
    loopback never gets a socket that the network can reach. "All" and the loopback are each one place in both families.
    """
    host, port = wanted
    found: list[tuple[bool, bool, str]] = []
    for address in addresses:
        family, target = parse(address)
        assert isinstance(target, tuple)
        ours = socket.inet_ntop(family, socket.inet_pton(family, target[0]))
        if target[1] == port and _reach(host) in ("all", _reach(ours)):
            found.append((ours != host, (family == socket.AF_INET6) != (":" in host), address))
    return min(found)[2] if found else None


class _Descriptor(NamedTuple):
    """A socket of a program, as /proc shows it."""

    inode: int
    protocol: str
    nonblocking: bool
    cloexec: bool


def _descriptor(pid: int, number: int) -> _Descriptor:
    """Raises OSError: it is gone, no socket, or not ours to see."""
    path = f"/proc/{pid}/fd/{number}"
    protocol = os.getxattr(path, "system.sockprotoname").rstrip(b"\0").decode()
    with open(f"/proc/{pid}/fdinfo/{number}", "rb") as file:  # noqa: PTH123
        flags = next(int(line.split()[1], 8) for line in file if line.startswith(b"flags:"))
    return _Descriptor(
        inode=os.stat(path).st_ino,  # noqa: PTH116
        protocol=protocol,
        nonblocking=bool(flags & os.O_NONBLOCK),
        cloexec=bool(flags & os.O_CLOEXEC),
    )


class Trap:
    """The calls of one program and of all that it starts, answered by the loop.

    Args:
        loop: calls us when a program has stopped in a call.
        fd: shows the calls; ours from now on.
        held: the listening sockets by declared address.
        alone: whether no other copy uses them.
        listened: called once, when the program listens at every declared address.
    """

    def __init__(
        self,
        loop: Loop,
        fd: int,
        held: dict[str, socket.socket],
        alone: Callable[[], bool],
        listened: Callable[[], None],
    ) -> None:
        self.fd = fd
        self._machine = _MACHINES[os.uname().machine]
        self._loop, self._held, self._alone, self._listened = loop, held, alone, listened
        self._inodes = {os.fstat(entry.fileno()).st_ino: address for address, entry in held.items()}
        self._complained = False
        self.silent = set(held)  # declared addresses at which the program does not listen yet
        os.set_inheritable(fd, False)
        loop.watch(fd, self.answer)

    def close(self) -> None:
        """Let go. A program that is still there gets ENOSYS, unless somebody else holds a copy of the descriptor."""
        if self.fd >= 0:
            self._loop.unwatch(self.fd)
            os.close(self.fd)
            self.fd = -1

    def answer(self) -> None:
        """Answer one waiting call. Never blocks: without one it returns, and when no program is left it closes."""
        poll = select.poll()
        poll.register(self.fd, select.POLLIN)
        state = dict(poll.poll(0)).get(self.fd, 0)
        if not state & select.POLLIN:
            if state:
                self.close()
            return
        received = bytearray(_CALL.size)
        try:
            fcntl.ioctl(self.fd, _RECEIVE, received)
        except OSError:  # the program was killed or interrupted; what it still wants will be shown again
            return
        cookie, pid, _, number, _, _, *arguments = _CALL.unpack(received)
        found = None
        try:
            found = self._found(cookie, pid, number, *arguments[:3])
        except (OSError, ValueError, OverflowError, StopIteration) as error:
            # No socket, no such memory, or not ours to see. The kernel decides then: a bind to an address that we hold
            # ends with EADDRINUSE, all else is as ever.
            if number == self._machine.bind and not self._complained:
                self._complained = True
                sys.stderr.write(f"cannot look at a bind of process {pid}: {error}; it goes on untrapped\n")
                sys.stderr.flush()
        with contextlib.suppress(OSError):
            fcntl.ioctl(self.fd, _SEND, _ANSWER.pack(cookie, 0, 0, 0 if found else _CONTINUE))
        if found in self.silent and number == self._machine.listen:
            self.silent.remove(found)
            if not self.silent:
                self._listened()

    def _found(self, cookie: int, pid: int, number: int, *arguments: int) -> str | None:
        """The declared address that a call is about, its socket swapped; None for a call that is not ours to answer."""
        descriptor, address, length = arguments[0] & 0x7FFFFFFF, arguments[1], arguments[2] & 0x7FFFFFFF
        theirs = _descriptor(pid, descriptor)
        if number != self._machine.bind:
            self._check_waits(cookie)
            return self._inodes.get(theirs.inode)
        with open(f"/proc/{pid}/mem", "rb", buffering=0) as memory:  # noqa: PTH123
            wanted = asked(os.pread(memory.fileno(), min(length, _LONGEST_ADDRESS), address))
        # Only now is it sure that all this was read of the process that waits, and not of a later one with its number.
        # Another of its threads may still write over the address. What goes on does so with the program's rights and
        # nothing of ours, and what is swapped was declared: there is nothing to gain.
        self._check_waits(cookie)
        found = match(wanted, self._held) if wanted and theirs.protocol in _TCP else None
        if found is not None:
            self._swap(cookie, descriptor, theirs, found)
        return found

    def _check_waits(self, cookie: int) -> None:
        """Raises OSError when the call was given up, by a signal or the program's death."""
        fcntl.ioctl(self.fd, _IS_VALID, struct.pack("=Q", cookie))

    def _swap(self, cookie: int, descriptor: int, theirs: _Descriptor, address: str) -> None:
        """Put our socket in the place of the program's.

        O_NONBLOCK belongs to the open socket, so every copy shares it. A loop that expects it would hang in `accept`
        without it, and a program that does not expect it fails at worst; so it is switched on for whoever wants it,
        and off again only while nobody else can depend on it.
        """
        ours = self._held[address].fileno()
        if theirs.nonblocking or (self._alone() and address in self.silent):
            os.set_blocking(ours, not theirs.nonblocking)
        flags = os.O_CLOEXEC if theirs.cloexec else 0
        fcntl.ioctl(self.fd, _ADD, _SWAP.pack(cookie, _SETFD, ours, descriptor, flags))


# Whether this machine can do it

_REASONS = {
    errno.ENOSYS: "its kernel has no seccomp user notification (Linux 5.9 or later is needed)",
    errno.EINVAL: "its kernel has no seccomp user notification (Linux 5.9 or later is needed)",
    errno.EBUSY: "a container or sandbox around it already has a filter with a listener, and there can be only one",
}
_REHEARSAL = "import socket, sys; s = socket.socket(); s.bind(('127.0.0.1', int(sys.argv[1]))); s.listen(); s.accept()"


def supported() -> str | None:
    """Why this machine cannot trap a bind, or None. It is tried out: a process binds a port that we hold (30 ms)."""
    if os.uname().machine not in _MACHINES:
        return f"the numbers of its system calls are known for {' and '.join(_MACHINES)} only"
    try:
        with socket.create_server(("127.0.0.1", 0)) as held:
            return _rehearse(held)
    except OSError as error:
        return f"trying it out failed: {error}"


def _rehearse(held: socket.socket) -> str | None:
    host, port = held.getsockname()
    loop = Loop()
    over: list[str | None] = []

    def end(reason: str | None) -> None:
        over.append(reason)
        loop.stop()

    log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    argv = [sys.executable, "-I", "-S", "-c", _REHEARSAL, str(port)]
    birth = processes.fork(argv, "/", {}, [], log, prepare=install)
    os.close(log)
    fd = birth.descriptor(_INSTALL_S)
    trap = None
    try:
        if fd is None:
            error = birth.error()
            return _REASONS.get(error[0], error[1]) if error else "the filter was not put on in time"
        trap = Trap(loop, fd, {f"{host}:{port}": held}, lambda: True, lambda: end(None))
        loop.watch(birth.process.pidfd, lambda: end("the swap of a socket is refused (Linux 5.9 or later is needed)"))
        loop.after(_INSTALL_S, lambda: end("a process waited for its answer in vain"))
        birth.go()
        loop.run()
        return over[0]
    finally:
        if trap is not None:
            trap.close()
        birth.process.kill_session()
        select.select([birth.process.pidfd], [], [], _INSTALL_S)
        birth.process.reap()
        os.close(birth.errors)
