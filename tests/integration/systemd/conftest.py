"""Each test here runs inside a real `systemd --user` of its own world: a second pytest in there runs it, and this one
reports how that went."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from regrow.testing import user_manager as managers
from regrow.testing.unit_system import UnitSystem

INSIDE = "INSIDE_USER_MANAGER"
HERE = Path(__file__).parent
LONGEST_S = 300


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Outside, put in the place of each test one that runs it inside."""
    if INSIDE in os.environ:
        return
    for number, item in enumerate(items):
        if HERE in item.path.parents and isinstance(item, pytest.Function):
            items[number] = pytest.Function.from_parent(item.parent, name=item.name, callobj=_from_outside(item.nodeid))


def _from_outside(test: str):
    def run(manager: managers.UserManager) -> None:
        pytest_argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
        words = manager.argv(f"{INSIDE}=1", *pytest_argv)
        done = subprocess.run(words, capture_output=True, text=True, timeout=LONGEST_S, check=False)
        assert done.returncode == 0, f"inside the manager:\n{done.stdout}{done.stderr}"

    return run


@pytest.fixture(scope="session")
def manager() -> Iterator[managers.UserManager]:
    """The manager, one for all tests."""
    if why := managers.missing():
        pytest.skip(why)
    with managers.user_manager() as running:
        yield running


@pytest.fixture(autouse=INSIDE in os.environ)
def inside(monkeypatch: pytest.MonkeyPatch) -> None:
    """The run's own home hides the manager; it is shown again."""
    for name, value in managers.ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
async def system(inside: None, tmp_path: Path) -> AsyncIterator[UnitSystem]:
    """The tiny service under the systemd driver."""
    system = UnitSystem(tmp_path)
    system.install()
    yield system
    await system.close()
