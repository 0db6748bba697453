"""A freeze is in the store: it outlives the daemon, keeps its time, and is lifted once."""

from __future__ import annotations

import pytest

from regrow.errors import Refused
from regrow.events import Events
from regrow.freezes import Freeze, Freezes
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock


async def test_it_outlives_the_daemon_and_keeps_its_time(store: Store, events: Events, clock: ManualClock) -> None:
    began = clock.now()
    assert await Freezes(store, events, clock).of("tiny") is None
    await Freezes(store, events, clock).begin("tiny", "window closed", "ada")
    clock.advance(60)
    anew = Freezes(store, events, clock)
    assert await anew.of("tiny") == Freeze("tiny", "window closed", "ada", began)
    assert await anew.of("other") is None
    assert await anew.begin("tiny", "audit", "max") == Freeze("tiny", "audit", "max", began)
    assert await anew.end("tiny") == Freeze("tiny", "audit", "max", began)
    assert await anew.of("tiny") is None
    with pytest.raises(Refused) as refused:
        await anew.end("tiny")
    assert refused.value.kind == "not_frozen"
