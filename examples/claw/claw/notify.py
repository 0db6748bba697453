"""Words to whoever started the bot, by the notify protocol of systemd."""

import contextlib
import os
import socket


def notify(**words: str | int) -> None:
    """Send lines like READY=1 to NOTIFY_SOCKET; nothing where there is none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    text = "\n".join(f"{name}={value}" for name, value in words.items())
    # A supervisor that is being replaced does not listen for a moment; the bot goes on.
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(1.0)
        sock.sendto(text.encode(), address)
