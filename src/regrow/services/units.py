"""The unit files under which systemd runs Regrow: their names and texts, where they lie, and which of them are there.

    regrow.service                    the daemon
    regrow-NAME.supervisor.service    one a service: the supervisor; its listening sockets are kept by systemd too
    regrow-NAME@.service              with the driver "systemd": one process of a release, named by the start's token

Daemon, supervisor and releases have control groups of their own, so that none is in what another stops (F1).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import regrow.supervisor
from regrow.config import Config
from regrow.places import Places

Manager = Literal["user", "system"]

MARK = "Written by `regrow install`; `regrow uninstall` removes it."
DAEMON = "regrow.service"
_SYSTEM = Path("/etc/systemd/system")
_MARGIN_S = 5.0
_KEPT_SOCKETS = 64


@dataclass(frozen=True)
class Unit:
    """One file that belongs to Regrow.

    Attributes:
        name: of the file.
        text: all of it; its first line is a comment with `MARK`.
    """

    name: str
    text: str

    def agrees(self, text: str) -> bool:
        """Whether an installed text says the same; user and variables are the business of whoever installed it."""
        return _rules(text) == _rules(self.text)


def _rules(text: str) -> list[str]:
    return [line for line in text.splitlines() if not line.startswith(("#", "User=", "Environment="))]


def directory(manager: Manager) -> Path:
    """Where a person's own units lie."""
    if manager == "system":
        return _SYSTEM
    return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd/user"


def manager_argv(manager: Manager, program: str = "systemctl") -> list[str]:
    """The head of a command for one of the two managers."""
    return [program, *(["--user"] if manager == "user" else [])]


def supervisor_name(service: str) -> str:
    """The unit of a service's supervisor. A dot, which no service has in its name, keeps it apart from others."""
    return f"regrow-{service}.supervisor.service"


def releases_name(service: str) -> str:
    """The template unit of a service's releases."""
    return f"regrow-{service}@.service"


def units(configs: Sequence[Config], places: Places, manager: Manager, run_as: str = "") -> list[Unit]:
    """Every unit of one daemon and its services.

    Args:
        configs: of the services.
        places: of the daemon.
        manager: whose units they are.
        run_as: the user, of the system manager only; empty: root.
    """
    made = [_daemon(configs, places, manager, run_as)]
    for config in configs:
        made.append(supervisor(config, places, manager, run_as))
        if config.service.driver == "systemd":
            made.append(releases(config, places, run_as))
    return made


def _daemon(configs: Sequence[Config], places: Places, manager: Manager, run_as: str) -> Unit:
    files = [word for config in configs for word in ("--config", str(config.path))]
    wants = " ".join(supervisor_name(config.service.name) for config in configs)
    text = f"""# {MARK}
[Unit]
Description=Regrow
Wants={wants}
After={wants} network.target
StartLimitIntervalSec=0

[Service]
Type=notify
{_user(run_as)}{_directories(places)}ExecStart={_line([sys.executable, "-P", "-m", "regrow.daemon", *files])}
Environment={_environment(_places(places) | _shell())}
# Not "always": `regrow down` is a clean end and must last. 75 (the disk, a record) is tried again; 5 (another daemon)
# and 78 (the settings) wait for a person.
Restart=on-failure
RestartSec=2
RestartForceExitStatus=75
RestartPreventExitStatus=5 78
WatchdogSec=60
TimeoutStartSec=120
TimeoutStopSec=60
# Whatever else lives in this group, a supervisor above all, outlives the daemon.
KillMode=process

[Install]
WantedBy={_target(manager)}
"""
    return Unit(DAEMON, text)


def supervisor(config: Config, places: Places, manager: Manager, run_as: str = "") -> Unit:
    """The unit of one service's supervisor: started again when it is killed, with the sockets that it held."""
    service = config.service
    words = [
        *(sys.executable, "-I", "-S", program("__main__.py"), "--dir", str(places.service(service.name))),
        *("--socket", str(places.runtime / f"{service.name}.sock"), "--name", service.name, "--in-unit"),
        *(("--units", manager) if service.driver == "systemd" else ()),
    ]
    text = f"""# {MARK}
[Unit]
Description=Supervisor of {service.name}
StartLimitIntervalSec=0

[Service]
Type=notify
{_user(run_as)}{_directories(places)}ExecStart={_line(words)}
Environment={_environment(_shell())}
# 2 to 4: the command, another supervisor, a record of a newer version; trying again does not help.
Restart=on-failure
RestartSec=100ms
RestartPreventExitStatus=2 3 4
FileDescriptorStoreMax={_KEPT_SOCKETS}
TimeoutStopSec={_seconds(service.drain + service.stop_timeout + _MARGIN_S)}
# A service outlives its supervisor, and the next one adopts it.
KillMode=process

[Install]
WantedBy={_target(manager)}
"""
    return Unit(supervisor_name(service.name), text)


def releases(config: Config, places: Places, run_as: str = "") -> Unit:
    """The template unit of one process of a release."""
    service = config.service
    words = [sys.executable, "-I", "-S", program("launcher.py"), str(places.runtime / f"{service.name}.sock")]
    watchdog = f"WatchdogSec={_seconds(service.watchdog)}\n" if service.watchdog else ""
    text = f"""# {MARK}
[Unit]
Description={service.name}, started as %i
# A death is the supervisor's to judge; should it not run, it is started for that.
OnFailure={supervisor_name(service.name)}
# How often a release may die is counted by the supervisor, across releases; a limit here would only latch the way back.
StartLimitIntervalSec=0

[Service]
Type=notify
NotifyAccess=all
{_user(run_as)}ExecStart={_line(words)} %i
Restart=no
TimeoutStartSec={_seconds(service.start_timeout)}
TimeoutStopSec={_seconds(service.drain + service.stop_timeout)}
{watchdog}KillMode=mixed
KillSignal={service.stop_signal}
"""
    return Unit(releases_name(service.name), text)


def _user(run_as: str) -> str:
    return f"User={run_as}\n" if run_as else ""


def _directories(places: Places) -> str:
    """The system's own places are made, and given to the user of the unit, by systemd."""
    if places != Places.of({}, 0):
        return ""
    return (
        "StateDirectory=regrow\nStateDirectoryMode=0700\n"
        "RuntimeDirectory=regrow\nRuntimeDirectoryMode=0700\nRuntimeDirectoryPreserve=yes\n"
    )


def _target(manager: Manager) -> str:
    return "default.target" if manager == "user" else "multi-user.target"


def program(name: str) -> str:
    """The path of a program of the supervisor's, which needs nothing else of Regrow."""
    return str(Path(regrow.supervisor.__file__).with_name(name))


def _places(places: Places) -> dict[str, str]:
    """The places that this command line sees are the daemon's, whatever variables it will have (F16)."""
    named = {"STATE_DIR": places.state, "RUNTIME_DIR": places.runtime, "SOCKET": places.socket}
    return {f"REGROW_{name}": str(path) for name, path in named.items()}


def _shell() -> dict[str, str]:
    """What a service, an agent and a build find in a shell, and would not find under systemd (F16)."""
    return {name: os.environ[name] for name in ("PATH", "LANG", "LC_ALL", "TZ") if os.environ.get(name)}


def _environment(values: Mapping[str, str]) -> str:
    return " ".join(_quoted(f"{name}={value}", dollars=False) for name, value in values.items())


def _seconds(value: float) -> str:
    return f"{value:g}s"


def _line(words: Sequence[str]) -> str:
    return " ".join(_quoted(word, dollars=True) for word in words)


def _quoted(word: str, *, dollars: bool) -> str:
    """A word as systemd reads it: % and, in commands, $ stand for themselves when they are doubled."""
    word = word.replace("%", "%%").replace("$", "$$" if dollars else "$")
    if re.fullmatch(r"[\w@%+=:,./$-]+", word):
        return word
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'


def polkit_rule(configs: Sequence[Config], run_as: str) -> str:
    """What lets a user of the system manager start and end the units of these services, and nothing else."""
    names = "|".join(config.service.name for config in configs)
    return f"""// {MARK}
polkit.addRule(function(action, subject) {{
    var unit = action.lookup("unit"), verb = action.lookup("verb");
    if (action.id == "org.freedesktop.systemd1.manage-units" && subject.user == "{run_as}" &&
        /^regrow-({names})(@[A-Za-z0-9:_.-]+|\\.supervisor)\\.service$/.test(unit) &&
        ["start", "stop", "kill", "reset-failed"].indexOf(verb) >= 0) {{
        return polkit.Result.YES;
    }}
}});
"""


def is_ours(text: str) -> bool:
    """Whether a file was written by `regrow install`."""
    return text.partition("\n")[0].endswith(MARK)


def installed_supervisor(service: str, state: Path) -> Manager | None:
    """Which manager has a unit for the supervisor of this very service.

    Args:
        service: its name.
        state: its directory; a unit of another daemon's service of the same name does not count.
    """
    managers: tuple[Manager, ...] = ("system", "user")
    for manager in managers:
        try:
            text = (directory(manager) / supervisor_name(service)).read_text("utf-8")
        except OSError:
            continue
        if is_ours(text) and f"--dir {_quoted(str(state), dollars=True)} " in text:
            return manager
    return None
