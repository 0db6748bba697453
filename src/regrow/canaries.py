"""Canaries: probes of type chat. The daemon says something to a release the way people's messages go, and reads the
answer: a process can be alive, answer its health path, and be deaf (F23).

They are asked while a release is on trial, and not for ever: a chat may cost money and is kept by the service.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import secrets
import time
from collections.abc import AsyncIterator, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from regrow.config import Config
from regrow.forwarding import make_client, post
from regrow.pool import in_thread
from regrow.services.base import Instance

CHAT = "regrow:canary"


class Canaries:
    """The chat probes of one service.

    Attributes:
        names: of the probes.
        passed: those that have had their answer.
    """

    def __init__(self, config: Config) -> None:
        self._probes = {name: probe for name, probe in config.probe.items() if probe.type == "chat"}
        self._forward = config.chat.forward
        self._run = secrets.token_hex(4)
        self._numbers = itertools.count(1)
        self.names = tuple(self._probes)
        self.passed: set[str] = set()

    async def ask(self, name: str, instance: Instance) -> str:
        """Say it once.

        Args:
            name: of the probe.
            instance: the process to ask: on its own probe socket where it has one, else where everybody asks.

        Returns:
            Why it failed, or "".
        """
        probe = self._probes[name]
        url = self._forward
        if instance.probe_address is not None:
            url = urlsplit(url)._replace(scheme="http", netloc=instance.probe_address).geturl()
        number = f"{self._run}-{next(self._numbers)}"
        body = {"chat": CHAT, "sender": "regrow", "name": "Regrow", "text": probe.target, "id": number,
                "at": time.time()}  # fmt: skip
        async with await in_thread(make_client, url, probe.timeout) as client:
            reply = await post(client, url, probe.timeout, {"Idempotency-Key": f"{CHAT}-{number}"}, body)
        if reply.state != "answered":
            return reply.failure
        if not re.search(probe.expect or r"\S", reply.text):
            return f"it answered {reply.text[:80]!r}" + (f", not {probe.expect!r}" if probe.expect else "")
        self.passed.add(name)
        return ""

    async def fails(self, name: str, instance: Instance) -> str:
        """Say it until it is answered, or as often as the probe has strikes; why the last one failed, or ""."""
        probe, cause = self._probes[name], ""
        for strike in range(probe.strikes):
            if strike:
                await asyncio.sleep(min(probe.every, 1.0))
            if not (cause := await self.ask(name, instance)):
                break
        return cause

    async def silent(self, instance: Instance, names: Collection[str]) -> list[str]:
        """Those of the probes that an instance fails."""
        causes = await asyncio.gather(*(self.fails(name, instance) for name in names))
        return [name for name, cause in zip(names, causes, strict=True) if cause]

    async def until_failure(self, name: str, instance: Instance) -> tuple[str, str]:
        """Ask at the probe's interval until it fails; its name and the cause."""
        while True:
            if cause := await self.fails(name, instance):
                return name, cause
            await asyncio.sleep(self._probes[name].every)


@dataclass(frozen=True)
class Hearing:
    """What the canaries of one trial have found out so far."""

    _canaries: Canaries
    _asking: tuple[asyncio.Task[tuple[str, str]], ...]
    _required: frozenset[str]

    @property
    def satisfied(self) -> bool:
        """Every required canary has had its answer once."""
        return self._required <= self._canaries.passed

    @property
    def failure(self) -> tuple[str, str] | None:
        """The name of a probe that failed, and why."""
        return next((task.result() for task in self._asking if task.done()), None)


@contextlib.asynccontextmanager
async def hearing(config: Config, silent: Collection[str], instance: Instance | None) -> AsyncIterator[Hearing]:
    """Talk with a release for the length of the block.

    Args:
        config: of the service.
        silent: probes that failed on the release before, and are not required.
        instance: the process on trial; None: it is gone, and nobody is asked.
    """
    canaries = Canaries(config)
    required = frozenset(canaries.names) - set(silent) if instance is not None else frozenset()
    asking = tuple(
        asyncio.create_task(canaries.until_failure(name, instance), name=f"canary {name}")
        for name in required
        if instance is not None
    )
    try:
        yield Hearing(canaries, asking, required)
    finally:
        for task in asking:
            task.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
