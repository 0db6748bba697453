"""The versions of Regrow itself: each in an environment of its own, one of them in use.

An upgrade never touches the files that a running daemon was started from (F10, F11): the new version is installed
beside them, and a link says which one is in use. Whatever is started later, the command or the daemon, hands over to
that one when it is newer than itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow import __version__
from regrow.errors import Refused
from regrow.files import private_directory, write_atomic

_MARK = "regrow-version"
"""Written last: an environment without it is half made."""
_CURRENT, _PREVIOUS, _REFUSED = "current", "previous", "refused.json"
_VENV_S, _INSTALL_S, _ASK_S = 120.0, 900.0, 60.0
STAY = "REGROW_STAY"
"""In the environment: run this very version, whichever is in use."""


@dataclass(frozen=True)
class Version:
    """One installed version."""

    path: Path
    number: str

    @property
    def python(self) -> Path:
        """The interpreter of its environment."""
        return self.path / "bin" / "python"


class Versions:
    """All versions below a state directory.

    Args:
        state: Regrow's own state directory.
    """

    def __init__(self, state: Path) -> None:
        self.root = state / "versions"

    def in_use(self) -> Version | None:
        """The version that was chosen, or None when it is the one that was installed first, outside of here."""
        return self._at(_CURRENT)

    def _at(self, name: str) -> Version | None:
        with contextlib.suppress(OSError):
            path = (self.root / name).resolve(strict=True)
            return Version(path, (path / _MARK).read_text().strip())
        return None

    def install(self, requirement: str) -> Version:
        """Install a version beside the others; nothing that runs is touched, and it is not yet in use.

        Args:
            requirement: what pip takes: "regrow", "regrow==1.2", the path of a wheel.

        Raises:
            Refused: kind "install", with the last words of what failed.
        """
        private_directory(self.root)
        taken = [int(path.name) for path in self.root.iterdir() if path.name.isdigit()]
        path = self.root / str(max(taken, default=0) + 1)
        try:
            _run([sys.executable, "-m", "venv", str(path)], _VENV_S)
            pip = [str(path / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input"]
            _run([*pip, "install", "--quiet", requirement], _INSTALL_S)
            ask = "import regrow; print(regrow.__version__)"
            number = _run([str(path / "bin" / "python"), "-P", "-c", ask], _ASK_S)
        except Refused:
            shutil.rmtree(path, ignore_errors=True)
            raise
        write_atomic(path / _MARK, number.encode())
        return Version(path, number)

    def use(self, version: Version) -> None:
        """From now on this version is started."""
        before = self.in_use()
        if before is not None and before != version:
            self._link(_PREVIOUS, before.path)
        self._link(_CURRENT, version.path)

    def back(self) -> None:
        """Return to the version that was in use before."""
        before = self._at(_PREVIOUS)
        if before is None:
            (self.root / _CURRENT).unlink(missing_ok=True)
        else:
            self._link(_CURRENT, before.path)
            (self.root / _PREVIOUS).unlink(missing_ok=True)

    def prune(self) -> None:
        """Delete what is neither in use nor was before."""
        kept = {found.path for found in (self.in_use(), self._at(_PREVIOUS)) if found}
        kept.add(Path(sys.prefix).resolve())
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if path.name.isdigit() and path.resolve() not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def newer(self) -> Version | None:
        """The version in use, when this process is of another one and none that is newer."""
        chosen = self.in_use()
        if chosen is None or chosen.number == __version__ or os.environ.get(STAY):
            return None
        return chosen if _order(chosen.number) >= _order(__version__) else None

    def hand_over(self, module: str, words: list[str]) -> None:
        """Become the newer version in use, if there is one; otherwise return.

        Args:
            module: what to run of it.
            words: its arguments.
        """
        if chosen := self.newer():
            os.execv(chosen.python, [str(chosen.python), "-P", "-m", module, *words])  # noqa: S606

    # What went wrong

    def refuse(self, version: str, cause: str) -> None:
        """Leave word of an upgrade that was taken back, for the daemon that comes back."""
        write_atomic(self.root / _REFUSED, json.dumps({"version": version, "cause": cause}).encode())

    def refused(self) -> dict[str, Any] | None:
        """The word that `refuse` left, once."""
        path = self.root / _REFUSED
        with contextlib.suppress(OSError, ValueError):
            found: dict[str, Any] = json.loads(path.read_text())
            path.unlink()
            return found
        return None

    def _link(self, name: str, target: Path) -> None:
        temporary = self.root / f"{name}.new"
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target.name)
        temporary.rename(self.root / name)


def _order(number: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", number)]


def _run(argv: list[str], timeout_s: float) -> str:
    """Run a program to its end and return what it printed. Raises Refused (kind "install")."""
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=timeout_s, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Refused(f"cannot install it: {error}; mend that and try again", kind="install") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        said = next((line for line in lines if "ERROR" in line or "rror:" in line), lines[-1] if lines else "no word")
        raise Refused(f"cannot install it: {said.strip()}; nothing was changed", kind="install")
    return done.stdout.strip()
