"""Each test here runs inside a real systemd of its own world: a second pytest in there runs it, and this one reports
how that went. All run under a person's manager, and those marked `both_managers` once more under the system's."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from functools import cache
from pathlib import Path

import pytest

from regrow.testing import managers
from regrow.testing.unit_system import UnitSystem

HERE = Path(__file__).parent
LONGEST_S = 300
INSIDE = os.environ.get("INSIDE_MANAGER", "")


def pytest_configure(config: pytest.Config) -> None:
    """Say what the mark is."""
    config.addinivalue_line("markers", "both_managers: runs under the system's manager of systemd too")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside, put in the place of each test those that run it inside."""
    if not INSIDE:
        items[:] = [each for item in items for each in _from_outside(item)]


def _from_outside(item: pytest.Item) -> Iterator[pytest.Item]:
    if HERE not in item.path.parents or not isinstance(item, pytest.Function):
        yield item
        return
    for kind in ("user", "system") if item.get_closest_marker("both_managers") else ("user",):
        name = item.name if kind == "user" else f"{item.name}-{kind}"
        yield pytest.Function.from_parent(item.parent, name=name, callobj=_inside(item.nodeid, kind))


def _inside(test: str, kind: managers.Kind) -> Callable[[Callable[[managers.Kind], managers.Manager]], None]:
    def run(manager: Callable[[managers.Kind], managers.Manager]) -> None:
        pytest_argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        words = manager(kind).argv(f"INSIDE_MANAGER={kind}", *pytest_argv)
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        assert done.returncode == 0, f"inside the manager:\n{done.stdout}{done.stderr}"

    return run


@pytest.fixture(scope="session")
def manager() -> Iterator[Callable[[managers.Kind], managers.Manager]]:
    """The manager of a kind, one for all tests."""
    if why := managers.missing():
        pytest.skip(why)
    with ExitStack() as worlds:
        yield cache(lambda kind: worlds.enter_context(managers.manager(kind)))


@pytest.fixture(autouse=bool(INSIDE))
def inside(monkeypatch: pytest.MonkeyPatch) -> str:
    """The run's own home hides the manager; it is shown again. Returns which it is."""
    for name, value in managers.ENVIRONMENT[INSIDE].items():  # type: ignore[index]
        monkeypatch.setenv(name, value)
    return INSIDE


@pytest.fixture
async def system(inside: str, tmp_path: Path) -> AsyncIterator[UnitSystem]:
    """The tiny service under the systemd driver."""
    system = UnitSystem(tmp_path, scope=inside)
    system.install()
    yield system
    await system.close()
