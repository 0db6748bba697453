"""Processes: fork and exec by hand, adoption by pid and start time, signals through pidfds only (F41)."""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import signal
import socket
from collections.abc import Callable

_HANDLED = (
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGPIPE,
    signal.SIGXFSZ,
    signal.SIGCHLD,
    signal.SIGQUIT,
)
_PIDFD_GETFD = 438  # the same number on every architecture


def start_time(pid: int) -> int | None:
    """Start of a process in clock ticks since boot; with the boot id and pid it names a process for ever."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:  # noqa: PTH123
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def signal_words(number: int) -> str:
    try:
        return f"killed by {signal.Signals(number).name}"
    except ValueError:
        return f"killed by signal {number}"


class Process:
    """One process that we started (`child`) or adopted; it is the leader of a session of its own."""

    def __init__(self, pid: int, start: int, pidfd: int, child: bool) -> None:
        self.pid, self.start, self.pidfd, self.child = pid, start, pidfd, child

    def alive(self) -> bool:
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        return not poll.poll(0)

    def send(self, number: int) -> bool:
        """Signal this very process; False if it is dead (a zombie takes signals without a word)."""
        if not self.alive():
            return False
        try:
            signal.pidfd_send_signal(self.pidfd, number)
        except ProcessLookupError:
            return False
        return True

    def kill_session(self) -> None:
        """SIGKILL the process and what it left in its group. Our own child keeps its pid until it is reaped, so
        the number cannot be another's; of an adopted one the start time is compared first."""
        self.send(signal.SIGKILL)
        if self.child or start_time(self.pid) in (self.start, None):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, signal.SIGKILL)

    def reap(self) -> str:
        """Bury a dead process and say how it ended."""
        self.kill_session()  # workers that outlive their leader would go on taking connections
        if not self.child:
            self.close()
            return "ended (status unknown: it was adopted from an earlier supervisor)"
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED | os.WNOHANG)
        self.close()
        if result is None:
            return "ended"
        if result.si_code == os.CLD_EXITED:
            return f"exit code {result.si_status}"
        return signal_words(result.si_status)

    def close(self) -> None:
        os.close(self.pidfd)


def adopt(pid: int, start: int) -> Process | None:
    """Take over a process that an earlier supervisor started; None if it is gone or the pid is another's now."""
    if start_time(pid) != start:
        return None
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    if start_time(pid) != start:  # it died between the two looks
        os.close(pidfd)
        return None
    return Process(pid, start, pidfd, child=False)


class Birth:
    """A forked child that waits for `go`, so that its pid is on disk before its program runs: if the supervisor
    is killed in between, the child sees the pipe close and ends. `errors` closes at exec, or tells why not."""

    def __init__(self, process: Process, go: int, errors: int) -> None:
        self.process, self._go, self.errors = process, go, errors
        self._said = b""

    def go(self) -> None:
        with contextlib.suppress(BrokenPipeError):
            os.write(self._go, b"g")
        os.close(self._go)

    def abandon(self) -> None:
        os.close(self._go)

    def descriptor(self, seconds: float) -> int | None:
        """What `prepare` sends from the child over `errors`, waited for; None when it failed, see `error`."""
        if not select.select([self.errors], [], [], seconds)[0]:
            return None
        channel = socket.socket(fileno=self.errors)
        try:
            said, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        except OSError:
            return None
        finally:
            channel.detach()
        if descriptors:
            return descriptors[0]
        self._said = said
        return None

    def error(self) -> tuple[int, str] | None:
        """What stopped the exec, as (errno, text), or None; to be called when `errors` can be read."""
        text, self._said = self._said, b""
        with contextlib.suppress(BlockingIOError):
            text += os.read(self.errors, 4096)
        if not text:
            return None
        number, _, what = text.decode(errors="replace").partition(" ")
        return int(number), f"cannot {what}: {os.strerror(int(number))}"


def fork(  # noqa: PLR0917
    argv: list[str],
    cwd: str,
    env: dict[str, str],
    fds: list[int],
    log: int,
    nice: int = 0,
    prepare: Callable[[int], None] | None = None,
) -> Birth:
    """Fork a child that will run argv in a session of its own with `fds` as 3, 4, ... and nothing else open. Before its
    `go` it calls `prepare` with the socket whose other end is `errors`, over which that may send a descriptor."""
    go_read, go_write = os.pipe2(os.O_CLOEXEC)
    error_read, error_write = (end.detach() for end in socket.socketpair())
    os.set_blocking(error_read, False)
    # Signals are blocked over the fork: until the child has reset its handlers it shares our wake-up pipe.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        pid = os.fork()
        if pid == 0:
            _child(argv, cwd, env, fds, log, nice, go_read, error_write, prepare)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    os.close(go_read)
    os.close(error_write)
    return Birth(Process(pid, start_time(pid) or 0, os.pidfd_open(pid), child=True), go_write, error_read)


def _child(  # noqa: PLR0917
    argv: list[str],
    cwd: str,
    env: dict[str, str],
    fds: list[int],
    log: int,
    nice: int,
    go: int,
    errors: int,
    prepare: Callable[[int], None] | None,
) -> None:
    what = "start"
    try:
        signal.set_wakeup_fd(-1)
        for number in _HANDLED:
            signal.signal(number, signal.SIG_DFL)
        os.setsid()
        null = os.open("/dev/null", os.O_RDONLY)
        # First out of the way, then into place: a source may have the number that another one goes to.
        moved = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64 + len(fds)) for fd in (go, errors, log, null, *fds)]
        go, errors, log, null, *fds = moved
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        for position, fd in enumerate(fds):
            os.dup2(fd, 3 + position, inheritable=True)
        last = 3 + len(fds)
        os.dup2(go, last, inheritable=False)
        os.dup2(errors, last + 1, inheritable=False)
        os.closerange(last + 2, os.sysconf("SC_OPEN_MAX"))
        go, errors = last, last + 1
        if prepare is not None:
            prepare(errors)
        # The supervisor may hold a write end of its own in other forks; only this child's counts, see `abandon`.
        if os.read(go, 1) != b"g":
            os._exit(127)
        if nice:
            with contextlib.suppress(OSError):
                os.nice(nice)
        what = f"enter {cwd}"
        os.chdir(cwd)
        what = f"run {argv[0]}"
        if "LISTEN_FDS" in env:
            env["LISTEN_PID"] = str(os.getpid())
        if "WATCHDOG_USEC" in env:
            env["WATCHDOG_PID"] = str(os.getpid())
        signal.pthread_sigmask(signal.SIG_SETMASK, [])
        os.execvpe(argv[0], argv, env)  # noqa: S606
    except OSError as error:
        os.write(errors, f"{error.errno or errno.EINVAL} {what}".encode())
    except BaseException:  # noqa: S110 - nothing may return into the supervisor's loop in this process
        pass
    finally:
        os._exit(127)


def sockets_of(process: Process) -> list[int]:
    """Copies of the sockets of a running process (needs the right to trace it: same user, no hardening)."""
    libc = ctypes.CDLL(None, use_errno=True)
    copies = []
    with contextlib.suppress(OSError):
        for name in os.listdir(f"/proc/{process.pid}/fd"):  # noqa: PTH208
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{process.pid}/fd/{name}").startswith("socket:"):  # noqa: PTH115
                    fd = libc.syscall(_PIDFD_GETFD, process.pidfd, int(name), 0)
                    if fd >= 0:
                        os.set_inheritable(fd, False)
                        copies.append(fd)
    return copies
