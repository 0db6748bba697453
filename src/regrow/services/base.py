"""What runs, starts, switches and stops one service, whichever driver does it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, Protocol

from regrow.errors import CandidateFailed, ServiceError

__all__ = [
    "CandidateFailed",
    "Exchange",
    "Instance",
    "Probe",
    "ReleaseSpec",
    "Restart",
    "Service",
    "ServiceError",
    "ServiceEvent",
    "ServiceStatus",
    "Socket",
]

Json = dict[str, Any]


@dataclass(frozen=True)
class Socket:
    """A listening socket that the supervisor holds.

    Attributes:
        name: as in LISTEN_FDNAMES; no colon.
        address: "127.0.0.1:8700", "[::1]:8700" or "unix:/path".
    """

    name: str
    address: str


@dataclass(frozen=True)
class Probe:
    """A check of a running release.

    Attributes:
        name: unique within the release.
        type: http (status 200 to 399 passes), tcp (a connection is taken), command (exit code 0), log (a line of the
            release's log) or ready (READY=1 was said; WATCHDOG=1 goes on coming if it ever came).
        target: http: a path on the probe socket, or "http://HOST:PORT/path"; tcp: "HOST:PORT"; command: argv;
            log: the regular expression that must appear once. Hosts are numeric or localhost.
        interval_s: seconds between two tries of the active release; ready: between two WATCHDOG=1.
        timeout_s: seconds for one try.
        strikes: failures in a row that count as failed.
        version_json: dotted key of the version in an http probe's JSON answer.
        fail: log: a new line that matches this regular expression is a failure.
        grace_s: seconds after the start in which failures of the proved release do not count (F24).
    """

    name: str
    type: Literal["http", "tcp", "command", "log", "ready"]
    target: str | tuple[str, ...]
    interval_s: float = 2.0
    timeout_s: float = 2.0
    strikes: int = 3
    version_json: str | None = None
    fail: str | None = None
    grace_s: float = 0.0


@dataclass(frozen=True)
class Restart:
    """How a promoted release that dies is started again: after `backoff_s` seconds, doubled up to `backoff_max_s`;
    after `limit` deaths within `window_s` seconds the previous good release takes over, if there is one (F8)."""

    backoff_s: float = 0.5
    backoff_max_s: float = 30.0
    limit: int = 5
    window_s: float = 60.0


@dataclass(frozen=True)
class Exchange:
    """Data that changes hands with the code (F21), at the one moment when nothing of the service runs.

    After the old release has ended and before the new one starts, `files` are kept in `aside`, and replaced by those of
    the same names in `put`. Taken back, what was set aside is put in its place again before the old release starts, and
    what is found then is kept in `aside` + ".left". The driver does both by itself, whether the daemon lives or not.

    Attributes:
        files: the databases, by their real absolute paths.
        aside: a directory beside them that does not exist yet.
        put: a directory with what is to take their place, on the same file system; None leaves them as they are.
    """

    files: tuple[str, ...]
    aside: str
    put: str | None = None


@dataclass(frozen=True)
class ReleaseSpec:
    """Everything needed to start a release, also by the supervisor alone. Times are in seconds.

    Attributes:
        id, digest, commit: names of the release; pins go by digest and commit.
        version: what the process must report if it reports a version.
        env: environment, added to PATH, HOME, locale and time zone; nothing else is inherited.
        secrets: environment name to "env:X", "file:PATH" or "credential:NAME", looked up at each start.
        handover: socket (both take from sockets they share), overlap (each has a connection of its own) or exclusive.
        standby: what the old release does through bake. With overlap, paused means hung up, and running both connected.
        probe_socket: give the process one more listening socket, "probe", for its health path.
        trap_bind: the sockets are not passed; the program binds their addresses itself and gets them in the place of
            its own. With ready probe or started the proof begins when it listens on all of them.
        ready: notify (READY=1), probe (all probes pass) or started (the program runs).
        required: names of the probes that must hold before the release serves and while it is on trial; None: all but
            those that fail on the active release when this one is started, so that a broken service can be repaired
            and no release is less alive than the one it replaces (F23).
        bind_timeout_s: how long a busy address is waited for.
        exchange: data that goes with it; makes a candidate "held", as an exclusive one is, whatever `handover` says.
    """

    id: str
    digest: str
    commit: str
    argv: tuple[str, ...]
    log: str
    version: str | None = None
    cwd: str = "/"
    env: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    sockets: tuple[Socket, ...] = ()
    handover: Literal["socket", "overlap", "exclusive"] = "socket"
    standby: Literal["paused", "running", "none"] = "paused"
    pause_signal: str = "SIGUSR1"
    resume_signal: str = "SIGUSR2"
    probe_socket: bool = False
    trap_bind: bool = False
    ready: Literal["notify", "probe", "started"] = "notify"
    probes: tuple[Probe, ...] = ()
    required: tuple[str, ...] | None = None
    start_timeout_s: float = 30.0
    drain_timeout_s: float = 10.0
    stop_timeout_s: float = 10.0
    stop_signal: str = "SIGTERM"
    log_bytes: int = 10_000_000
    log_keep: int = 3
    restart: Restart = field(default_factory=Restart)
    nice: int = 0
    bind_timeout_s: float = 5.0
    exchange: Exchange | None = None

    def to_json(self) -> Json:
        """The spec as plain JSON types."""
        data = asdict(self)
        data["argv"] = list(self.argv)
        data["env"], data["secrets"] = dict(self.env), dict(self.secrets)
        data["sockets"] = list(data["sockets"])
        data["required"] = None if self.required is None else list(self.required)
        data["probes"] = [
            {**probe, "target": list(probe["target"]) if isinstance(probe["target"], tuple) else probe["target"]}
            for probe in data["probes"]
        ]
        return data

    @classmethod
    def from_json(cls, data: Json) -> ReleaseSpec:
        """The reverse of `to_json`; raises TypeError for unknown keys."""
        probes = (
            {**probe, "target": tuple(probe["target"]) if isinstance(probe["target"], list) else probe["target"]}
            for probe in data.get("probes", ())
        )
        exchange = data.get("exchange")
        return cls(
            **{
                **data,
                "argv": tuple(data["argv"]),
                "required": None if data.get("required") is None else tuple(data["required"]),
                "sockets": tuple(Socket(**entry) for entry in data.get("sockets", ())),
                "probes": tuple(Probe(**probe) for probe in probes),
                "restart": Restart(**data.get("restart", {})),
                "exchange": exchange and Exchange(**exchange | {"files": tuple(exchange["files"])}),
            }
        )


@dataclass(frozen=True)
class Instance:
    """One process of a release.

    Attributes:
        state: held (exclusive, not started yet), starting, proved, active, standby or stopping.
        start_time: clock ticks since boot; with the pid it names the process (F41).
        started_at: Unix seconds.
        version: what the process itself reported; None if it reports none.
        adopted: an earlier supervisor started it.
        said: of a service with an outbound connection its last word: armed, connected, draining or drained.
        probes: by name, {"passed", "strikes", "cause", "failing", "required"}.
        probe_address: "127.0.0.1:PORT" of its own probe socket, where it has one.
        start_left_s: while it starts, the seconds until it must be proved; it may have asked for more (F24).
    """

    token: str
    release: str
    digest: str
    state: str
    pid: int | None
    start_time: int | None
    started_at: float
    ready: bool
    version: str | None
    status: str
    paused: bool
    adopted: bool
    probes: Mapping[str, Json]
    said: str | None = None
    probe_address: str | None = None
    start_left_s: float | None = None

    @classmethod
    def from_json(cls, data: Json) -> Instance:
        """From the supervisor's answer; keys that this version does not know are left out."""
        return cls(**{entry.name: data[entry.name] for entry in fields(cls) if entry.name in data})


@dataclass(frozen=True)
class ServiceStatus:
    """The whole service at one moment.

    Attributes:
        state: running, starting, switching, down or stopped.
        trial: {"token", "release", "bake_s", "confirm_within_s", "switched_at", "remaining_s", ...} between a switch
            and its promote.
        good, previous: {"id", "digest", "commit", "version"} of the last good release and the one before it.
        pins: {"id", "digest", "commit", "reason", "cause", "at"} each.
        seq: number of the last event.
        exchanges: whether data can change hands with the code, see `Exchange`; a supervisor that an older Regrow has
            started cannot do it, and goes on.
    """

    name: str
    state: str
    active: Instance | None
    standby: Instance | None
    candidate: Instance | None
    trial: Json | None
    good: Json | None
    previous: Json | None
    pins: tuple[Json, ...]
    sockets: tuple[Socket, ...]
    seq: int
    supervisor_pid: int | None
    exchanges: bool = False

    @classmethod
    def from_json(cls, data: Json) -> ServiceStatus:
        """From the supervisor's answer to `status`."""
        roles = {role: data[role] and Instance.from_json(data[role]) for role in ("active", "standby", "candidate")}
        return cls(
            name=data["name"],
            state=data["state"],
            **roles,
            trial=data["trial"],
            good=data["good"],
            previous=data["previous"],
            pins=tuple(data["pins"]),
            sockets=tuple(Socket(**entry) for entry in data["sockets"]),
            seq=data["seq"],
            supervisor_pid=data["supervisor"]["pid"],
            exchanges=data.get("exchanges", False),
        )


@dataclass(frozen=True)
class ServiceEvent:
    """Something that happened to the service, numbered upwards by `seq`; `at` is Unix seconds. If the supervisor is
    killed at the wrong moment the same thing may be told twice, under two numbers, and is never left out.

    Names: starting, held, proved, candidate_failed, switched, baked, promoted, fell_back, crashed, start_failed, down,
    up, unhealthy, healthy, standby_died, discarded, ended, stopped, set_aside, bring_back, supervisor_started,
    supervisor_stopping, record_unreadable, log_trouble.
    """

    seq: int
    at: float
    event: str
    data: Mapping[str, Any]

    @classmethod
    def from_json(cls, data: Json) -> ServiceEvent:
        """From one line of the journal."""
        rest = {key: value for key, value in data.items() if key not in ("seq", "at", "event")}
        return cls(data["seq"], data["at"], data["event"], rest)


class Service(Protocol):
    """A driver. Every method may be called again with the same token after a crash of the caller."""

    async def ensure(self) -> None:
        """Make the driver able to work, starting what it needs. Raises ServiceError."""

    async def status(self) -> ServiceStatus:
        """The service now. Raises ServiceError."""

    async def start(
        self, spec: ReleaseSpec, role: Literal["active", "candidate"], token: str, *, force: bool = False
    ) -> Instance:
        """Start a process of a release, or find the one already started with this token, and wait for its proof.

        Args:
            spec: the release.
            role: active only when nothing serves; an exclusive candidate, and one with an exchange, comes back as
                "held", to be started by switch.
            token: names this start; the same token never starts a second copy.
            force: start it although it is pinned.

        Raises:
            CandidateFailed: it died, was late or reported another version; what served before still serves.
            ServiceError: kinds pinned, busy, bad_release, no_trap, timeout, unreachable.
        """

    async def switch(self, token: str, bake_s: float, confirm_within_s: float) -> None:
        """Make a proved candidate active, on trial until `promote`; after `confirm_within_s` seconds it is taken back.

        Raises CandidateFailed (exclusive and overlap: it failed and the last good one is back) and ServiceError.
        """

    async def promote(self, token: str) -> None:
        """Mark the release on trial good and stop the standby.

        Raises ServiceError: kinds not_on_trial, and not_well when a required probe has just failed (ask again, F23).
        """

    async def discard(self, token: str) -> None:
        """End a candidate that was not switched to."""

    async def fall_back(self, reason: str) -> None:
        """Return to the last good release now, and wait until it serves. Raises ServiceError (kind no_fallback)."""

    async def stop(self) -> None:
        """Stop everything, wait for the end, and leave it stopped."""

    async def signal(self, token: str, name: str) -> None:
        """Send a signal by name ("SIGHUP") to one instance. Raises ServiceError (kind unknown_token)."""

    def events(self, after: int) -> AsyncIterator[ServiceEvent]:
        """Events with a higher `seq` than `after`, then new ones as they happen, through restarts of the supervisor."""

    async def close(self, keep_service: bool) -> None:
        """Let go. With keep_service the service and its supervisor go on; without, both end cleanly."""
