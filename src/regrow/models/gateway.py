"""The gateway to the model: one unix socket a job, outside of the box, and the only holder of the key.

    async with gateway.serve("job-7") as door:
        ...  # door.socket is bound into the box; the agent is told door.model, and a key that is none
    door.usage, door.trouble

An agent that cannot speak to a unix socket gets a relay in its box, which the driver of the agent sees to.

What goes up are the few paths of the dialect, for the models of the settings, as JSON that was read, looked through for
known secrets and written anew, with the key and the few headers of the protocol. What is refused is answered with 400
and `x-should-retry: false`, which agents show and do not try again. Nothing of a body and no key gets into a log.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import structlog
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from regrow.clock import Clock, SystemClock
from regrow.config import ModelSection
from regrow.errors import Refused, RegrowError
from regrow.http_server import Server
from regrow.models.account import Account, read
from regrow.models.door import Door
from regrow.models.leaks import Leaks
from regrow.models.upstream import Upstream
from regrow.models.usage import Usage
from regrow.pool import in_thread
from regrow.secret import Secret

log = structlog.get_logger("model")

_KEEP_ALIVE_S = 120
_GRACE_S = 1
_CONNECTIONS = 64
_BACKLOG = 16
_LONGEST_PATH = 100  # bytes of a socket's address; the kernel takes 107
_JOB = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ModelGateway:
    """Opens a door to the model for each job.

    Args:
        settings: the `[model]` section.
        known: secrets that must never be sent, by a name that may be told; the model's own key is added.
        directory: for sockets and accounts, Regrow's own; who may enter it may use the model.
        clock: for the pace of requests.
    """

    def __init__(
        self, settings: ModelSection, known: Mapping[str, Secret], directory: Path, *, clock: Clock | None = None
    ) -> None:
        self.settings = settings
        self._known = dict(known)
        self._directory = directory
        self._clock = clock or SystemClock()
        self._serving: set[str] = set()

    def with_settings(self, settings: ModelSection) -> ModelGateway:
        """The same way, for another purpose with a budget of its own; accounts lie in the same place."""
        return ModelGateway(settings, self._known, self._directory, clock=self._clock)

    @asynccontextmanager
    async def serve(
        self,
        job: str,
        *,
        also: Mapping[str, Secret] | None = None,
        tell: Callable[[Usage], None] | None = None,
        owner: tuple[int, int] | None = None,
    ) -> AsyncIterator[Door]:
        """Open the door of a job for as long as the context lasts. The account of a job outlives it: whoever opens the
        door again, also after a kill, goes on with what is left of the budget.

        Args:
            job: whose account it is, as "job-7"; attempts that run side by side share one door.
            also: further secrets of this job that must not be sent.
            tell: hears the usage as it grows, about once a second at the most.
            owner: uid and gid of the box, where it is another user's; needs root.

        Raises:
            ConfigError: the key cannot be read.
            Refused: kind "model_account", when the account cannot be read, or the job's door is open already.
            RegrowError: kind "model_door", when the socket cannot be made.
        """
        if not _JOB.fullmatch(job):
            raise ValueError("a job's name is letters, digits, dots and dashes")
        if job in self._serving:
            raise Refused(f"cannot open a second door to the model for {job}; share the one", kind="model_account")
        self._serving.add(job)
        try:
            async with await Upstream.of(self.settings) as upstream:
                own = {} if upstream.key is None else {"the key of the model": upstream.key}
                leaks = await in_thread(Leaks, {**self._known, **(also or {}), **own})
                account = Account(self.settings, self._account(job), self._clock, tell or _nobody)
                await account.load()
                door = Door(self._directory / f"{job}.sock", self.settings, upstream, account, leaks)
                listening = await in_thread(_listen, door.socket, owner)
                try:
                    async with _serving(door, listening):
                        yield door
                finally:
                    await in_thread(door.socket.unlink, missing_ok=True)
                    await account.save()
                    _log(job, account.usage)
        finally:
            self._serving.discard(job)

    async def usage(self, job: str) -> Usage:
        """What a job had used when that was last written; for a job whose door is not open.

        Raises:
            Refused: kind "model_account", when its account cannot be read.
        """
        return await in_thread(read, self._account(job), self.settings)

    async def forget(self, job: str) -> None:
        """Drop the account of a job that is over."""
        await in_thread(self._account(job).unlink, missing_ok=True)

    async def forget_earlier(self, prefix: str, name: str) -> None:
        """Drop the accounts that begin with `prefix` and sort before `name`: those of earlier days, say."""

        def drop() -> None:
            for path in self._directory.glob(f"{prefix}*.usage.json"):
                if path.name < self._account(name).name:
                    path.unlink(missing_ok=True)

        await in_thread(drop)

    async def check(self) -> str:
        """Try the upstream and its key with a call that costs nothing; result and errors as `Upstream.check`.

        Raises:
            ConfigError: the key cannot be read.
        """
        async with await Upstream.of(self.settings) as upstream:
            return await upstream.check()

    def _account(self, job: str) -> Path:
        return self._directory / f"{job}.usage.json"


class _Protocol(H11Protocol):
    """Takes no more connections than an agent needs: it could take all that the daemon may open."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > _CONNECTIONS:
            transport.abort()


@asynccontextmanager
async def _serving(door: Door, listening: socket.socket) -> AsyncIterator[None]:
    server = Server(
        uvicorn.Config(
            door,
            http=_Protocol,
            backlog=_BACKLOG,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            date_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=_GRACE_S,
        )
    )
    task = asyncio.create_task(server.serve(sockets=[listening]))
    try:
        yield
    finally:
        door.close()
        server.should_exit = True
        await task


def _listen(path: Path, owner: tuple[int, int] | None) -> socket.socket:
    """A listening socket at `path`, for one user; what a killed daemon left there gives way.

    Raises:
        RegrowError: kind "model_door".
    """
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind(listening, path, owner)
    except OSError as error:
        listening.close()
        raise RegrowError(
            f"cannot open the door to the model at {path}: {error.strerror}; look at its directory", kind="model_door"
        ) from error
    return listening


def _bind(listening: socket.socket, path: Path, owner: tuple[int, int] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    path.unlink(missing_ok=True)
    with _short(path) as address:
        listening.bind(address)
    path.chmod(0o600)
    if owner is not None:
        os.chown(path, *owner)
    listening.listen(_BACKLOG)


@contextlib.contextmanager
def _short(path: Path) -> Iterator[str]:
    """An address for a socket whose path is longer than the kernel takes: through a descriptor of its directory."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    descriptor = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{descriptor}/{path.name}"
    finally:
        os.close(descriptor)


def _log(job: str, used: Usage) -> None:
    log.info(
        "a job has used the model",
        action="model",
        job=job,
        requests=used.requests,
        refused=used.refused,
        tokens=used.tokens,
        cost=round(used.cost, 6),
        currency=used.currency,
        estimated=used.estimated,
    )


def _nobody(_: Usage) -> None:
    """Nobody listens."""
