"""One process of a release, from its fork to its end: start, READY, proof, probes, stop."""

import contextlib
import errno
import hashlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from . import probes, processes, spec
from .loop import Loop, Timer
from .notify import NotifySocket
from .record import boottime
from .sockets import Sockets

Json = dict[str, Any]

# What may follow what. A drawing of it is made from this table.
TRANSITIONS = {
    "held": ("starting", "gone"),
    "starting": ("proved", "stopping", "gone"),
    "proved": ("active", "stopping", "gone"),
    "active": ("standby", "stopping", "gone"),
    "standby": ("active", "stopping", "gone"),
    "stopping": ("gone",),
    "gone": (),
}
_TEXT_BUSY_S = 2.0  # a passing "text file busy" is waited for this long (F13)
_RETRY_S = 0.05
_AGAIN = "to be started again"  # no cause of an end: this process ends, its instance does not
_PROOF_RETRY_S = 0.2
_LONGEST_CAUSE = 300
_KEPT = ("token", "spec", "state", "pid", "start_time", "began", "started_at", "notify_path", "probe_address",
         "ready", "version", "status", "log_offset", "paused", "asked")  # fmt: skip


class Owner(Protocol):
    """What an instance needs of the supervisor, and whom it tells."""

    loop: Loop
    sockets: Sockets
    runtime: str

    def save(self, must: bool) -> None: ...
    def proved(self, instance: "Instance") -> None: ...
    def ended(self, instance: "Instance", cause: str, tail: str, noticed: float) -> None: ...
    def unhealthy(self, instance: "Instance", probe: str, cause: str) -> None: ...
    def healthy(self, instance: "Instance", probe: str) -> None: ...


class Instance:
    def __init__(self, owner: Owner, token: str, release: Json, asked: bool) -> None:
        self.owner, self.token, self.spec, self.asked = owner, token, release, asked
        self.state = "starting"
        self.pid: int | None = None
        self.start_time: int | None = None
        self.began = boottime()
        self.started_at = round(time.time(), 3)
        self.notify_path = os.path.join(  # noqa: PTH118
            owner.runtime, "n-" + hashlib.sha256(token.encode()).hexdigest()[:12]
        )
        self.probe_address: str | None = None
        self.ready = False
        self.paused = False
        self.version: str | None = None
        self.status = ""
        self.log_offset = 0
        self.adopted = False
        self.blameless = False  # its start failed for a fault of the machine
        self.process: processes.Process | None = None
        self.after_end: list[Callable[[], None]] = []
        self.health: dict[str, Json] = {
            probe["name"]: {"passed": None, "strikes": 0, "cause": ""} for probe in release["probes"]
        }
        self._cause: str | None = None
        self._birth: processes.Birth | None = None
        self._notify: NotifySocket | None = None
        self._probe_socket: socket.socket | None = None
        self._tries: dict[str, probes.Try] = {}
        self._timers: dict[str, Timer] = {}

    # The record and the answers

    def to_json(self) -> Json:
        return {key: getattr(self, key) for key in _KEPT}

    @classmethod
    def from_json(cls, owner: Owner, data: Json) -> "Instance":
        instance = cls(owner, data["token"], spec.check(data["spec"]), data["asked"])
        for key in _KEPT[2:]:
            setattr(instance, key, data[key])
        return instance

    def describe(self) -> Json:
        keys = ("token", "state", "pid", "start_time", "started_at", "ready", "version", "status", "paused", "adopted")
        return {
            **{key: getattr(self, key) for key in keys},
            "release": self.spec["id"],
            "digest": self.spec["digest"],
            "probes": self.health,
        }

    def move(self, state: str) -> None:
        if state != self.state:
            assert state in TRANSITIONS[self.state], f"{self.token}: {self.state} -> {state}"
            self.state = state

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    # Start

    def launch(self, paused: bool = False) -> None:
        """Start the process; whatever goes wrong arrives later at `owner.ended`."""
        self.state, self.paused, self.began = "starting", paused, boottime()
        self._after("start", self.spec["start_timeout_s"], self._late)
        try:
            self._rotate_log()
            self._open_notify()
        except OSError as error:
            self._fail(f"cannot prepare the start: {error}")
            return
        self._spawn()

    def _spawn(self) -> None:
        try:
            for entry in self.spec["sockets"]:
                address = entry["address"]
                self.owner.sockets.bind(entry["name"], address)
        except OSError as error:
            waited = boottime() - self.began
            if error.errno == errno.EADDRINUSE and waited < self.spec["bind_timeout_s"]:
                self._after("spawn", _RETRY_S, self._spawn)  # a port that stays busy for some seconds (F43)
            else:
                hint = "; end the program that uses it" if error.errno == errno.EADDRINUSE else ""
                self._fail(f"cannot listen on {address}: {os.strerror(error.errno or 0)}{hint}")
            return
        try:
            values = spec.secrets(self.spec)
            birth = self._fork(spec.environment(self.spec, values))
        except (OSError, ValueError) as error:
            self._fail(str(error) if str(error).startswith("cannot") else f"cannot start: {error}")
            return
        try:
            self.owner.save(must=self.asked)  # a fallback starts on a full disk too
        except OSError as error:
            birth.abandon()
            self.blameless = True
            self._cause = f"cannot write the record: {error}"
        else:
            birth.go()

    def _fork(self, env: dict[str, str]) -> processes.Birth:
        held = [self.owner.sockets.held[entry["address"]].fileno() for entry in self.spec["sockets"]]
        names = [entry["name"] for entry in self.spec["sockets"]]
        if self.spec["probe_socket"]:
            if self._probe_socket is None:
                # Loopback TCP and not a unix socket: any http server can serve it.
                self._probe_socket = socket.create_server(("127.0.0.1", 0))
                self.probe_address = f"127.0.0.1:{self._probe_socket.getsockname()[1]}"
            held, names = [*held, self._probe_socket.fileno()], [*names, "probe"]
        if held:
            env |= {"LISTEN_FDS": str(len(held)), "LISTEN_FDNAMES": ":".join(names)}
        env["NOTIFY_SOCKET"] = self.notify_path
        if self.paused:
            env["REGROW_START"] = "paused"
        log = self._open_log()
        try:
            birth = processes.fork(self.spec["argv"], self.spec["cwd"], env, held, log, int(self.spec["nice"]))
        finally:
            os.close(log)
        self._birth = birth
        self.owner.loop.watch(birth.errors, self._executed)
        self._attach(birth.process)
        return birth

    def _attach(self, process: processes.Process) -> None:
        self.process, self.pid, self.start_time = process, process.pid, process.start
        self.owner.loop.watch(process.pidfd, self._exited)

    def _executed(self) -> None:
        """The exec has happened, or its error has come."""
        assert self._birth is not None
        error = self._birth.error()
        self.owner.loop.unwatch(self._birth.errors)
        os.close(self._birth.errors)
        self._birth = None
        if error is None:
            if self._probe_socket is not None and self._cause is None:
                self._probe_socket.close()  # the service has it; a connection after its death is refused at once
                self._probe_socket = None
            if self.spec["ready"] != "notify" and self._cause is None:
                self._prove()
        elif error[0] == errno.ETXTBSY and boottime() - self.began < _TEXT_BUSY_S:
            self._cause = _AGAIN
        else:
            self._cause = error[1]

    def adopt(self) -> bool:
        """Go on with a process that an earlier supervisor started; False if it is gone."""
        if self.pid is None or self.start_time is None:
            return False
        process = processes.adopt(self.pid, self.start_time)
        if process is None:
            return False
        self._attach(process)
        self.adopted = True
        with contextlib.suppress(OSError):
            self._open_notify()
        if self.state == "starting":
            self._after("start", self.spec["start_timeout_s"] - (boottime() - self.began), self._late)
            # READY may have been said while nobody listened; the probes can still prove it.
            if self.ready or self.spec["ready"] != "notify" or self.spec["probes"]:
                self._prove()
        return True

    # Proof and probes

    def _open_notify(self) -> None:
        self._notify = NotifySocket(self.notify_path)
        self.owner.loop.watch(self._notify.fileno(), self._notified)

    def _notified(self) -> None:
        assert self._notify is not None
        while self.pid is not None and (message := self._notify.receive(self.pid)) is not None:
            self.status = message.get("STATUS", self.status)[:_LONGEST_CAUSE]
            self.version = message.get("X_VERSION", self.version)
            extend = message.get("EXTEND_TIMEOUT_USEC", "")
            if extend.isdigit():
                self._extend(int(extend) / 1e6)
            if message.get("STOPPING") == "1":
                self.status = self.status or "stopping"
            if message.get("READY") == "1" and not self.ready and self.state == "starting":
                self.ready = True
                self._prove()

    def _extend(self, seconds: float) -> None:
        if self.state == "starting":
            self._after("start", seconds, self._late)
        elif self.state == "stopping":
            self._after("kill", seconds, self._kill)

    def _prove(self) -> None:
        """Try every probe until each has passed once; then the instance is proved."""
        for probe in self.spec["probes"]:
            if not self.health[probe["name"]]["passed"] and probe["name"] not in self._tries:
                self._try(probe, self._proof_tried)
        self._perhaps_proved()

    def _try(self, probe: Json, then: Callable[[Json, bool, str, str | None], None]) -> None:
        name = probe["name"]

        def done(passed: bool, cause: str, version: str | None) -> None:
            self._tries.pop(name, None)
            self.health[name]["cause"] = "" if passed else cause
            then(probe, passed, cause, version)

        log = self._open_log()
        try:
            env = spec.environment(self.spec, {})
            self._tries[name] = probes.begin(
                self.owner.loop, probe, self.probe_address, self.spec["cwd"], env, log, done
            )
        except OSError as error:
            reason = str(error)
            self._after(f"probe {name}", _PROOF_RETRY_S, lambda: done(False, reason, None))
        finally:
            os.close(log)

    def _proof_tried(self, probe: Json, passed: bool, cause: str, version: str | None) -> None:
        if self.state != "starting":
            return
        self.health[probe["name"]]["passed"] = passed
        self.version = version or self.version
        if passed:
            self._perhaps_proved()
        else:
            retry = min(float(probe["interval_s"]), _PROOF_RETRY_S)
            self._after(f"probe {probe['name']}", retry, lambda: self._try(probe, self._proof_tried))

    def _perhaps_proved(self) -> None:
        if self.state != "starting" or not all(entry["passed"] for entry in self.health.values()):
            return
        wanted = self.spec["version"]
        if wanted and self.version and wanted != self.version:
            self.abort(f"it reports version {self.version}, not {wanted}")  # F12
            return
        self.ready = True
        self._cancel("start")
        self.move("proved")
        self.owner.proved(self)

    def _start_anew(self) -> None:
        self.ready = self.adopted = False
        self.began = boottime()
        self._after("start", self.spec["start_timeout_s"], self._late)
        self.abort(_AGAIN)

    def _late(self) -> None:
        if self.adopted and self.process is not None and not self.ready and not self.spec["probes"]:
            self._start_anew()  # its READY may have come while no supervisor listened, which is not its fault
            return
        waits = [f"probe {name}: {entry['cause']}" for name, entry in self.health.items() if entry["cause"]]
        missing = "READY" if self.spec["ready"] == "notify" and not self.ready else ""
        why = "; ".join(filter(None, [missing and "no READY", *waits])) or "not started"
        cause = f"not ready in {boottime() - self.began:.1f} s ({why})"
        if self.process is None:
            self._fail(cause)
        else:
            self.abort(cause)

    def watch_health(self) -> None:
        """Try every probe at its interval from now on; told are the strikes in a row and the first pass after."""
        for probe in self.spec["probes"]:
            self.health[probe["name"]]["strikes"] = 0
            self._later(probe)

    def stop_watching(self) -> None:
        for probe in self.spec["probes"]:
            self._cancel(f"probe {probe['name']}")
        for attempt in list(self._tries.values()):
            attempt.cancel()
        self._tries.clear()

    def _later(self, probe: Json) -> None:
        interval = float(probe["interval_s"])
        self._after(f"probe {probe['name']}", interval, lambda: self._try(probe, self._health_tried))

    def _health_tried(self, probe: Json, passed: bool, cause: str, version: str | None) -> None:
        if self.state != "active":
            return
        entry = self.health[probe["name"]]
        entry["passed"] = passed
        struck = entry["strikes"]
        entry["strikes"] = 0 if passed else struck + 1
        self._later(probe)
        if not passed and entry["strikes"] == probe["strikes"]:
            self.owner.unhealthy(self, probe["name"], cause)
        elif passed and struck >= probe["strikes"]:
            self.owner.healthy(self, probe["name"])

    # Signals and the end

    def pause(self) -> None:
        if self.process is not None and spec.pauses(self.spec):
            self.paused = True
            self.process.send(spec.signal_number(self.spec["pause_signal"]))

    def resume(self) -> bool:
        """Let it take traffic again; False if it is dead."""
        if self.process is None or not self.process.alive():
            return False
        if spec.pauses(self.spec) and not self.process.send(spec.signal_number(self.spec["resume_signal"])):
            return False
        self.paused = False
        return True

    def end(self, timeout: float) -> None:
        """Ask it to stop; kill its session after `timeout` seconds."""
        self.stop_watching()
        self._cancel("start")
        self._cancel("spawn")
        self.move("stopping")
        if self.process is None:
            self._fail("ended before it was started")
            return
        self.process.send(spec.signal_number(self.spec["stop_signal"]))
        self._after("kill", timeout, self._kill)

    def abort(self, cause: str) -> None:
        """Kill it at once, for this cause."""
        self._cause = cause
        self.stop_watching()
        self._kill()

    def _kill(self) -> None:
        if self.process is not None:
            self.process.kill_session()

    def _exited(self) -> None:
        noticed = boottime()
        assert self.process is not None
        if self._birth is not None:
            self._executed()
        self.owner.loop.unwatch(self.process.pidfd)
        how = self.process.reap()
        self.process = None
        if self._cause == _AGAIN:
            self._cause = None
            if self.state == "starting":
                self._after("spawn", _RETRY_S, self._spawn)
                return
        self._gone(self._cause or self._explain(how), noticed)

    def _fail(self, cause: str) -> None:
        self._after("fail", 0, lambda: self._gone(cause, boottime()))

    def lost(self, cause: str) -> None:
        """An earlier supervisor's process that is no more."""
        self._gone(self._explain(cause), boottime())

    def _gone(self, cause: str, noticed: float) -> None:
        self.stop_watching()
        for timer in self._timers.values():
            timer.cancel()
        if self._notify is not None:
            self.owner.loop.unwatch(self._notify.fileno())
            self._notify.close()
            self._notify = None
        if self._probe_socket is not None:
            self._probe_socket.close()
            self._probe_socket = None
        self.owner.ended(self, cause, self._tail(), noticed)

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = self.owner.loop.after(seconds, call)

    def _cancel(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()

    # The log

    def _open_log(self) -> int:
        return os.open(self.spec["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _rotate_log(self) -> None:
        """By rename, at a start only: a running process writes to its file directly, so that nothing is lost with
        the supervisor, and would follow the old file."""
        log = self.spec["log"]
        os.makedirs(os.path.dirname(log), exist_ok=True)  # noqa: PTH103, PTH120
        self.log_offset = os.stat(log).st_size if os.path.exists(log) else 0  # noqa: PTH110, PTH116
        if self.log_offset > self.spec["log_bytes"]:
            for number in range(int(self.spec["log_keep"]), 0, -1):
                older = f"{log}.{number - 1}" if number > 1 else log
                with contextlib.suppress(FileNotFoundError):
                    os.rename(older, f"{log}.{number}")  # noqa: PTH104
            self.log_offset = 0

    def _tail(self, size: int = 4096) -> str:
        """The end of what this instance wrote, without the values of its secrets."""
        try:
            with open(self.spec["log"], "rb") as file:  # noqa: PTH123
                end = file.seek(0, os.SEEK_END)
                file.seek(max(self.log_offset, end - size) if self.log_offset <= end else 0)
                text = file.read(size).decode("utf-8", "replace")
        except OSError:
            return ""
        with contextlib.suppress(OSError, ValueError):
            for name, value in spec.secrets(self.spec).items():
                text = text.replace(value, f"[{name}]") if value else text
        return text

    def _explain(self, how: str) -> str:
        lines = [line.rstrip() for line in self._tail(8192).splitlines() if line.strip()]
        traces = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent")]
        after = lines[traces[-1] + 1 :] if traces else []
        last = next((line for line in after if not line.startswith(" ")), lines[-1] if lines else "")
        return (f"{how}: {last}" if last else how)[:_LONGEST_CAUSE]
