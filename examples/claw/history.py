"""Claw's history as a git repository, made from patches: the same commit ids everywhere.

python history.py DEST [--upto N]                   make the repository, with its first N commits only
python history.py --apply tour/NAME.patch REPO      add a commit of the tour to it
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
NAME, EMAIL = "Claw Developers", "claw@example.invalid"
TIMEOUT_S = 60.0


class CannotMake(Exception):
    """A repository or a commit that could not be made; the text says why."""


def patches() -> list[Path]:
    """The patches of the history, the first commit first."""
    return sorted((HERE / "history").glob("*.patch"))


def make(repository: Path, upto: int | None = None) -> str:
    """Make a repository with the first `upto` commits, or all; the id of the last one.

    Raises CannotMake when the directory is not empty or git fails.
    """
    if repository.exists() and (not repository.is_dir() or any(repository.iterdir())):
        raise CannotMake(f"cannot make a repository in {repository}: it is not empty; name a new directory")
    known = patches()
    if upto is not None and not 1 <= upto <= len(known):
        raise CannotMake(f"cannot make {upto} commits: the history has 1 to {len(known)}")
    repository.mkdir(parents=True, exist_ok=True)
    # Neither the templates nor the settings of this machine have a say in the ids.
    _git(repository, "init", "--quiet", "--initial-branch=main", "--object-format=sha1", "--template=")
    _git(repository, "config", "core.autocrlf", "false")
    _am(repository, known[:upto])
    return head(repository)


def apply(patch: Path, repository: Path) -> str:
    """Add a patch to a repository as a commit; its id.

    Raises CannotMake, and leaves the repository as it was, when the patch does not apply.
    """
    try:
        _am(repository, [patch.resolve()])
    except CannotMake:
        if (repository / ".git" / "rebase-apply").exists():
            _git(repository, "am", "--abort")
        raise
    return head(repository)


def head(repository: Path) -> str:
    return _git(repository, "rev-parse", "HEAD").strip()


def _am(repository: Path, which: list[Path]) -> None:
    options = ("--quiet", "--keep-cr", "--whitespace=nowarn", "--no-gpg-sign", "--committer-date-is-author-date")
    _git(repository, "am", *options, *map(str, which))


def _git(repository: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")} | {
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_COMMITTER_NAME": NAME,
        "GIT_COMMITTER_EMAIL": EMAIL,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C",
    }
    command = ["git", "-C", str(repository), *arguments]
    try:
        done = subprocess.run(
            command,
            env=environment,
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotMake(f"cannot run git: {error}") from None
    if done.returncode:
        raise CannotMake(f"cannot run git {arguments[0]} in {repository}: {done.stderr.strip()}")
    return done.stdout


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("repository", type=Path)
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--upto", type=int, metavar="N", help="make the first N commits only")
    choice.add_argument("--apply", type=Path, metavar="PATCH", help="add a patch to a repository as a commit")
    given = parser.parse_args()
    try:
        if given.apply is not None:
            patch = given.apply if given.apply.exists() else HERE / given.apply
            print(apply(patch, given.repository))
        else:
            print(make(given.repository, given.upto))
    except CannotMake as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
