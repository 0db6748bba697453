"""The loop: file descriptors, timers and signals, one callback at a time. It sleeps for ever when nothing is due."""

import heapq
import os
import selectors
import signal
import sys
import time
from collections.abc import Callable, Iterable


class Timer:
    """One call in the future; `cancel` may be called at any time, also after it has run."""

    __slots__ = ("call",)

    def __init__(self, call: Callable[[], None]) -> None:
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        self.call = None


class Loop:
    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._timers: list[tuple[float, int, Timer]] = []
        self._count = 0
        self._running = False

    def watch(self, fd: int, call: Callable[[], None], write: bool = False) -> None:
        """Call `call` whenever `fd` can be read (or written); a second watch of the same fd replaces the first."""
        mask = selectors.EVENT_WRITE if write else selectors.EVENT_READ
        if fd in self._selector.get_map():
            self._selector.modify(fd, mask, call)
        else:
            self._selector.register(fd, mask, call)

    def unwatch(self, fd: int) -> None:
        if fd in self._selector.get_map():
            self._selector.unregister(fd)

    def after(self, seconds: float, call: Callable[[], None]) -> Timer:
        timer = Timer(call)
        self._count += 1
        heapq.heappush(self._timers, (time.monotonic() + max(0.0, seconds), self._count, timer))
        return timer

    def on_signals(self, numbers: Iterable[int], call: Callable[[int], None]) -> None:
        """Deliver signals as callbacks of the loop, through a pipe of our own."""
        reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)

        def arrived() -> None:
            for number in os.read(reading, 512):
                call(number)

        self.watch(reading, arrived)

    def run(self) -> None:
        self._running = True
        while self._running:
            for key, _ in self._selector.select(self._wait()):
                # An earlier callback of this round may have ended the watch; its fd number may be another file by now.
                current = self._selector.get_map().get(key.fd)
                if current is not None and current.data is key.data:
                    self._guard(key.data)
            now = time.monotonic()
            while self._running and self._timers and self._timers[0][0] <= now:
                call = heapq.heappop(self._timers)[2].call
                if call is not None:
                    self._guard(call)

    def stop(self) -> None:
        self._running = False

    def _wait(self) -> float | None:
        while self._timers and self._timers[0][2].call is None:
            heapq.heappop(self._timers)
        return max(0.0, self._timers[0][0] - time.monotonic()) if self._timers else None

    @staticmethod
    def _guard(call: Callable[[], None]) -> None:
        # One faulty callback must never take the supervisor, and with it the way back, down.
        try:
            call()
        except Exception:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
