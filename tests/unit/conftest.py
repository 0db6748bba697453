"""What the nouns stand on: a real store, real topics, and a clock that a test moves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from regrow.events import Events
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """A new store; a test during which it would have ended the process fails."""
    fatal: list[str] = []
    made = Store(tmp_path / "regrow.db", on_fatal=fatal.append)
    yield made
    made.close()
    assert fatal == []


@pytest.fixture
def events() -> Events:
    """Topics that nobody watches yet."""
    return Events()


@pytest.fixture
def clock() -> ManualClock:
    """Stands still until a test moves it."""
    return ManualClock()


@pytest.fixture
async def parts(tmp_path: Path, store: Store, events: Events, clock: ManualClock) -> Parts:
    """Everything around one service, without a process."""
    return await Parts.make(tmp_path, store, events, clock)
