"""Ports for what a test starts."""

from __future__ import annotations

import contextlib
import random
import socket
from pathlib import Path

_LOWEST = 10_000


def free_ports(count: int) -> list[int]:
    """Ports of the loopback interface that nobody listens on, and that no outgoing connection is given meanwhile."""
    first = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    choice = random.sample(range(_LOWEST, first), first - _LOWEST) if first > _LOWEST else [0] * count
    found: list[int] = []
    with contextlib.ExitStack() as stack:
        for port in choice:
            with contextlib.suppress(OSError):
                held = stack.enter_context(socket.create_server(("127.0.0.1", port)))
                found.append(held.getsockname()[1])
            if len(found) == count:
                return found
    raise AssertionError("not enough free ports")


def free_port() -> int:
    """One of them."""
    return free_ports(1)[0]
