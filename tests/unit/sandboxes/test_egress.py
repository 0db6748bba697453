from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrow.sandboxes import egress
from regrow.sandboxes.base import Box
from regrow.sandboxes.bubblewrap import BubblewrapSandbox
from regrow.sandboxes.egress import Egress, public

NAMES = ("index.example.org", ".example.net")
DEADLINE_S = 20.0


class Far:
    """The internet of a test: names with addresses, and one server that answers in capitals."""

    def __init__(self, addresses: dict[str, Sequence[str]]) -> None:
        self.addresses = addresses
        self.dialled: list[str] = []
        self.port = 0

    async def resolve(self, name: str) -> Sequence[str]:
        if name not in self.addresses:
            raise OSError("no such name")
        return self.addresses[name]

    async def dial(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        self.dialled.append(address)
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1000):
            writer.write(data.upper())
            await writer.drain()
        writer.close()


async def asked(far: Far, place: Path, request: bytes, then: bytes = b"hello") -> bytes:
    """What a proxy answers to a request, and what comes back of `then` through the connection."""
    path = place / "s"
    server = await asyncio.start_server(far.answer, "127.0.0.1", 0)
    far.port = server.sockets[0].getsockname()[1]
    async with server, Egress(NAMES, resolve=far.resolve, dial=far.dial).serving(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(request)
        async with asyncio.timeout(DEADLINE_S):
            got = await reader.readuntil(b"\r\n\r\n")
            if b" 200 " in got:
                writer.write(then)
                writer.write_eof()
            got += await reader.read()
        writer.close()
    return got


def connect(name: str) -> bytes:
    return f"CONNECT {name} HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()


@pytest.mark.parametrize("name", ["index.example.org", "INDEX.Example.org", "files.example.net", "a.b.example.net"])
async def test_a_listed_name_is_let_through(tmp_path: Path, name: str) -> None:
    far = Far({name.lower(): ["1.1.1.1", "2606:4700::1"]})
    assert (await asked(far, tmp_path, connect(f"{name}:443"))).endswith(b"\r\n\r\nHELLO")
    assert far.dialled == ["1.1.1.1"]


@pytest.mark.parametrize(
    ("request_line", "why"),
    [
        ("GET http://index.example.org/ HTTP/1.1", "only CONNECT"),
        ("CONNECT index.example.org:80 HTTP/1.1", "port 80"),
        ("CONNECT index.example.org HTTP/1.1", "only CONNECT"),
        ("CONNECT index.example.org:443", "only CONNECT"),
        ("CONNECT index.example.org:443 HTTP/2", "only CONNECT"),
        ("CONNECT index.example.org.:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT example.net:443 HTTP/1.1", "not in [build] egress"),
        ("CONNECT notexample.net:443 HTTP/1.1", "not in [build] egress"),
        ("CONNECT index.example.org.evil.test:443 HTTP/1.1", "not in [build] egress"),
        ("CONNECT sub.index.example.org:443 HTTP/1.1", "not in [build] egress"),
        ("CONNECT evil.test\0.example.net:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT evil.test#.example.net:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT a@index.example.org:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT 1.1.1.1:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT 16843009:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT 0x1.example.0x1:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT [2606:4700::1]:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT -a.example.net:443 HTTP/1.1", "only CONNECT"),
        ("CONNECT \u0131ndex.example.org:443 HTTP/1.1", "only CONNECT"),
        ("", "only CONNECT"),
    ],
)
async def test_everything_else_is_refused_in_words(tmp_path: Path, request_line: str, why: str) -> None:
    far = Far({"index.example.org": ["1.1.1.1"]})
    answer = await asked(far, tmp_path, request_line.encode() + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert why in answer.decode()
    assert far.dialled == []


@pytest.mark.parametrize(
    "addresses",
    [[], ["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], ["169.254.169.254"], ["::1"], ["fe80::1%eth0"], ["::ffff:10.0.0.1"]],
)
async def test_a_listed_name_that_leads_inside_is_refused(tmp_path: Path, addresses: list[str]) -> None:
    far = Far({"index.example.org": addresses})
    assert b"not public" in await asked(far, tmp_path, connect("index.example.org:443"))
    assert far.dialled == []


async def test_an_unknown_name_and_an_endless_head_are_refused(tmp_path: Path) -> None:
    assert b"cannot be looked up" in await asked(Far({}), tmp_path, connect("index.example.org:443"))
    assert b"403" in await asked(Far({}), tmp_path, b"x" * 20_000 + b"\r\n\r\n")


@pytest.mark.parametrize(
    ("address", "is_public"),
    [
        *((one, True) for one in ("1.1.1.1", "151.101.0.223", "2606:4700:4700::1111", "::ffff:1.1.1.1")),
        *((one, False) for one in ("0.0.0.0", "10.1.2.3", "100.64.0.1", "127.9.9.9", "169.254.1.1", "172.16.0.1")),
        *(
            (one, False)
            for one in ("192.168.1.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1", "255.255.255.255")
        ),
        *((one, False) for one in ("::", "::1", "fc00::1", "fe80::1", "ff02::1", "64:ff9b::7f00:1", "2002:7f00:1::")),
        *((one, False) for one in ("::ffff:127.0.0.1", "::127.0.0.1", "2001:db8::1", "name", "")),
    ],
)
def test_public(address: str, is_public: bool) -> None:
    assert public(address) is is_public


@given(head=st.binary(max_size=300))
@settings(max_examples=300)
def test_no_head_is_let_through_but_the_one_form(head: bytes) -> None:
    name, why = Egress(NAMES)._asked(head + b"\r\n\r\n")
    assert why or (name in NAMES or name.endswith(NAMES[1]))


async def test_a_build_in_the_box_reaches_what_is_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variables that package managers know, through a relay, though the box has no network."""
    far = Far({"index.example.org": ["1.1.1.1"]})
    monkeypatch.setattr(egress, "resolve", far.resolve)
    monkeypatch.setattr(egress, "dial", far.dial)
    server = await asyncio.start_server(far.answer, "127.0.0.1", 0)
    far.port = server.sockets[0].getsockname()[1]
    program = (
        "import os, socket, sys\n"
        "for name in sys.argv[1:]:\n"
        "    host, port = os.environ['https_proxy'].removeprefix('http://').split(':')\n"
        "    c = socket.create_connection((host, int(port)), 10)\n"
        "    c.sendall(f'CONNECT {name}:443 HTTP/1.1\\r\\n\\r\\n'.encode())\n"
        "    print(c.recv(200).split(b'\\r')[0].decode())\n"
        "    c.sendall(b'hello'); c.shutdown(socket.SHUT_WR); print(c.recv(200).decode())\n"
        "sys.exit(7)"
    )
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    box = Box(workspace, egress=("index.example.org",), processes=64)
    words = ["/usr/bin/python3", "-c", program, "index.example.org", "other.example.org"]
    async with server:
        done = await BubblewrapSandbox().run(words, box, timeout_s=DEADLINE_S)
    assert done.code == 7, done.output
    assert done.output.splitlines()[:3] == [
        "HTTP/1.1 200 Connection established",
        "HELLO",
        "HTTP/1.1 403 other.example.org is not in [build] egress",
    ]
    assert far.dialled == ["1.1.1.1"]


async def test_the_relay_ends_as_its_command_does(tmp_path: Path) -> None:
    box = Box(tmp_path, egress=("index.example.org",))
    sandbox = BubblewrapSandbox()
    for words, code in ((["absent-program"], 127), (["/etc/passwd"], 126), (["sh", "-c", "kill -TERM $$"], 143)):
        assert (await sandbox.run(words, box, timeout_s=DEADLINE_S)).code == code


async def test_where_the_system_has_no_python_the_daemons_own_runs_the_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(egress, "_SYSTEM_PYTHON", "/absent")
    done = await BubblewrapSandbox().run(["env"], Box(tmp_path, egress=("index.example.org",)), timeout_s=DEADLINE_S)
    assert "HTTPS_PROXY=http://127.0.0.1:" in done.output
    assert sys.base_prefix in done.output
