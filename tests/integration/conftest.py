"""Whole worlds for the tests beside this file."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from regrow.testing.world import World

Make = Callable[..., Awaitable[World]]


@pytest.fixture
async def make_world(tmp_path: Path, new_database: Callable[[], str]) -> AsyncIterator[Make]:
    """Makes worlds whose first release serves; `sections=...` are settings, as in `World`."""
    async with AsyncExitStack() as stack:
        count = 0

        async def make(up: bool = True, **sections: dict[str, Any]) -> World:
            nonlocal count
            count += 1
            settings = {name.replace("__", "."): section for name, section in sections.items()}
            world = World(tmp_path / f"world-{count}", settings, new_database())
            stack.push_async_callback(world.close)
            if up:
                await world.bring_up()
            return world

        yield make


@pytest.fixture
async def world(make_world: Make) -> World:
    """A world whose first release serves."""
    return await make_world()
