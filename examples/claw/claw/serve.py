"""The process: opens the database, listens, obeys signals, and leaves in good order."""

import asyncio
import logging
import os
import signal
from pathlib import Path

from claw import app, sockets, version
from claw.listener import Listener
from claw.notify import notify
from claw.scheduler import Scheduler
from claw.store import Store

log = logging.getLogger("claw")

DRAIN_S = 5.0


class Service:
    """What is on while the bot takes traffic, and off while another release does."""

    def __init__(self, http: Listener, scheduler: Scheduler) -> None:
        self._http = http
        self._scheduler = scheduler

    def resume(self) -> None:
        self._http.resume()
        self._scheduler.on()
        log.info("serving")
        notify(STATUS="serving")

    def pause(self) -> None:
        self._http.pause()
        self._scheduler.off()
        log.info("paused")
        notify(STATUS="paused")


async def serve(state: Path, address: str) -> None:
    """Serve until told to stop. Raises what ended the bot, when it was not told to."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    store = await asyncio.to_thread(Store.open, state)
    try:
        await _serve(store, address, stop)
    finally:
        store.close()


async def _serve(store: Store, address: str, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    passed = sockets.inherited()
    own = "http" not in passed
    sock = sockets.bind(address) if own else passed["http"]
    scheduler = Scheduler(store)
    answering = app.build(store)
    http = Listener(sock, answering, own=own)
    probes = [Listener(passed["probe"], answering, own=False)] if "probe" in passed else []
    service = Service(http, scheduler)
    loop.add_signal_handler(signal.SIGUSR1, service.pause)
    loop.add_signal_handler(signal.SIGUSR2, service.resume)

    for probe in probes:
        probe.resume()
    parts = [asyncio.create_task(scheduler.run())]
    log.info("claw %s listens on %s:%s", version.current(), *sock.getsockname()[:2])
    notify(READY=1, X_VERSION=version.current())
    if os.environ.get("REGROW_START") == "paused":
        service.pause()
    else:
        service.resume()

    # A part that dies takes the process with it: whoever watches the process knows what to do, and a bot
    # that answers but has lost its alarm clock would go unnoticed.
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *parts], return_when=asyncio.FIRST_COMPLETED)
    notify(STOPPING=1)
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        loop.add_signal_handler(number, lambda: None)
    scheduler.off()
    drain_s = float(os.environ.get("REGROW_DRAIN_S") or DRAIN_S)
    await asyncio.gather(*(listener.finish(drain_s) for listener in [http, *probes]))
    died = [part for part in parts if part.done()]
    for task in [stopping, *parts]:
        task.cancel()
    await asyncio.gather(stopping, *parts, return_exceptions=True)
    for part in died:
        part.result()
    log.info("stopped")
