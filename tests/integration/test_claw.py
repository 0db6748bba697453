"""The example service: its history, its bug, the commits of its tour, and its own tests at the commits that matter."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

CLAW = Path(__file__).resolve().parents[2] / "examples" / "claw"
NOT_IN_HISTORY = {"history", "tour", "history.py", "regrow.toml", "README.md", ".gitattributes"}
NOT_IN_GIT = {"__pycache__", "state", ".ruff_cache", ".mypy_cache"}
BUG = "Compute due times in UTC"
DEADLINE_S = 30.0
REPRODUCTION = [
    *("-m", "claw", "due", "0 7 * * *", "--tz", "Asia/Shanghai"),
    *("--after", "2026-01-01T00:00:00+08:00", "--expect", "2026-01-01T07:00:00+08:00"),
]


def load_history() -> ModuleType:
    spec = importlib.util.spec_from_file_location("claw_history", CLAW / "history.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


history = load_history()


@dataclass(frozen=True)
class Repository:
    path: Path

    def git(self, *arguments: str) -> str:
        environment = os.environ | {
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_NOSYSTEM": "1",
            **{f"GIT_{who}_NAME": "Tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.invalid" for who in ("AUTHOR", "COMMITTER")},
        }
        return subprocess.run(
            ["git", "-C", str(self.path), *arguments],
            env=environment,
            check=True,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
        ).stdout.strip()

    @property
    def bug(self) -> str:
        return self.git("log", "--format=%H", f"--grep=^{BUG}$")

    def python(self, *arguments: str, cwd: Path | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=cwd or self.path,
            env=os.environ | environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=4 * DEADLINE_S,
        )

    def at(self, revision: str, path: Path) -> "Repository":
        """Another repository with one revision checked out."""
        self.git("clone", "--quiet", "--no-hardlinks", str(self.path), str(path))
        other = Repository(path)
        other.git("checkout", "--quiet", "--detach", revision)
        return other


@pytest.fixture(scope="module")
def tip(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    path = tmp_path_factory.mktemp("tip")
    history.make(path)
    return Repository(path)


@pytest.fixture(scope="module")
def repaired(tip: Repository, tmp_path_factory: pytest.TempPathFactory) -> Repository:
    repository = tip.at("main", tmp_path_factory.mktemp("repaired") / "repository")
    repository.git("revert", "--no-edit", repository.bug)
    return repository


@pytest.fixture(params=["tip", "repaired"])
def base(request: pytest.FixtureRequest, tip: Repository, repaired: Repository) -> Repository:
    return tip if request.param == "tip" else repaired


def test_the_history_has_the_same_ids_everywhere(
    tip: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tmp_path / "gitconfig"
    config.write_text("[user]\n\tname = Somebody\n[core]\n\tautocrlf = true\n[init]\n\tdefaultBranch = trunk\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "2001-02-03T04:05:06Z")
    monkeypatch.setenv("TZ", "America/New_York")
    again = history.make(tmp_path / "again")
    assert again == tip.git("rev-parse", "main")
    assert set(tip.git("log", "--format=%an <%ae> %cn <%ce>").splitlines()) == {
        "Claw Developers <claw@example.invalid> Claw Developers <claw@example.invalid>"
    }
    assert tip.git("log", "--format=%aI") == tip.git("log", "--format=%cI")


def test_a_part_of_the_history_is_its_beginning(tip: Repository, tmp_path: Path) -> None:
    assert history.make(tmp_path / "part", upto=3) == tip.git("rev-list", "--reverse", "main").splitlines()[2]


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    done = subprocess.run(
        [sys.executable, str(CLAW / "history.py"), str(tmp_path)],
        check=False,
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("cannot make a repository")
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_the_tip_is_the_tree_that_is_shipped(tip: Repository) -> None:
    shipped = {
        path.relative_to(CLAW): path.read_bytes()
        for path in CLAW.rglob("*")
        if path.is_file()
        and path.relative_to(CLAW).parts[0] not in NOT_IN_HISTORY
        and not NOT_IN_GIT & set(path.relative_to(CLAW).parts)
    }
    kept = {Path(name): (tip.path / name).read_bytes() for name in tip.git("ls-files").splitlines()}
    assert sorted(shipped) == sorted(kept)
    assert shipped == kept


def test_a_patch_that_does_not_apply_leaves_the_repository_as_it_was(tmp_path: Path) -> None:
    before = history.make(tmp_path / "early", upto=2)
    with pytest.raises(history.CannotMake):
        history.apply(CLAW / "tour" / "dies-later.patch", tmp_path / "early")
    early = Repository(tmp_path / "early")
    assert early.git("rev-parse", "HEAD") == before
    assert early.git("status", "--porcelain=v2", "--branch").count("\n") == 1


@pytest.mark.parametrize(
    ("revision", "code", "due"),
    [("BUG~1", 0, "07:00:00+08:00"), ("BUG", 1, "15:00:00+08:00"), ("main", 1, "15:00:00+08:00")],
)
def test_the_bug_is_reproduced(tip: Repository, tmp_path: Path, revision: str, code: int, due: str) -> None:
    there = tip.at(revision.replace("BUG", tip.bug), tmp_path / "there")
    done = there.python(*REPRODUCTION)
    assert (done.returncode, done.stdout) == (code, f"2026-01-01T{due}\n")


def test_a_revert_repairs_it(repaired: Repository) -> None:
    done = repaired.python(*REPRODUCTION)
    assert (done.returncode, done.stdout) == (0, "2026-01-01T07:00:00+08:00\n")


@pytest.mark.parametrize("revision", ["BUG~1", "BUG", "tip", "repaired"])
def test_its_own_tests_pass(tip: Repository, repaired: Repository, tmp_path: Path, revision: str) -> None:
    if revision in ("tip", "repaired"):
        there = tip if revision == "tip" else repaired
    else:
        there = tip.at(revision.replace("BUG", tip.bug), tmp_path / "there")
    done = there.python("-W", "error", "-m", "unittest", "discover", "-s", "tests")
    assert done.returncode == 0, done.stderr
    assert there.git("status", "--porcelain") == ""


def toured(base: Repository, name: str, path: Path) -> Repository:
    repository = base.at("HEAD", path / "toured")
    commit = history.apply(CLAW / "tour" / f"{name}.patch", repository.path)
    assert repository.git("rev-parse", "HEAD~1") == base.git("rev-parse", "HEAD")
    assert repository.git("rev-parse", "HEAD") == commit
    return repository


def built(repository: Repository, path: Path) -> Path:
    done = repository.python("build.py", str(path / "release"), REGROW_VERSION="1.2-tour")
    assert done.returncode == 0, done.stderr
    return path / "release"


class Started:
    """A release in a process of its own, with its words to the supervisor."""

    def __init__(self, release: Path, scratch: Path, notices: socket.socket, **environment: str) -> None:
        self._notices = notices
        self._log = scratch / "log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "claw", "serve", "--bind", "127.0.0.1:0", "--state", str(scratch / "state")],
                cwd=release,
                env=os.environ | {"NOTIFY_SOCKET": str(scratch / "notify")} | environment,
                stderr=log,
            )

    @property
    def log(self) -> str:
        return self._log.read_text()

    def wait_until_ready(self) -> list[str]:
        until = time.monotonic() + DEADLINE_S
        while time.monotonic() < until:
            words = self._notices.recv(4096).decode().split("\n")
            if "READY=1" in words:
                return words
        raise AssertionError(f"never ready:\n{self.log}")

    def health(self) -> dict[str, object]:
        port = self.log.split("listens on 127.0.0.1:")[1].split()[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=DEADLINE_S) as answer:
            found: dict[str, object] = json.load(answer)
            return found


@contextmanager
def started(release: Path, scratch: Path, **environment: str) -> Iterator[Started]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notices:
        notices.bind(str(scratch / "notify"))
        notices.settimeout(DEADLINE_S)
        bot = Started(release, scratch, notices, **environment)
        try:
            yield bot
        finally:
            bot.process.kill()
            bot.process.wait(DEADLINE_S)


def test_a_build_runs_reports_its_version_and_stays_as_it_is(base: Repository, tmp_path: Path) -> None:
    release = built(base, tmp_path)
    before = sorted((path, path.stat().st_mtime_ns) for path in release.rglob("*"))
    with started(release, tmp_path, REGROW_RELEASE="r1") as bot:
        assert "X_VERSION=1.2-tour" in bot.wait_until_ready()
        assert bot.health() == {
            "status": "ok",
            "version": "1.2-tour",
            "release": "r1",
            "pid": bot.process.pid,
            "db": "ok",
        }
        bot.process.terminate()
        assert bot.process.wait(DEADLINE_S) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in release.rglob("*")) == before


def test_two_builds_are_equal(tip: Repository, tmp_path: Path) -> None:
    releases = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        release = built(tip, tmp_path / name)
        releases.append({path.relative_to(release): path.read_bytes() for path in release.rglob("*.*")})
    assert releases[0] == releases[1]


def test_tour_a_build_fails(base: Repository, tmp_path: Path) -> None:
    repository = toured(base, "build-fails", tmp_path)
    done = repository.python("build.py", str(tmp_path / "release"))
    assert done.returncode == 1
    assert "cannot compile claw/export.py" in done.stderr
    assert "SyntaxError" in done.stderr
    assert "] compile claw/conversation.py\n" in done.stdout


def test_tour_a_release_cannot_start(base: Repository, tmp_path: Path) -> None:
    release = built(toured(base, "cannot-start", tmp_path), tmp_path)
    with started(release, tmp_path) as bot:
        assert bot.process.wait(DEADLINE_S) == 1
        assert "Traceback" in bot.log
        assert "FileNotFoundError" in bot.log


def test_tour_a_release_dies_later(base: Repository, tmp_path: Path) -> None:
    release = built(toured(base, "dies-later", tmp_path), tmp_path)
    with started(release, tmp_path, CLAW_FIGURES_S="0.5") as bot:
        bot.wait_until_ready()
        assert bot.health()["status"] == "ok"
        assert bot.process.wait(DEADLINE_S) == 1
        assert "Traceback" in bot.log
        assert "no such table: message" in bot.log


@pytest.mark.parametrize("name", ["build-fails", "cannot-start", "dies-later"])
def test_tour_passes_its_tests(tip: Repository, tmp_path: Path, name: str) -> None:
    repository = toured(tip, name, tmp_path)
    done = repository.python("-W", "error", "-m", "unittest", "discover", "-s", "tests")
    assert done.returncode == 0, done.stderr
