"""The box of bubblewrap: namespaces, a read-only view, no network, and a system-call filter.

The order of the mounts carries the meaning, later ones win: system, temporary directory, what may be read, the
read-only workspace, what may be written, masks, and `--remount-ro /` last. The attacks it was written against are in
`tests/integration/test_escape.py`.

Made by root, a box has a user of its own (`own_user`); made by anybody else, its processes are that user's outside, and
what protects is what is mounted.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

from regrow import process
from regrow.errors import ProcessError, ProcessTimeout, Refused, RegrowError
from regrow.process import Completed, LineSink, Talk
from regrow.sandboxes import egress, limits, own_user, seccomp
from regrow.sandboxes.base import NO_MOST, Attempt, Box, Most

HOME = "/home/agent"
SOCKETS = "/run/regrow"
PATH = "/usr/local/bin:/usr/bin:/bin"
# bubblewrap itself gets nothing else: /proc/1/environ in the box is its environment, not the command's.
_OUTSIDE_ENV = {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
_SHARED_MEMORY_BYTES = 256 * 1024 * 1024
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

_SOCKET_NAME = re.compile(r"[a-z][a-z0-9.-]{0,40}")

# Gives a descriptor with these bytes under this name to bwrap.
_Hold = Callable[[bytes, str], int]

_INSTALL = "install it: `apt install bubblewrap`, `dnf install bubblewrap` or `pacman -S bubblewrap`"


class BubblewrapSandbox:
    """Boxes made by bwrap(1).

    Args:
        protected: directories that hold secrets or Regrow's own state; no box may see an ancestor of one or one itself.
        program: the bwrap program.
        own: give a box of root's a user of its own (see `regrow.sandboxes.own_user`).
        most: what any box may use at most.
    """

    name = "bubblewrap"

    def __init__(
        self, protected: Sequence[Path] = (), program: str = "bwrap", *, own: bool = True, most: Most = NO_MOST
    ) -> None:
        self._protected = tuple(Path(os.path.realpath(path)) for path in protected)
        self._program = program
        self._own_user = own_user.possible() if own else False
        self._most = most
        self._loans = own_user.Loans()
        self._found: tuple[str, tuple[int, int]] | None = None

    def filters(self) -> bytes:
        """The system-call filter of a box."""
        return seccomp.program()

    async def check(self) -> None:
        """Prove by attempts that a box can be made here and that it holds.

        Raises:
            Refused: kind "no_sandbox"; says what to install or set.
        """
        leaks = [attempt.detail or attempt.name for attempt in await self.prove() if not attempt.held]
        if leaks:
            raise Refused(
                f"cannot trust the box of {self._program}: {'; '.join(leaks)}; update bubblewrap and the kernel",
                kind="no_sandbox",
            )

    async def prove(self) -> Sequence[Attempt]:
        """Try to get out; what was tried and how it ended. Errors as in `regrow.sandboxes.base`."""
        connected = asyncio.Event()

        async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            connected.set()
            writer.close()

        with tempfile.TemporaryDirectory(prefix="regrow-check-") as name:
            canary = secrets.token_hex(16)
            outside, workspace = await asyncio.to_thread(_trial, Path(name), canary)
            listener = await asyncio.start_server(greet, "127.0.0.1", 0)
            async with listener:
                port = listener.sockets[0].getsockname()[1]
                try:
                    completed = await self.run(
                        ("/bin/sh", "-c", _CHECK_SCRIPT, "check", str(port), str(outside)),
                        Box(workspace=workspace, masked=(workspace / ".env",), processes=64),
                        timeout_s=_CHECK_S,
                    )
                except ProcessTimeout as error:
                    raise Refused(
                        f"cannot make a box: a trial command was still running after {_CHECK_S:g} s; "
                        "look at the load of this machine",
                        kind="no_sandbox",
                        log=error.log,
                    ) from error
            found = dict(line.split("\t", 1) for line in completed.output.splitlines() if "\t" in line)
            attempts = [
                Attempt(name, found.get(key) == "held", "" if found.get(key) == "held" else leak)
                for key, (name, leak) in _ATTEMPTS.items()
            ]
            spaces = [space for space in _SPACES if found.get(f"ns {space}") in (None, _own_space(space))]
            network = [*(["the network of this machine was reached"] if connected.is_set() else [])]
            written = await asyncio.to_thread(_written, outside)
            users = self._own_user and str(own_user.OUTSIDE) not in found.get("user", "").split()
            attempts += [
                Attempt(
                    "namespaces of its own",
                    not spaces,
                    f"it shares {' '.join(spaces)} with this machine" * bool(spaces),
                ),
                Attempt("the network, heard outside", not network, *network),
                Attempt("files outside, looked at", not written, "a file outside was written" * written),
                Attempt("a secret in what it printed", canary not in completed.output, ""),
                Attempt("a user of its own", not users, "its processes are root's outside" * users),
            ]
            if completed.code != 0:
                why = f"a trial command ended with {process.exit_words(completed.code)}"
                attempts.append(Attempt("a trial command", False, why))
            return tuple(attempts)

    async def held_limits(self) -> frozenset[str]:
        """Which limits of a whole box are held by a control group here, or by the kernel's count of a user."""
        async with limits.grouped(Box(Path("/"), memory_bytes=1 << 30, processes=64, cpus=1.0)) as group:
            return group.held | ({"pids"} if self._own_user or os.geteuid() != 0 else set())

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
        filters = self.filters()
        async with contextlib.AsyncExitStack() as stack:

            def hold(content: bytes, name: str) -> int:
                descriptor = seccomp.memory_file(content, name)
                stack.callback(os.close, descriptor)
                descriptors.append(descriptor)
                return descriptor

            descriptors: list[int] = []
            status = hold(b"", "status")
            argv, box = await stack.enter_async_context(egress.way_out(argv, self._most.of(box)))
            options = await asyncio.to_thread(self._options, box, version, hold)
            for name, content in _accounts().items():
                options += ["--perms", "0444", "--ro-bind-data", str(hold(content, name)), f"/etc/{name}"]
            mapping = None
            if self._own_user:
                await stack.enter_async_context(self._loans.lent(await asyncio.to_thread(_lent, box)))
                mapping = own_user.Mapping()
                stack.enter_context(mapping.ready())
                options += mapping.options
                descriptors += mapping.descriptors
            options += ["--seccomp", str(hold(filters, "filter")), "--json-status-fd", str(status)]
            options += ["--remount-ro", "/", "--chdir", str(box.workspace), "--"]
            group = await stack.enter_async_context(limits.grouped(box))
            become = own_user.BECOME if self._own_user else ()
            words = (*limits.rlimits(box, group.held), *become, *limits.niced(box), *argv)
            yield (*group.prefix, program, *options, *words), descriptors, status
            if mapping is not None and mapping.failure is not None:
                raise own_user.not_mapped(mapping.failure)

    async def _find(self) -> tuple[str, tuple[int, int]]:
        if self._found is not None:
            return self._found
        program = shutil.which(self._program, path=_OUTSIDE_ENV["PATH"])
        if program is None:
            raise Refused(f"cannot make a box: {self._program} is not installed; {_INSTALL}", kind="no_sandbox")
        for helper in (*limits.PROGRAMS, *((own_user.SETPRIV,) if self._own_user else ())):
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
        words += ["--hostname", "regrow", "--cap-drop", "ALL"]
        if self._own_user:  # the filter alone refuses namespaces then: bwrap cannot do both
            words += [word for capability in own_user.CAPABILITIES for word in ("--cap-add", capability)]
        elif version >= _DISABLE_USERNS:
            words.append("--disable-userns")
        if os.geteuid() == 0 and not self._own_user:  # programs that refuse to work as root do not see it
            words += ["--uid", "1000", "--gid", "1000"]
        words += ["--ro-bind", "/usr", "/usr"]
        made: set[Path] = set()

        def bind(kind: str, real: Path, seen: Path) -> list[str]:
            """A mount, and the directories it lies in: bwrap alone would make some that only root may enter."""
            above = [path for path in reversed(seen.parents) if path not in made and path != path.parent]
            made.update(above)
            return [
                *(word for path in above for word in ("--perms", "0755", "--dir", str(path))),
                kind,
                str(real),
                str(seen),
            ]

        for name in _SYSTEM:
            path = Path(name)
            if path.is_symlink():
                words += ["--symlink", str(path.readlink()), name]
            elif path.is_dir():
                words += ["--ro-bind", name, name]
        etc = Path("/etc")
        for path in (*(etc / name for name in _ETC), *(p for pattern in _ETC_PATTERNS for p in etc.glob(pattern))):
            if path.exists():
                words += bind("--ro-bind", path.resolve(), path)

        def memory(where: str, size: int, mode: str) -> list[str]:
            return ["--perms", mode, *(("--size", str(size)) if version >= _SIZE else ()), "--tmpfs", where]

        words += ["--dev", "/dev", *memory("/dev/shm", _SHARED_MEMORY_BYTES, "1777"), "--remount-ro", "/dev"]  # noqa: S108
        # bwrap covers /proc/sys only where a look says that it can be written, and as root that look is wrong: the
        # kernel lets uid 0 set core_pattern, which starts programs on the host, without any capability.
        words += ["--proc", "/proc", "--remount-ro", "/proc", *memory("/tmp", box.temporary_bytes, "1777")]  # noqa: S108
        if home is None:  # made by root and used by another, where the box has a user of its own
            words += [
                "--perms",
                "0755",
                "--dir",
                "/home",
                *memory(HOME, box.temporary_bytes, "0777" if self._own_user else "0700"),
            ]
        else:
            words += bind("--bind", home, Path(HOME))
        for seen, real in readable:
            words += bind("--ro-bind", real, seen)
            if seen != real:
                words += bind("--ro-bind", real, real)
        words += bind("--ro-bind", workspace, workspace)
        for path in writable:
            words += bind("--bind", path, path)
        for name, path in box.sockets.items():
            words += bind("--bind", self._socket(name, path), Path(SOCKETS, name))
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

    def _socket(self, name: str, path: Path) -> Path:
        real = Path(os.path.realpath(path))
        if not _SOCKET_NAME.fullmatch(name) or not real.is_socket():
            raise Refused(f"cannot make a box: {path} is no socket to be named {name!r}", kind="box_path")
        if self._own_user:
            os.chown(real, own_user.OUTSIDE, own_user.OUTSIDE)
        return real

    def _mask(self, path: Path, visible: Sequence[Path], hold: _Hold) -> list[str]:
        real = Path(os.path.realpath(path))
        if not real.exists() or not any(root == real or root in real.parents for root in visible):
            return []
        if real.is_dir():
            return ["--tmpfs", str(real), "--remount-ro", str(real)]
        # An empty regular file and not /dev/null: git reads it without an error (agents.md section 3).
        return ["--perms", "0444", "--ro-bind-data", str(hold(b"", "mask")), str(real)]


# What is tried in the box: its key in the script's output, its name for people, and what to say when it got out.
_ATTEMPTS = {
    "environment": ("the environment of the daemon", "the environment of the daemon can be read"),
    "read": ("reading a file outside", "a file outside was read"),
    "mask": ("reading a masked secret", "a masked file can be read"),
    "workspace": ("writing the read-only workspace", "the read-only workspace can be written"),
    "root": ("writing the root directory", "the root directory can be written"),
    "kernel": ("settings of the kernel", "a setting of the kernel can be written"),
    "processes": ("processes of this machine", "processes of this machine can be seen"),
    "network": ("the network of this machine", "the network of this machine was reached"),
    "namespace": ("a new user namespace", "a new user namespace can be made"),
    "mount": ("a new mount namespace", "a new mount namespace can be made"),
    "capabilities": ("capabilities", "it has capabilities"),
    "privileges": ("new privileges", "it can gain privileges"),
    "filter": ("system calls that are filtered", "no system-call filter is on"),
}
_SPACES = ("net", "pid", "mnt", "user", "ipc", "uts")

# Prints "KEY\theld" or "KEY\tleak" for each attempt. All are harmless on the day the box fails.
_CHECK_SCRIPT = r"""
try() { key=$1; shift; if "$@" >/dev/null 2>&1; then echo "$key	leak"; else echo "$key	held"; fi; }
environment() { tr '\0' '\n' </proc/1/environ | grep -v '^PATH=' | grep -q .; }
kernel() {
  for name in sys/kernel/core_pattern sysrq-trigger self/oom_score_adj; do
    [ -w "/proc/$name" ] && return 0
  done
  return 1
}
many() { [ $# -gt 12 ]; }
status() { while read -r key value; do [ "$key" = "$1:" ] && echo "$value"; done </proc/self/status; }
try environment environment
try read cat "$2/canary"
try mask grep -q . ./.env
try workspace touch ./written
try root [ -w / ]
try kernel kernel
try processes many /proc/[0-9]*
try network bash -c "exec 3<>/dev/tcp/127.0.0.1/$1"
try namespace unshare --user true
try mount unshare --mount true
touch "$2/written" 2>/dev/null
try capabilities [ "$(status CapEff)$(status CapBnd)" != 00000000000000000000000000000000 ]
try privileges [ "$(status NoNewPrivs)" != 1 ]
try filter [ "$(status Seccomp)" != 2 ]
for space in net pid mnt user ipc uts; do echo "ns $space	$(readlink /proc/self/ns/$space)"; done
echo "user	$(tr '\n' ' ' </proc/self/uid_map)"
"""


def _trial(directory: Path, canary: str) -> tuple[Path, Path]:
    """A place outside of a box and a workspace in it; their modes let everybody in, so that what holds is the box."""
    outside = directory.resolve()
    workspace = outside / "workspace"
    workspace.mkdir()
    for path in (workspace / ".env", outside / "canary"):
        path.write_text(canary)
    for path, mode in ((workspace, 0o777), (outside, 0o733)):
        path.chmod(mode)
    return outside, workspace


def _written(outside: Path) -> bool:
    ours = {outside / "workspace", outside / "canary", outside / "workspace" / ".env"}
    return any(path not in ours for path in outside.rglob("*"))


def _own_space(name: str) -> str:
    return str(Path("/proc/self/ns", name).readlink())


def _lent(box: Box) -> list[Path]:
    """What must be the own user's while the box lasts: what it writes, a workspace that only its owner can read, and
    the directory of a door."""
    home = () if box.home is None else (box.home,)
    read = (box.workspace,) if own_user.hidden(box.workspace) else ()
    doors = [path for path in box.readable if path.is_dir() and own_user.is_door(path)]
    every = [*read, *box.writable, *home, *doors]
    return [path for path in dict.fromkeys(every) if not any(other in path.parents for other in every)]


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
