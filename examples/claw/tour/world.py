"""A place of its own for Regrow and Claw: the code, its repository, the settings, and where the state goes."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from regrow.config import DaemonSection, load
from regrow.errors import RegrowError

HERE = Path(__file__).resolve().parent
CLAW = HERE.parent
REGROW = Path(sys.executable).parent / "regrow"
BRANCH = "main"
NEW_COMMITS = 3
"""How many of the last commits the service does not have yet; the first of them brings the bug."""
TIMEOUT_S = 60.0


@dataclass(frozen=True)
class World:
    """One directory that holds everything.

    Attributes:
        directory: `claw/` is a person's clone, `claw.git/` the service's repository, `regrow.toml` the settings;
            `state/` and `run/` are Regrow's.
    """

    directory: Path

    @property
    def clone(self) -> Path:
        """Where a person works and pushes from."""
        return self.directory / "claw"

    @property
    def repository(self) -> Path:
        """What the service is built from."""
        return self.directory / "claw.git"

    @property
    def config(self) -> Path:
        """The settings."""
        return self.directory / "regrow.toml"

    @property
    def state(self) -> Path:
        """Regrow's state."""
        return self.directory / "state"

    @property
    def socket(self) -> Path:
        """Where the daemon listens."""
        return self.directory / "run" / "daemon.sock"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which `regrow` finds this world."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "GIT_"))}
        return kept | {
            "REGROW_STATE_DIR": str(self.state),
            "REGROW_RUNTIME_DIR": str(self.socket.parent),
            "GIT_TERMINAL_PROMPT": "0",
        }

    def prepare(self) -> bool:
        """Make what is not there yet; True when the service's code was made just now."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            text = (CLAW / "regrow.toml").read_text(encoding="utf-8")
            self.config.write_text(f'{text}\n[daemon]\nconsole = "127.0.0.1:8710"\n', encoding="utf-8")
        if self.repository.exists() and self.clone.exists():
            return False
        # The repository comes last and by a rename: one that is there is whole.
        making = self.directory / "making"
        for path in (self.clone, self.repository, making):
            _remove(path)
        _run([sys.executable, str(CLAW / "history.py"), str(self.clone)], self.environment)
        self.git("init", "--quiet", "--bare", f"--initial-branch={BRANCH}", str(making))
        self.git("remote", "add", "origin", "../claw.git")
        self.git("push", "--quiet", str(making), f"{BRANCH}~{NEW_COMMITS}:refs/heads/{BRANCH}")
        making.rename(self.repository)
        self.git("fetch", "--quiet", "origin")
        self.git("branch", "--quiet", f"--set-upstream-to=origin/{BRANCH}")
        for name, value in (("user.name", "You"), ("user.email", "you@example.invalid"), ("pull.rebase", "false")):
            self.git("config", name, value)
        return True

    def git(self, *arguments: str) -> str:
        """Run git in the person's clone.

        Raises:
            RegrowError: kind "git", with what git said.
        """
        return _run(["git", "-C", str(self.clone), *arguments], self.environment).strip()

    def push(self) -> str:
        """Push what the clone has; the short id of its last commit."""
        self.git("push", "--quiet", "origin", BRANCH)
        return self.git("rev-parse", "--short=7", "HEAD")

    def apply(self, patch: str) -> None:
        """Commit one of the tour's patches in the clone."""
        _run(
            [sys.executable, str(CLAW / "history.py"), "--apply", str(HERE / patch), str(self.clone)], self.environment
        )

    def setting(self, name: str) -> str:
        """The address, host:port, that is set as `http` (the service's) or `console`."""
        config = load(self.config)
        return config.service.listen["http"] if name == "http" else (config.daemon or DaemonSection()).console

    def set(self, name: str, address: str) -> None:
        """Set one of the two in the file; the chat is forwarded to the service's."""
        text = self.config.read_text(encoding="utf-8")
        self.config.write_text(text.replace(self.setting(name), address), encoding="utf-8")

    @cached_property
    def address(self) -> str:
        """The service's address, host:port."""
        return self.setting("http")

    def occupied(self) -> bool:
        """Whether a daemon or a supervisor of this world is running."""
        for path in self.socket.parent.glob("*.sock"):
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(OSError):
                connection.connect(str(path))
                return True
        return False


def is_free(address: str) -> bool:
    """Whether nobody listens at host:port."""
    host, _, port = address.rpartition(":")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.replace("localhost", "127.0.0.1"), int(port)))
        except OSError:
            return False
    return True


def free_addresses(count: int) -> list[str]:
    """Addresses on loopback that nobody uses at the moment."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]


def _remove(path: Path) -> None:
    if path.exists():
        shutil.rmtree(path)


def _run(command: list[str], environment: dict[str, str]) -> str:
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise RegrowError(f"cannot run {command[0]}: {error}", kind="git") from None
    if done.returncode:
        said = (done.stderr or done.stdout).strip()
        raise RegrowError(f"cannot run {' '.join(command)}: {said}", kind="git")
    return done.stdout
