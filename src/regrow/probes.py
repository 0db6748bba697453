"""Probes: what the supervisor is told of them, and a failing one turned into a reproduction.

A reproduction starts the program from a commit's own files, inside the box, where the loopback network is private, and
asks the same probe. So a bisection can find the commit since which it fails, without a person writing a command.
"""

from __future__ import annotations

import json
import shlex
import signal
import sys
from collections.abc import Mapping
from importlib import resources
from typing import Any

from regrow.config import Config, ProbeSection
from regrow.services.base import Probe

_START_S = 15.0
_PROBE_SOCKET = "127.0.0.1:47999"  # of the box's own loopback, where nobody else listens
_ASKED = frozenset({"http", "tcp", "command"})
"""What can be asked in a box. A line of the log or a chat is often about somebody outside, who is not there."""
_STANDS_S = 1.0  # what nobody can ask is taken to run when it still does then


def specs(config: Config) -> tuple[Probe, ...]:
    """The probes of a service as its driver takes them; a chat is asked by the daemon, see `canaries`."""
    return tuple(
        Probe(
            name=name,
            type=probe.type,
            target=probe.command or probe.target,
            interval_s=probe.interval,
            timeout_s=probe.timeout,
            strikes=probe.strikes,
            version_json=probe.version or None,
            fail=probe.fail or None,
            grace_s=probe.grace,
        )
        for name, probe in config.probe.items()
        if probe.type != "chat"
    )


def can_be_reproduced(config: Config, name: str) -> bool:
    """Whether `reproduction` can ask this probe: what a process says by itself cannot be asked for."""
    return name in config.probe and config.probe[name].type in _ASKED


def reproduction(config: Config, name: str) -> str:
    """A shell script that fails while the probe `name` fails.

    Args:
        config: the service's configuration.
        name: a probe of it.

    Returns:
        The script; it ends with 0 when the probe passes, 1 when it fails or the program dies, 125 when neither can be
        told (git bisect's "skip").
    """
    probe = config.probe[name]
    if probe.type == "command":
        return shlex.join(config.expand(probe.command))
    trial = {
        "argv": config.expand(config.service.command, release=".", state="/tmp/state"),  # noqa: S108  the box's own
        "listen": {} if config.service.trap_bind else config.service.listen,
        "env": {**config.service.env, "REGROW_STATE": "/tmp/state"},  # noqa: S108
        "probes": [_asked(config, probe, config.service.listen)],
        "ready": "probe",
        "start_s": min(config.service.start_timeout, _START_S),
        "stands_s": 0.0,
        "stop": None,
        "stop_s": 0.0,
    }
    command = shlex.join([sys.executable, "-I", "-", json.dumps(trial)])
    return f"exec {command} <<'END_OF_TRIAL'\n{trial_program()}\nEND_OF_TRIAL\n"


def trial_program() -> str:
    """The text of `probe_trial.py`, for an interpreter in the box."""
    return resources.files("regrow").joinpath("probe_trial.py").read_text("utf-8")


def trial(config: Config, release: str, directory: str, state: str) -> dict[str, Any]:
    """A start of a release as the supervisor would make it, but in the box: without secrets, on other data.

    Args:
        config: the service's configuration.
        release: its id.
        directory: where its files are.
        state: the directory with the data.

    Returns:
        what `probe_trial.py` is told.
    """
    service = config.service
    listen = service.listen | ({"probe": _PROBE_SOCKET} if service.probe_socket else {})
    asked = [_asked(config, probe, listen) for probe in config.probe.values() if probe.type in _ASKED]
    stands = not asked and service.ready != "notify"
    return {
        "argv": config.expand(service.command, release=directory, state=state),
        "listen": listen,
        "env": {"PYTHONDONTWRITEBYTECODE": "1", **service.env, "REGROW_STATE": state, "REGROW_RELEASE": release},
        "probes": asked,
        "ready": service.ready,
        "start_s": service.start_timeout,
        "stands_s": min(_STANDS_S, service.start_timeout / 2) if stands else 0.0,
        "stop": signal.Signals[service.stop_signal].value,
        "stop_s": service.stop_timeout,
    }


def _asked(config: Config, probe: ProbeSection, listen: Mapping[str, str]) -> dict[str, Any]:
    target = config.expand(probe.command) if probe.type == "command" else _reachable(probe, listen)
    return {"type": probe.type, "target": target, "timeout_s": probe.timeout}


def _reachable(probe: ProbeSection, listen: Mapping[str, str]) -> str:
    """The probe's full address; a bare path is asked at the socket for probes, else at the first listening address."""
    if probe.type == "http" and probe.target.startswith("/"):
        address = listen.get("probe") or next(iter(listen.values()), "")
        return f"http://{address}{probe.target}"
    return probe.target
