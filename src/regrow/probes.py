"""Probes: what the supervisor is told of them, and a failing one turned into a reproduction.

A reproduction starts the program from a commit's own files, inside the box, where the loopback network is private, and
asks the same probe. So a bisection can find the commit since which it fails, without a person writing a command.
"""

from __future__ import annotations

import json
import shlex
import sys
from importlib import resources

from regrow.config import Config, ProbeSection
from regrow.services.base import Probe

_START_S = 15.0


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
    return name in config.probe and config.probe[name].type in {"http", "tcp", "command"}


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
        "type": probe.type,
        "target": _reachable(config, probe),
        "timeout_s": probe.timeout,
        "start_s": min(config.service.start_timeout, _START_S),
    }
    program = resources.files("regrow").joinpath("probe_trial.py").read_text("utf-8")
    command = shlex.join([sys.executable, "-I", "-", json.dumps(trial)])
    return f"exec {command} <<'END_OF_TRIAL'\n{program}\nEND_OF_TRIAL\n"


def _reachable(config: Config, probe: ProbeSection) -> str:
    """The probe's full address; a bare path is asked at the first listening address."""
    if probe.type == "http" and probe.target.startswith("/"):
        address = next(iter(config.service.listen.values()), "")
        return f"http://{address}{probe.target}"
    return probe.target
