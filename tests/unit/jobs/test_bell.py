"""The bell: nobody sleeps through it, it ends nobody, and the engine really hears it."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from dbos import DBOS, SetWorkflowID

from regrow.jobs.bell import Bell
from regrow.store import Store

DEADLINE_S = 30.0
NEVER_S = 3600.0


def hung() -> tuple[Bell, threading.Event]:
    """A bell, and an event that was given to an engine which hears it."""

    class Engine:
        background_thread_stop_events: list[threading.Event]

    bell, engine, event = Bell(), Engine(), threading.Event()
    bell.hang(engine)  # type: ignore[arg-type]
    engine.background_thread_stop_events.append(event)
    return bell, event


def test_a_ring_wakes_without_setting() -> None:
    bell, event = hung()
    woken: list[bool] = []
    thread = threading.Thread(target=lambda: woken.append(event.wait(NEVER_S)), daemon=True)
    thread.start()
    bell.ring()
    thread.join(DEADLINE_S)
    assert woken == [False]


def test_a_ring_while_busy_is_heard_once() -> None:
    bell, event = hung()
    assert not event.wait(0)
    bell.ring()
    assert not event.wait(NEVER_S)
    assert not event.wait(0)


def test_setting_ends_the_wait() -> None:
    _, event = hung()
    ended: list[bool] = []
    thread = threading.Thread(target=lambda: ended.append(event.wait(NEVER_S)), daemon=True)
    thread.start()
    event.set()
    thread.join(DEADLINE_S)
    assert ended == [True]
    assert event.wait(NEVER_S)


async def test_an_enqueued_job_begins_without_the_poll(tmp_path: Path) -> None:
    store, bell = Store(tmp_path / "regrow.db"), Bell()
    done = asyncio.Event()
    engine = DBOS(
        config={
            "name": "bell",
            "system_database_url": str(store.engine.url),
            "system_database_engine": store.engine,
            "notification_listener_polling_interval_sec": 0.25,
            "log_level": "ERROR",
        }
    )
    try:
        bell.hang(engine)
        loop = asyncio.get_running_loop()

        @DBOS.workflow(name="heard")
        async def heard() -> None:
            loop.call_soon_threadsafe(done.set)

        DBOS.listen_queues(["host-here"])
        DBOS.launch()
        await DBOS.register_queue_async("host-here", polling_interval_sec=NEVER_S)
        with SetWorkflowID("one"):
            await DBOS.enqueue_workflow_async("host-here", heard)
        bell.ring()
        await asyncio.wait_for(done.wait(), DEADLINE_S)
    finally:
        await asyncio.to_thread(DBOS.destroy, workflow_completion_timeout_sec=0)
        store.close()
