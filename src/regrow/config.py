"""One `regrow.toml` per service, read once from a trusted place and turned into frozen sections.

Every setting stands in `reference.toml` with its default and its reason.
Unknown keys are refused with their path, line and the nearest known key.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
import sys
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from regrow.catalogue import directory, languages
from regrow.errors import ConfigError
from regrow.intents import CHANGES, ROLES, TABLE, Intent
from regrow.permissions import READS, Role
from regrow.quiet import Quiet

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(?:([kMGT])i?)?B?")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST = re.compile(rf"\.?(?:{_LABEL}\.)+(?=[a-z]){_LABEL}")
_CHAT_EVERY_S = 10.0
_UNIT_BYTES = {None: 1, "k": 1024, "M": 1024**2, "G": 1024**3, "T": 1024**4}


def parse_duration(value: object) -> object:
    """Turn "500ms", "30s", "10m", "2h", "1d" (or a number of seconds) into seconds."""
    if isinstance(value, str | bool):  # true would pass as 1 second
        match = _DURATION.fullmatch(str(value).strip())
        if match is None:
            raise ValueError('a duration looks like "500ms", "30s", "10m", "2h" or "1d"')
        return float(match[1]) * _UNIT_S[match[2]]
    return value


def parse_size(value: object) -> object:
    """Turn "512MB", "2 GiB" (powers of 1024) or a number of bytes into bytes."""
    if isinstance(value, str | bool):
        match = _SIZE.fullmatch(str(value).strip())
        if match is None:
            raise ValueError('a size looks like "512MB" or "2GB"')
        return int(float(match[1]) * _UNIT_BYTES[match[2]])
    return value


def check_pattern(value: str) -> str:
    """Refuse what is no regular expression."""
    try:
        re.compile(value)
    except re.error as error:
        raise ValueError(f"a regular expression is needed here: {error}") from error
    return value


def check_host_name(value: str) -> str:
    """Refuse what is no name of a host, or with a dot before it, of all hosts below."""
    if not _HOST.fullmatch(value):
        raise ValueError(
            'a host is named "index.example.org", or ".example.org" for all below it: '
            "at least two labels in lower case, no address, no port, no star"
        )
    return value


def _is_near(address: str) -> bool:
    """Whether a URL leads to this machine or into a private network: what people say is told to nobody else."""
    try:
        parts = urlsplit(address)
        host = parts.hostname or ""
        port_is_given = parts.port != 0
        if parts.scheme not in {"http", "https"} or "@" in parts.netloc or not port_is_given or parts.fragment:
            return False
        if host == "localhost":
            return True
        number = ipaddress.ip_address(host)
    except ValueError:
        return False
    return number.is_loopback or (
        number.is_private and not (number.is_link_local or number.is_unspecified or number.is_reserved)
    )


def _known(what: str, value: str, names: Iterable[str]) -> str:
    """Refuse what is none of `names`, with the nearest of them."""
    names = list(names)
    if value in names:
        return value
    near = difflib.get_close_matches(value, names, n=1, cutoff=0.5)
    hint = f'did you mean "{near[0]}"?' if near else f"there are {', '.join(names)}"
    raise ValueError(f'no {what} is called "{value}"; {hint}')


def check_intent(value: str) -> str:
    """Refuse what nobody can ask for."""
    return _known("intent", value, (*ROLES, *READS))


def check_effect(value: str) -> str:
    """Refuse what nobody can ask for, and what changes nothing."""
    return _known("intent that changes anything", value, (name for name, row in TABLE.items() if row.effect))


def check_change(value: str) -> str:
    """Refuse what does not change the service."""
    return _known("intent that changes the service", value, sorted(CHANGES))


def check_channel(value: str) -> str:
    """Refuse what is no way to talk."""
    return _known("channel", value, ("web", "terminal", *ChannelsSection.model_fields))


def check_chat(value: str) -> str:
    """Refuse what is no chat of a channel; whether anybody ever spoke there is for `regrow doctor` to find."""
    channel, _, chat = value.partition(":")
    check_channel(channel)
    if not re.fullmatch(r"[^\s/]+", chat):
        raise ValueError(f'a chat looks like "{channel}:NAME", or "{channel}:*" for all that are not named')
    if channel == "feishu" and chat != "*" and not re.fullmatch(r"oc_\w+", chat):
        raise ValueError(f'a chat of feishu looks like "feishu:oc_...", not "{value}"')
    return value


Duration = Annotated[float, BeforeValidator(parse_duration), Field(ge=0, allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(parse_size), Field(ge=0)]
Argv = Annotated[tuple[str, ...], Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,30}$")]
SignalName = Annotated[str, Field(pattern=r"^SIG[A-Z0-9]+$")]
Pattern = Annotated[str, AfterValidator(check_pattern)]
HostName = Annotated[str, Field(max_length=253), AfterValidator(check_host_name)]
EnvironmentName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
IntentName = Annotated[str, AfterValidator(check_intent)]
EffectName = Annotated[str, AfterValidator(check_effect)]
ChangeName = Annotated[str, AfterValidator(check_change)]
ChannelName = Annotated[str, AfterValidator(check_channel)]
ChatName = Annotated[str, AfterValidator(check_chat)]
RoleName = Literal["viewer", "operator", "maintainer", "owner"]
SecretName = Annotated[str, Field(pattern=r"^(env:.+|file:.+|credential:.+)$")]


SectionT = TypeVar("SectionT", bound="Section")


class Section(BaseModel):
    """A frozen part of the configuration that refuses keys it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def _near(value: str) -> str:
    """An address of the service, or nothing. Raises ValueError."""
    if value and not _is_near(value):
        raise ValueError(
            'an address looks like "http://127.0.0.1:8700/chat": on this machine or in a private network, '
            "by its number, without a name or password in it"
        )
    return value


class ServiceSection(Section):
    """How the service is started, stopped and handed over."""

    name: Name
    command: Argv
    driver: Literal["embedded", "systemd"] = "embedded"
    scope: Literal["user", "system"] = "user"
    watchdog: Duration = 0.0
    check: tuple[str, ...] = ()
    check_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    handover: Literal["socket", "overlap", "exclusive", "auto"] = "auto"
    standby: Literal["paused", "running", "none"] = "running"
    pause_signal: SignalName = "SIGUSR1"
    resume_signal: SignalName = "SIGUSR2"
    stop_signal: SignalName = "SIGTERM"
    ready: Literal["notify", "probe", "started"] = "probe"
    probe_socket: bool = False
    trap_bind: bool = False
    start_timeout: Duration = 30.0
    drain: Duration = 10.0
    stop_timeout: Duration = 10.0
    idle: str = ""
    idle_within: Duration = 6 * 3600.0
    restart_limit: Annotated[int, Field(ge=0, le=1000)] = 10
    restart_window: Annotated[Duration, Field(gt=0)] = 3600.0
    listen: dict[Name, str] = {}
    env: dict[EnvironmentName, str] = {}
    secrets: dict[EnvironmentName, SecretName] = {}
    log_size: Size = 10 * 1024**2
    log_keep: Annotated[int, Field(ge=0, le=100)] = 5

    @field_validator("listen")
    @classmethod
    def _addresses(cls, value: dict[str, str]) -> dict[str, str]:
        for address in value.values():
            host, colon, port = address.rpartition(":")
            if address.startswith("unix:/"):
                continue
            if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
                raise ValueError(f'an address looks like "127.0.0.1:8700" or "unix:/path", not "{address}"')
        return value

    @field_validator("idle")
    @classmethod
    def _asked_nearby(cls, value: str) -> str:
        return _near(value)

    @model_validator(mode="after")
    def _can_trap(self) -> ServiceSection:
        if self.trap_bind and self.effective_handover != "socket":
            raise ValueError('`trap_bind` needs handover = "socket" and the addresses in [service.listen]')
        if self.trap_bind and self.driver == "systemd":
            raise ValueError(
                '`trap_bind` needs driver = "embedded": a unit of systemd is not started by the supervisor'
            )
        if self.trap_bind and any(address.startswith("unix:") for address in self.listen.values()):
            raise ValueError("`trap_bind` is for HOST:PORT only: a program removes a unix socket before it binds it")
        return self

    @model_validator(mode="after")
    def _can_be_told(self) -> ServiceSection:
        parked = self.effective_handover == "overlap" and self.standby == "paused"
        if parked and self.driver == "systemd":
            raise ValueError(
                '`standby = "paused"` without a socket needs driver = "embedded": '
                "what a unit says of itself is heard by systemd alone"
            )
        if parked and self.ready != "notify":
            raise ValueError(
                '`standby = "paused"` without a socket needs `ready = "notify"`: '
                "who is to be told to connect has to say when it can be told"
            )
        return self

    @property
    def effective_handover(self) -> Literal["socket", "overlap", "exclusive"]:
        """`auto`: a service that is given its sockets hands them over; one without that says it can be paused hangs up
        and connects; of any other only one may run."""
        if self.handover != "auto":
            return self.handover
        if self.listen:
            return "socket"
        return "overlap" if self.standby == "paused" else "exclusive"


class SourceSection(Section):
    """Where the code comes from. Only commits are ever built; the checkout itself is never touched (F17)."""

    repository: str = "."
    branch: str = "main"


class StateSection(Section):
    """The service's own data."""

    directory: str = ""
    sqlite: tuple[str, ...] = ()
    schema_command: tuple[str, ...] = ()
    rehearse: Literal["always", "when_schema_moves", "never"] = "when_schema_moves"


class SnapshotsSection(Section):
    """How often the service's data is copied besides before a change, and how much of that is kept."""

    every: Annotated[Duration, BeforeValidator(lambda value: 0.0 if value == "" else value)] = 6 * 3600.0
    keep: Annotated[int, Field(ge=1)] = 20
    keep_bytes: Size = 5 * 1024**3


class ProbeSection(Section):
    """One check of a running release."""

    type: Literal["http", "tcp", "command", "log", "ready", "chat"] = "http"
    target: str = ""
    command: tuple[str, ...] = ()
    fail: Pattern = ""
    expect: Pattern = ""
    interval: Duration = 1.0
    timeout: Duration = 2.0
    strikes: Annotated[int, Field(ge=1, le=100)] = 3
    grace: Duration = 0.0
    version: str = ""

    @model_validator(mode="after")
    def _has_target(self) -> ProbeSection:
        if self.type == "command" and not self.command:
            raise ValueError("a command probe needs `command`")
        if self.type in {"http", "tcp", "chat"} and not self.target:
            raise ValueError(f"a probe of type {self.type} needs `target`")
        if self.type == "log":
            if not self.target and not self.fail:
                raise ValueError("a probe of type log needs `target` or `fail`")
            check_pattern(self.target)
        if self.interval <= 0 or self.timeout <= 0:
            raise ValueError("`interval` and `timeout` must be more than 0")
        return self

    @property
    def every(self) -> float:
        """Seconds between two tries; a chat may cost money, and is asked less often unless it is set."""
        return _CHAT_EVERY_S if self.type == "chat" and "interval" not in self.model_fields_set else self.interval


class BuildSection(Section):
    """How a commit becomes a release. The command writes everything that belongs to the release into {out}."""

    command: tuple[str, ...] = ()
    timeout: Duration = 900.0
    nice: Annotated[int, Field(ge=0, le=19)] = 19
    cache: bool = True
    egress: tuple[HostName, ...] = ()
    env: dict[EnvironmentName, str] = {}


class TestSection(Section):
    """How a change is tested. Empty: there are no tests, and reports say so."""

    command: tuple[str, ...] = ()
    timeout: Duration = 600.0
    reruns: Annotated[int, Field(ge=0, le=20)] = 3
    nice: Annotated[int, Field(ge=0, le=19)] = 10
    cache: bool = False
    env: dict[EnvironmentName, str] = {}


class RepairSection(Section):
    """Who repairs, what may change, and who says yes."""

    agent: Name = "revert"
    command: tuple[str, ...] = ()
    allowed: tuple[str, ...] = ("src/**",)
    denied: tuple[str, ...] = ()
    ask: tuple[str, ...] = ()
    reproduce: Literal["required", "preferred", "off"] = "preferred"
    tests: Annotated[tuple[str, ...], Field(min_length=1)] = ("tests/**", "test/**", "spec/**", "__tests__/**")
    try_parts: bool = True
    attempts: Annotated[int, Field(ge=1, le=3)] = 1
    attempts_parallel: Annotated[int, Field(ge=1, le=3)] = 1
    attempts_until: Literal["all", "proved"] = "all"
    approve: Literal["always", "risky", "never"] = "always"
    approve_within: Duration = 3 * 86400.0
    four_eyes: bool = False
    risky_lines: Annotated[int, Field(ge=0)] = 50
    risky_files: Annotated[int, Field(ge=0)] = 5
    sensitive: tuple[str, ...] = (
        *("*auth*", "*login*", "*permission*", "*secur*", "*crypt*", "*pay*", "migrations/", "*.sql"),
    )
    land: Literal["merge", "branch", "push"] = "merge"
    remote: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = "origin"
    timeout: Duration = 900.0
    max_files: Annotated[int, Field(ge=1)] = 20
    max_lines: Annotated[int, Field(ge=1)] = 1000
    max_file_size: Size = 256 * 1024

    @model_validator(mode="after")
    def _has_command(self) -> RepairSection:
        if self.agent == "command" and not self.command:
            raise ValueError("the agent `command` needs `command`")
        return self

    @model_validator(mode="after")
    def _asks_somebody(self) -> RepairSection:
        if self.four_eyes and self.approve == "never":
            raise ValueError('`four_eyes` says who may approve: it needs `approve = "always"` or `"risky"`')
        return self


class AgentSection(Section):
    """A coding agent under a name of one's own, by which people ask for it."""

    driver: Literal["claude", "acp", "command"]
    command: tuple[str, ...] = ()
    model: str = ""
    max_turns: Annotated[int, Field(ge=1)] = 100
    relay: bool = False
    readable: tuple[str, ...] = ()
    env: dict[EnvironmentName, str] = {}

    @model_validator(mode="after")
    def _has_command(self) -> AgentSection:
        if self.driver != "claude" and not self.command:
            raise ValueError(f"an agent with the driver `{self.driver}` needs `command`")
        if self.driver == "claude" and len(self.command) > 1:
            raise ValueError("the driver `claude` takes the program alone in `command`: its arguments are Regrow's")
        return self


class SandboxSection(Section):
    """The box in which agents, tests and builds run."""

    driver: Literal["bubblewrap", "unconfined"] = "bubblewrap"
    readable: tuple[str, ...] = ()
    own_user: bool = True
    memory: Size = 4 * 1024**3
    cpus: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    file_size: Size = 1024**3
    temporary: Annotated[Size, Field(ge=1024**2)] = 512 * 1024**2
    processes: Annotated[int, Field(ge=0)] = 512


class PriceSection(Section):
    """What a million tokens of a model cost, in `[model] currency`; what is not set costs as `input`."""

    input: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    output: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    cache_read: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cache_write: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    cache_write_hour: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None


class ModelSection(Section):
    """The model that coding agents use, and how much of it a job may use."""

    kind: Literal["anthropic", "openai"]
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    key: SecretName | Literal[""] = ""
    base_url: str = ""
    proxy: str = ""
    prices: dict[str, PriceSection] = {}
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")] = "USD"
    budget: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 5.0
    budget_tokens: Annotated[int, Field(ge=0)] = 0
    budget_requests: Annotated[int, Field(ge=0)] = 300
    per_minute: Annotated[int, Field(ge=0)] = 60
    secrets: Literal["refuse", "redact"] = "refuse"
    silence: Annotated[Duration, Field(gt=0)] = 300.0
    timeout: Annotated[Duration, Field(gt=0)] = 1800.0

    @field_validator("base_url")
    @classmethod
    def _keeps_the_key(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/@\s?#]+(/[^\s?#]*)?", value):
            raise ValueError('an address looks like "https://host/v1", without a name or password in it')
        if value.startswith("http://") and not _is_near(value):
            raise ValueError("what is said to a model, and its key, leave this machine by https only")
        return value.rstrip("/")

    @field_validator("proxy")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/@\s]+/?", value):
            raise ValueError('an address looks like "http://host:port", without a name or password in it')
        return value.rstrip("/")

    @model_validator(mode="after")
    def _can_count_money(self) -> ModelSection:
        if unknown := [name for name in self.prices if name not in self.models]:
            raise ValueError(f"a price is for a model that is not in `models`: {unknown[0]}")
        if self.budget and (without := [name for name in self.models if name not in self.prices]):
            raise ValueError(
                f'a `budget` in money needs `[model.prices."{without[0]}"]`; with `budget = 0` money is not counted '
                "and `budget_tokens` and `budget_requests` are what ends a job"
            )
        return self


class SwitchSection(Section):
    """How long a new release is on trial."""

    bake: Duration = 30.0
    restart_bake: Duration = 2.0
    promote_within: Duration = 120.0
    confirm_within: Duration = 0.0
    crash_backoff: Duration = 0.5
    crash_backoff_max: Duration = 30.0
    crash_limit: Annotated[int, Field(ge=1)] = 3
    crash_window: Duration = 300.0

    @model_validator(mode="after")
    def _asks_after_bake(self) -> SwitchSection:
        if self.confirm_within and self.confirm_within < self.bake:
            raise ValueError("`confirm_within` is counted from the switch: it cannot be shorter than `bake`")
        return self


class ConfigSection(Section):
    """The service's own files of settings, which are changed by saying so, and looked after when versions change."""

    files: tuple[str, ...] = ()

    @field_validator("files")
    @classmethod
    def _can_be_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if not re.search(r"(?:\.toml|\.json|(?:^|/)\.env(?:\.[\w-]+)?|\.env)$", name) or ":" in name:
                raise ValueError(
                    f'"{name}" is not a .toml, .json or .env file: only those can be changed value by value'
                )
            if name.rpartition("/")[2] == "regrow.toml":
                raise ValueError("regrow.toml is Regrow's own and need not be named")
        if len({name.rpartition("/")[2] for name in value}) < len(value):
            raise ValueError("two files of one name could not be told apart")
        return value


class IncidentsSection(Section):
    """What counts as an error in the service's log, when there are suddenly more of them, and who is asked about it."""

    patterns: tuple[Pattern, ...] = ()
    window: Annotated[Duration, Field(ge=1)] = 300.0
    baseline: Annotated[Duration, Field(ge=1)] = 3600.0
    least: Annotated[int, Field(ge=1)] = 5
    factor: Annotated[float, Field(ge=1, allow_inf_nan=False)] = 3.0
    settle: Duration = 20.0
    ignore: Annotated[Duration, Field(gt=0)] = 7 * 86400.0
    again: Duration = 86400.0

    @model_validator(mode="after")
    def _has_a_time_before(self) -> IncidentsSection:
        if self.baseline < self.window:
            raise ValueError("`baseline` is the time before `window`, and cannot be shorter")
        return self


class HealSection(Section):
    """Whether Regrow asks for a repair by itself, and how much of that a day."""

    auto: Literal["off", "propose", "repair"] = "propose"
    jobs_a_day: Annotated[int, Field(ge=1, le=100)] = 3
    budget_a_day: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 10.0
    cool_down: Duration = 3600.0


class RetentionSection(Section):
    """How much of the past is kept; what runs, and the last two good releases, always are."""

    releases: Annotated[int, Field(ge=2)] = 10
    job_logs: Annotated[int, Field(ge=1)] = 200


class ChatSection(Section):
    """How Regrow takes part in a conversation."""

    fresh: Duration = 60.0
    heartbeat: Duration = 20.0
    forward: str = ""
    forward_within: Duration = 600.0
    forward_timeout: Annotated[Duration, Field(gt=0)] = 30.0
    outbox: str = ""
    outbox_every: Annotated[Duration, Field(gt=0)] = 5.0
    interpret: bool = False
    interpret_requests: Annotated[int, Field(ge=1)] = 200
    interpret_budget: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.5

    @field_validator("forward", "outbox")
    @classmethod
    def _nearby(cls, value: str) -> str:
        return _near(value)

    @model_validator(mode="after")
    def _knows_chats(self) -> ChatSection:
        if self.outbox and not self.forward:
            raise ValueError("`outbox` needs `forward`: a service speaks only where it was spoken to")
        return self


class DaemonSection(Section):
    """The daemon itself; in one of several configuration files at the most."""

    console: str = "127.0.0.1:8710"
    console_url: str = ""
    language: str = "zh"
    host: Name = "local"
    notices: tuple[Annotated[str, Field(pattern=r"^[a-z]+:\S+$")], ...] = ()
    notice_window: Duration = 3600.0
    store: str = ""
    backup_every: Duration = 6 * 3600.0
    backup_keep: Annotated[int, Field(ge=1, le=1000)] = 7
    traces: str = ""

    @field_validator("traces")
    @classmethod
    def _a_collector(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/@\s?#]+/[^\s?#]+", value):
            raise ValueError(
                'a collector looks like "http://127.0.0.1:4318/v1/traces", without a name or password in it'
            )
        return value

    @field_validator("language")
    @classmethod
    def _spoken(cls, value: str) -> str:
        if value not in (spoken := languages()):
            raise ValueError(f'{", ".join(spoken)} are spoken; "{value}" needs a file {directory() / value}.toml')
        return value

    @field_validator("store")
    @classmethod
    def _named_or_without_password(cls, value: str) -> str:
        if value and not re.fullmatch(r"(env|file|credential):.+", value):
            parts = urlsplit(value)
            if parts.scheme != "postgresql" or not parts.path.strip("/"):
                raise ValueError('a store is "", the name of a secret, or looks like "postgresql://user@host/database"')
            if parts.password is not None or "password" in parts.query:
                raise ValueError("a password is never written here: put the whole URL in a secret and name that")
        return value

    @field_validator("console_url")
    @classmethod
    def _can_be_linked(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/@\s?#]+(/[^\s?#]*)?", value):
            raise ValueError('an address looks like "https://regrow.example.org", without a name or password in it')
        return value.rstrip("/")

    @field_validator("console")
    @classmethod
    def _loopback(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if host not in {"127.0.0.1", "localhost", "[::1]"} or not port.isdigit() or int(port) > 65535:
            raise ValueError('the console listens on loopback only, e.g. "127.0.0.1:8710"')
        return value


class PersonSection(Section):
    """Somebody who may ask for things; everyone who is not listed is a stranger (F37)."""

    id: Name
    name: str
    role: RoleName
    open_id: str = ""
    union_id: str = ""

    @model_validator(mode="after")
    def _has_identity(self) -> PersonSection:
        if not self.open_id and not self.union_id:
            raise ValueError("a person needs `open_id` or `union_id`")
        return self


class FeishuSection(Section):
    """The app on Feishu or Lark through which people talk to Regrow."""

    app_id: Annotated[str, Field(pattern=r"^cli_[A-Za-z0-9_]+$")]
    app_secret: SecretName
    domain: Literal["feishu", "lark"] = "feishu"
    listen: bool = True
    base_url: str = ""
    proxy: str = ""
    people: tuple[PersonSection, ...] = ()

    @field_validator("base_url", "proxy")
    @classmethod
    def _address(cls, value: str) -> str:
        if value and not re.fullmatch(r"https?://[^/@\s]+(/[^\s]*)?", value):
            raise ValueError('an address looks like "https://host:port", without a name or password in it')
        return value.rstrip("/")


class ProgramSection(Section):
    """What a program may ask for, and where its jobs may be told of."""

    role: Literal["viewer", "operator", "maintainer"] = "operator"
    notify: tuple[Annotated[str, Field(pattern=r"^[a-z]+:\S+$")], ...] = ()

    def may_notify(self, channel: str, chat: str) -> bool:
        """Whether a job may be told of in a chat; "feishu:*" names all chats of a channel, threads included."""
        room = chat.partition("/")[0]
        return any(allowed in {f"{channel}:{chat}", f"{channel}:{room}", f"{channel}:*"} for allowed in self.notify)

    @property
    def default(self) -> str:
        """The chat that is told where none is named: the first that is written out; "" when there is none."""
        return next((chat for chat in self.notify if not chat.endswith(":*")), "")


class McpSection(ProgramSection):
    """The program, such as the service itself, that asks by `regrow mcp`; in one of several files at the most."""

    token: SecretName | Literal[""] = ""


class TokenSection(ProgramSection):
    """A program that asks over the console's port by a token of its own."""

    role: Literal["viewer", "operator", "maintainer"] = "viewer"
    token: SecretName


class ChannelsSection(Section):
    """Ways to talk besides the page and the terminal; in one of several configuration files at the most."""

    feishu: FeishuSection | None = None


class PlaceSection(Section):
    """What a channel or a chat asks for beyond the table: more, and never less."""

    most: RoleName = "owner"
    read_only: bool = False
    roles: dict[IntentName, RoleName | Literal["nobody"]] = {}
    confirm: tuple[EffectName, ...] = ()


class PermissionsSection(Section):
    """Who may ask for what and where, and how often; in one of several configuration files at the most."""

    roles: dict[IntentName, RoleName | Literal["nobody"]] = {}
    confirm: tuple[EffectName, ...] = (Intent.undo.value, Intent.configure.value)
    ask_when_busy: tuple[ChangeName, ...] = (Intent.deploy.value, Intent.undo.value)
    per_minute: Annotated[int, Field(ge=0)] = 30
    jobs_per_hour: Annotated[int, Field(ge=0)] = 30
    channels: dict[ChannelName, PlaceSection] = {}
    chats: dict[ChatName, PlaceSection] = {}

    @model_validator(mode="after")
    def _keeps_the_door(self) -> PermissionsSection:
        for name in (Intent.admit, Intent.dismiss, Intent.remove):
            if self.roles.get(name, "nobody") not in {"nobody", "owner"}:
                raise ValueError(f"`roles.{name}` stays with owners: who lets people in could give themselves any role")
        return self

    @model_validator(mode="after")
    def _only_narrows(self) -> PermissionsSection:
        for kind, places in (("channels", self.channels), ("chats", self.chats)):
            for where, place in places.items():
                for name, role in place.roles.items():
                    base = self.roles.get(name) or {**ROLES, **READS}[name].name
                    if role != "nobody" and base != "nobody" and Role[role] < Role[base]:
                        raise ValueError(
                            f'`{kind}."{where}".roles.{name} = "{role}"` would ask for less than the table, which says '
                            f"{base}: a place asks for more or not at all"
                        )
        return self


class QuietSection(Section):
    """The hours in which nothing that can wait changes the service."""

    hours: tuple[str, ...] = ()
    zone: str = ""
    ask: bool = True
    notices: Literal["send", "hold"] = "send"

    @model_validator(mode="after")
    def _can_be_read(self) -> QuietSection:
        try:
            Quiet(self.hours, self.zone)
        except (KeyError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
            raise ValueError(f'`zone = "{self.zone}"` is not known here: it looks like "Asia/Shanghai"') from error
        return self


class Config(Section):
    """All of one `regrow.toml`."""

    service: ServiceSection
    source: SourceSection = SourceSection()
    state: StateSection = StateSection()
    snapshots: SnapshotsSection = SnapshotsSection()
    probe: dict[Name, ProbeSection] = {}
    build: BuildSection = BuildSection()
    test: TestSection = TestSection()
    repair: RepairSection = RepairSection()
    agent: dict[Name, AgentSection] = {}
    sandbox: SandboxSection = SandboxSection()
    model: ModelSection | None = None
    switch: SwitchSection = SwitchSection()
    config: ConfigSection = ConfigSection()
    incidents: IncidentsSection = IncidentsSection()
    heal: HealSection = HealSection()
    retention: RetentionSection = RetentionSection()
    chat: ChatSection = ChatSection()
    quiet: QuietSection = QuietSection()
    channels: ChannelsSection | None = None
    permissions: PermissionsSection | None = None
    mcp: McpSection | None = None
    token: dict[Name, TokenSection] = {}
    daemon: DaemonSection | None = None
    path: Path = Path()

    @model_validator(mode="after")
    def _probes_can_be_asked(self) -> Config:
        kinds = [probe.type for probe in self.probe.values()]
        if "chat" in kinds and not self.chat.forward:
            raise ValueError("a probe of type chat needs `[chat] forward`")
        if kinds.count("ready") > 1:
            raise ValueError("one probe of type ready is enough: a service has one watchdog")
        return self

    @model_validator(mode="after")
    def _has_a_model_to_ask(self) -> Config:
        if self.chat.interpret and self.model is None:
            raise ValueError("`[chat] interpret` needs a `[model]` to ask")
        return self

    @model_validator(mode="after")
    def _agent_is_known(self) -> Config:
        if taken := {"revert", "command"} & set(self.agent):
            raise ValueError(f"`[agent.{min(taken)}]` is taken: call it by another name")
        if self.repair.agent not in {"revert", "command", *self.agents}:
            names = ", ".join(("revert", "command", *self.agents))
            raise ValueError(f'`[repair] agent = "{self.repair.agent}"` is not known: it is one of {names}')
        return self

    @property
    def agents(self) -> dict[str, AgentSection]:
        """The coding agents by name; `claude` needs no section."""
        return {"claude": AgentSection(driver="claude"), **self.agent}

    @property
    def repository(self) -> Path:
        """The repository's path; a relative one is relative to the configuration file."""
        return (self.path.parent / self.source.repository).resolve()

    def expand(self, words: tuple[str, ...], **places: str) -> list[str]:
        """Put paths in the place of `{python}`, `{out}` and the like.

        Args:
            words: argv as written in the configuration.
            places: what else may be named, by name.

        Raises:
            ConfigError: a word names a place that does not exist here.
        """
        known = {"python": sys.executable, **places}

        def one(word: str) -> str:
            def put(match: re.Match[str]) -> str:
                if match[1] not in known:
                    names = ", ".join(f"{{{name}}}" for name in sorted(known))
                    raise ConfigError(f"cannot use {match[0]}: it stands for nothing here; known are {names}")
                return known[match[1]]

            return re.sub(r"\{([a-z_]+)\}", put, word)

        return [one(word) for word in words]

    def readable(self) -> tuple[Path, ...]:
        """Directories the box may read: `{python}` stands for the interpreter's own prefixes.

        The system's Python has the prefix /usr, which every box shows anyway and no setting may name.
        """
        found: dict[Path, None] = {}
        for entry in self.sandbox.readable:
            if entry == "{python}":
                found |= {Path(prefix): None for prefix in (sys.prefix, sys.base_prefix) if prefix != "/usr"}
            else:
                found[(self.path.parent / entry).resolve()] = None
        return tuple(found)


def load(path: Path) -> Config:
    """Read and check one configuration file.

    Raises:
        ConfigError: with the file, the key's path, its line, and the nearest known key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"cannot read {path}: it does not exist; name the file with --config") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    return parse(path, text)


def parse(path: Path, text: str) -> Config:
    """Check `text` as the content of the configuration file `path`, whatever is in that file.

    Raises:
        ConfigError: as `load`.
    """
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"cannot read {path}: {error}") from error
    if "path" in values:  # a field of ours, by which relative paths are found; not a setting
        raise ConfigError(f'cannot use {path}:{line_of(text, ["path"])}: unknown setting "path"; remove it')
    try:
        config = Config.model_validate({**values, "path": path.resolve()})
    except ValidationError as error:
        raise ConfigError(_explain(path, text, error)) from error
    _check_places(config, text)
    return config


# What a command may name beside {python}.
_PLACES = {
    ("service", "command"): ("release", "state"),
    ("service", "check"): ("release", "state"),
    ("state", "schema_command"): ("state",),
    ("build", "command"): ("out", "cache"),
    ("test", "command"): ("cache",),
    ("repair", "command"): (),
    ("config", "files"): ("state",),
}


def only(name: str, sections: Iterable[SectionT | None]) -> SectionT | None:
    """The one section of a name in all configuration files of a daemon; None when no file has it.

    Raises:
        ConfigError: there are two.
    """
    given = [section for section in sections if section is not None]
    if len(given) > 1:
        raise ConfigError(f"cannot use two [{name}] sections; keep the one of a single configuration file")
    return given[0] if given else None


def _check_places(config: Config, text: str) -> None:
    """A misspelt {out} is found when the configuration is read, and not in the middle of a job."""
    for (section, name), names in _PLACES.items():
        try:
            config.expand(getattr(getattr(config, section), name), **dict.fromkeys(names, ""))
        except ConfigError as error:
            where = f"{config.path}:{line_of(text, [section, name])}"
            said = str(error).removeprefix("cannot use ")
            raise ConfigError(f'cannot use {where}: "{section}.{name}": {said}') from None


def _explain(path: Path, text: str, error: ValidationError) -> str:
    """The first mistake in one line: where, what, and what was probably meant."""
    # Unknown keys first: a misspelt key also makes its right spelling "missing".
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")
    keys = [str(part) for part in first["loc"] if part != "[key]"]  # of a table whose keys are checked
    line = line_of(text, keys)
    where = f"{path}:{line}" if line else str(path)
    name = ".".join(keys)
    if first["type"] == "extra_forbidden":
        near = _nearest(keys)
        hint = f'; did you mean "{near}"?' if near else "; remove it"
        return f'cannot use {where}: unknown setting "{name}"{hint}'
    if first["type"] == "missing":
        return f'cannot use {where}: the setting "{name}" is missing; add it'
    reason = first["msg"].removeprefix("Value error, ")
    of = f'"{name}": ' if name else ""  # of no one setting, but of how two go together
    return f"cannot use {where}: {of}{reason[0].lower() + reason[1:]}"


def _nearest(keys: list[str]) -> str:
    """The known key most like the last of `keys`, beside it."""
    model: Any = Config
    for key in keys[:-1]:
        known = getattr(model, "model_fields", {}).get(key)
        if known is None:
            continue  # the name of one of several sections, as in `probe.health`
        model = next((t for t in _models(known.annotation)), None)
    names = [name for name in getattr(model, "model_fields", {}) if name != "path"]
    return next(iter(difflib.get_close_matches(keys[-1], names, n=1, cutoff=0.5)), "")


def _models(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for part in getattr(annotation, "__args__", ()) for model in _models(part)]


def line_of(text: str, keys: list[str]) -> int:
    """The line on which the setting `keys` stands, 1-based; 0 when it is not written out."""
    table: list[str] = []
    best = 0
    for number, line in enumerate(text.split("\n"), 1):  # TOML knows fewer line ends than `splitlines`
        stripped = line.strip()
        if header := re.match(r"\[+\s*([^\]]+?)\s*\]+", stripped):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            if table == keys[: len(table)]:
                best = number
        elif found := re.match(r"""["']?([A-Za-z0-9_.-]+)["']?\s*=""", stripped):
            full = [*table, *found[1].split(".")]
            if full == keys[: len(full)] and len(full) > len(table) and full[: len(table)] == table:
                return number
    return best
