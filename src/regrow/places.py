"""Where things are on this machine (design 4.9): the state, the sockets, the log of the daemon."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Places:
    """The directories of one daemon.

    Args:
        state: what must survive a reboot; one daemon writes it.
        runtime: sockets; may be emptied at boot.
        socket: where the daemon's API listens.
        catalogues: the texts of further languages, a file each.
    """

    state: Path
    runtime: Path
    socket: Path
    catalogues: Path = Path("/etc/regrow/catalogues")

    @classmethod
    def of(cls, environment: Mapping[str, str] | None = None, uid: int | None = None) -> Places:
        """The places of a user.

        Args:
            environment: the variables to read; the process's own when not given. REGROW_STATE_DIR, REGROW_RUNTIME_DIR,
                REGROW_SOCKET and REGROW_CATALOGUES win over XDG_STATE_HOME, XDG_RUNTIME_DIR and XDG_CONFIG_HOME, which
                must be absolute to count.
            uid: whose; the process's own when not given. Root without XDG variables is the system service.
        """
        env = os.environ if environment is None else environment
        root = (os.getuid() if uid is None else uid) == 0
        state = _given(env, "REGROW_STATE_DIR") or _xdg(env, "XDG_STATE_HOME")
        if state is None:
            state = Path("/var/lib/regrow") if root else _home(env) / ".local/state/regrow"
        runtime = _given(env, "REGROW_RUNTIME_DIR") or _xdg(env, "XDG_RUNTIME_DIR")
        if runtime is None:
            # Never the temporary directory: anyone could sit on the name of the socket first.
            runtime = Path("/run/regrow") if root else _home(env) / ".local/state/regrow/run"
        catalogues = _given(env, "REGROW_CATALOGUES")
        if catalogues is None:
            settings = _xdg(env, "XDG_CONFIG_HOME")
            if settings is None:
                settings = Path("/etc/regrow") if root else _home(env) / ".config/regrow"
            catalogues = settings / "catalogues"
        return cls(state, runtime, _given(env, "REGROW_SOCKET") or runtime / "daemon.sock", catalogues)

    @property
    def database(self) -> Path:
        """The store of jobs, messages and the audit log."""
        return self.state / "regrow.db"

    @property
    def audit_head(self) -> Path:
        """Where the end of the audit log's chain is kept beside the store."""
        return self.state / "audit.head"

    @property
    def served_by(self) -> Path:
        """Says which database the last daemon used, for those who come while there is none."""
        return self.state / "store"

    @property
    def daemon_log(self) -> Path:
        """Where a daemon started in the background writes."""
        return self.state / "daemon.log"

    @property
    def reports(self) -> Path:
        """Reports of bugs of Regrow itself."""
        return self.state / "reports"

    @property
    def secrets(self) -> Path:
        """Secrets that were typed in when something was set up, a file each."""
        return self.state / "secrets"

    def service(self, name: str) -> Path:
        """The directory of one service: releases, workspaces, snapshots, logs, supervisor.json."""
        return self.state / name


def _given(env: Mapping[str, str], name: str) -> Path | None:
    return Path(env[name]).absolute() if env.get(name) else None


def _xdg(env: Mapping[str, str], name: str) -> Path | None:
    base = Path(env.get(name) or ".")
    return base / "regrow" if base.is_absolute() else None


def _home(env: Mapping[str, str]) -> Path:
    home = Path(env.get("HOME") or ".")
    return home if home.is_absolute() else Path.home()
