"""A PostgreSQL server of a test's own: real, durable (`fsync` stays on), on a unix socket in a directory of its own.

The programs are those of Debian's package `postgresql`. The server refuses to be root's: as root it runs as `nobody`.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg

_USER = "regrow"
_STEP_S = 60.0


def programs() -> Path | None:
    """Where the server's programs are, the newest version's; None when there are none."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: float(path.parts[4]))
    on_path = shutil.which("postgres")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


class Server:
    """One server; `start` it, and `close` it in the end.

    Raises:
        AssertionError: its programs are not installed.
    """

    def __init__(self) -> None:
        bin_ = programs()
        assert bin_ is not None, "cannot start PostgreSQL: install the package postgresql, or run scripts/test"
        self._bin = bin_
        # A unix socket's path has at most 107 bytes.
        self.root = Path(tempfile.mkdtemp(prefix="regrow-pg-"))
        self._data = self.root / "data"
        self._as: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(self.root, nobody.pw_uid, nobody.pw_gid)
            self._as = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        self._run("initdb", "--pgdata", self._data, "--username", _USER, "--auth", "trust", "--encoding", "UTF8")

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [self._bin / program, *arguments],
            **self._as,
            cwd=self.root,
            env={"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "TZ": "UTC"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=_STEP_S,
            check=False,
        )
        assert done.returncode == 0, done.stdout

    def start(self) -> None:
        """Start it and return when it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.root} -c max_connections=400"
        self._run("pg_ctl", "start", "-w", "-D", self._data, "-l", self.root / "log", "-o", options)

    def stop(self, mode: str = "immediate") -> None:
        """Stop it.

        Args:
            mode: "smart", "fast" (connections are ended) or "immediate" (as a crash).
        """
        self._run("pg_ctl", "stop", "-w", "-D", self._data, "-m", mode)

    def close(self) -> None:
        """End it and forget what it held."""
        with contextlib.suppress(AssertionError):  # a test may have stopped it
            self.stop()
        shutil.rmtree(self.root, ignore_errors=True)

    def url(self, name: str = "postgres") -> str:
        """The address of a database."""
        return f"postgresql://{_USER}@/{name}?host={self.root}"

    def database(self) -> str:
        """The address of a new and empty database."""
        name = f"t{uuid.uuid4().hex}"
        with self.connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"')
        return self.url(name)

    @contextlib.contextmanager
    def connect(self, url: str = "") -> Iterator[psycopg.Connection[tuple[Any, ...]]]:
        """A connection past Regrow, each statement a transaction of its own."""
        with psycopg.connect(url or self.url(), autocommit=True) as connection:
            yield connection
