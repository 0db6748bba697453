"""The default driver: the supervisor of `regrow.supervisor`, one process a service, needing no root and no manager."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import select
import socket
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from pathlib import Path
from typing import Any, Literal

from regrow.config import Config
from regrow.places import Places
from regrow.pool import in_thread
from regrow.process import run
from regrow.services import units
from regrow.services.base import CandidateFailed, Instance, ReleaseSpec, ServiceError, ServiceEvent, ServiceStatus

Json = dict[str, Any]
_LONGEST_LINE = 8 * 1024 * 1024
_LONGEST_PATH = 100
_MOST_SOCKETS = 64
_ANSWER_S = 15.0
_START_S = 10.0
_MARGIN_S = 10.0
_PAUSE_S = 0.02


def own_cgroup_refusal(own: str, service: str, name: str) -> str | None:
    """Say why a daemon may not care for a service in whose control group it lives (F1).

    Args:
        own: text of the daemon's /proc/self/cgroup.
        service: text of the service's /proc/PID/cgroup.
        name: of the service.

    Returns:
        The reason, or None. Only a group made for the service claw counts (claw.service, claw@2.service,
        regrow-claw.service, regrow-claw.supervisor.service): in a login session, a container or the daemon's own unit
        everything shares one group.
    """

    def group(text: str) -> str:
        for line in text.splitlines():
            hierarchy, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if (hierarchy == "0" or controllers == "name=systemd") and path not in ("", "/"):
                return path
        return "/"

    mine, theirs = group(own), group(service)
    unit = theirs.rpartition("/")[2].removesuffix(".service")
    made_for_it = theirs.endswith(".service") and re.split("[@.]", unit)[0] in (name, f"regrow-{name}")
    if made_for_it and (mine == theirs or mine.startswith(theirs + "/")):
        return f"cannot care for {name} from inside its own control group {theirs}: start regrow outside of it"
    return None


class EmbeddedService:
    """A client of one supervisor, and the one that starts it, and starts it again when it was killed.

    `interpreter` and `program` say how the supervisor is run.

    Args:
        name: of the service.
        directory: the service's state directory; the supervisor's record lies there.
        runtime_directory: where the control socket goes.
    """

    interpreter = (sys.executable, "-I", "-S")
    program = Path(units.program("__main__.py"))

    def __init__(self, name: str, directory: Path, runtime_directory: Path) -> None:
        self.name = name
        self.directory = directory
        self.socket_path = runtime_directory / f"{name}.sock"
        self._escrow: dict[str, socket.socket] = {}
        self._traps: dict[str, int] = {}
        self._writer: asyncio.StreamWriter | None = None
        self._reader_task: asyncio.Task[None] | None = None
        self._watch_task: asyncio.Task[None] | None = None
        self._waiting: dict[int, asyncio.Future[Json]] = {}
        self._number = 0
        self._gone = asyncio.Event()
        self._ensuring = asyncio.Lock()
        self._closed = False

    @classmethod
    def of(cls, config: Config, places: Places, directory: Path) -> EmbeddedService:
        """The driver of a configured service."""
        return cls(config.service.name, directory, places.runtime)

    # The supervisor's life

    async def ensure(self) -> None:
        """Connect to the supervisor, starting it if none answers; watch it from then on.

        Raises ServiceError (kinds supervisor, own_cgroup, driver_changed).
        """
        async with self._ensuring:
            if self._closed:
                raise ServiceError("cannot use the service: the driver is closed; open it again", kind="closed")
            if self._writer is None:
                try:
                    await self._connect_or_start()
                except BaseException:
                    self._hang_up()  # refused: nothing may be asked over it
                    raise
        if self._watch_task is None:
            self._watch_task = asyncio.create_task(self._watch(), name=f"watch {self.name}")

    def _units(self) -> str:
        """Which manager holds the releases, as the supervisor calls it."""
        return ""

    def _hang_up(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    async def _connect_or_start(self) -> None:
        deadline = time.monotonic() + _START_S
        said = ""
        await in_thread(self._check_cgroup, "self")  # what we start is born into our own group
        while True:
            try:
                await self._connect()
                await self.escrow()
                return
            except OSError as error:
                self._hang_up()  # it may have been killed between the two
                said = said or str(error)
            if time.monotonic() > deadline:
                raise ServiceError(
                    f"cannot reach the supervisor of {self.name}: {said}; see {self.directory / 'supervisor.log'}",
                    kind="supervisor",
                )
            said = await in_thread(self._bring_up)
            if said != "ok":
                if said and "another supervisor" not in said:
                    raise ServiceError(said, kind="supervisor")
                said = said or "it ended while it started"
                await asyncio.sleep(_PAUSE_S)  # killed as it started; or the other one does not listen yet

    def _bring_up(self) -> str:
        """Start the supervisor: in its own unit where there is one, for ours would take it along (F1)."""
        manager = units.installed_supervisor(self.name, self.directory)
        if manager is not None and self._start_unit(manager) == "ok":
            return "ok"
        return self._spawn()  # without a manager that runs, as in a rescue shell

    def _start_unit(self, manager: units.Manager) -> str:
        """Start the supervisor's unit, or find it running; "ok", or why not."""
        unit = units.supervisor_name(self.name)
        words = [*units.manager_argv(manager), "--no-ask-password"]
        try:
            # A unit that failed too often would be refused until it is forgotten (F8); one that did not is no error.
            subprocess.run([*words, "reset-failed", unit], capture_output=True, timeout=_START_S, check=False)
            done = subprocess.run(
                [*words, "start", unit], capture_output=True, text=True, timeout=_START_S, check=False
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return f"cannot start {unit}: {error}"
        return "ok" if done.returncode == 0 else f"cannot start {unit}: {done.stderr.strip()}"

    def _spawn(self) -> str:
        """Start the supervisor as nobody's child; return "ok" or its own words."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        reading, writing = os.pipe2(os.O_CLOEXEC)
        kept = {name: listening.fileno() for name, listening in self._escrow.items()}
        argv = [
            *(*self.interpreter, str(self.program), "--dir", str(self.directory), "--socket", str(self.socket_path)),
            *("--name", self.name, "--ready-fd", str(writing), "--detach"),
            *(word for name, fd in kept.items() for word in ("--listen-fd", f"{name}={fd}")),
            *(word for token, fd in self._traps.items() for word in ("--trap-fd", f"{token}={fd}")),
        ]
        try:
            with (self.directory / "supervisor.log").open("ab") as log:
                subprocess.run(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=[writing, *kept.values(), *self._traps.values()],
                    start_new_session=True,
                    cwd="/",
                    timeout=_START_S,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            os.close(reading)
            return f"cannot start the supervisor within {_START_S:g} s"
        finally:
            os.close(writing)
        try:
            said, _, _ = select.select([reading], [], [], _START_S)  # the supervisor's word, or its death
            return os.read(reading, 4096).decode().strip() if said else f"cannot start within {_START_S:g} s"
        finally:
            os.close(reading)

    async def _connect(self) -> None:
        reader, writer = await self._open()
        self._writer = writer
        self._gone.clear()
        self._reader_task = asyncio.create_task(self._read(reader, writer), name=f"supervisor of {self.name}")
        status = await self._ask("status")
        if (units_of := status["supervisor"].get("units", "")) != self._units():
            what = "units of systemd" if units_of else "children of its supervisor"
            raise ServiceError(
                f"cannot change the driver of {self.name} while it runs as {what}: set the old one, `regrow down`, "
                "set the new one, `regrow install` and `regrow up`",
                kind="driver_changed",
            )
        active = status["active"]
        if active and active["pid"]:
            await in_thread(self._check_cgroup, str(active["pid"]))

    def _check_cgroup(self, pid: str) -> None:
        with contextlib.suppress(OSError):
            own, theirs = Path("/proc/self/cgroup").read_text(), Path(f"/proc/{pid}/cgroup").read_text()
            if refusal := own_cgroup_refusal(own, theirs, self.name):
                raise ServiceError(refusal, kind="own_cgroup")

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        with _reachable(self.socket_path) as path:
            return await asyncio.open_unix_connection(path, limit=_LONGEST_LINE)

    async def _read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while line := await reader.readline():
                answer = json.loads(line)
                future = self._waiting.pop(answer.get("id"), None)
                if future is not None and not future.done():
                    future.set_result(answer)
        except (OSError, ValueError):
            pass
        finally:
            self._writer = None
            self._gone.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(ConnectionResetError("the supervisor went away"))
            self._waiting.clear()
            writer.close()

    async def _watch(self) -> None:
        """End of file is the news of the supervisor's death; it is started again at once."""
        while not self._closed:
            await self._gone.wait()
            try:
                await self.ensure()
            except (ServiceError, OSError):
                await asyncio.sleep(1.0)

    async def escrow(self) -> dict[str, socket.socket]:
        """Hold a copy of each listening socket, and of each trap, so that a killed supervisor loses none."""
        fresh, traps = await in_thread(self._fetch_sockets)
        self._let_go()
        self._escrow, self._traps = fresh, traps
        return dict(fresh)

    def _let_go(self) -> None:
        for listening in self._escrow.values():
            listening.close()
        for fd in self._traps.values():
            os.close(fd)
        self._escrow, self._traps = {}, {}

    def _fetch_sockets(self) -> tuple[dict[str, socket.socket], dict[str, int]]:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection, _reachable(self.socket_path) as path:
            connection.settimeout(_ANSWER_S)
            connection.connect(path)
            connection.sendall(b'{"id":0,"verb":"sockets"}\n')
            data, fds, _, _ = socket.recv_fds(connection, 65536, _MOST_SOCKETS)
            while not data.endswith(b"\n"):
                more = connection.recv(65536)
                if not more:
                    raise ConnectionResetError("the supervisor went away")
                data += more
        answer = json.loads(data)
        addresses, tokens = answer["addresses"], answer.get("traps", [])
        found = {address: socket.socket(fileno=fd) for address, fd in zip(addresses, fds, strict=False)}
        return found, dict(zip(tokens, fds[len(addresses) :], strict=True))

    # Requests

    async def _ask(self, verb: str, **fields: Any) -> Json:
        """One request on the present connection. Raises ServiceError (the supervisor's kind), OSError."""
        if self._writer is None:
            raise ConnectionResetError("the supervisor went away")
        self._number += 1
        number = self._number
        future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._writer.write(json.dumps({"id": number, "verb": verb, **fields}).encode() + b"\n")
        try:
            async with asyncio.timeout(_ANSWER_S):
                answer = await future
        except TimeoutError:
            text = f"cannot {verb} {self.name}: the supervisor does not answer; see `regrow doctor`"
            raise ServiceError(text, kind="timeout") from None
        finally:
            self._waiting.pop(number, None)
        if not answer["ok"]:
            raise ServiceError(answer["error"], kind=answer["kind"])
        return answer

    async def _request(self, verb: str, **fields: Any) -> Json:
        """A request that outlives the supervisor: every verb may be repeated with the same token."""
        for _ in range(5):
            await self.ensure()
            try:
                return await self._ask(verb, **fields)
            except OSError:
                continue
            except ServiceError as error:
                if error.kind != "quitting":
                    raise
                await asyncio.sleep(_PAUSE_S)
        raise ServiceError(f"cannot {verb} {self.name}: the supervisor keeps dying", kind="unreachable")

    async def status(self) -> ServiceStatus:
        return ServiceStatus.from_json(await self._request("status"))

    async def start(
        self, spec: ReleaseSpec, role: Literal["active", "candidate"], token: str, *, force: bool = False
    ) -> Instance:

        async def again() -> Json:
            return await self._request("start", release=spec.to_json(), role=role, token=token, force=force)

        answer = await again()
        with contextlib.suppress(OSError):
            await self.escrow()
        instance = Instance.from_json(answer["instance"])
        if instance.state != "starting":
            return instance
        deadline = spec.start_timeout_s + spec.bind_timeout_s + _MARGIN_S
        event = await self._outcome(token, answer["seq"], deadline, again)
        if event.event == "candidate_failed":
            raise CandidateFailed(event.data["cause"], log_tail=event.data.get("log_tail", ""))
        if spec.trap_bind:  # it may have been made after the first look, when the address was busy
            with contextlib.suppress(OSError):
                await self.escrow()
        status = await self.status()
        found = next((i for i in (status.active, status.candidate, status.standby) if i and i.token == token), None)
        if found is None:
            raise CandidateFailed("it ended just after its proof")
        return found

    async def _outcome(
        self, token: str, after: int, seconds: float, again: Callable[[], Awaitable[Json]]
    ) -> ServiceEvent:
        """How a start ends. A supervisor that came anew and does not know of the start is asked again, once it has
        told everything up to now: the token makes sure that there is never a second copy."""
        lost_at: int | None = None
        left = seconds
        while left > 0:
            try:
                async with asyncio.timeout(left), contextlib.aclosing(self.events(after)) as events:
                    async for event in events:
                        after = event.seq
                        if event.event in ("proved", "candidate_failed") and event.data["token"] == token:
                            return event
                        if event.event == "supervisor_started":
                            status = await self.status()
                            known = {i.token for i in (status.active, status.standby, status.candidate) if i}
                            lost_at = None if token in known else status.seq
                        if lost_at is not None and event.seq >= lost_at:
                            lost_at = None
                            await again()
            except TimeoutError:
                left = await self._extended(token)
            else:
                break
        raise self._unseen("the end of the start", seconds)

    async def _extended(self, token: str) -> float:
        """Seconds for which a start goes on to be waited for, because the service asked for more time (F24)."""
        status = await self.status()
        starting = (i for i in (status.active, status.candidate) if i and i.token == token and i.state == "starting")
        return next((i.start_left_s + _MARGIN_S for i in starting if i.start_left_s is not None), 0.0)

    def _unseen(self, what: str, seconds: float) -> ServiceError:
        if self._closed:
            return ServiceError(f"cannot wait for {self.name}: the driver was closed", kind="closed")
        text = f"cannot see {what} of {self.name} within {seconds:g} s; look at `regrow status`"
        return ServiceError(text, kind="timeout")

    async def switch(self, token: str, bake_s: float, confirm_within_s: float) -> None:
        before = await self.status()
        answer = await self._request("switch", token=token, bake_s=bake_s, confirm_within_s=confirm_within_s)
        if answer["state"] == "switched" and (not answer["again"] or not _switching(await self.status(), token)):
            return
        # Exclusive: the old one stops, the new one starts. Overlap: the old one hangs up, the new one connects. Either
        # the new one serves then, or the old one is back.
        event = await self._wait(before.seq, token, {"switched", "candidate_failed", "fell_back"}, 600.0)
        if event.event != "switched":
            cause = event.data["cause"]
            await self._wait(event.seq - 1, None, {"fell_back", "down"}, 600.0)
            raise CandidateFailed(cause, log_tail=event.data.get("log_tail", ""))

    async def promote(self, token: str) -> None:
        await self._request("promote", token=token)

    async def discard(self, token: str) -> None:
        await self._request("discard", token=token)

    async def fall_back(self, reason: str) -> None:
        status = await self.status()
        token = status.trial["token"] if status.trial else status.active and status.active.token
        await self._request("fall_back", reason=reason, token=token)
        await self._wait(status.seq, None, {"fell_back"}, 600.0)

    async def stop(self) -> None:
        seq = (await self.status()).seq
        await self._request("stop")
        await self._wait(seq, None, {"stopped"}, 600.0)

    async def signal(self, token: str, name: str) -> None:
        await self._request("signal", token=token, signal=name)

    async def unpin(self, digest: str) -> bool:
        """Forget that a release is pinned bad; False if it was not."""
        return bool((await self._request("unpin", digest=digest))["was_pinned"])

    async def _wait(self, after: int, token: str | None, names: set[str], seconds: float) -> ServiceEvent:
        try:
            async with asyncio.timeout(seconds):
                async with contextlib.aclosing(self.events(after)) as events:
                    async for event in events:
                        if event.event in names and token in (None, event.data.get("token")):
                            return event
        except TimeoutError:
            pass
        raise self._unseen(" or ".join(sorted(names)), seconds)

    async def events(self, after: int) -> AsyncGenerator[ServiceEvent, None]:
        while not self._closed:
            writer = None
            try:
                await self.ensure()
                reader, writer = await self._open()
                writer.write(json.dumps({"id": 0, "verb": "subscribe", "after": after}).encode() + b"\n")
                while line := await reader.readline():
                    message = json.loads(line)
                    if not message.get("ok", True):
                        raise ServiceError(message["error"], kind=message["kind"])
                    if "event" in message and message["event"]["seq"] > after:
                        after = message["event"]["seq"]
                        yield ServiceEvent.from_json(message["event"])
            except OSError:
                await asyncio.sleep(_PAUSE_S)
            finally:
                if writer is not None:
                    writer.close()

    async def close(self, keep_service: bool) -> None:
        if not self._closed and not keep_service:
            with contextlib.suppress(OSError, ServiceError):
                await self.ensure()
                self._closed = True
                await self._ask("shutdown", keep_service=False)
                async with asyncio.timeout(600.0):
                    await self._gone.wait()
        self._closed = True
        for task in (self._watch_task, self._reader_task):
            if task is not None:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task
        self._let_go()


async def trap_refusal() -> str:
    """Why a bind cannot be trapped on this machine, tried out in a process like the supervisor's; "" if it can.

    Raises RegrowError: the try itself could not be made.
    """
    done = await run([*EmbeddedService.interpreter, str(EmbeddedService.program), "--can-trap"], timeout_s=_START_S)
    return "" if done.code == 0 else done.output.strip() or f"the try ended with {done.code}"


def _switching(status: ServiceStatus, token: str) -> bool:
    return status.trial is not None and status.trial["token"] == token and status.trial["switched_at"] is None


@contextlib.contextmanager
def _reachable(path: Path) -> Any:
    """A name of a unix socket within the kernel's 107 bytes."""
    if len(os.fsencode(path)) <= _LONGEST_PATH:
        yield str(path)
        return
    fd = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{path.name}"
    finally:
        os.close(fd)
