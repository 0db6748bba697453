"""Releases as units of systemd: the same instance, but systemd starts it, holds it and says how it ended.

The template unit NAME@TOKEN runs `launcher.py`, which asks here for what to run, gets the sockets, and becomes the
program. systemd has its own deadline, control group and watchdog for it, and starts the supervisor when the unit ends.
"""

import os
import socket
import struct
from collections.abc import Callable
from typing import Any

from . import processes
from .control import Client, Refused
from .instance import Instance, Owner
from .loop import Loop
from .record import boottime

Json = dict[str, Any]
# (exit code 0, what it printed)
Answered = Callable[[bool, str], None]

_CREDENTIALS = struct.Struct("3i")
_ASK_S = 20.0  # systemctl itself; a start is bounded by the unit's TimeoutStartSec
_LOOK_S = 0.01
_LONGEST_LOOK_S = 0.2
_LEAST_PROOF_S = 5.0
_HOW = ("ActiveState", "MainPID", "ExecMainPID", "ExecMainCode", "ExecMainStatus", "Result", "Job")
_RESULTS = {
    "timeout": "not ready in time (no READY=1)",
    "protocol": "it ended before READY=1",
    "watchdog": "it did not say WATCHDOG=1 in time",
    "oom-kill": "killed: out of memory",
}


def unit_of(name: str, token: str) -> str:
    """The unit of one start of a release. Raises Refused for a token that no unit can be named after."""
    if not token or not all(letter.isascii() and (letter.isalnum() or letter in ":-_.") for letter in token):
        raise Refused("bad_request", f"cannot start {token!r}: a unit is named with letters, digits and :-_. only")
    return f"regrow-{name}@{token}.service"


def argv(manager: str, *words: str) -> list[str]:
    """A systemctl command for the "user" or the "system" manager."""
    return ["systemctl", *(["--user"] if manager == "user" else []), "--no-ask-password", *words]


def properties(text: str) -> dict[str, str]:
    """What `systemctl show` printed."""
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def how_it_ended(shown: dict[str, str]) -> str:
    """The end of a unit's main process in the words that a child's end has."""
    result, code, status = shown.get("Result", ""), shown.get("ExecMainCode", ""), shown.get("ExecMainStatus", "0")
    if result in _RESULTS:
        return _RESULTS[result]
    if code == "1":
        return f"exit code {status}"
    if code in ("2", "3") and status.isdigit():
        return processes.signal_words(int(status))
    return f"systemd could not run it ({result or 'no result'})"


class Command:
    """One program inside the loop; `done` gets whether it ended with 0, and its output, once."""

    def __init__(self, loop: Loop, words: list[str], done: Answered) -> None:
        self._loop, self._done = loop, done
        # Memory and not a pipe: what it prints is small, and nothing has to be read while it runs.
        self._output = os.memfd_create("output")
        env = {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}
        self._birth = processes.fork(words, "/", env, [], self._output)
        self._birth.go()
        loop.watch(self._birth.process.pidfd, self._ended)

    def _ended(self) -> None:
        self._loop.unwatch(self._birth.process.pidfd)
        error = self._birth.error()
        os.close(self._birth.errors)
        how = self._birth.process.reap()
        text = os.pread(self._output, 65536, 0).decode("utf-8", "replace")
        os.close(self._output)
        self._done(how == "exit code 0", error[1] if error else text)


class UnitInstance(Instance):
    """One process of a release, in a unit of its own."""

    def __init__(self, owner: Owner, token: str, release: Json, asked: bool) -> None:
        super().__init__(owner, token, release, asked)
        self.unit = unit_of(owner.name, token)
        self._starting = False
        self._noticed: float | None = None

    def _ask(self, *words: str, then: Answered | None = None) -> None:
        try:
            Command(self.owner.loop, argv(self.owner.units, *words), then or (lambda *_: None))
        except OSError as error:
            if then is not None:
                then(False, f"cannot run systemctl: {error}")

    def _open_notify(self) -> None:
        """READY=1 and its companions are systemd's business here."""

    # Start

    def _begin(self) -> None:
        try:
            self.owner.save(must=self.asked)
        except OSError as error:
            self._fail(f"cannot write the record: {error}")
            return
        self._starting = True
        # A unit that failed too often would be refused until it is forgotten (F8).
        self._ask("reset-failed", self.unit, then=lambda *_: self._start())

    def _start(self) -> None:
        self._ask("start", self.unit, then=self._started)

    def launch_asked(self, client: Client, number: Any) -> None:
        """The unit's main process asks what to become: it is written down first, then told."""
        pid = _CREDENTIALS.unpack(client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))[0]
        start = processes.start_time(pid)
        if self.state != "starting" or start is None or not _is_in(pid, self.unit):
            raise Refused("not_starting", f"cannot launch {self.token}: no start of it is under way in {self.unit}")
        if self.process is not None and self.pid != pid:
            raise Refused("not_starting", f"cannot launch {self.token}: process {self.pid} is it already")
        try:
            env, fds = self.hand_over()
        except (OSError, ValueError) as error:
            self._cause = str(error) if str(error).startswith("cannot") else f"cannot start: {error}"
            raise Refused("bad_release", self._cause) from error
        if self.process is None:
            process = processes.adopt(pid, start)
            if process is None:
                raise Refused("not_starting", f"cannot launch {self.token}: it has just died")
            self._attach(process)
        try:
            self.owner.save(must=self.asked)
        except OSError as error:
            self._cause = f"cannot write the record: {error}"
            raise Refused("disk", self._cause) from error
        keys = ("argv", "cwd", "log", "nice", "ready")
        client.send({"id": number, "ok": True, "env": env, **{key: self.spec[key] for key in keys}}, fds)
        if self._probe_socket is not None:
            self._probe_socket.close()  # the service has it; a connection after its death is refused at once
            self._probe_socket = None

    def _started(self, done: bool, said: str) -> None:
        """`systemctl start` has returned: READY, or the end. What it says is believed only with a process (F12)."""
        self._starting = False
        if self.state == "gone" or self._noticed is not None:
            return
        if not done:
            self._cause = self._cause or (None if self.process or "Job for" in said else said.strip()[-300:] or None)
            self._over()
        elif self.process is None:
            self._cause = f"systemctl says that {self.unit} has started, and no process of it came"
            self._over()
        elif self.state == "starting":
            self.ready = self.ready or self.spec["ready"] == "notify"
            left = self.spec["start_timeout_s"] - (boottime() - self.began)
            self._after("start", max(left, _LEAST_PROOF_S), self._late)
            self._prove()

    def _late(self) -> None:
        if not self._starting:  # until READY=1 it is systemd that counts, and a service may ask it for more time
            super()._late()

    def adopt(self) -> bool:
        if not super().adopt():
            return False
        if self.state == "starting" and not self.ready:
            self._starting = True
            self._start()  # of a unit that starts or runs: waits for its READY and changes nothing
        return True

    # The end

    def end(self, timeout: float) -> None:
        if self.process is not None or not (self._starting or self._noticed is not None):
            super().end(timeout)
            return
        self.stop_watching()
        self._cancel("start")
        self.move("stopping")
        self._stop_unit()

    def abort(self, cause: str) -> None:
        super().abort(cause)
        if self._starting:
            self._stop_unit()

    def _stop_unit(self) -> None:
        self._ask("kill", "--signal=SIGKILL", self.unit, then=lambda *_: self._ask("stop", "--no-block", self.unit))

    def _exited(self) -> None:
        self._over()

    def _over(self) -> None:
        """It is dead, or is so now; how it ended systemd knows a moment later."""
        if self.process is not None:
            self.owner.loop.unwatch(self.process.pidfd)
            self.process.reap()
            self.process = None
        if self._noticed is None:
            self._noticed = boottime()
            self.stop_watching()
            self._cancel("start")
            self._look(_LOOK_S)

    def _look(self, pause: float) -> None:
        def seen(done: bool, text: str) -> None:
            shown = properties(text)
            busy = shown.get("ActiveState") not in ("inactive", "failed", None) or shown.get("Job", "") not in ("", "0")
            waited = boottime() - (self._noticed or 0.0)
            if done and busy and waited < _ASK_S:
                self._after("look", pause, lambda: self._look(min(2 * pause, _LONGEST_LOOK_S)))
                return
            ours = self.pid is None or shown.get("ExecMainPID") == str(self.pid)
            how = how_it_ended(shown) if done and ours else "ended"
            self._gone(self._cause or self._explain(how), self._noticed or boottime())

        self._ask("show", "--property=" + ",".join(_HOW), self.unit, then=seen)

    def _gone(self, cause: str, noticed: float) -> None:
        if self.state != "gone":
            self._ask("reset-failed", self.unit)  # a failed unit would be listed for ever
            super()._gone(cause, noticed)


def _is_in(pid: int, unit: str) -> bool:
    """Whether a process is in the control group of a unit."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:  # noqa: PTH123
            return any(line.rstrip("\n").endswith("/" + unit) for line in file)
    except OSError:
        return False


def store(fd: int) -> None:
    """Give a copy of a socket to systemd, which passes it to the next supervisor if this one is killed."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.connect(address.replace("@", "\0", 1))
                socket.send_fds(sender, [b"FDSTORE=1\nFDNAME=listening"], [fd])
            except OSError:
                return


def stored() -> list[int]:
    """The sockets that an earlier supervisor of this unit gave to systemd."""
    if os.environ.pop("LISTEN_PID", "") != str(os.getpid()):
        return []
    return list(range(3, 3 + int(os.environ.pop("LISTEN_FDS", "0"))))


def tell(line: str) -> None:
    """`sd_notify` of the supervisor itself."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            try:
                sender.sendto(line.encode(), address.replace("@", "\0", 1))
            except OSError:
                return
