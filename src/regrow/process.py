"""Commands: one door for running a program to its end, with a deadline and its output line by line."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import signal
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from regrow.errors import ProcessError, ProcessFailed, ProcessTimeout

LineSink = Callable[[str], None]

_READ_BYTES = 65536
_KILL_WAIT_S = 5.0
_LAST_WORDS_S = 1.0


@dataclass(frozen=True)
class Completed:
    """A command that has ended.

    Attributes:
        argv: what was run.
        code: exit code; minus the signal number when a signal ended it.
        output: stdout and stderr in the order they came, at most `keep_bytes`, its middle left out.
        seconds: how long it ran.
    """

    argv: tuple[str, ...]
    code: int
    output: str
    seconds: float

    def check(self, doing: str) -> Completed:
        """Return self, or raise ProcessFailed with the last line of output as the reason.

        Args:
            doing: words after "cannot", e.g. "read the commit".
        """
        if self.code != 0:
            last = next((line.strip() for line in reversed(self.output.splitlines()) if line.strip()), "")
            raise ProcessFailed(
                f"cannot {doing}: {self.argv[0]} ended with {exit_words(self.code)}" + (f": {last}" if last else ""),
                code=self.code,
                log=self.output,
            )
        return self


def exit_words(code: int) -> str:
    """An exit code in words: "exit code 1", "signal SIGKILL"."""
    if code < 0:
        try:
            return f"signal {signal.Signals(-code).name}"
        except ValueError:
            return f"signal {-code}"
    return f"exit code {code}"


def memory_kills() -> int:
    """How often the kernel has ended a process of this machine for want of memory since it booted."""
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text().splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


def boot_id() -> str:
    """Names this boot of the machine."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def process_age_s() -> float:
    """Seconds since this process was started, the interpreter's own start included (the kernel counts in 10 ms)."""
    with Path("/proc/self/stat").open() as file:
        started_ticks = int(file.read().rpartition(")")[2].split()[19])
    return time.clock_gettime(time.CLOCK_BOOTTIME) - started_ticks / os.sysconf("SC_CLK_TCK")


class _Kept:
    """The first and last half of a long output."""

    def __init__(self, limit: int) -> None:
        self._half = limit // 2
        self._head = bytearray()
        self._tail = bytearray()
        self._dropped = 0

    def add(self, chunk: bytes) -> None:
        room = self._half - len(self._head)
        if room > 0:
            self._head += chunk[:room]
            chunk = chunk[room:]
        self._tail += chunk
        excess = len(self._tail) - self._half
        if excess > 0:
            del self._tail[:excess]
            self._dropped += excess

    def text(self) -> str:
        middle = f"\n[... {self._dropped} bytes left out ...]\n".encode() if self._dropped else b""
        return (bytes(self._head) + middle + bytes(self._tail)).decode(errors="replace")


async def run(
    argv: Sequence[str],
    *,
    timeout_s: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: bytes | None = None,
    nice: int = 0,
    on_line: LineSink | None = None,
    keep_bytes: int = 1_000_000,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end; stdout and stderr are one stream.

    The program gets a session of its own. At the deadline, and when the caller is cancelled, the whole process
    group is killed and waited for.

    Args:
        argv: program and arguments; never a shell string.
        timeout_s: seconds until it is ended.
        cwd: working directory.
        env: its whole environment; the caller's own when None.
        stdin: bytes to feed; /dev/null when None.
        nice: added niceness, 0 to 19.
        on_line: called with each line of output, undecodable bytes replaced, without its end.
        keep_bytes: how much output the result keeps.
        pass_fds: descriptors the program inherits.

    Returns:
        The completed command, whatever its exit code.

    Raises:
        ProcessError: the program could not be started.
        ProcessTimeout: it was still running at the deadline; its output so far is in `log`.
    """
    started = time.monotonic()
    child = await _start(
        (*(("nice", "-n", str(nice)) if nice else ()), *argv),  # no preexec_fn: the daemon has threads
        cwd=cwd,
        env=env,
        stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        pass_fds=pass_fds,
    )
    kept = _Kept(keep_bytes)

    async def feed() -> None:
        if child.stdin is not None and stdin is not None:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                child.stdin.write(stdin)
                await child.stdin.drain()
            child.stdin.close()

    async def read() -> None:
        assert child.stdout is not None
        rest = b""
        while chunk := await child.stdout.read(_READ_BYTES):
            kept.add(chunk)
            if on_line is not None:
                *lines, rest = (rest + chunk).split(b"\n")
                # A line without an end must not grow for ever (10 MB of output on one line is an ordinary accident).
                if len(rest) > _READ_BYTES:
                    lines.append(rest)
                    rest = b""
                for line in lines:
                    on_line(line.decode(errors="replace").rstrip("\r"))
        if rest and on_line is not None:
            on_line(rest.decode(errors="replace"))

    try:
        async with asyncio.timeout(timeout_s):
            await asyncio.gather(feed(), read())
            code = await child.wait()
    except TimeoutError:
        await _end(child)
        raise ProcessTimeout(
            f"cannot finish {shlex.join(argv)[:200]}: still running after {timeout_s:g} s; "
            "raise its time limit or mend what makes it hang",
            log=kept.text(),
        ) from None
    except BaseException:
        await _end(child)
        raise
    return Completed(tuple(argv), code, kept.text(), time.monotonic() - started)


class Talk:
    """A program that is being talked to: its standard input and output are streams, its complaints are kept.

    Attributes:
        stdin, stdout: None where the caller gave a descriptor of its own.
    """

    def __init__(self, child: asyncio.subprocess.Process, complaints: _Kept) -> None:
        self.stdin, self.stdout = child.stdin, child.stdout
        self._child, self._complaints = child, complaints

    @property
    def code(self) -> int | None:
        """The exit code, minus the signal number when a signal ended it; None while it runs."""
        return self._child.returncode

    @property
    def complaints(self) -> str:
        """What it wrote to stderr so far, undecodable bytes replaced, its middle left out when it is long."""
        return self._complaints.text()

    async def ended(self) -> int:
        """Wait for its end, and return the code."""
        return await self._child.wait()


@asynccontextmanager
async def talk(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    stdin: int = asyncio.subprocess.PIPE,
    stdout: int = asyncio.subprocess.PIPE,
    line_bytes: int = 64 * 1024 * 1024,
    keep_bytes: int = 100_000,
    pass_fds: Sequence[int] = (),
) -> AsyncIterator[Talk]:
    """A program that is talked to. Leaving the block, in whichever way, kills its process group and waits for it.

    There is no time limit here: put `asyncio.timeout` around the block.

    Args:
        argv, cwd, env, pass_fds: as in `run`.
        stdin, stdout: descriptors to give it; a pipe, whose other end is in the result, when not given.
        line_bytes: the longest line that `stdout.readline` takes.
        keep_bytes: how much of stderr is kept.

    Raises:
        ProcessError: the program could not be started; kind "missing_command" when it does not exist.
    """
    child = await _start(
        argv,
        cwd=cwd,
        env=env,
        stdin=stdin,
        stdout=stdout,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
        limit=line_bytes,
    )
    complaints = _Kept(keep_bytes)

    async def listen() -> None:
        assert child.stderr is not None
        while chunk := await child.stderr.read(_READ_BYTES):
            complaints.add(chunk)

    listening = asyncio.create_task(listen())
    try:
        yield Talk(child, complaints)
    finally:
        if child.returncode is not None:
            # What it said last is on its way still; a grandchild that holds the pipe open is not waited for.
            await asyncio.wait({listening}, timeout=_LAST_WORDS_S)
        await _end(child)
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def _start(argv: Sequence[str], *, env: Mapping[str, str] | None, **options: Any) -> asyncio.subprocess.Process:
    try:
        return await asyncio.create_subprocess_exec(
            *argv, env=None if env is None else dict(env), start_new_session=True, **options
        )
    except FileNotFoundError as error:
        missing = error.filename or argv[0]
        raise ProcessError(
            f"cannot run {argv[0]}: {missing} does not exist; install it or correct the setting", kind="missing_command"
        ) from error
    except OSError as error:
        raise ProcessError(f"cannot run {argv[0]}: {error.strerror or error}; correct the setting") from error


async def _end(child: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    transport = child._transport  # type: ignore[attr-defined]  # the pipes stay open while a grandchild holds them
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_KILL_WAIT_S):
            await child.wait()
    transport.close()
