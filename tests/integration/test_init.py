"""`regrow init` on a real program of each language: what it writes starts, and the next commit is built and served."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TypeVar

import pytest

import regrow
from regrow.api.client import Client
from regrow.api.types import ENDED, Job, RequestBody
from regrow.config import load
from regrow.errors import RegrowError
from regrow.testing.ports import free_ports
from regrow.testing.repositories import Checkout

EXAMPLES = Path(regrow.__file__).parents[2] / "examples"
# A Go build compiles its whole library first, and other work may go on beside it.
DEADLINE_S = 900.0
TOOLS = {"python": sys.executable, "node": "node", "go": "go", "rust": "cargo"}
PORTS = {"python": "8730", "go": "8731", "node": "8732", "rust": "8733"}
T = TypeVar("T")


class Newcomer:
    """Somebody with a checkout of an example, the installed command, and nothing else."""

    def __init__(self, root: Path, example: Path, port: str) -> None:
        self.root = root
        self.port, self.console_port = (str(one) for one in free_ports(2))
        self.checkout = Checkout(root / f"a-{example.name}")
        shutil.copytree(example, self.checkout.path, dirs_exist_ok=True, ignore=_not_committed)
        (self.checkout.path / "regrow.toml").unlink(missing_ok=True)
        self.edit(port, self.port)
        self.checkout.commit("Begin")
        # A unix socket's path has at most 107 bytes; a test's own directory is longer.
        self.runtime = Path(tempfile.mkdtemp(prefix="regrow-"))
        self.client = Client(self.runtime / "daemon.sock", patience_s=0.0)
        self.config = self.checkout.path / "regrow.toml"

    def edit(self, pattern: str, new: str) -> None:
        """Replace what matches in every source file of the checkout."""
        for path in self.checkout.path.rglob("*"):
            if path.suffix in {".py", ".js", ".go", ".rs"}:
                path.write_text(re.sub(pattern, new, path.read_text("utf-8")), "utf-8")

    def run(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Type a command in the checkout."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("REGROW_", "XDG_"))}
        places = {"REGROW_STATE_DIR": str(self.root / "state"), "REGROW_RUNTIME_DIR": str(self.runtime)}
        package = str(Path(regrow.__file__).parents[1])
        return subprocess.run(
            (sys.executable, "-m", "regrow.cli", *words),
            cwd=self.checkout.path,
            env={**kept, "LANG": "C.UTF-8", "PYTHONPATH": package, **places, **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )

    def quicken(self) -> None:
        """A short bake and a console of its own, as one writes them into the file; all else stays as it was made."""
        with self.config.open("a") as file:
            file.write(f'\n[daemon]\nconsole = "127.0.0.1:{self.console_port}"\n[switch]\nbake = "500ms"\n')

    def ended(self, number: int) -> Job:
        """Wait until a job has ended."""

        def there() -> Job | None:
            job = self.client.job(number)
            return job if job.status in ENDED else None

        return eventually(there, f"job {number} has ended")

    def health(self) -> dict[str, str]:
        """What the service answers."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=30) as answer:
            found: dict[str, str] = json.load(answer)
        return found

    def close(self) -> None:
        """End what was started."""
        self.run("down")
        shutil.rmtree(self.runtime, ignore_errors=True)


def eventually(look: Callable[[], T | None], what: str) -> T:
    """Wait until there is something."""
    deadline = time.monotonic() + DEADLINE_S
    while True:
        try:
            if (found := look()) is not None:
                return found
        except RegrowError as error:
            if error.kind not in ("lost", "no_answer", "starting"):
                raise
        assert time.monotonic() < deadline, f"waited {DEADLINE_S} s until {what}"
        time.sleep(0.05)


def _not_committed(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if name in ("target", "__pycache__", "node_modules")}


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Callable[[str], Newcomer]]:
    with ExitStack() as stack:

        def make(language: str) -> Newcomer:
            for tool in (TOOLS[language], "bwrap"):
                if shutil.which(tool) is None:
                    pytest.skip(f"{tool} is not installed")
            made = Newcomer(tmp_path, EXAMPLES / language, PORTS[language])
            stack.callback(made.close)
            return made

        yield make


def started(one: Newcomer) -> dict[str, str]:
    """Start what was written, and what it answers then."""
    one.quicken()
    up = one.run("up")
    assert up.returncode == 0, up.stderr
    first = one.ended(1)
    assert (first.status, first.error) == ("done", None), one.run("job", "1", "--log").stdout[-3000:]
    return one.health()


def rebuilt(one: Newcomer) -> tuple[str, dict[str, str]]:
    """Change the program, have the commit built and deployed; the commit, and what is answered then."""
    one.edit(r"(status\W{1,8})ok\b", r"\1fine")
    commit = one.checkout.commit("Feel fine")
    asked = one.client.request(RequestBody(intent="deploy", key="build-and-restart"))
    second = one.ended(getattr(asked, "job"))  # noqa: B009  an Answer has none, and that is a failure
    assert (second.status, second.error) == ("done", None), one.run("job", "2", "--log").stdout[-3000:]
    return commit, one.health()


def fill_cache(one: Newcomer) -> None:
    """Fill {cache} once by hand, as docs/how-to/build-with-packages.md says one may: else Go would compile its whole
    library once for the tests and once for the build, at the lowest priority."""
    program = one.root / "filled"
    cache = one.root / "state" / "counter" / "cache" / "build"
    env = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", "GOTOOLCHAIN": "local", "GOCACHE": str(cache)}
    words = ("go", "build", "-trimpath", "-o", str(program), ".")
    subprocess.run(words, cwd=one.checkout.path, env={**os.environ, **env}, check=True, timeout=DEADLINE_S)


@pytest.mark.parametrize("language", TOOLS)
def test_a_template_starts_its_example_and_deploys_the_next_commit(
    language: str, newcomer: Callable[[str], Newcomer]
) -> None:
    one = newcomer(language)
    written = one.run("init", "--template", language, "--yes")
    assert written.returncode == 0, written.stderr
    assert "is the template's own value" not in written.stderr, "the example shows all that its template asks for"
    assert list(load(one.config).service.listen.values()) == [f"127.0.0.1:{one.port}"]
    if language == "go":
        fill_cache(one)
    before = started(one)
    assert before["status"] == "ok"
    assert one.checkout.git("rev-parse", "HEAD").startswith(before["version"])
    commit, after = rebuilt(one)
    assert after["status"] == "fine"
    assert commit.startswith(after["version"])


# Go is left out: a build and a test of the whole standard library take their time once more for what is nearly the
# template's file.
@pytest.mark.parametrize("language", ["python", "node", "rust"])
def test_what_is_proposed_for_an_example_starts_it_and_deploys_the_next_commit(
    language: str, newcomer: Callable[[str], Newcomer]
) -> None:
    one = newcomer(language)
    written = one.run("init", "--yes")
    assert written.returncode == 0, written.stderr
    assert started(one)["status"] == "ok"
    assert rebuilt(one)[1]["status"] == "fine"
