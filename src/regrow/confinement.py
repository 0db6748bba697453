"""A command from which nothing can be reached that runs the service (F2).

A bot whose model has a shell restarts itself with it sooner or later, and is gone in the middle of the sentence.
Started through here the shell sees no process but its own, no socket and no record of Regrow's, and no manager of
services: what it cannot see it cannot end, whatever the tool is called. Files and network are the bot's as before. That
is no box for hostile code, which has those; it keeps a helpful model from the one thing it must not do, by the kernel
and not by name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from regrow.places import Places

CONFINED = "REGROW_CONFINED"
"""A variable that is set inside, for whoever explains why Regrow cannot be reached."""

_MANAGERS = ("/run/systemd", "/run/dbus", "/var/run/docker.sock", "/run/docker.sock", "/run/containerd", "/run/podman")


def argv(command: Sequence[str], places: Places, environment: Mapping[str, str], bwrap: str = "bwrap") -> list[str]:
    """What to execute instead of `command`.

    Args:
        command: program and arguments; it starts in the directory of now.
        places: Regrow's own; the service's data below them stays visible, and its releases can be read.
        environment: of the caller. `REGROW_STATE` is the service's data, as its supervisor has set it.
        bwrap: the program of bubblewrap.

    Returns:
        The command line.
    """
    words = [bwrap, "--dev-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--remount-ro", "/proc"]
    words += ["--unshare-pid", "--unshare-ipc", "--die-with-parent", "--cap-drop", "ALL", "--setenv", CONFINED, "1"]
    data = Path(environment["REGROW_STATE"]).absolute() if environment.get("REGROW_STATE") else None
    hidden = _hidden(places, data, environment)
    for path in hidden:
        words += ["--tmpfs", str(path)] if path.is_dir() else ["--ro-bind", "/dev/null", str(path)]
    for state in _states(places, data):
        for releases in sorted(state.glob("*/releases")):
            words += ["--ro-bind", str(releases), str(releases)]
    if data is not None and data.is_dir():
        words += ["--bind", str(data), str(data)]
    for path in hidden:
        words += ["--remount-ro", str(path)] if path.is_dir() else []  # nor is another Regrow begun there
    return [*words, "--chdir", str(Path.cwd()), "--", *command]


def _hidden(places: Places, data: Path | None, environment: Mapping[str, str]) -> list[Path]:
    personal = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    managers = [personal / "systemd", personal / "bus", personal / "docker.sock", *map(Path, _MANAGERS)]
    found = [*_states(places, data), places.runtime, places.socket, *managers]
    # A path below one that is hidden already is not there any more to be hidden.
    real = sorted({path.resolve() for path in found if path.exists()})
    return [path for path in real if not any(other in path.parents for other in real)]


def _states(places: Places, data: Path | None) -> list[Path]:
    """The state directories: that of these places, and the one around the data of the service that asks."""
    around = [] if data is None or not (data.parent / "supervisor.json").exists() else [data.parent.parent.resolve()]
    return [path for path in dict.fromkeys([places.state.resolve(), *around]) if path.is_dir()]
