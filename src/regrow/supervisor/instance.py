"""One process of a release, from its fork to its end: start, READY, proof, probes, stop."""

import contextlib
import errno
import hashlib
import os
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from . import cause, logs, processes, spec
from .health import Health
from .loop import Loop, Timer
from .notify import NotifySocket
from .record import boottime
from .sockets import Sockets

if TYPE_CHECKING:
    from .trap import Trap

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
_AGAIN = "again"  # the cause of an end after which the same start is tried once more
_RETRY_S = 0.05
_TRAP_S = 5.0
_EVIDENCE = 64 * 1024  # of the log's end, in which the cause of a death is looked for
_KEPT = ("token", "spec", "state", "pid", "start_time", "began", "started_at", "notify_path", "probe_address",
         "ready", "version", "status", "said", "log_offset", "paused", "asked", "prove_by")  # fmt: skip
# What a service with an outbound connection says of itself as X_STATE, see handover.py.
HUNG_UP = ("draining", "drained")
WORDS = ("armed", "connected", *HUNG_UP)


class Owner(Protocol):
    """What an instance needs of the supervisor, and whom it tells."""

    loop: Loop
    sockets: Sockets
    logs: logs.Logs
    name: str
    runtime: str
    units: str

    @property
    def instances(self) -> Mapping[str, "Instance"]: ...
    def save(self, must: bool) -> None: ...
    def proved(self, instance: "Instance") -> None: ...
    def ended(self, instance: "Instance", cause: str, tail: str, noticed: float) -> None: ...
    def unhealthy(self, instance: "Instance", probe: str, cause: str) -> bool: ...
    def healthy(self, instance: "Instance", probe: str) -> None: ...
    def heard(self, instance: "Instance") -> None: ...


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
        self.said: str | None = None
        self.log_offset = 0
        self.adopted = False
        self.blameless = False  # its start failed for a fault of the machine
        self.process: processes.Process | None = None
        self.trap: Trap | None = None
        self.after_end: list[Callable[[], None]] = []
        self.health = Health(self)
        self.prove_by = self.began + release["start_timeout_s"]  # boottime; later if the service asks for it
        self._kill_by = 0.0
        self._memory: cause.Memory | None = None
        self._logs = False
        self._cause: str | None = None
        self._birth: processes.Birth | None = None
        self._notify: NotifySocket | None = None
        self._probe_socket: socket.socket | None = None
        self._timers: dict[str, Timer] = {}

    # The record and the answers

    def to_json(self) -> Json:
        return {**{key: getattr(self, key) for key in _KEPT}, "probes": self.health.entries}

    @classmethod
    def from_json(cls, owner: Owner, data: Json) -> "Instance":
        instance = cls(owner, data["token"], spec.check(data["spec"]), data["asked"])
        for key in _KEPT[2:]:  # what an older version did not write keeps its first value
            setattr(instance, key, data.get(key, getattr(instance, key)))
        instance.health.restore(data.get("probes", {}))
        return instance

    def describe(self) -> Json:
        keys = ("token", "state", "pid", "start_time", "started_at", "ready", "version", "status", "said", "adopted",
                "probe_address")  # fmt: skip
        return {
            **{key: getattr(self, key) for key in keys},
            "paused": self.paused and self.pausable,
            "release": self.spec["id"],
            "digest": self.spec["digest"],
            "probes": self.health.describe(),
            "start_left_s": self.prove_by - boottime() if self.state == "starting" else None,
        }

    def move(self, state: str) -> None:
        if state != self.state:
            assert state in TRANSITIONS[self.state], f"{self.token}: {self.state} -> {state}"
            self.state = state

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.alive()

    @property
    def speaks(self) -> bool:
        """Whether it holds a connection and knows the words of handover.py: its first one has shown it."""
        return self.said is not None

    @property
    def pausable(self) -> bool:
        """Whether it knows the pause and resume signals: whoever does not would die of them."""
        return self.speaks or spec.pauses(self.spec)

    # Start

    def launch(self, paused: bool = False) -> None:
        """Start the process; whatever goes wrong arrives later at `owner.ended`."""
        self.state, self.paused, self.began = "starting", paused, boottime()
        self.prove_by = self.began + self.spec["start_timeout_s"]
        self._after("start", self.spec["start_timeout_s"], self._late)
        try:
            self._use_log(fresh=True)
            self.log_offset = logs.size(self.spec["log"])
            self._open_notify()
        except OSError as error:
            self._fail(f"cannot prepare the start: {error}")
            return
        self._spawn()

    def refuse(self, cause: str) -> None:
        """Fail for this cause, which is not its own, instead of being launched."""
        self.state, self.began, self.blameless = "starting", boottime(), True
        self._fail(cause)

    def _alone(self) -> bool:
        return all(other is self or other.process is None for other in self.owner.instances.values())

    def _spawn(self) -> None:
        if self._alone():  # what an earlier release had us listen on, this one may bind itself
            self.owner.sockets.let_go({entry["address"] for entry in self.spec["sockets"]})
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
        self._begin()

    def _begin(self) -> None:
        try:
            birth = self._fork()
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

    def hand_over(self) -> tuple[dict[str, str], list[int]]:
        """The environment of the process, and the sockets that it gets as 3, 4, ... Raises OSError, ValueError."""
        env = spec.environment(self.spec, spec.secrets(self.spec))
        passed = [] if self.spec["trap_bind"] else self.spec["sockets"]
        held = [self.owner.sockets.held[entry["address"]].fileno() for entry in passed]
        names = [entry["name"] for entry in passed]
        if self.spec["probe_socket"]:
            if self._probe_socket is None:
                # Loopback TCP and not a unix socket: any http server can serve it.
                self._probe_socket = socket.create_server(("127.0.0.1", 0))
                self.probe_address = f"127.0.0.1:{self._probe_socket.getsockname()[1]}"
            held, names = [*held, self._probe_socket.fileno()], [*names, "probe"]
        if held:
            env |= {"LISTEN_FDS": str(len(held)), "LISTEN_FDNAMES": ":".join(names)}
        if self.paused:
            env["REGROW_START"] = "paused"
        return env, held

    def _fork(self) -> processes.Birth:
        env, held = self.hand_over()
        env["NOTIFY_SOCKET"] = self.notify_path
        if (beat := spec.watchdog_s(self.spec)) is not None:
            env["WATCHDOG_USEC"] = str(int(beat * 1e6))
        prepare = None
        if self.spec["trap_bind"]:
            from . import trap  # here, so that other services' supervisors are spared its memory

            prepare = trap.install
        log = logs.opened(self.spec["log"])
        nice = int(self.spec["nice"])
        try:
            birth = processes.fork(self.spec["argv"], self.spec["cwd"], env, held, log, nice, prepare)
        finally:
            os.close(log)
        self._birth = birth
        self.ready, self.said = False, None  # what the process before this one said is not this one's word
        self.health.forget()
        self.owner.loop.watch(birth.errors, self._executed)
        self._attach(birth.process)
        if prepare is not None:
            self._take_trap(birth)
        return birth

    def _take_trap(self, birth: processes.Birth) -> None:
        calls = birth.descriptor(_TRAP_S)
        if calls is None:
            error = birth.error()
            self.abort(f"cannot trap its bind: {os.strerror(error[0]) if error else 'its process does not answer'}")
        else:
            self.set_trap(calls)

    def set_trap(self, calls: int) -> None:
        """Answer the calls that this descriptor shows, a new one or one that came through escrow."""
        from .trap import Trap

        def listens() -> None:
            if self.state == "starting" and self.spec["ready"] != "notify":
                self.ready = True
                self._prove()

        held = {entry["address"]: self.owner.sockets.held[entry["address"]] for entry in self.spec["sockets"]}
        self.trap = Trap(self.owner.loop, calls, held, self._alone, listens)
        if self.state != "starting":
            self.trap.silent.clear()

    def _attach(self, process: processes.Process) -> None:
        self.process, self.pid, self.start_time = process, process.pid, process.start
        self._memory = cause.Memory(process.pid)
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
            # With a trap the beginning is not the exec: it is told by `listen`, and a probe asked earlier would be
            # answered by the release that serves.
            if self.spec["ready"] != "notify" and self._cause is None and not self.spec["trap_bind"]:
                self._prove()
        elif error[0] == errno.ETXTBSY and boottime() - self.began < _TEXT_BUSY_S:
            self._cause = _AGAIN
        else:
            self._cause = cause.of_start(*error, self.spec)

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
            self._use_log(fresh=False)
        with contextlib.suppress(OSError):
            self._open_notify()
        if self.state == "starting" and self.spec["trap_bind"]:
            self._after("anew", 0, self._start_again)
        elif self.state == "starting":
            self._after("start", self.prove_by - boottime(), self._late)
            # READY may have been said while nobody listened; the probes can still prove it. They cannot tell whether
            # it said `armed` as well, and whoever is not known to wait for `connect` is never told to.
            others = any(probe["type"] != "ready" for probe in self.spec["probes"])
            probed = others and self.spec["handover"] != "overlap"
            if self.ready or probed:
                self.health.said_ready()
            if self.ready or probed or self.spec["ready"] != "notify":
                self._prove()
        return True

    def _use_log(self, fresh: bool) -> None:
        self.owner.logs.use(self.spec["log"], self.spec["log_bytes"], self.spec["log_keep"], fresh)
        self._logs = True

    def log_moved(self, count: int) -> None:
        """Everything in the log has moved by so many bytes towards its start."""
        self.log_offset = max(self.log_offset - count, 0)
        self.health.log_moved(count)

    # Proof and probes

    def _open_notify(self) -> None:
        self._notify = NotifySocket(self.notify_path)
        self.owner.loop.watch(self._notify.fileno(), self._notified)

    def _notified(self) -> None:
        assert self._notify is not None
        while self.pid is not None and (message := self._notify.receive(self.pid)) is not None:
            self.status = message.get("STATUS", self.status)[: cause.LONGEST]
            self.version = message.get("X_VERSION", self.version)
            extend = message.get("EXTEND_TIMEOUT_USEC", "")
            if extend.isdigit():
                self._extend(int(extend) / 1e6)
            if message.get("STOPPING") == "1":
                self.status = self.status or "stopping"
            if (said := message.get("X_STATE")) in WORDS and self.spec["handover"] == "overlap":
                self._heard(str(said))
            if "WATCHDOG" in message:
                self.health.beat(message["WATCHDOG"])
            if message.get("READY") == "1":
                self.health.said_ready()
                if self.state == "starting" and not self.ready:
                    self.ready = True
                    self._prove()

    def _heard(self, said: str) -> None:
        if said != self.said:
            self.said = said
            self.owner.save(must=False)
        self.owner.heard(self)  # first: the new one's connection waits for this word
        if said == "drained" and "drain" in self._timers:
            self._leave()

    def _extend(self, seconds: float) -> None:
        """The service is at something long, a migration: it gets the time it asks for from now on, and never less
        than it had; to hang after its last word ends as any hanging does (F24)."""
        until = boottime() + seconds
        if self.state == "starting":
            self.prove_by = max(self.prove_by, until)
            self._after("start", self.prove_by - boottime(), self._late)
        elif "drain" in self._timers:
            self._after("drain", seconds, self._leave)
        elif self.state == "stopping":
            self._kill_by = max(self._kill_by, until)
            self._after("kill", self._kill_by - boottime(), self._kill)
        else:
            self.health.calm_until = until

    def _prove(self) -> None:
        """Try every probe until each has passed once; then the instance is proved."""
        self.health.prove()
        self.perhaps_proved()

    def perhaps_proved(self) -> None:
        """Something was proved: perhaps all is."""
        if self.state == "starting" and self.health.proved():
            self._proved()

    def anothers(self, version: str | None) -> bool:
        """Whether an answer came from the other copy: with a trap a probe asks at the address that both share."""
        return bool(self.spec["trap_bind"] and version and self.spec["version"] not in (None, version))

    def _proved(self) -> None:
        wanted = self.spec["version"]
        if wanted and self.version and wanted != self.version:
            self.abort(f"it reports version {self.version}, not {wanted}")  # F12
            return
        self.ready = True
        self._cancel("start")
        if self.pid is not None:
            self._memory = cause.Memory(self.pid)  # it may have been put into a group of its own meanwhile
        self.move("proved")
        self.owner.proved(self)

    def _late(self) -> None:
        unready = self.spec["ready"] == "notify" and not self.ready
        executed = self.process is not None and self._birth is None
        doubts = any(entry["cause"] for entry in self.health.entries.values())
        if self.adopted and self.process is not None and unready and not doubts:
            self._start_again()
            return
        waits = ["no READY"] if unready else self.health.missing()
        if self.trap is not None and self.trap.silent:
            waits = [f"it does not listen on {', '.join(sorted(self.trap.silent))}", *waits]
        if executed and not waits:
            self._proved()  # it lives, and nothing else was required of it
            return
        late = f"not ready in {boottime() - self.began:.1f} s ({'; '.join(waits) or 'not started'})"
        if self.process is None:
            self._fail(late)
        else:
            self.abort(late)

    def _start_again(self) -> None:
        """An adopted one may have said READY while nobody listened, or bound while its trap was gone. That says nothing
        against its release, and it may be serving: it is asked to end, and has one more start."""
        self.adopted, self._cause = False, _AGAIN
        assert self.process is not None
        self.process.send(spec.signal_number(self.spec["stop_signal"]))
        self._after("kill", self.spec["stop_timeout_s"], self._kill)
        self.began = boottime()
        self.prove_by = self.began + self.spec["stop_timeout_s"] + self.spec["start_timeout_s"]
        self._after("start", self.prove_by - self.began, self._late)

    def watch_health(self) -> None:
        self.health.watch()

    def stop_watching(self) -> None:
        self.health.stop()

    # Signals and the end

    def pause(self) -> None:
        if self.process is not None and self.pausable:
            self.paused = True
            self.process.send(spec.signal_number(self.spec["pause_signal"]))

    def resume(self) -> bool:
        """Let it take traffic again; False if it is dead."""
        if self.process is None or not self.process.alive():
            return False
        if self.pausable and not self.process.send(spec.signal_number(self.spec["resume_signal"])):
            return False
        self.paused = False
        return True

    def retire(self) -> None:
        """Have it finish all that it has taken, and end. One that speaks first hangs up and says when it is done; of
        any other the stop signal asks both. Work that is not done in time is cut, and stays claimed on its disk."""
        if not self.speaks or not self.alive:
            self.end(self.spec["drain_timeout_s"] + self.spec["stop_timeout_s"])
            return
        self.stop_watching()
        self._cancel("start")
        self.move("stopping")
        self._after("drain", self.spec["drain_timeout_s"], self._leave)
        if self.said == "drained":
            self._leave()
        else:
            self.pause()

    def _leave(self) -> None:
        self.end(self.spec["stop_timeout_s"])

    def end(self, timeout: float) -> None:
        """Ask it to stop; kill its session after `timeout` seconds."""
        self.stop_watching()
        for name in ("start", "spawn", "drain"):
            self._cancel(name)
        self.move("stopping")
        if self.process is None:
            self._fail("ended before it was started")
            return
        self.process.send(spec.signal_number(self.spec["stop_signal"]))
        self._kill_by = boottime() + timeout
        self._after("kill", timeout, self._kill)

    def abort(self, why: str) -> None:
        """Kill it at once, for this cause."""
        self._cause = why
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
        self._drop_trap()
        if self._cause == _AGAIN:
            self._cause = None
            self._cancel("kill")
            if self.state == "starting":
                self._after("spawn", _RETRY_S, self._spawn)
                return
        self._gone(self._cause or self._explain(how), noticed)

    def _fail(self, why: str) -> None:
        self._after("fail", 0, lambda: self._gone(why, boottime()))

    def lost(self, how: str) -> None:
        """An earlier supervisor's process that is no more."""
        self._gone(self._explain(how), boottime())

    def _gone(self, why: str, noticed: float) -> None:
        self.stop_watching()
        for timer in self._timers.values():
            timer.cancel()
        self._drop_trap()
        if self._notify is not None:
            self.owner.loop.unwatch(self._notify.fileno())
            self._notify.close()
            self._notify = None
        if self._probe_socket is not None:
            self._probe_socket.close()
            self._probe_socket = None
        tail = self.tail()
        if self._logs:
            self.owner.logs.leave(self.spec["log"])
            self._logs = False
        self.owner.ended(self, why, tail, noticed)

    def _drop_trap(self) -> None:
        if self.trap is not None:
            self.trap.close()
            self.trap = None

    def _after(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        self._timers[name] = self.owner.loop.after(seconds, call)

    def _cancel(self, name: str) -> None:
        if name in self._timers:
            self._timers.pop(name).cancel()

    # The log

    def tail(self, size: int = 4096) -> str:
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
        return cause.of_death(how, self.tail(_EVIDENCE), self._memory.evidence() if self._memory else "")
