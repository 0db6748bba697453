"""A service whose record and logs lie on a file system of a few pages, which gets full. Run in a mount namespace."""

import asyncio
import contextlib
import itertools
import os
import signal
import subprocess
import sys
from pathlib import Path

from regrow.services.base import CandidateFailed, ServiceError
from regrow.testing import tiny_service
from regrow.testing.service_driver import wait_event
from regrow.testing.service_system import ServiceSystem


def fill(path):
    """Write until not one byte and not one file goes in any more."""
    with contextlib.suppress(OSError):
        for number in itertools.count():
            path.with_name(f"empty-{number}").touch()
    for size in (1024, 1):
        with contextlib.suppress(OSError), path.with_name("empty-0").open("ab", buffering=0) as file:
            while True:
                file.write(b"x" * size)


async def restart(system):
    """The service dies on a full disk, its log gone: it comes back, and a new release is refused with the reason."""
    await system.service.start(system.release("1", log=str(system.root / "logs/good.log")), "active", "a")
    (system.root / "logs/good.log").unlink()  # a start needs a new file now, for which there is no room
    fill(system.root / "filler")
    died = await system.service.status()
    os.kill(died.active.pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        now = died
        while now.state != "running" or now.active.pid == died.active.pid:
            await asyncio.sleep(0.02)
            now = await system.service.status()
    assert await system.ask() == "1"
    try:
        await system.service.start(system.release("2"), "candidate", "b")
    except (CandidateFailed, ServiceError) as error:
        assert "No space left on device" in str(error), error
    else:
        raise AssertionError("a release was started that could not be recorded")
    assert await system.ask() == "1"


async def chatty(system):
    """A log fills the disk: its oldest part goes, the newest lines stay, the service serves."""
    argv = (
        "/bin/sh",
        "-c",
        "(while :; do echo 0123456789012345678901234567890123456789012345678901234567890123; done 2>/dev/null) &"
        f" exec {sys.executable} -I -S {tiny_service.__file__}",
    )
    log = system.root / "logs/chatty.log"
    await system.service.start(system.release("1", argv=argv, log=str(log), log_bytes=200_000), "active", "a")
    event = await wait_event(system.service, 0, "log_trouble")
    assert "the disk is full" in event.data["cause"], event
    assert await system.ask() == "1"
    event = await wait_event(system.service, event.seq, "log_trouble")  # and again: it goes on
    assert await system.ask() == "1"


async def main(scenario, root):
    disk = root / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k,nr_inodes=64", "tmpfs", str(disk)], check=True)
    system = ServiceSystem(disk)
    system.runtime = root / "run"
    system.service = system.driver()
    try:
        await scenario(system)
    finally:
        await system.service.close(keep_service=False)


if __name__ == "__main__":
    asyncio.run(main({"restart": restart, "chatty": chatty}[sys.argv[1]], Path(sys.argv[2])))
