"""Programs that bind a hard-coded port themselves and know nothing of Regrow: two copies behind one socket."""

import asyncio
import contextlib
import dataclasses
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from regrow.services import embedded
from regrow.services.base import CandidateFailed, Probe, ServiceError, Socket
from regrow.services.embedded import EmbeddedService
from regrow.testing.ports import free_port
from regrow.testing.service_driver import drive_service, wait_event
from regrow.testing.service_system import ServiceSystem

ROOT = Path(embedded.__file__).parents[2]

PYTHON = """
import os, signal, socket, sys, threading
version = sys.argv[1]
{setup}
listening = socket.socket()
{made}
listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listening.bind(("127.0.0.1", {port}))
listening.listen(1)
{then}
while True:
    connection = listening.accept()[0]
    with connection:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.0 200 -\\r\\n\\r\\n{{"version": "%s"}}' % version.encode())
"""
"""A blocking loop, as in a textbook. It is killed in the midst of what it does."""

GO = """
package main

import ("bufio"; "fmt"; "net"; "os"; "os/signal"; "strings"; "sync"; "syscall")

func main() {
	listening, err := net.Listen("tcp", ":%d")
	if err != nil { fmt.Fprintln(os.Stderr, err); os.Exit(1) }
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM)
	go func() { <-stop; listening.Close() }()
	var open sync.WaitGroup
	for {
		connection, err := listening.Accept()
		if err != nil { break }
		open.Add(1)
		go func() {
			defer open.Done()
			defer connection.Close()
			for lines := bufio.NewScanner(connection); lines.Scan() && strings.TrimSpace(lines.Text()) != ""; {}
			fmt.Fprintf(connection, "HTTP/1.0 200 -\\r\\n\\r\\n{\\"version\\": \\"%%s\\"}", os.Args[1])
		}()
	}
	open.Wait()
}
"""

ASYNCIO = """
import asyncio, signal, sys
async def answer(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b'HTTP/1.0 200 -\\r\\n\\r\\n{"version": "%%s"}' %% sys.argv[1].encode())
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "0.0.0.0", %d)
    over = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, over.set)
    await over.wait()
    for listening in server.sockets:
        asyncio.get_running_loop().remove_reader(listening.fileno())
    await asyncio.sleep(0)
    server.close()
    while len(asyncio.all_tasks()) > 1:
        await asyncio.sleep(0.01)
asyncio.run(main())
"""
"""It makes its socket one that does not block only after the bind, when it has Regrow's already.

At its end it accepts no more, and closes a turn of the loop later: what asyncio accepts in the turn before
`Server.close` it drops, up to Python 3.11 at least (`Server._attach` asserts that the server is open)."""

NODE = """
const server = require("http").createServer((request, answer) => answer.end(`{"version": "${process.argv[2]}"}`));
server.listen(%d);
process.on("SIGTERM", () => server.close());
"""


@pytest.fixture
async def system(tmp_path):
    system = ServiceSystem(tmp_path)
    yield system
    await system.service.close(keep_service=False)


def tiny(system, version, env=None, **changes):
    """The tiny service, binding its port itself, with a health probe at the address that both copies share."""
    health = Probe("health", "http", f"http://127.0.0.1:{system.port}/health", interval_s=0.05, version_json="version")
    wanted = {"trap_bind": True, "standby": "running", "ready": "probe", "probes": (health,), "probe_socket": False}
    return system.release(version, {"TINY_PORT": str(system.port), **(env or {})}, **wanted | changes)


def foreign(system, version, argv, **changes):
    """A program that is proved when it listens, and of which nothing else is known."""
    return dataclasses.replace(tiny(system, version, argv=argv, ready="started", probes=(), **changes), version=None)


def script(system, name="program", setup="", made="", then=""):
    """The textbook loop with the port in its text and something before it, for its socket, after `listen`; what starts
    one version of it."""
    path = system.root / f"{name}.py"
    path.write_text(PYTHON.format(port=system.port, setup=setup, made=made, then=then))
    return lambda version: (sys.executable, "-I", "-S", str(path), version)


def http_server(system):
    """`python -m http.server`, as it comes. It binds whatever the resolver says "all interfaces" is."""

    def argv(version):
        (system.root / version).mkdir(exist_ok=True)
        (system.root / version / "index.html").write_text(f'{{"version": "{version}"}}')
        return (sys.executable, "-m", "http.server", str(system.port), "--directory", str(system.root / version))

    return argv


def go_binary(system):
    """A static binary with a runtime of its own, that binds [::] and makes its system calls without a library."""
    go = shutil.which("go") or pytest.skip("go is not installed: no static binary can be built")
    (system.root / "server.go").write_text(GO % system.port)
    env = {**os.environ, "CGO_ENABLED": "0", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local", "GOPROXY": "off"}
    env |= {"GOCACHE": str(system.root / "go"), "HOME": str(system.root)}
    program = system.root / "server"
    subprocess.run([go, "build", "-o", program, "server.go"], cwd=system.root, env=env, check=True, timeout=300)
    return lambda version: (str(program), version)


def asyncio_script(system):
    """Python's event loop."""
    (system.root / "loop.py").write_text(ASYNCIO % system.port)
    return lambda version: (sys.executable, "-I", "-S", str(system.root / "loop.py"), version)


def node_script(system):
    """One event loop, whose sockets never block."""
    node = shutil.which("node") or pytest.skip("node is not installed")
    (system.root / "server.js").write_text(NODE % system.port)
    return lambda version: (node, str(system.root / "server.js"), version)


async def seen(traffic, version):
    """Wait until a version has answered once more."""
    before = traffic.answers.get(version, 0)
    async with asyncio.timeout(30):
        while traffic.answers.get(version, 0) == before:
            await asyncio.sleep(0.01)


async def kill_supervisor(system):
    """SIGKILL it, and wait for the one that the driver starts in its place."""
    status = await system.service.status()
    os.kill(status.supervisor_pid, signal.SIGKILL)
    return await wait_event(system.service, status.seq, "supervisor_started")


# The whole life


@pytest.mark.parametrize("standby", ["running", "none"])
async def test_life(system, standby):
    good, better, bad = (
        tiny(system, version, env, standby=standby)
        for version, env in (("1", {}), ("2", {}), ("3", {"TINY_DIE_AFTER": "2"}))
    )
    await drive_service(system.service, good, better, bad)


@pytest.mark.parametrize("program", [script, http_server, asyncio_script, go_binary, node_script])
async def test_upgrade_and_fallback_of_an_unchanged_program(system, program):
    argv = await asyncio.to_thread(program, system)
    service = system.service
    first = await service.start(foreign(system, "1", argv("1")), "active", "a")
    async with system.traffic() as traffic:
        await seen(traffic, "1")
        await service.start(foreign(system, "2", argv("2")), "candidate", "b")
        await service.switch("b", 0, 60)
        await seen(traffic, "2")
        seq = (await service.status()).seq
        await service.promote("b")
        await wait_event(service, seq, "ended")
        await seen(traffic, "2")
        clean = traffic.cut  # what a program drops when it is ended is its own affair; nobody else may
        third = await service.start(foreign(system, "3", argv("3")), "candidate", "c")
        await service.switch("c", 0, 60)
        await seen(traffic, "3")
        assert traffic.cut == clean
        seq = (await service.status()).seq
        os.kill(third.pid, signal.SIGKILL)
        assert (await wait_event(service, seq, "fell_back")).data["to"] == "r2"
        await seen(traffic, "2")
        await seen(traffic, "2")
    assert traffic.refused == 0
    if program in (asyncio_script, go_binary, node_script):  # they finish what they have begun
        assert clean == 0
    assert not psutil.pid_exists(first.pid)


async def test_without_any_capability(system, monkeypatch):
    """What root may do is not needed: no right to trace, no administrator."""
    if os.geteuid() == 0:
        setpriv = ("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all")
        monkeypatch.setattr(EmbeddedService, "interpreter", (*setpriv, *EmbeddedService.interpreter))
    service, argv = system.service, script(system)
    await service.start(foreign(system, "1", argv("1")), "active", "a")
    status = Path(f"/proc/{(await service.status()).supervisor_pid}/status").read_text()
    assert "CapEff:\t0000000000000000" in status
    async with system.traffic() as traffic:
        await service.start(foreign(system, "2", argv("2")), "candidate", "b")
        await service.switch("b", 0, 60)
        await service.promote("b")
        await seen(traffic, "2")
    assert traffic.refused == 0


async def test_it_is_turned_on_and_off_by_a_stop_and_never_leaves_the_service_down(system):
    """F4: the way back works too, although one binds the port itself and of the other the supervisor does."""
    service = system.service
    exclusive = {"trap_bind": False, "handover": "exclusive", "sockets": ()}
    dies = {"TINY_DIE_AT_START": "1"}

    async def deploy(token, release):
        assert (await service.start(release, "candidate", token)).state == "held"
        await service.switch(token, 0, 60)
        assert await asyncio.wait_for(system.ask(), 20) == (await service.status()).active.version

    await service.start(tiny(system, "1", **exclusive), "active", "a")
    with pytest.raises(CandidateFailed):
        await deploy("b", tiny(system, "2", dies))
    assert await asyncio.wait_for(system.ask(), 20) == "1"
    await deploy("c", tiny(system, "3"))
    await service.promote("c")
    with pytest.raises(CandidateFailed):
        await deploy("d", tiny(system, "4", dies, **exclusive))
    assert await asyncio.wait_for(system.ask(), 20) == "3"
    await deploy("e", tiny(system, "5", **exclusive))
    assert (await service.status()).active.version == "5"


# Which calls are ours


async def test_what_is_not_declared_goes_on_in_the_kernel(system):
    """Another port, the same port of UDP, a netlink socket, a unix socket: bound as if nothing were there."""
    setup = f"""
tcp = socket.create_server(("127.0.0.1", 0))
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(("127.0.0.1", {system.port}))
netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0)
netlink.bind((0, 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind({str(system.root / "a-name-of-more-than-sixteen-bytes")!r})
unix.listen()
other = socket.create_connection(tcp.getsockname())
served = tcp.accept()[0]
served.sendall(b"x")
served.shutdown(socket.SHUT_RDWR)
assert other.recv(2) + other.recv(2) == b"x"
assert udp.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM and netlink.getsockname()[0]
assert "LISTEN_FDS" not in os.environ
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
assert libc.bind(udp.fileno(), ctypes.c_void_p(2**64 - 1), 16) == -1 and ctypes.get_errno() == errno.EFAULT
assert libc.shutdown(-1, 2) == -1 and ctypes.get_errno() == errno.EBADF
assert libc.listen(0, 1) == -1 and ctypes.get_errno() == errno.ENOTSOCK
try:
    socket.create_server(tcp.getsockname())
except OSError as error:
    version += os.strerror(error.errno)
"""
    await system.service.start(foreign(system, "1", script(system, setup=setup)("1")), "active", "a")
    assert await asyncio.wait_for(system.ask(), 20) == "1Address already in use"


async def test_backlog_and_name_stay_the_supervisors(system):
    then = "version += f'{listening.getsockname()[1]}{listening.get_inheritable()}'"
    await system.service.start(foreign(system, "1", script(system, then=then)("1")), "active", "a")
    [held] = (await system.service.escrow()).values()
    # struct tcp_info of a listening socket: tcpi_sacked is the longest queue.
    backlog = struct.unpack_from("I", held.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 32), 28)[0]
    assert backlog > 1, "the program's listen(1) reached the shared socket"
    assert await asyncio.wait_for(system.ask(), 20) == f"1{system.port}False"  # close-on-exec as the program had it


async def test_a_program_that_shuts_its_listening_socket_down_ends_it_for_itself_only(system):
    setup = """
def end(*_):
    listening.shutdown(socket.SHUT_RDWR)
    listening.shutdown(socket.SHUT_RD)
    listening.close()
    os._exit(0)
signal.signal(signal.SIGTERM, end)
"""
    argv, service = script(system, setup=setup), system.service
    await service.start(foreign(system, "1", argv("1")), "active", "a")
    async with system.traffic() as traffic:
        await service.start(foreign(system, "2", argv("2")), "candidate", "b")
        await service.switch("b", 0, 60)
        seq = (await service.status()).seq
        await service.promote("b")
        assert (await wait_event(service, seq, "ended")).data["cause"].startswith("exit code 0")
        await seen(traffic, "2")
    assert traffic.refused == 0


async def test_a_child_of_the_program_binds(system):
    python, *rest = script(system)("1")
    argv = ("/bin/sh", "-c", '"$@" & wait', "sh", python, *rest)
    await system.service.start(foreign(system, "1", argv), "active", "a")
    assert await asyncio.wait_for(system.ask(), 20) == "1"
    await system.service.start(foreign(system, "2", (*argv[:-1], "2")), "candidate", "b")


async def test_it_is_proved_when_it_listens_at_every_address_and_not_before(system):
    other = f"127.0.0.1:{free_port()}"
    sockets = (Socket("http", f"127.0.0.1:{system.port}"), Socket("admin", other))
    release = foreign(system, "1", script(system)("1"), sockets=sockets, start_timeout_s=1.0)
    with pytest.raises(CandidateFailed, match=rf"it does not listen on {other}\)$"):
        await system.service.start(release, "active", "a")


async def test_the_answer_of_the_other_copy_proves_nothing(system):
    """F12: both are asked at one address, and only what the new one says of itself counts."""
    await system.service.start(tiny(system, "1"), "active", "a")
    with pytest.raises(CandidateFailed, match=r"probe health: 1 answers, not 2"):
        await system.service.start(tiny(system, "2", {"TINY_VERSION": "1"}, start_timeout_s=1.0), "candidate", "b")
    assert (await system.service.start(tiny(system, "3"), "candidate", "c")).version == "3"


async def test_an_open_socket_blocks_as_its_only_program_wants_and_never_where_one_hangs_by_it(system):
    service = system.service
    event_loop = script(system, "loop", made="listening.setblocking(False)", then="signal.pause()")
    textbook = script(system, "book", then="signal.pause()")

    async def blocks():
        [held] = (await service.escrow()).values()
        return os.get_blocking(held.fileno())

    await service.start(foreign(system, "1", event_loop("1")), "active", "a")
    assert not await blocks()
    await service.start(foreign(system, "2", textbook("2")), "candidate", "b")
    assert not await blocks(), "the loop that serves would hang in accept"
    await service.stop()
    await service.start(foreign(system, "3", textbook("3")), "active", "c")
    assert await blocks()
    await service.start(foreign(system, "4", event_loop("4")), "candidate", "d")
    assert not await blocks()


# The supervisor is killed (design 4.2)


async def test_killed_after_the_bind_it_goes_on_answering(system):
    """The program binds again on SIGHUP; its trap has come through escrow."""
    setup = f"""
def again(*_):
    global listening, version
    listening = socket.socket()
    listening.bind(("127.0.0.1", {system.port}))
    listening.listen(1)
    version = "bound-again"
signal.signal(signal.SIGHUP, again)
"""
    service, argv = system.service, script(system, setup=setup)
    first = await service.start(foreign(system, "1", argv("1")), "active", "a")
    async with system.traffic() as traffic:
        event = await kill_supervisor(system)
        assert (event.data["sockets_lost"], event.data["traps_lost"]) == ([], [])
        assert (await service.status()).active.pid == first.pid
        await service.signal("a", "SIGHUP")
        await seen(traffic, "bound-again")
        await service.start(foreign(system, "2", argv("2")), "candidate", "b")
        await kill_supervisor(system)
        await service.switch("b", 0, 60)
        seq = (await service.status()).seq
        await service.promote("b")
        await wait_event(service, seq, "ended")
        await seen(traffic, "2")
    assert traffic.refused == 0


async def test_killed_with_no_escrow_what_was_bound_serves_on(system):
    """Its calls fail from then on: the one that would have ended the listening, too."""
    setup = """
def hang_up(*_):
    global version
    try:
        listening.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        version = os.strerror(error.errno)
signal.signal(signal.SIGHUP, hang_up)
"""
    service, argv = system.service, script(system, setup=setup)
    first = await service.start(foreign(system, "1", argv("1")), "active", "a")
    status = await service.status()
    await service.close(keep_service=True)
    os.kill(status.supervisor_pid, signal.SIGKILL)
    with contextlib.suppress(psutil.NoSuchProcess):
        await asyncio.to_thread(psutil.Process(status.supervisor_pid).wait, 20)
    system.service = service = system.driver()
    async with system.traffic() as traffic:
        event = await wait_event(service, status.seq, "supervisor_started")
        assert (event.data["sockets_lost"], event.data["traps_lost"]) == ([], ["a"])
        assert (await service.status()).active.pid == first.pid
        await service.signal("a", "SIGHUP")
        await seen(traffic, "Function not implemented")
        await service.start(foreign(system, "2", argv("2")), "candidate", "b")
        await service.switch("b", 0, 60)
        await service.promote("b")
        await seen(traffic, "2")
    assert traffic.refused == 0


@pytest.mark.parametrize("role", ["active", "candidate"])
async def test_killed_before_the_bind_the_start_is_made_anew(system, role):
    """Whether it bound while nobody answered cannot be told; so it is ended, and started again, and never twice."""
    service = system.service
    argv = script(system, "plain")
    if role == "candidate":
        await service.start(foreign(system, "1", argv("1")), "active", "a")
    os.mkfifo(system.root / "gate")
    gated = script(system, "gated", setup=f"open({str(system.root / 'gate')!r}).read()")
    seq = (await service.status()).seq
    starting = asyncio.create_task(service.start(foreign(system, "2", gated("2")), role, "b"))
    await wait_event(service, seq, "starting")
    before = getattr(await service.status(), role)
    pidfd = os.pidfd_open(before.pid)
    await kill_supervisor(system)
    ended, _, _ = await asyncio.to_thread(select.select, [pidfd], [], [], 20)
    os.close(pidfd)
    assert ended, "it was adopted"
    await asyncio.to_thread((system.root / "gate").write_text, "")
    instance = await asyncio.wait_for(starting, 30)
    assert instance.pid != before.pid
    assert instance.adopted is False
    copies = [p.pid for p in psutil.process_iter(["cmdline"]) if f"{system.root}/gated.py" in (p.info["cmdline"] or [])]
    assert copies == [instance.pid]
    assert await asyncio.wait_for(system.ask(), 20) in ("1", "2")


async def test_killed_while_a_program_waits_for_the_answer_to_its_bind(system):
    """It hangs in the call, or goes on with an error: in both cases the next supervisor begins again."""
    service = system.service
    gate, mark = system.root / "gate", system.root / "mark"
    os.mkfifo(gate)
    argv = script(system, setup=f"open({str(gate)!r}).read()", made=f"open({str(mark)!r}, 'a').write('x')")
    starting = asyncio.create_task(service.start(foreign(system, "1", argv("1")), "active", "a"))
    await wait_event(service, 0, "starting")
    status = await service.status()
    os.kill(status.supervisor_pid, signal.SIGSTOP)
    await asyncio.to_thread(gate.write_text, "")
    async with asyncio.timeout(20):
        while not mark.exists():
            await asyncio.sleep(0.01)
    gate.unlink()
    gate.touch()  # the next one finds it open
    os.kill(status.supervisor_pid, signal.SIGKILL)
    await wait_event(service, status.seq, "supervisor_started")
    assert (await asyncio.wait_for(starting, 30)).pid != status.active.pid
    assert await asyncio.wait_for(system.ask(), 20) == "1"


# A machine that cannot


@pytest.fixture
def occupied(monkeypatch):
    """Around the supervisor there is a filter with a listener already, as some containers have it."""
    code = (
        "import os, socket, sys; sys.path.append(sys.argv[1]); from supervisor import trap\n"
        "trap.filter_program = lambda machine: (6).to_bytes(4, 'little') + (0x7FFF0000).to_bytes(4, 'little')\n"
        "one, other = socket.socketpair(); trap.install(other.fileno()); one.set_inheritable(True)\n"
        "os.execv(sys.argv[2], sys.argv[2:])"
    )
    around = (sys.executable, "-I", "-S", "-c", code, str(ROOT / "regrow"))
    monkeypatch.setattr(EmbeddedService, "interpreter", (*around, *EmbeddedService.interpreter))


async def test_a_machine_that_cannot_refuses_the_start_and_says_what_to_do(system, occupied):
    with pytest.raises(ServiceError, match=r'only one; use handover = "exclusive", without') as refused:
        await system.service.start(foreign(system, "1", script(system)("1")), "active", "a")
    assert refused.value.kind == "no_trap"
    assert (await system.service.status()).state == "stopped"


async def test_the_refusal_is_known_before(occupied):
    assert "there can be only one" in await embedded.trap_refusal()
