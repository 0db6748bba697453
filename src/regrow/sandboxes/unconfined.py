"""No box at all: commands run as the daemon does, on the whole machine. For tests, and behind a setting that names the
risk."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from regrow import process
from regrow.process import Completed, LineSink, Talk
from regrow.sandboxes import limits
from regrow.sandboxes.base import Box

_PATH = "/usr/local/bin:/usr/bin:/bin"


class UnconfinedSandbox:
    """Runs commands where they are. Nothing of `writable`, `readable` and `masked` is enforced; the environment, the
    home and the limits are. A child that starts a session of its own outlives the deadline."""

    name = "unconfined"

    async def check(self) -> None:
        """Always possible."""

    async def run(
        self,
        argv: Sequence[str],
        box: Box,
        *,
        timeout_s: float,
        stdin: bytes | None = None,
        on_line: LineSink | None = None,
        keep_bytes: int = 1_000_000,
    ) -> Completed:
        """Run a command in the workspace; arguments, result and errors as in `regrow.sandboxes.base`."""
        async with _place(box) as env:
            completed = await process.run(
                limits.limited(tuple(argv), box),
                timeout_s=timeout_s,
                cwd=box.workspace,
                env=env,
                stdin=stdin,
                on_line=on_line,
                keep_bytes=keep_bytes,
            )
        return Completed(tuple(argv), completed.code, completed.output, completed.seconds)

    @asynccontextmanager
    async def talk(
        self,
        argv: Sequence[str],
        box: Box,
        *,
        stdin: int = asyncio.subprocess.PIPE,
        stdout: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[Talk]:
        """Talk to a command in the workspace; as in `regrow.sandboxes.base`."""
        async with (
            _place(box) as env,
            process.talk(
                limits.limited(tuple(argv), box), cwd=box.workspace, env=env, stdin=stdin, stdout=stdout
            ) as talk,
        ):
            yield talk


@asynccontextmanager
async def _place(box: Box) -> AsyncIterator[dict[str, str]]:
    """The environment of a command, with a home to use meanwhile."""
    with tempfile.TemporaryDirectory(prefix="regrow-home-", ignore_cleanup_errors=True) as fresh:
        bins = await asyncio.to_thread(lambda: [str(p / "bin") for p in box.readable if (p / "bin").is_dir()])
        home = str(box.home or Path(fresh))
        yield {"PATH": ":".join((*bins, _PATH)), "LANG": "C.UTF-8", **box.env, "HOME": home}
