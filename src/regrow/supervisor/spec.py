"""The release spec: what a client sends with `start`, checked and filled in; and the environment made from it."""

import os
import re
import signal
from typing import Any

from .control import Refused
from .sockets import parse

Json = dict[str, Any]
_DEFAULTS: Json = {
    "digest": "",
    "commit": "",
    "version": None,
    "cwd": "/",
    "env": {},
    "secrets": {},
    "sockets": [],
    "handover": "socket",
    "standby": "paused",
    "pause_signal": "SIGUSR1",
    "resume_signal": "SIGUSR2",
    "probe_socket": False,
    "trap_bind": False,
    "ready": "notify",
    "probes": [],
    "required": None,  # names of the probes that must hold; None: decided at the start
    "start_timeout_s": 30.0,
    "drain_timeout_s": 10.0,
    "stop_timeout_s": 10.0,
    "stop_signal": "SIGTERM",
    "log_bytes": 10_000_000,
    "log_keep": 3,
    "restart": {},
    "nice": 0,
    "bind_timeout_s": 5.0,
    "exchange": None,
}
_RESTART = {"backoff_s": 0.5, "backoff_max_s": 30.0, "limit": 5, "window_s": 60.0}
_PROBE = {"interval_s": 2.0, "timeout_s": 2.0, "strikes": 3, "version_json": None, "fail": None, "grace_s": 0.0}
_CHOICES = {
    "handover": ("socket", "overlap", "exclusive"),
    "standby": ("paused", "running", "none"),
    "ready": ("notify", "probe", "started"),
}
# The supervisor's own environment may hold the daemon's secrets; a service gets only these of it.
_PASSED_ON = (
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR", "XDG_RUNTIME_DIR",
)  # fmt: skip


def check(given: Json) -> Json:
    """Return the spec with every key present. Raises Refused("bad_release")."""
    spec = _DEFAULTS | given
    spec["restart"] = _RESTART | spec["restart"]
    spec["probes"] = [_PROBE | probe for probe in spec["probes"]]
    try:
        _check(spec)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)
        raise Refused("bad_release", f"cannot start release {spec.get('id')}: {what}") from error
    return spec


def _check(spec: Json) -> None:
    if not spec["id"] or not spec["log"]:
        raise ValueError("id and log must not be empty")
    if not spec["argv"] or not all(isinstance(word, str) for word in spec["argv"]):
        raise ValueError("argv must be a list of strings")
    for key, choices in _CHOICES.items():
        if spec[key] not in choices:
            raise ValueError(f"{key} must be one of {', '.join(choices)}")
    for key in ("pause_signal", "resume_signal", "stop_signal"):
        signal_number(spec[key])
    if (exchange := spec["exchange"]) is not None:
        places = [*exchange["files"], exchange["aside"], *filter(None, [exchange["put"]])]
        if not exchange["files"] or not all(os.path.isabs(path) for path in places):  # noqa: PTH117
            raise ValueError("an exchange names files, aside and put by absolute paths")
    for entry in spec["sockets"]:
        parse(entry["address"])
        if not entry["name"] or ":" in entry["name"]:
            raise ValueError("a socket needs a name without a colon")
    # A program removes a unix socket's path before it binds it, and would take ours away.
    if spec["trap_bind"] and (
        spec["handover"] != "socket"
        or not spec["sockets"]
        or any(entry["address"].startswith("unix:") for entry in spec["sockets"])
    ):
        raise ValueError("trap_bind needs handover socket, and sockets with TCP addresses")
    for probe in spec["probes"]:
        _check_probe(probe, spec)


def _check_probe(probe: Json, spec: Json) -> None:
    name, kind, target = probe["name"], probe["type"], probe["target"]
    if float(probe["interval_s"]) <= 0 or float(probe["timeout_s"]) <= 0 or int(probe["strikes"]) < 1:
        raise ValueError(f"probe {name}: interval_s, timeout_s and strikes must be above zero")
    if kind == "command" and isinstance(target, list) and target:
        return
    if kind == "tcp":
        parse(target)
    elif kind == "log":
        for pattern in filter(None, (target, probe["fail"])):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"probe {name}: {pattern!r} is no regular expression: {error}") from error
    elif kind not in {"http", "ready"}:
        raise ValueError(f"probe {name}: type must be http, tcp, command, log or ready, with a target to match")
    elif kind == "http" and target.startswith("http://"):
        host = target[7:].partition("/")[0]
        parse(host if ":" in host.rpartition("]")[2] else f"{host}:80")
    elif kind == "http" and not spec["probe_socket"]:
        raise ValueError(f"probe {name}: a path as target needs probe_socket")


def signal_number(name: str) -> int:
    try:
        return signal.Signals[name].value
    except KeyError:
        raise ValueError(f"there is no signal {name!r}") from None


def secrets(spec: Json) -> dict[str, str]:
    """Look the secrets up, anew at every start; they are never stored. Raises ValueError, OSError."""
    values = {}
    for name, reference in spec["secrets"].items():
        kind, _, where = reference.partition(":")
        if kind == "env" and where in os.environ:
            values[name] = os.environ[where]
            continue
        if kind == "credential" and "CREDENTIALS_DIRECTORY" in os.environ:
            where = os.path.join(os.environ["CREDENTIALS_DIRECTORY"], where)  # noqa: PTH118
        elif kind != "file":
            raise ValueError(f"cannot find secret {name}: {reference} is not there for the supervisor")
        with open(where, encoding="utf-8") as file:  # noqa: PTH123
            values[name] = file.read().rstrip("\n")
    return values


def environment(spec: Json, values: dict[str, str]) -> dict[str, str]:
    inherited: dict[str, str] = {key: os.environ[key] for key in _PASSED_ON if key in os.environ}
    return {**inherited, **spec["env"], **values, "REGROW_RELEASE": spec["id"]}


def required(spec: Json) -> list[str]:
    """Names of the probes that must have passed before the release serves, and that count while it is on trial."""
    names = [probe["name"] for probe in spec["probes"]]
    return names if spec["required"] is None else [name for name in names if name in spec["required"]]


def watchdog_s(spec: Json) -> float | None:
    """How often WATCHDOG=1 is to come from the service, in seconds; None if nobody looks."""
    return next((float(probe["interval_s"]) for probe in spec["probes"] if probe["type"] == "ready"), None)


def pauses(spec: Json) -> bool:
    """Whether both releases take from one socket and either can be told to leave it to the other."""
    return bool(spec["standby"] == "paused" and spec["handover"] == "socket")


def brief(spec: Json | None) -> Json | None:
    """What names a release, for answers and events."""
    return spec and {key: spec[key] for key in ("id", "digest", "commit", "version")}
