"""Attacks on the box, run for real (F39). Each attack is a program that prints "escaped" when it got what it wanted and
"held" when it did not; anything else is an error of the test. Canaries are made at run time.

An attack must be harmless on the day the box fails: it goes for canaries of the test, or opens without writing."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from regrow.errors import ProcessTimeout
from regrow.process import Completed
from regrow.sandboxes.base import Box
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.testing.repositories import Checkout

PYTHON = "/usr/bin/python3"
DEADLINE_S = 20.0

# `attempt(f)` prints how an attack ended: an error of the system means that it was held off.
PRELUDE = """
import ctypes, errno, os, pathlib, signal, socket, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def call(name, *arguments):
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def attempt(action):
    try:
        got = action()
    except OSError as error:
        print("held", error)
    else:
        print("held" if got is False else "escaped", got)
"""


class Prison:
    """A job's directories with canaries around them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.canary = secrets.token_hex(16)
        self.live = Checkout(root / "live")
        self.live.commit("one", {"a": "a\n"})
        self.workspace = root / "workspace"
        (self.workspace / "src").mkdir(parents=True)
        (self.workspace / "config").mkdir()
        (self.workspace / "config" / "x").write_text("kept\n")
        (self.workspace / ".env").write_text(f"VALUE={self.canary}\n")
        (root / "outside").write_text(self.canary)
        self.sandbox = BubblewrapSandbox()
        self.box = Box(
            workspace=self.workspace,
            writable=[self.workspace / "src"],
            readable=[self.live.git_dir],
            masked=[self.workspace / ".env"],
            file_bytes=1 << 20,
            processes=50,
        )

    async def run(self, code: str, *arguments: object, timeout_s: float = DEADLINE_S) -> Completed:
        words = [PYTHON, "-c", PRELUDE + code, *map(str, arguments)]
        return await self.sandbox.run(words, self.box, timeout_s=timeout_s)

    async def holds(self, code: str, *arguments: object) -> str:
        """Run an attack and expect every attempt of it to have been held off."""
        done = await self.run(code, *arguments)
        words = [line.split()[0] for line in done.output.splitlines() if line.strip()]
        assert done.code == 0, done.output
        assert words, done.output
        assert set(words) == {"held"}, done.output
        assert self.canary not in done.output
        return done.output


@pytest.fixture
def prison(tmp_path: Path) -> Prison:
    return Prison(tmp_path)


@pytest.fixture
def home_canary() -> Iterator[tuple[Path, str]]:
    """A file in the real home; removed afterwards."""
    path = Path.home() / f".regrow-canary-{secrets.token_hex(8)}"
    text = secrets.token_hex(16)
    path.write_text(text)
    yield path, text
    path.unlink(missing_ok=True)


@pytest.fixture
async def listener() -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TCP and a UDP listener of the host on the same loopback port, and what reached them."""
    heard: list[bytes] = []

    class Datagrams(asyncio.DatagramProtocol):
        def datagram_received(self, data: bytes, addr: object) -> None:
            heard.append(data)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heard.append(b"connection")
        writer.close()

    server = await asyncio.start_server(greet, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Datagrams, ("127.0.0.1", port))
    yield port, heard
    transport.close()
    server.close()
    await server.wait_closed()


async def test_the_attacks_would_work_without_the_box(prison: Prison, listener: tuple[int, list[bytes]]) -> None:
    """The attack programs themselves are sound: outside of the box they escape."""
    code = "attempt(lambda: socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5))\n"
    code += "attempt(lambda: pathlib.Path(sys.argv[2]).read_text())"
    child = await asyncio.create_subprocess_exec(
        *(PYTHON, "-c", PRELUDE + code, str(listener[0]), str(prison.root / "outside")),
        stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await asyncio.wait_for(child.communicate(), DEADLINE_S)
    assert [line.split()[0] for line in out.decode().splitlines()] == ["escaped", "escaped"]


async def test_tcp_and_udp_of_the_host(prison: Prison, listener: tuple[int, list[bytes]]) -> None:
    port, heard = listener
    await prison.holds("attempt(lambda: socket.create_connection(('127.0.0.1', int(sys.argv[1])), 5))", port)
    await prison.run("socket.socket(2, 2).sendto(b'datagram', ('127.0.0.1', int(sys.argv[1])))", port)
    # A datagram of the host arrives after any of the box would have.
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.sendto(b"own", ("127.0.0.1", port))
    async with asyncio.timeout(DEADLINE_S):
        while b"own" not in heard:
            await asyncio.sleep(0.01)
    assert heard == [b"own"]


async def test_the_network_beyond(prison: Prison) -> None:
    await prison.holds(
        "for where in (('192.0.2.1', 80), ('169.254.169.254', 80)):\n"
        "    attempt(lambda: socket.create_connection(where, 5))\n"
        "attempt(lambda: socket.socket(10, 1).connect(('2001:db8::1', 80)))\n"
        "attempt(lambda: socket.getaddrinfo('example.org', 80))\n"
    )


async def test_abstract_unix_socket_of_the_host(prison: Prison) -> None:
    name = f"\0regrow-{secrets.token_hex(8)}"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen()
        await prison.holds(f"attempt(lambda: socket.socket(1, 1).connect({name!r}))")


async def test_socket_file_of_the_host(prison: Prison) -> None:
    path = prison.root / "sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        await prison.holds("attempt(lambda: socket.socket(1, 1).connect(sys.argv[1]))", path)


async def test_vsock_and_other_families(prison: Prison) -> None:
    await prison.holds("for family in (40, 17, 38, 29, 9, 31, 44):\n    attempt(lambda: socket.socket(family, 1))")


async def test_writing_outside(prison: Prison, home_canary: tuple[Path, str]) -> None:
    name = f"regrow-{secrets.token_hex(8)}"
    made = [prison.workspace / name, prison.workspace / ".git", prison.live.git_dir / name]
    made += [Path(root, name) for root in ("/", "/usr/bin", "/etc", "/etc/cron.d", "/dev", "/proc", "/var/tmp", "/run")]
    opened = [prison.workspace / "config" / "x", "/etc/passwd", "/etc/hosts", "/usr/bin/env", home_canary[0]]
    await prison.holds(
        "cut = sys.argv.index('--')\n"
        "for name in sys.argv[1:cut]:\n    attempt(lambda: os.open(name, os.O_CREAT | os.O_WRONLY, 0o600))\n"
        "for name in sys.argv[cut + 1:]:\n    attempt(lambda: os.open(name, os.O_WRONLY))\n",
        *(*made, "--", *opened),
    )
    # These succeed in the box's own empty directories; what counts is what the host sees.
    await prison.run(
        "for name in sys.argv[1:]:\n    open(name, 'w').write('x')", prison.root / "outside", f"/tmp/{name}"
    )
    assert (prison.root / "outside").read_text() == prison.canary
    assert not Path("/tmp", name).exists()
    assert not any(path.exists() for path in made)


async def test_settings_of_the_kernel(prison: Prison) -> None:
    """As root bwrap alone leaves /proc/sys writable, and core_pattern starts programs on the host."""
    await prison.holds(
        "import glob\n"
        "names = ['/proc/sysrq-trigger', '/proc/1/oom_score_adj', '/proc/self/oom_score_adj', '/proc/self/uid_map']\n"
        "names += glob.glob('/proc/sys/**', recursive=True) + glob.glob('/proc/irq/**', recursive=True)\n"
        "assert '/proc/sys/kernel/core_pattern' in names\n"
        "attempt(lambda: [n for n in names if os.path.isfile(n) and os.access(n, os.W_OK)] or False)\n"
        "for n in names[:4] + ['/proc/sys/kernel/core_pattern', '/proc/sys/kernel/modprobe']:\n"
        "    attempt(lambda: os.open(n, os.O_WRONLY))\n"
    )


async def test_deleting_deletes_what_is_writable(prison: Prison, home_canary: tuple[Path, str]) -> None:
    """F39: the agent that wipes the home directory."""
    (prison.workspace / "src" / "mine").write_text("x")
    kept = [
        home_canary[0],
        prison.workspace / "config",
        prison.workspace / ".env",
        prison.live.path,
        prison.root / "outside",
    ]
    await prison.run(
        "for name in sys.argv[1:]:\n    subprocess.run(['rm', '-rf', name], stderr=subprocess.DEVNULL)",
        *(*kept, prison.workspace / "src" / "mine"),
    )
    assert all(path.exists() for path in (*kept, prison.workspace / "config" / "x", prison.live.git_dir / "HEAD"))
    assert list((prison.workspace / "src").iterdir()) == []


async def test_reading_the_home_and_secrets(prison: Prison, home_canary: tuple[Path, str]) -> None:
    paths = [home_canary[0], "/etc/shadow", "/etc/gshadow", "/etc/ssh", "/var", "/run", "/root", "/home/nobody", "/sys"]
    paths += [f"/proc/1/root{home_canary[0]}", f"/proc/self/root{home_canary[0]}", prison.root / "outside"]
    code = (
        "for name in sys.argv[1:]:\n    attempt(lambda: os.listdir(name) if os.path.isdir(name) else open(name).read())"
    )
    output = await prison.holds(code, *paths)
    assert home_canary[1] not in output


async def test_masked_file_reads_empty(prison: Prison) -> None:
    done = await prison.run("print(repr(open('.env').read()), open('.env').fileno() > 0)")
    assert done.output == "'' True\n"
    await prison.holds("attempt(lambda: os.unlink('.env'))\nattempt(lambda: open('.env', 'w'))")
    assert prison.canary in (prison.workspace / ".env").read_text()


async def test_environment_of_the_daemon(prison: Prison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGROW_TEST_CANARY", prison.canary)
    done = await prison.run(
        "import glob\nfor name in glob.glob('/proc/[0-9]*/environ'):\n"
        "    try:\n        print(name, open(name).read().split(chr(0)))\n"
        "    except OSError as e:\n        print(name, e)"
    )
    assert "/proc/1/environ" in done.output
    assert prison.canary not in done.output
    assert "REGROW_TEST_CANARY" not in done.output


async def test_new_namespaces(prison: Prison) -> None:
    await prison.holds(
        "for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000):\n"
        "    attempt(lambda: call('unshare', flag))\n"
        "    attempt(lambda: call('syscall', 56 if os.uname().machine == 'x86_64' else 220, flag | 17, 0, 0, 0, 0))\n"
        "attempt(lambda: call('setns', os.open('/proc/1/ns/mnt', 0), 0))\n"
        "attempt(lambda: call('setns', os.open('/proc/self/ns/net', 0), 0))\n"
        "attempt(lambda: call('syscall', 435, 0, 0))\n"
        "attempt(lambda: subprocess.run(['unshare', '-Ur', 'true'], stderr=subprocess.DEVNULL).returncode == 0)\n"
    )


async def test_mounts(prison: Prison) -> None:
    await prison.holds(
        "attempt(lambda: call('mount', b'none', b'/tmp', b'tmpfs', 0, None))\n"
        "attempt(lambda: call('mount', b'', os.getcwd().encode(), b'', 32 | 4096, None))\n"
        "attempt(lambda: call('umount2', os.getcwd().encode() + b'/.env', 2))\n"
        "attempt(lambda: call('chroot', b'/tmp'))\n"
        "attempt(lambda: call('syscall', 428, -100, b'/', 1))\n"
        "attempt(lambda: call('syscall', 430, b'tmpfs', 0))\n"
    )


async def test_other_dangerous_calls(prison: Prison) -> None:
    await prison.holds(
        "x86 = os.uname().machine == 'x86_64'\n"
        "for number in ((101, 321, 248, 250, 323, 298, 304, 310, 175) if x86 else"
        " (117, 280, 217, 219, 282, 241, 265, 270, 105)):\n"
        "    attempt(lambda: call('syscall', number, 0, 0, 0, 0, 0))\n"
        "for number in (425, 426, 427, 438):\n    attempt(lambda: call('syscall', number, 0, 0, 0, 0, 0))\n"
        "if x86:\n    attempt(lambda: call('syscall', 0x40000000 | 39))\n"
    )


async def test_foreign_system_calls_kill(prison: Prison) -> None:
    """The 32-bit entry of x86_64 has numbers of its own: a program that uses it is ended."""
    if os.uname().machine != "x86_64":
        pytest.skip("the 32-bit entry is x86_64's")
    done = await prison.run(
        "import mmap\n"
        "memory = mmap.mmap(-1, 4096, prot=7)\n"
        "memory.write(bytes.fromhex('b814000000cd80c3'))\n"  # mov eax, getpid; int 0x80; ret
        "address = ctypes.addressof(ctypes.c_char.from_buffer(memory))\n"
        "print('escaped', ctypes.CFUNCTYPE(ctypes.c_int)(address)())\n"
    )
    assert "escaped" not in done.output
    assert done.code == 128 + 31  # SIGSYS


async def test_processes_of_the_host(prison: Prison) -> None:
    decoy = await asyncio.create_subprocess_exec("sleep", "1000")
    try:
        await prison.holds(
            "attempt(lambda: os.kill(int(sys.argv[1]), 9))\n"
            "attempt(lambda: call('ptrace', 16, int(sys.argv[1]), 0, 0))\n"
            "attempt(lambda: call('ptrace', 16, 1, 0, 0))\n"
            "attempt(lambda: open(f'/proc/{sys.argv[1]}/environ').read())\n"
            "attempt(lambda: len([p for p in os.listdir('/proc') if p.isdecimal()]) > 6)\n",
            decoy.pid,
        )
        assert decoy.returncode is None
        assert psutil.Process(decoy.pid).status() != psutil.STATUS_ZOMBIE
    finally:
        decoy.kill()
        await decoy.wait()


async def test_git_directory(prison: Prison) -> None:
    git = prison.live.git_dir
    before = {path: path.read_bytes() for path in git.rglob("*") if path.is_file()}
    await prison.holds(
        "os.chdir(sys.argv[1])\n"
        "attempt(lambda: open('hooks/pre-commit', 'w'))\n"
        "attempt(lambda: open('config', 'a'))\n"
        "attempt(lambda: os.rename('config', 'config2'))\n"
        "attempt(lambda: os.unlink('HEAD'))\n"
        "attempt(lambda: os.chmod('HEAD', 0o777))\n"
        "attempt(lambda: os.mkdir('objects/zz'))\n"
        "attempt(lambda: subprocess.run(['git', '-c', 'safe.directory=*', '--git-dir=.', 'update-ref', 'refs/heads/x',"
        " 'HEAD'], capture_output=True).returncode == 0)\n",
        git,
    )
    assert {path: path.read_bytes() for path in git.rglob("*") if path.is_file()} == before


async def test_links_out_of_the_writable_directory(prison: Prison, home_canary: tuple[Path, str]) -> None:
    await prison.holds(
        "os.chdir('src')\n"
        "for n, target in enumerate(sys.argv[1:]):\n"
        "    os.symlink(target, f'link{n}')\n"
        "    attempt(lambda: open(f'link{n}').read())\n"
        "    attempt(lambda: os.link(target, f'hard{n}'))\n"
        "    attempt(lambda: os.open(f'link{n}', os.O_WRONLY))\n",
        *(home_canary[0], prison.root / "outside", "/etc/shadow"),
    )
    assert home_canary[0].read_text() == home_canary[1]


async def test_capabilities_and_privileges(prison: Prison) -> None:
    done = await prison.run("print(open('/proc/self/status').read())")
    fields = dict(line.split(":\t", 1) for line in done.output.splitlines() if ":\t" in line)
    for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(fields[name], 16) == 0, name
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    await prison.holds("attempt(lambda: os.setuid(0))\nattempt(lambda: os.chown('src', 1, 1))")


async def test_fork_bomb_is_limited(prison: Prison) -> None:
    done = await prison.run(
        "count = 0\n"
        "try:\n"
        "    while count < 500:\n"
        "        if os.fork() == 0:\n            signal.pause()\n"
        "        count += 1\n"
        "except OSError as error:\n    print('held', count, error)\n"
        "else:\n    print('escaped', count)\n"
    )
    assert done.output.startswith("held"), done.output
    assert int(done.output.split()[1]) <= prison.box.processes


async def test_file_size_and_temporary_space_are_limited(prison: Prison) -> None:
    await prison.holds(
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "attempt(lambda: open('src/big', 'wb').write(bytes(2 << 20)) < (2 << 20) and False)\n"
        "attempt(lambda: os.truncate('src/big', 1 << 40))\n"
    )
    assert (prison.workspace / "src" / "big").stat().st_size <= prison.box.file_bytes
    done = await prison.run(
        "for where in ('/tmp', '/dev/shm', os.environ['HOME']):\n"
        "    s = os.statvfs(where)\n    print(s.f_blocks * s.f_frsize)\n"
    )
    assert all(int(size) <= 512 * 1024 * 1024 for size in done.output.split())


def survivors(mark: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if mark in process.cmdline():
                found.append(process)
    return found


async def none_left(mark: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while survivors(mark):
            await asyncio.sleep(0.02)


ESCAPEE = (
    "if os.fork() == 0:\n"
    "    os.setsid()\n"
    "    if os.fork() == 0:\n"
    "        signal.signal(15, signal.SIG_IGN)\n"
    "        open('src/alive', 'w').close()\n"
    "        while True: time.sleep(1000)\n"
    "    os._exit(0)\n"
    "while not os.path.exists('src/alive'): time.sleep(0.01)\n"
    "print('begun', flush=True)\n"
)


async def test_a_process_that_left_the_session_dies_at_the_deadline(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    with pytest.raises(ProcessTimeout):
        await prison.run(ESCAPEE + "time.sleep(1000)", mark, timeout_s=3)
    assert (prison.workspace / "src" / "alive").exists()
    await none_left(mark)


async def test_it_dies_when_the_caller_is_cancelled(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    begun = asyncio.Event()
    task = asyncio.create_task(
        prison.sandbox.run(
            [PYTHON, "-c", PRELUDE + ESCAPEE + "time.sleep(1000)", mark],
            prison.box,
            timeout_s=1000,
            on_line=lambda line: begun.set(),
        )
    )
    async with asyncio.timeout(DEADLINE_S):
        await begun.wait()
    assert survivors(mark)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await none_left(mark)


async def test_it_dies_when_the_command_ends(prison: Prison) -> None:
    mark = secrets.token_hex(8)
    # The survivor lets go of the output, so that the command's end is the box's end.
    detached = ESCAPEE.replace("os.setsid()\n", "os.setsid()\n    os.close(1); os.close(2)\n", 1)
    done = await prison.run(detached, mark)
    assert done.output == "begun\n"
    await none_left(mark)


async def test_it_dies_with_the_daemon(prison: Prison) -> None:
    """--die-with-parent: a daemon that is killed leaves no agent behind."""
    mark = secrets.token_hex(8)
    program = (
        "import asyncio, sys\nfrom pathlib import Path\n"
        "from regrow.sandboxes.base import Box\nfrom regrow.sandboxes.bubblewrap import BubblewrapSandbox\n"
        "box = Box(workspace=Path(sys.argv[1]), writable=[Path(sys.argv[1]) / 'src'])\n"
        "asyncio.run(BubblewrapSandbox().run(sys.argv[2:], box, timeout_s=1000,"
        " on_line=lambda line: print(line, flush=True)))\n"
    )
    words = [str(prison.workspace), PYTHON, "-c", PRELUDE + ESCAPEE + "time.sleep(1000)", mark]
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", program, *words),
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert daemon.stdout is not None
    async with asyncio.timeout(DEADLINE_S):
        assert await daemon.stdout.readline() == b"begun\n"
    daemon.kill()
    await daemon.wait()
    await none_left(mark)
