"""The words between a bot with an outbound connection and whoever cares for it.

Orders come as signals: SIGUSR2 connect, SIGUSR1 hang up, SIGTERM (or SIGINT) exit. Where the bot stands goes to
NOTIFY_SOCKET as X_STATE=armed, connected, draining or drained. Without a notify socket it is an ordinary program.
"""

import asyncio
import os
import signal
import socket

ORDERS = {
    signal.SIGUSR2: "connect",
    signal.SIGUSR1: "hangup",
    signal.SIGTERM: "exit",
    signal.SIGINT: "exit",
}
_AGAIN_S = 0.2


class Words:
    """Orders in the order they came, and the way back."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[str] = asyncio.Queue()
        self._loop = asyncio.get_running_loop()
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._unsaid: dict[str, str] = {}
        for number, order in ORDERS.items():
            self._loop.add_signal_handler(number, self.orders.put_nowait, order)
        # A bot that is to start paused is told when to connect; any other begins by itself.
        self.starts_paused = os.environ.get("REGROW_START") == "paused"

    def say(self, **words: str) -> None:
        """Send lines like X_STATE=armed. A supervisor that is being replaced hears them a moment later."""
        if not self._address:
            return
        self._unsaid |= words
        text = "\n".join(f"{name}={value}" for name, value in self._unsaid.items())
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
            self._unsaid = {}
        except OSError:
            self._loop.call_later(_AGAIN_S, self.say)
