"""The box of bubblewrap: namespaces, a read-only view, no network, and a system-call filter.

The order of the mounts carries the meaning, later ones win: system, temporary directory, what may be read, the
read-only workspace, what may be written, masks, and `--remount-ro /` last. The attacks it was written against are in
`tests/integration/test_escape.py`.

As root the box's processes are root's outside (seen as uid 1000 inside, without a capability): what protects is what
is mounted. Dropping to a user of its own is not done yet.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from regrow import process
from regrow.errors import ProcessError, ProcessTimeout, Refused, RegrowError
from regrow.process import Completed, LineSink, Talk
from regrow.sandboxes import limits, seccomp
from regrow.sandboxes.base import Box

HOME = "/home/agent"
PATH = "/usr/local/bin:/usr/bin:/bin"
# bubblewrap itself gets nothing else: /proc/1/environ in the box is its environment, not the command's.
_OUTSIDE_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
_TEMPORARY_BYTES = 512 * 1024 * 1024
_SHARED_MEMORY_BYTES = 256 * 1024 * 1024
_OWN_NETWORK = Path("/proc/self/ns/net")
_OLDEST = (0, 6)
_DISABLE_USERNS = (0, 8)
_SIZE = (0, 8)
_CHECK_S = 20.0

# Read-only parts of /etc that programs need to run at all; nothing with a secret, an account or a host name in it.
_ETC = (
    "alternatives",
    "ca-certificates",
    "ca-certificates.conf",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "pki/ca-trust",
    "pki/tls/certs",
    "protocols",
    "services",
    "ssl/certs",
    "ssl/openssl.cnf",
    "timezone",
)
_ETC_PATTERNS = ("java-*", "python3*")
_SYSTEM = ("/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# Directories that hold what other programs live on; a box never gets them whole.
_NEVER = ("/", "/boot", "/dev", "/etc", "/home", "/proc", "/root", "/run", "/sys", "/usr", "/var", "/var/lib", "/tmp")  # noqa: S108

# Gives a descriptor with these bytes under this name to bwrap.
_Hold = Callable[[bytes, str], int]

_INSTALL = "install it: `apt install bubblewrap`, `dnf install bubblewrap` or `pacman -S bubblewrap`"


class BubblewrapSandbox:
    """Boxes made by bwrap(1).

    Args:
        protected: directories that hold secrets or Regrow's own state; no box may see an ancestor of one or one itself.
        program: the bwrap program.
    """

    name = "bubblewrap"

    def __init__(self, protected: Sequence[Path] = (), program: str = "bwrap") -> None:
        self._protected = tuple(Path(os.path.realpath(path)) for path in protected)
        self._program = program
        self._found: tuple[str, tuple[int, int]] | None = None

    async def check(self) -> None:
        """Prove by attempts that a box can be made here and that it holds.

        Raises:
            Refused: kind "no_sandbox"; says what to install or set.
        """
        connected = asyncio.Event()

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            writer.close()

        with tempfile.TemporaryDirectory(prefix="regrow-check-") as name:
            outside, workspace = await asyncio.to_thread(_trial, Path(name))
            listener = await asyncio.start_server(greet, "127.0.0.1", 0)
            async with listener:
                port = listener.sockets[0].getsockname()[1]
                try:
                    completed = await self.run(
                        ("/bin/sh", "-c", _CHECK_SCRIPT, "check", str(port), str(outside)),
                        Box(workspace=workspace),
                        timeout_s=_CHECK_S,
                    )
                except ProcessTimeout as error:
                    raise Refused(
                        f"cannot make a box: a trial command was still running after {_CHECK_S:g} s; "
                        "look at the load of this machine",
                        kind="no_sandbox",
                        log=error.log,
                    ) from error
            held = "box-held" in completed.output and completed.code == 0
            leaks = [line.removeprefix("leak: ") for line in completed.output.splitlines() if line.startswith("leak: ")]
            if connected.is_set():
                leaks.append("the network of this machine was reached")
            leaks += await asyncio.to_thread(_leaks_outside, outside, workspace, completed.output)
            if leaks or not held:
                why = "; ".join(leaks) or f"a trial command ended with {process.exit_words(completed.code)}"
                raise Refused(
                    f"cannot trust the box of {self._program}: {why}; update bubblewrap and the kernel",
                    kind="no_sandbox",
                    log=completed.output,
                )

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
        """Run a command in the box to its end, with all it started.

        A command that a signal ended has the code 128 plus the signal's number, as in a shell.

        Args:
            argv: program and arguments; 126 or 127 is the code when it cannot be started.
            box: what it may see and write.
            timeout_s: seconds until the box is ended.
            stdin: bytes to feed; nothing when None.
            on_line: receives each line of output.
            keep_bytes: how much output the result keeps.

        Raises:
            Refused: kind "no_sandbox" when bubblewrap is missing or cannot work here, kind "box_path" when the box
                names a path that it must not have.
            ProcessError: kind "box_failed", when the box could not be made; the command has not run.
            ProcessTimeout: as `regrow.process.run`.
        """
        async with self._made(argv, box) as (words, descriptors, status):
            completed = await process.run(
                words,
                timeout_s=timeout_s,
                env=_OUTSIDE_ENV,
                stdin=stdin,
                on_line=on_line,
                keep_bytes=keep_bytes,
                pass_fds=descriptors,
            )
            started = _started(status)
        if not started:
            raise _not_made(completed.output)
        return Completed(tuple(argv), completed.code, completed.output, completed.seconds)

    @contextlib.asynccontextmanager
    async def talk(
        self,
        argv: Sequence[str],
        box: Box,
        *,
        stdin: int = asyncio.subprocess.PIPE,
        stdout: int = asyncio.subprocess.PIPE,
    ) -> AsyncIterator[Talk]:
        """Talk to a command in the box; arguments and errors as in `regrow.sandboxes.base`.

        Leaving the block kills bwrap, and the kernel then ends every process of the box, whatever sessions it made.
        """
        async with self._made(argv, box) as (words, descriptors, status):
            talk = process.talk(words, env=_OUTSIDE_ENV, stdin=stdin, stdout=stdout, pass_fds=descriptors)
            try:
                async with talk as running:
                    try:
                        yield running
                    finally:
                        ended = running.code is not None
            except Exception as error:
                if ended and not _started(status):  # whatever else went wrong, it is because there was no box
                    raise _not_made(running.complaints) from error
                raise
            if ended and not _started(status):
                raise _not_made(running.complaints)

    @contextlib.asynccontextmanager
    async def _made(self, argv: Sequence[str], box: Box) -> AsyncIterator[tuple[tuple[str, ...], list[int], int]]:
        """The whole command, the descriptors it inherits, and the one on which bwrap reports."""
        program, version = await self._find()
        filters = seccomp.program()
        with contextlib.ExitStack() as stack:

            def hold(content: bytes, name: str) -> int:
                descriptor = seccomp.memory_file(content, name)
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
                return descriptor

            descriptors: list[int] = []
            status = hold(b"", "status")
            options = await asyncio.to_thread(self._options, box, version, hold)
            for name, content in _accounts().items():
                options += ["--ro-bind-data", str(hold(content, name)), f"/etc/{name}"]
            options += ["--seccomp", str(hold(filters, "filter")), "--json-status-fd", str(status)]
            options += ["--remount-ro", "/", "--chdir", str(box.workspace), "--"]
            async with limits.counted(box.processes) as prefix:
                yield (*prefix, program, *options, *limits.limited(tuple(argv), box)), descriptors, status

    async def _find(self) -> tuple[str, tuple[int, int]]:
        if self._found is not None:
            return self._found
        program = shutil.which(self._program, path=_OUTSIDE_ENV["PATH"])
        if program is None:
            raise Refused(f"cannot make a box: {self._program} is not installed; {_INSTALL}", kind="no_sandbox")
        for helper in limits.PROGRAMS:
            if shutil.which(helper) is None:
                raise Refused(
                    f"cannot make a box: {helper} is missing; install util-linux and coreutils", kind="no_sandbox"
                )
        answer = await process.run((program, "--version"), timeout_s=_CHECK_S, env=_OUTSIDE_ENV)
        found = re.search(r"(\d+)\.(\d+)", answer.output)
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        if version < _OLDEST:
            raise Refused(
                f"cannot make a box: bubblewrap {answer.output.strip()[:40]!r} is older than "
                f"{_OLDEST[0]}.{_OLDEST[1]}; {_INSTALL}",
                kind="no_sandbox",
            )
        self._found = program, version
        return self._found

    def _options(self, box: Box, version: tuple[int, int], hold: _Hold) -> list[str]:
        workspace = self._exact(box.workspace, "workspace")
        writable = [self._exact(path, "writable directory") for path in box.writable]
        readable = [self._readable(path) for path in box.readable]
        home = None if box.home is None else self._exact(box.home, "home")

        words = ["--unshare-user", "--unshare-all", "--die-with-parent", "--new-session", "--clearenv"]
        if version >= _DISABLE_USERNS:
            words.append("--disable-userns")
        if os.geteuid() == 0:  # programs that refuse to work as root, or that take more rights as root, do not see it
            words += ["--uid", "1000", "--gid", "1000"]
        words += ["--hostname", "regrow", "--cap-drop", "ALL", "--ro-bind", "/usr", "/usr"]
        for name in _SYSTEM:
            path = Path(name)
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), name]
            elif path.is_dir():
                words += ["--ro-bind", name, name]
        etc = Path("/etc")
        for path in (*(etc / name for name in _ETC), *(p for pattern in _ETC_PATTERNS for p in etc.glob(pattern))):
            if path.exists():
                words += ["--ro-bind", str(path.resolve()), str(path)]

        def memory(where: str, size: int, mode: str) -> list[str]:
            return ["--perms", mode, *(("--size", str(size)) if version >= _SIZE else ()), "--tmpfs", where]

        words += ["--dev", "/dev", *memory("/dev/shm", _SHARED_MEMORY_BYTES, "1777"), "--remount-ro", "/dev"]  # noqa: S108
        # bwrap covers /proc/sys only where a look says that it can be written, and as root that look is wrong: the
        # kernel lets uid 0 set core_pattern, which starts programs on the host, without any capability.
        words += ["--proc", "/proc", "--remount-ro", "/proc", *memory("/tmp", _TEMPORARY_BYTES, "1777")]  # noqa: S108
        if home is None:
            words += memory(HOME, _TEMPORARY_BYTES, "0700")
        else:
            words += ["--bind", str(home), HOME]
        for seen, real in readable:
            words += ["--ro-bind", str(real), str(seen)]
            if seen != real:
                words += ["--ro-bind", str(real), str(real)]
        words += ["--ro-bind", str(workspace), str(workspace)]
        for path in writable:
            words += ["--bind", str(path), str(path)]
        for path in box.masked:
            words += self._mask(path, (workspace, *(real for _, real in readable)), hold)
        # Toolchains come first: a virtual environment that is named is the one that is meant.
        bins = [str(seen / "bin") for seen, real in readable if (real / "bin").is_dir()]
        variables = {"PATH": ":".join((*bins, PATH)), "LANG": "C.UTF-8", **box.env, "HOME": HOME}
        for name, value in variables.items():
            words += ["--setenv", name, value]
        return words

    def _exact(self, path: Path, what: str) -> Path:
        """`path`, when it is a directory under its own real name."""
        real = os.path.realpath(path)
        if real != os.path.normpath(path) or not path.is_absolute():
            raise Refused(
                f"cannot make a box: the {what} {path} leads to {real}; give its real absolute path", kind="box_path"
            )
        if not os.path.isdir(real):  # noqa: PTH112  a word of the string world, like the two above
            raise Refused(f"cannot make a box: the {what} {path} is not a directory; create it first", kind="box_path")
        self._harmless(Path(real), what)
        return Path(real)

    def _readable(self, path: Path) -> tuple[Path, Path]:
        seen, real = Path(os.path.normpath(path)), Path(os.path.realpath(path))
        if not seen.is_absolute() or not real.exists():
            raise Refused(
                f"cannot make a box: the readable path {path} does not exist; correct or remove it", kind="box_path"
            )
        self._harmless(real, "readable path")
        self._harmless(seen, "readable path")
        return seen, real

    def _harmless(self, path: Path, what: str) -> None:
        person = Path(os.path.realpath(os.path.expanduser("~")))  # noqa: PTH111  Path.home() raises without an account
        if str(path) in _NEVER or any(path == kept or path in kept.parents for kept in (person, *self._protected)):
            raise Refused(
                f"cannot make a box: the {what} {path} holds more than the job's own; name a directory below it",
                kind="box_path",
            )

    def _mask(self, path: Path, visible: Sequence[Path], hold: _Hold) -> list[str]:
        real = Path(os.path.realpath(path))
        if not real.exists() or not any(root == real or root in real.parents for root in visible):
            return []
        if real.is_dir():
            return ["--tmpfs", str(real), "--remount-ro", str(real)]
        # An empty regular file and not /dev/null: git reads it without an error (agents.md section 3).
        return ["--ro-bind-data", str(hold(b"", "mask")), str(real)]


# Printed lines that begin with "leak: " say what the box failed to keep.
_CHECK_SCRIPT = r"""
leak() { echo "leak: $1"; }
echo "net $(readlink /proc/self/ns/net)"
if tr '\0' '\n' </proc/1/environ 2>/dev/null | grep -v '^PATH=' | grep -q .; then
  leak "the environment of the daemon can be read"
fi
touch ./written 2>/dev/null && leak "the read-only workspace can be written"
[ -w / ] && leak "the root directory can be written"
for name in sys/kernel/core_pattern sysrq-trigger self/oom_score_adj; do
  [ -w "/proc/$name" ] && leak "/proc/$name can be written"
done
touch "$2/written" 2>/dev/null
bash -c "exec 3<>/dev/tcp/127.0.0.1/$1" 2>/dev/null && leak "the network of this machine was reached"
unshare --user true 2>/dev/null && leak "a new user namespace can be made"
echo box-held
"""


def _trial(directory: Path) -> tuple[Path, Path]:
    outside = directory.resolve()
    workspace = outside / "workspace"
    workspace.mkdir()
    return outside, workspace


def _leaks_outside(outside: Path, workspace: Path, output: str) -> list[str]:
    leaks = []
    if any(path != workspace for path in outside.rglob("*")):
        leaks.append("a file outside was written")
    if f"net {_OWN_NETWORK.readlink()}" in output:
        leaks.append("it shares the network of this machine")
    return leaks


def _accounts() -> dict[str, bytes]:
    """Account files that name nobody of this machine."""
    user, group = (1000, 1000) if os.geteuid() == 0 else (os.getuid(), os.getgid())
    return {
        "passwd": f"agent:x:{user}:{group}:agent:{HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n".encode(),
        "group": f"agent:x:{group}:\nnogroup:x:65534:\n".encode(),
        "hosts": b"127.0.0.1 localhost regrow\n::1 localhost\n",
        "nsswitch.conf": b"passwd: files\ngroup: files\nhosts: files\n",
    }


def _reports(descriptor: int) -> list[dict[str, object]]:
    """The JSON objects that bwrap wrote to its status descriptor."""
    text = os.pread(descriptor, 65536, 0).decode(errors="replace")
    reports = []
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            reports.append(dict(json.loads(line)))
    return reports


def _started(status: int) -> bool:
    """Whether the command was started, and has ended. bwrap reports a code only then: its own failures end with 1 as
    well, and must not be taken for a reproduction that failed."""
    return any("exit-code" in report for report in _reports(status))


def _not_made(output: str) -> RegrowError:
    """Why a box could not be made, from what bwrap said."""
    said = next((line for line in reversed(output.splitlines()) if line.strip()), "no reason given")
    if re.search(r"namespace|uid map|gid map|RTM_NEW|unprivileged", output):
        return Refused(
            f"cannot make a box: the kernel refuses user namespaces ({said.strip()}); allow them with "
            "`sysctl kernel.unprivileged_userns_clone=1 user.max_user_namespaces=15000`, on Ubuntu 24 and later also "
            "`sysctl kernel.apparmor_restrict_unprivileged_userns=0` or an AppArmor profile for bwrap",
            kind="no_sandbox",
            log=output,
        )
    return ProcessError(
        f"cannot make the box: {said.strip()}; look at the paths it names", kind="box_failed", log=output
    )
