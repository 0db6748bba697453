"""One attack on one box, and the same attack where the defence is missing."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import signal
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from regrow.errors import ProcessTimeout
from regrow.process import Completed
from regrow.sandboxes.base import Box, Sandbox
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.sandboxes.unconfined import UnconfinedSandbox
from regrow.testing.attacks.base import Attack, Case
from regrow.testing.attacks.scene import Scene

PYTHON = "/usr/bin/python3"
# One instruction: allow.
_EVERYTHING = struct.pack("<HBBI", 0x06, 0, 0, 0x7FFF0000)
_NESTED = ("unshare", "--user", "--map-root-user", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork")
_KILLED = (128 + signal.SIGSYS, 128 + signal.SIGKILL)


class BoxWithoutFilter(BubblewrapSandbox):
    """Everything but the system-call filter."""

    def filters(self) -> bytes:
        """A filter that allows everything."""
        return _EVERYTHING


@dataclass(frozen=True)
class Result:
    """How an attack ended.

    Attributes:
        out: whether it got out.
        output: what it printed.
    """

    out: bool
    output: str


class BrokenAttackError(AssertionError):
    """An attack that neither got out nor was held off: it proves nothing."""


async def attempt(attack: Attack, scene: Scene, case: Case) -> Result:
    """Try an attack from inside a box of the scene.

    Raises:
        BrokenAttackError: its program broke.
    """
    return await _run(attack, scene, case, (scene.sandbox, scene.boxes[attack.box or case]))


async def control(attack: Attack, scene: Scene, case: Case) -> Result | str:
    """Try it where the defence is missing, in a scene that is thrown away.

    Returns:
        The result; in words, why it has no control here.
    """
    if attack.control == "none":
        return attack.why
    if attack.root and os.geteuid() != 0:
        return "root alone can show it"
    box = scene.boxes[attack.box or case]
    if attack.control == "open":
        async with _open_proxy(scene) as port:
            box = replace(box, env={**box.env, "HTTPS_PROXY": f"http://127.0.0.1:{port}"})
            return await _run(attack, scene, case, (UnconfinedSandbox(), box))
    sandbox: Sandbox = BoxWithoutFilter() if attack.control == "unfiltered" else UnconfinedSandbox()
    if attack.control == "unlimited":
        box = replace(box, memory_bytes=0, file_bytes=0, processes=0)
    prefix = _NESTED if attack.control == "nested" else ()
    result = await _run(attack, scene, case, (sandbox, box), prefix)
    if not result.out and attack.optional:
        held = next((line for line in result.output.splitlines() if line.startswith("held ")), "held")
        return f"this machine does not do it without the defence either: {held.removeprefix('held ')}"
    return result


async def _run(
    attack: Attack, scene: Scene, case: Case, where: tuple[Sandbox, Box], prefix: tuple[str, ...] = ()
) -> Result:
    sandbox, box = where
    token = secrets.token_hex(8)
    await asyncio.to_thread(scene.tidy)
    await asyncio.to_thread(attack.before, scene, token)
    arguments = [str(argument) for argument in attack.arguments(scene)]
    words = (*prefix, PYTHON, "-c", attack.program(), token, case, *arguments)
    # The witness looks while what the attack left behind still runs, if anything does.
    async with _swept(token):
        try:
            done = await sandbox.run(words, box, timeout_s=attack.timeout_s)
        except ProcessTimeout as error:
            done = Completed(words, 124, error.log, attack.timeout_s)
        if f"over {token}" not in done.output and not (attack.dies and done.code in _KILLED):
            raise BrokenAttackError(f"{attack.name}: code {done.code}: {done.output[-2000:]}")
        out = attack.out(scene, done, token)
        return Result(bool(await out if inspect.isawaitable(out) else out), done.output)


@asynccontextmanager
async def _open_proxy(scene: Scene) -> AsyncIterator[int]:
    """A proxy that asks no questions: what it is told goes to the scene's listener."""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        _, far = await asyncio.open_connection("127.0.0.1", scene.ports["tcp"])
        far.write(head if head.startswith(b"GET") else await reader.readline())
        far.close()
        await far.wait_closed()
        writer.close()

    async with await asyncio.start_server(take, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def _swept(token: str) -> AsyncIterator[None]:
    """Processes that carry the token are ended afterwards: a control's own are nobody's else."""
    try:
        yield
    finally:
        for process in alive(token):
            process.kill()


def alive(token: str) -> list[psutil.Process]:
    """Processes with the token in their command line."""
    found = []
    for process in psutil.process_iter():
        try:
            if token in process.cmdline() and Path(process.exe()).name.startswith(("python", "unshare")):
                found.append(process)
        except psutil.Error:
            continue
    return found
