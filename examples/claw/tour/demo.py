"""Regrow with Claw under care, in the foreground with a live view until Ctrl-C.

The world is `.regrow/` of the checkout, or REGROW_DEMO_DIR. The service starts at its last good commit; as soon as that
is under way, its three newer commits are pushed, so that there is something to build, and a bug to report.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from regrow.api.client import Client
from regrow.errors import RegrowError
from world import CLAW, REGROW, World, free_addresses, is_free

CHECKOUT = CLAW.parent.parent
UP_S = 90.0
LOOK_S = 0.05


def main() -> int:
    world = World(Path(os.environ.get("REGROW_DEMO_DIR") or CHECKOUT / ".regrow").absolute())
    try:
        fresh = world.prepare()
        _choose_ports(world)
        _introduce(world)
    except (RegrowError, OSError) as error:
        print(error if isinstance(error, RegrowError) else f"cannot use {world.directory}: {error}", file=sys.stderr)
        return 1
    command = [str(REGROW), "up", "--foreground", "--live", "--config", str(world.config)]
    if not fresh:
        os.execve(command[0], command, world.environment)
    process = subprocess.Popen(command, env=world.environment)
    # A terminal's Ctrl-C reaches the child too; what reaches this process only is passed on.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: process.send_signal(number))
    threading.Thread(target=_push_once_begun, args=(world, process), daemon=True).start()
    return process.wait()


def _push_once_begun(world: World, process: subprocess.Popen[bytes]) -> None:
    """The first job has its commit from the moment of its request; what is pushed later is for the next one."""
    client, deadline = Client(world.socket), time.monotonic() + UP_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if client.jobs(1):
                world.push()
                return
        except RegrowError as error:
            if error.kind == "git":
                print(error, file=sys.stderr)
                return
        time.sleep(LOOK_S)


def _choose_ports(world: World) -> None:
    """Other ports, and a line that says so, where somebody else uses the ones that are set."""
    if world.occupied():
        return  # our own use them
    for what, setting in (("claw", "http"), ("the console", "console")):
        address = world.setting(setting)
        if not is_free(address):
            (other,) = free_addresses(1)
            world.set(setting, other)
            print(f"{address} is in use, so {what} listens on {other} (set in {_short(world.config)})")


def _introduce(world: World) -> None:
    print(
        f"claw     http://{world.setting('http')}, a small bot with a memory and reminders\n"
        f"its code {_short(world.clone)}: commit there and `git push` to have something new to deploy\n"
        f"talk     on the console's page, or: REGROW_RUNTIME_DIR={_short(world.socket.parent)} .venv/bin/regrow chat\n",
        flush=True,
    )


def _short(path: Path) -> str:
    return str(path.relative_to(CHECKOUT)) if path.is_relative_to(CHECKOUT) else str(path)


if __name__ == "__main__":
    raise SystemExit(main())
