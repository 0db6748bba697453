"""The world around a box under attack: a service's repository, workspaces, caches and data with canaries in them, and
listeners that write down what reaches them. Canaries are made at run time."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import secrets
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from regrow import config, files
from regrow.agents.base import Task
from regrow.agents.command import CommandAgent
from regrow.boxes import build_box, test_box
from regrow.gate import PROTECTED, Gate
from regrow.git import Repository
from regrow.process import Completed
from regrow.sandboxes import egress, sandbox_of
from regrow.sandboxes.base import Box, Sandbox
from regrow.sandboxes.masks import shown_git
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces

VARIABLE = "REGROW_TEST_CANARY"
MEMORY_BYTES = 256 * 1024 * 1024
FILE_BYTES = 8 * 1024 * 1024
TEMPORARY_BYTES = 32 * 1024 * 1024
PROCESSES = 64
_SETTINGS = f"""
[service]
name = "tiny"
command = ["{{python}}", "serve.py"]
[source]
repository = "live"
[sandbox]
memory = {MEMORY_BYTES}
file_size = {FILE_BYTES}
temporary = {TEMPORARY_BYTES}
processes = {PROCESSES}
"""
_APP, _KEPT = "print('hello')\n", "kept\n"
_IPC_CREATE, _IPC_REMOVE, _PAGE = 0o1000, 0, 4096
# Holds a canary in its memory and its environment, and a descriptor that leads to one.
_DECOY = """
import ctypes, sys, time
kept = ctypes.create_string_buffer(sys.argv[1].encode())
opened = open(sys.argv[2])
print(ctypes.addressof(kept), opened.fileno(), flush=True)
time.sleep(1000)
"""


class _Seen:
    """Takes the place of a sandbox, to see which box a driver asks for."""

    name = "seen"

    def __init__(self) -> None:
        self.box: Box | None = None

    async def run(self, argv: Sequence[str], box: Box, **_: object) -> Completed:
        """Remember the box."""
        self.box = box
        return Completed(tuple(argv), 0, "", 0.0)


class Scene:
    """See `scene`."""

    def __init__(self, root: Path) -> None:
        self.root = Path(os.path.realpath(root))
        self.canary = secrets.token_hex(16)
        self.heard: set[str] = set()
        self.heard_more = asyncio.Event()
        self.boxes: dict[str, Box] = {}
        (self.root / "regrow.toml").write_text(_SETTINGS)
        self.config = config.load(self.root / "regrow.toml")
        self.sandbox: Sandbox = sandbox_of(self.config.sandbox, (self.root / "state",))
        self.outside = self._file("outside")
        self.person = self._file("person/notes").parent
        self.data = self._file("state/tiny/data/tiny.db")
        self.database = self._file("state/regrow.db")
        self.released = self._file("state/tiny/releases/r1/serve.py")
        self.staged = self._file("state/tiny/releases/.staging-2/serve.py")
        self.cache = self._file("state/tiny/cache/wheel").parent
        self.other_cache = self._file("state/other/cache/wheel").parent
        self.out = files.private_directory(self.root / "state/tiny/releases/.staging-1")
        self.live = Checkout(self.root / "live")
        self.base = self.live.commit("one", {"src/app.py": _APP, "config/x": _KEPT, ".gitignore": "__pycache__/\n"})
        secret = f"VALUE={self.canary}\n"
        self.careless_checkout = Checkout(self.root / "careless")
        self.careless_checkout.write(
            {
                "src/deep/.env.local": secret,
                "src/deep/place.txt": "here\n",
                ".env": secret,
                "config/.ENV": secret,
                "config/plain.txt": secret,
                "certs/server.key": secret,
                "regrow.toml": f'# {self.canary}\n[service]\nname = "tiny"\n',
            }
        )
        (self.careless_checkout.path / "src/.env.link").symlink_to("../config/plain.txt")
        self.careless_base = self.careless_checkout.commit("one")
        self.live.git("config", "remote.origin.url", f"https://ada:{self.canary}@example.org/tiny.git")
        self.workspace = self.secrets = Path()
        self.ports: dict[str, int] = {}
        self.decoy: subprocess.Popen[str] | None = None
        self.decoy_address = self.decoy_file = 0
        self.decoy_mark = secrets.token_hex(8)
        self.abstract = f"regrow-{secrets.token_hex(8)}"
        self.shared = 0
        self.shared_file = Path("/dev/shm", f"regrow-{secrets.token_hex(8)}")  # noqa: S108
        self.gate = Gate(("src/**",), PROTECTED)
        # Set for a control: whoever looks after the attack does it as a person would, and not as Regrow does.
        self.careless = False

    def tidy(self) -> None:
        """Take away what the last attack left where it may write."""
        for place in (self.workspace / "src", self.out):
            for path in place.iterdir():
                if path.is_dir() and not path.is_symlink():
                    files.remove_tree(path)
                else:
                    path.unlink()
        (self.workspace / "src/app.py").write_text(_APP)
        (self.workspace / "config/x").write_text(_KEPT)

    def hear(self, data: bytes) -> None:
        """Write down what reached a listener."""
        self.heard.add(data.decode(errors="replace").strip())
        self.heard_more.set()

    def _file(self, name: str) -> Path:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.canary)
        return path

    @contextlib.asynccontextmanager
    async def set_up(self) -> AsyncIterator[None]:
        """Make the workspace and the boxes, start what listens, and end it all."""
        async with contextlib.AsyncExitStack() as stack:
            self.repository = await Repository.open(self.live.path)
            self.workspaces = Workspaces(self.root / "state/tiny/workspaces", self.repository)
            self.workspace = (await self.workspaces.make(1, self.base)).path
            careless = Workspaces(self.root / "state/careless", await Repository.open(self.careless_checkout.path))
            self.secrets = (await careless.make(1, self.careless_base)).path
            await self._boxes()
            await self._listen(stack)
            await asyncio.to_thread(self._decoy, stack)
            self._share(stack)
            self._lead_inside(stack)
            os.environ[VARIABLE] = self.canary
            stack.callback(os.environ.pop, VARIABLE, None)
            yield

    async def _boxes(self) -> None:
        self.boxes["agent"] = await self._agent_box(self.repository, self.workspace)
        self.boxes["secrets"] = await self._agent_box(await Repository.open(self.careless_checkout.path), self.secrets)
        self.boxes["test"] = test_box(self.config, self.workspace, self.cache)
        self.boxes["build"] = build_box(self.config, self.workspace, self.out, self.cache, {})
        self.boxes["egress"] = replace(self.boxes["build"], egress=("index.example.org", ".example.net"))

    async def _agent_box(self, repository: Repository, workspace: Path) -> Box:
        seen = _Seen()
        commit, directory = await repository.resolve("main"), workspace.with_name("git")
        shown = await shown_git(repository, commit, workspace, [self.canary], directory)
        task = Task("it is broken", workspace, shown, self.config.repair.allowed)
        await CommandAgent(["true"]).repair(task, seen, lambda event: None)  # type: ignore[arg-type]  # `run` alone
        assert seen.box is not None
        return seen.box

    async def _listen(self, stack: contextlib.AsyncExitStack) -> None:
        async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(OSError):
                self.hear(await reader.readline())
            writer.close()

        hear = self.hear

        class Datagrams(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: object) -> None:
                hear(data)

        loop = asyncio.get_running_loop()
        for name, host in (("tcp", "127.0.0.1"), ("tcp6", "::1")):
            with contextlib.suppress(OSError):
                server = await asyncio.start_server(greet, host, 0)
                self.ports[name] = server.sockets[0].getsockname()[1]
                stack.push_async_callback(server.wait_closed)
                stack.callback(server.close)
        transport, _ = await loop.create_datagram_endpoint(Datagrams, ("127.0.0.1", 0))
        self.ports["udp"] = transport.get_extra_info("sockname")[1]
        stack.callback(transport.close)
        self.api = self.root / "state/d.sock"
        for address in (str(self.api), "\0" + self.abstract):
            unix = socket.socket(socket.AF_UNIX)
            unix.bind(address)
            server = await asyncio.start_unix_server(greet, sock=unix)
            stack.push_async_callback(server.wait_closed)
            stack.callback(server.close)

    def _lead_inside(self, stack: contextlib.AsyncExitStack) -> None:
        """Every name leads to this machine, and every connection to the listener."""

        async def resolve(name: str) -> Sequence[str]:
            return ["127.0.0.1"]

        async def dial(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection("127.0.0.1", self.ports["tcp"])

        for name, function in (("resolve", resolve), ("dial", dial)):
            stack.callback(setattr, egress, name, getattr(egress, name))
            setattr(egress, name, function)

    def _decoy(self, stack: contextlib.AsyncExitStack) -> None:
        self.decoy = subprocess.Popen(
            (sys.executable, "-c", _DECOY, self.canary + self.decoy_mark, str(self.outside)),
            stdout=subprocess.PIPE,
            text=True,
            env={VARIABLE: self.canary},
        )
        assert self.decoy.stdout is not None
        self.decoy_address, self.decoy_file = map(int, self.decoy.stdout.readline().split())
        stack.callback(self.decoy.wait)
        stack.callback(self.decoy.kill)
        stack.callback(self.decoy.stdout.close)

    def _share(self, stack: contextlib.AsyncExitStack) -> None:
        self.shared_file.write_text(self.canary)
        stack.callback(self.shared_file.unlink, missing_ok=True)
        libc = ctypes.CDLL(None)
        libc.shmat.restype = ctypes.c_void_p
        self.shared = secrets.randbits(30)
        segment = libc.shmget(self.shared, _PAGE, _IPC_CREATE | 0o600)
        stack.callback(libc.shmctl, segment, _IPC_REMOVE, None)
        ctypes.memmove(libc.shmat(segment, None, 0), self.canary.encode(), len(self.canary))


@contextlib.asynccontextmanager
async def scene(root: Path, *, careless: bool = False) -> AsyncIterator[Scene]:
    """A scene in an empty directory with a short name; everything of it ends with the block.

    Args:
        root: the directory.
        careless: for controls: whoever looks after an attack does it as a person would, and not as Regrow does.
    """
    made = await asyncio.to_thread(Scene, root)
    made.careless = careless
    async with made.set_up():
        yield made
