"""An executable that runs a program in a box, for libraries that start their agent's program themselves.

The library gets the path of a small script (`shim.py`) that sends its streams here by SCM_RIGHTS; here the program is
started in the box with these very streams. So nothing of the daemon's environment, arguments or open files can reach
the box, whatever the library passes on, and the box is ended from here with everything in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shlex
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from regrow.agents import shim
from regrow.errors import RegrowError
from regrow.process import Talk
from regrow.sandboxes.base import Box, Sandbox

_LONGEST = 4 * 1024 * 1024


@dataclass
class Wrapped:
    """The executable, and what became of what it started.

    Attributes:
        path: of the executable.
        code: how the program ended; None while it runs and when it never ran.
        complaints: what it wrote to stderr.
        error: why it could not be run, if so.
    """

    path: Path
    code: int | None = None
    complaints: str = ""
    error: RegrowError | None = None
    _ended: asyncio.Event = field(default_factory=asyncio.Event)

    def end(self) -> None:
        """End the box with everything in it."""
        self._ended.set()


@asynccontextmanager
async def wrapper(sandbox: Sandbox, box: Box, command: Sequence[str], names: Sequence[str]) -> AsyncIterator[Wrapped]:
    """An executable that runs `command`, with the arguments it is given, in `box`; once.

    Args:
        sandbox, box: where.
        command: the program and its first arguments.
        names: variables of the caller's environment that the program gets.
    """
    with (
        tempfile.TemporaryDirectory(prefix="regrow-wrap-") as name,
        contextlib.closing(socket.socket(socket.AF_UNIX)) as door,
    ):
        directory = Path(name)
        door.bind(str(directory / "door"))
        door.listen(1)
        door.setblocking(False)
        words = [sys.executable, "-I", "-S", str(shim.__file__), str(directory / "door"), ",".join(names)]
        script = directory / "run"
        script.write_text(f'#!/bin/sh\nexec {shlex.join(words)} "$@"\n')
        script.chmod(0o700)
        wrapped = Wrapped(script)
        serving = asyncio.create_task(_serve(wrapped, door, sandbox, box, command))
        try:
            yield wrapped
        finally:
            wrapped.end()
            serving.cancel()
            await asyncio.gather(serving, return_exceptions=True)


async def _serve(wrapped: Wrapped, door: socket.socket, sandbox: Sandbox, box: Box, command: Sequence[str]) -> None:
    loop = asyncio.get_running_loop()
    connection, _ = await loop.sock_accept(door)
    with connection:
        connection.setblocking(False)
        size, descriptors = await _received(connection)
        try:
            told = json.loads(await _exactly(connection, size))
            asked = replace(box, env={**box.env, **told["env"]})
            async with sandbox.talk(
                [*command, *told["arguments"]], asked, stdin=descriptors[0], stdout=descriptors[1]
            ) as talk:
                for descriptor in descriptors:
                    os.close(descriptor)
                descriptors = []
                try:
                    await _end_of(talk, connection, wrapped)
                finally:
                    ended = talk.code
            wrapped.code, wrapped.complaints = ended if ended is not None else talk.code, talk.complaints
            with contextlib.suppress(OSError):
                await loop.sock_sendall(connection, ((wrapped.code or 0) & 0xFF).to_bytes(4, "big"))
        except RegrowError as error:
            wrapped.error = error
        finally:
            for descriptor in descriptors:
                os.close(descriptor)


async def _end_of(talk: Talk, connection: socket.socket, wrapped: Wrapped) -> None:
    """Wait until the program has ended, the library's end is gone, or the box is to end."""
    waits = [
        asyncio.ensure_future(talk.ended()),
        asyncio.ensure_future(asyncio.get_running_loop().sock_recv(connection, 1)),
        asyncio.ensure_future(wrapped._ended.wait()),
    ]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)


async def _received(connection: socket.socket) -> tuple[int, list[int]]:
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(connection, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(connection)
    head, descriptors, _, _ = socket.recv_fds(connection, 4, 2)
    if len(head) != 4 or len(descriptors) != 2:
        raise RegrowError("cannot run the agent: its library did not start it as it should; update Regrow")
    return int.from_bytes(head, "big"), descriptors


async def _exactly(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < min(size, _LONGEST):
        chunk = await asyncio.get_running_loop().sock_recv(connection, size - len(data))
        if not chunk:
            break
        data += chunk
    return data
