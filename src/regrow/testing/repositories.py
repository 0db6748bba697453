"""Real git repositories for tests: made by real git, with nothing of the user's settings."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path

_ENV = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "Ada",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Ada",
    "GIT_COMMITTER_EMAIL": "ada@example.org",
}
_DEADLINE_S = 30


class Checkout:
    """A checkout that a person could have: a repository with a working directory.

    Args:
        path: where it is made; the directory must not hold one yet.
    """

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.path = path.resolve()
        self.git_dir = self.path / ".git"
        self.git("init", "--quiet", "--initial-branch=main")

    def git(self, *words: str) -> str:
        """Run git as the person would and return what it says.

        Raises:
            AssertionError: it failed.
        """
        done = subprocess.run(
            ("git", *words), cwd=self.path, env=_ENV, capture_output=True, text=True, timeout=_DEADLINE_S, check=False
        )
        if done.returncode:
            raise AssertionError(f"git {' '.join(words)}: {done.stderr or done.stdout}")
        return done.stdout.strip()

    def write(self, files: Mapping[str, str | bytes | None]) -> None:
        """Write files by relative path; None deletes."""
        for name, content in files.items():
            path = self.path / name
            if content is None:
                path.unlink()
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, subject: str, files: Mapping[str, str | bytes | None] | None = None) -> str:
        """Write files, commit everything and return the full id."""
        self.write(files or {})
        self.git("add", "--all", "--force")
        self.git("commit", "--quiet", "--allow-empty", "--message", subject)
        return self.git("rev-parse", "HEAD")
