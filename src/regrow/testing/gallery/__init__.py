"""Every message that people can see, rendered by the code that sends it.

`render` walks through scenes: people say things to real conversations, jobs stand at each of their steps in a real
store, notices are told. What comes out is what goes out, in one language; docs/reference/messages.md is made of it by
`python -m regrow.testing.gallery`, and a test compares the two.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from regrow.catalogue import Language
from regrow.databases.sqlite import Sqlite
from regrow.events import Events
from regrow.store import Store
from regrow.testing.gallery import answers, changes, endings, held, jobs, troubles, unasked
from regrow.testing.gallery.jobs import BEFORE, BUILT, FIXED, REPAIR
from regrow.testing.gallery.stage import Message, Stage, running
from regrow.testing.manual_clock import ManualClock
from regrow.testing.parts import Parts

__all__ = ["BEFORE", "BUILT", "FIXED", "REPAIR", "SCENES", "render", "running"]

SCENES = (
    *answers.SCENES,
    *held.SCENES,
    *jobs.SCENES,
    *changes.SCENES,
    *endings.SCENES,
    *troubles.SCENES,
    *unasked.SCENES,
)
"""Functions that put messages on a stage, in the order of the page."""

_ZONE = "Asia/Shanghai"


async def render(language: Language, root: Path) -> list[Message]:
    """All messages in one language.

    Args:
        language: one of `catalogue.languages()`.
        root: an empty directory.

    Returns:
        The messages in the order of the page; the same ones, with the same titles, in every language.
    """
    store = Store(Sqlite(root / "regrow.db"))
    try:
        with _zone():
            stage = Stage(await Parts.make(root, store, Events(), ManualClock(), language=language), language)
            for scene in SCENES:
                await scene(stage)
                await stage.clear()
            return stage.shown
    finally:
        store.close()


@contextmanager
def _zone() -> Iterator[None]:
    """One time zone, so that the page does not depend on the machine."""
    before = os.environ.get("TZ")
    os.environ["TZ"] = _ZONE
    time.tzset()
    try:
        yield
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()
