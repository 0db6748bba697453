"""The system-call filter of the box, assembled by hand: classic BPF for x86_64 and aarch64, no library.

A network namespace does not isolate AF_VSOCK and a mount namespace does not take away io_uring: the filter does
(evidence of issue 2, agents.md section 3). The aarch64 numbers are the kernel's generic table."""

from __future__ import annotations

import errno
import os
import platform
import struct

from regrow.errors import Refused

_LOAD = 0x20  # BPF_LD | BPF_W | BPF_ABS
_JUMP_EQUAL = 0x15
_JUMP_GREATER_EQUAL = 0x35
_JUMP_ANY_BIT = 0x45  # BPF_JSET
_RETURN = 0x06

_KILL_PROCESS = 0x80000000
_ALLOW = 0x7FFF0000
_ERRNO = 0x00050000

# struct seccomp_data, little-endian on both machines: number, architecture, instruction pointer, six arguments.
_NUMBER = 0
_ARCHITECTURE = 4


def _argument(index: int) -> int:
    return 16 + 8 * index


_X32_BIT = 0x40000000
_SOCKET_FAMILIES = (1, 2, 10, 16)  # UNIX, INET, INET6, NETLINK
# Every CLONE_NEW* flag that clone() takes.
_NEW_NAMESPACES = 0x7E020000
_TIOCSTI, _TIOCLINUX = 0x5412, 0x541C

_AUDIT_ARCHITECTURE = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: (x86_64, aarch64); None where the machine has no such call.
_REFUSED: dict[str, tuple[int | None, int | None]] = {
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "pidfd_getfd": (438, 438),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "open_tree_attr": (467, 467),
    "unshare": (272, 97),
    "setns": (308, 268),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "syslog": (103, 116),
    "vhangup": (153, 58),
    "nfsservctl": (180, 42),
    "lookup_dcookie": (212, 18),
    "iopl": (172, None),
    "ioperm": (173, None),
    "modify_ldt": (154, None),
    "uselib": (134, None),
    "_sysctl": (156, None),
}
# Absent rather than forbidden: programs fall back to older calls.
_ABSENT: dict[str, tuple[int, int]] = {
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "clone3": (435, 435),  # its flags lie behind a pointer, which a filter cannot read; clone() is asked instead
}
_SOCKET, _CLONE, _IOCTL = (41, 198), (56, 220), (16, 29)


class _Assembler:
    """A list of instructions with jumps forward to labels."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, str, str]] = []
        self._labels: dict[str, int] = {}

    def add(self, code: int, value: int, true: str = "", false: str = "") -> None:
        """One instruction; an empty label means the next instruction."""
        self._code.append((code, value, true, false))

    def label(self, name: str) -> None:
        self._labels[name] = len(self._code)

    def program(self) -> bytes:
        def distance(here: int, label: str) -> int:
            steps = self._labels[label] - here - 1 if label else 0
            if not 0 <= steps <= 255:
                raise AssertionError(f"a jump to {label} is {steps} long")
            return steps

        return b"".join(
            struct.pack("<HBBI", code, distance(here, true), distance(here, false), value)
            for here, (code, value, true, false) in enumerate(self._code)
        )


def program(machine: str | None = None) -> bytes:
    """The filter as an array of `struct sock_filter`.

    Args:
        machine: "x86_64" or "aarch64"; this machine's when None.

    Raises:
        Refused: kind "no_sandbox", for a machine whose system-call numbers are not known here.
    """
    machine = platform.machine() if machine is None else machine
    if machine not in _AUDIT_ARCHITECTURE:
        raise Refused(
            f"cannot make a box on {machine}: its system-call filter is written for x86_64 and aarch64 only; "
            "run Regrow on one of these",
            kind="no_sandbox",
        )
    column = 0 if machine == "x86_64" else 1
    code = _Assembler()
    code.add(_LOAD, _ARCHITECTURE)
    code.add(_JUMP_EQUAL, _AUDIT_ARCHITECTURE[machine], "", "kill")
    code.add(_LOAD, _NUMBER)
    if machine == "x86_64":
        code.add(_JUMP_GREATER_EQUAL, _X32_BIT, "absent")
    code.add(_JUMP_EQUAL, _SOCKET[column], "socket")
    code.add(_JUMP_EQUAL, _CLONE[column], "clone")
    code.add(_JUMP_EQUAL, _IOCTL[column], "ioctl")
    for numbers in _REFUSED.values():
        number = numbers[column]
        if number is not None:
            code.add(_JUMP_EQUAL, number, "refuse")
    for absent in _ABSENT.values():
        code.add(_JUMP_EQUAL, absent[column], "absent")
    code.add(_RETURN, _ALLOW)

    code.label("socket")
    code.add(_LOAD, _argument(0))
    for family in _SOCKET_FAMILIES:
        code.add(_JUMP_EQUAL, family, "allow")
    code.add(_RETURN, _ERRNO | errno.EAFNOSUPPORT)

    code.label("clone")
    code.add(_LOAD, _argument(0))
    code.add(_JUMP_ANY_BIT, _NEW_NAMESPACES, "refuse", "allow")

    code.label("ioctl")  # no typing into the terminal of somebody else
    code.add(_LOAD, _argument(1))
    code.add(_JUMP_EQUAL, _TIOCSTI, "refuse")
    code.add(_JUMP_EQUAL, _TIOCLINUX, "refuse", "allow")

    code.label("allow")
    code.add(_RETURN, _ALLOW)
    code.label("refuse")
    code.add(_RETURN, _ERRNO | errno.EPERM)
    code.label("absent")
    code.add(_RETURN, _ERRNO | errno.ENOSYS)
    code.label("kill")
    code.add(_RETURN, _KILL_PROCESS)
    return code.program()


def memory_file(content: bytes, name: str) -> int:
    """A descriptor to read `content` from, from its beginning; the caller closes it."""
    descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor
