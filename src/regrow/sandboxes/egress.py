"""The way out of a box that has one: a CONNECT proxy outside of it, which lets through names that are listed.

Nothing is looked at inside the connection: what is listed may be told anything. So the list is for package indexes, and
for builds alone. Refused are other ports than 443, addresses instead of names, names that lead to an address which is
not public (a name may be made to lead into the network of this machine), and everything that is not CONNECT.
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import os
import re
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import replace
from pathlib import Path

from regrow.sandboxes.base import Box

SOCKET = "egress.sock"
PORT = 443

# The last label begins with a letter, so that no spelling of an address is a name.
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_ASKED = re.compile(rf"CONNECT ((?:{_LABEL}\.)+(?=[a-z]){_LABEL}):(\d{{1,5}}) HTTP/1\.[01]", re.IGNORECASE | re.ASCII)
_HEAD_BYTES = 16 * 1024
_HEAD_S = 10.0
_DIAL_S = 20.0
_SILENCE_S = 300.0
_CONNECTIONS = 128
_PIECE_BYTES = 65536
_SYSTEM_PYTHON = "/usr/bin/python3"
# IPv6 networks whose addresses hold an IPv4 address, which a translator on the way would use: NAT64 and 6to4.
_TRANSLATED = tuple(map(ipaddress.ip_network, ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")))

Resolve = Callable[[str], Awaitable[Sequence[str]]]
Dial = Callable[[str], Awaitable[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


async def resolve(name: str) -> Sequence[str]:
    """The addresses of a name."""
    found = await asyncio.get_running_loop().getaddrinfo(name, PORT, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to an address, which is never looked up again."""
    return await asyncio.open_connection(address, PORT)


def public(address: str) -> bool:
    """Whether an address is of the internet: not of this machine, a private network, a link, a group or a metadata
    service, however it is wrapped."""
    try:
        number = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(number, ipaddress.IPv6Address):
        if number.ipv4_mapped is not None:
            number = number.ipv4_mapped
        elif any(number in network for network in _TRANSLATED):
            return False
    return number.is_global and not number.is_multicast and not number.is_reserved


class Egress:
    """Lets CONNECT through to listed names.

    Args:
        names: host names; one that begins with a dot stands for all names below it.
        resolve: gives the addresses of a name.
        dial: connects to an address, port 443.
    """

    def __init__(self, names: Sequence[str], *, resolve: Resolve = resolve, dial: Dial = dial) -> None:
        self._names = tuple(name.lower() for name in names)
        self._resolve, self._dial = resolve, dial
        self._open = 0

    def allows(self, name: str) -> bool:
        """Whether a name is listed."""
        return any(name == known or (known.startswith(".") and name.endswith(known)) for known in self._names)

    @contextlib.asynccontextmanager
    async def serving(self, path: Path) -> AsyncIterator[None]:
        """Listen on the unix socket `path` for as long as the block lasts, then end every connection."""
        tasks: set[asyncio.Task[None]] = set()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if (task := asyncio.current_task()) is not None:
                tasks.add(task)
            try:
                await self._take(reader, writer)
            except (OSError, asyncio.CancelledError):
                pass  # either end may be gone at any time; a cancelled one ends with the box
            finally:
                writer.close()
                tasks.discard(task)

        server = await asyncio.start_unix_server(take, path, limit=_HEAD_BYTES)
        try:
            yield
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            if self._open > _CONNECTIONS:
                return await _refuse(writer, "too many connections at once")
            try:
                async with asyncio.timeout(_HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
            except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
                return await _refuse(writer, "this is no request")
            name, why = self._asked(head)
            if why:
                return await _refuse(writer, why)
            far, why = await self._reach(name)
            if far is None:
                return await _refuse(writer, why)
            try:
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(_pump(reader, far[1]), _pump(far[0], writer))
            finally:
                far[1].close()
        finally:
            self._open -= 1

    def _asked(self, head: bytes) -> tuple[str, str]:
        """The name of a request, and why it is refused if it is."""
        first = head.partition(b"\r\n")[0].decode("latin-1")
        found = _ASKED.fullmatch(first)
        if found is None:
            return "", "only CONNECT NAME:443 is let through: no plain HTTP, and no address in place of a name"
        name = found[1].lower()
        if int(found[2]) != PORT:
            return name, f"port {found[2]} is not let through"
        if not self.allows(name):
            return name, f"{name} is not in [build] egress"
        return name, ""

    async def _reach(self, name: str) -> tuple[tuple[asyncio.StreamReader, asyncio.StreamWriter] | None, str]:
        try:
            async with asyncio.timeout(_DIAL_S):
                addresses = await self._resolve(name)
        except (OSError, TimeoutError):
            return None, f"{name} cannot be looked up"
        if not addresses or not all(map(public, addresses)):
            return None, f"{name} leads to an address that is not public"
        for address in addresses:
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(_DIAL_S):
                    return await self._dial(address), ""
        return None, f"{name} cannot be reached"


async def _refuse(writer: asyncio.StreamWriter, why: str) -> None:
    # In the first line, which package managers print.
    writer.write(f"HTTP/1.1 403 {why}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode("latin-1", "replace"))
    await writer.drain()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on what comes, and then its end; silence ends it too."""
    while True:
        try:
            async with asyncio.timeout(_SILENCE_S):
                piece = await reader.read(_PIECE_BYTES)
        except TimeoutError:
            writer.transport.abort()
            return
        if not piece:
            break
        writer.write(piece)
        await writer.drain()
    if writer.can_write_eof():
        writer.write_eof()


@contextlib.asynccontextmanager
async def way_out(argv: Sequence[str], box: Box) -> AsyncIterator[tuple[tuple[str, ...], Box]]:
    """The command and the box with a way out to `box.egress`; as they are when that is empty."""
    if not box.egress:
        yield tuple(argv), box
        return
    with tempfile.TemporaryDirectory(prefix="regrow-egress-") as place:
        path = Path(place, SOCKET)
        async with Egress(box.egress).serving(path):
            python, readable = await asyncio.to_thread(_python)
            words = (python, "-I", "-S", "-c", relay_program(), f"/run/regrow/{SOCKET}", *argv)
            yield words, replace(box, sockets={**box.sockets, SOCKET: path}, readable=(*box.readable, *readable))


def relay_program() -> str:
    """The text of `regrow.sandboxes.relay`."""
    return Path(__file__).with_name("relay.py").read_text("utf-8")


def _python() -> tuple[str, tuple[Path, ...]]:
    """A Python for the relay, and what must be readable for it. The system's own first: what is readable comes first
    in the path of the command too."""
    if os.access(_SYSTEM_PYTHON, os.X_OK):
        return _SYSTEM_PYTHON, ()
    return os.path.realpath(sys.executable), (Path(sys.base_prefix),)
