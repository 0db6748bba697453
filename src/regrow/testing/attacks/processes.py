"""Processes: those of this machine, what is shared with them, and what should have ended."""

from __future__ import annotations

import asyncio

import psutil

from regrow.process import Completed
from regrow.testing.attacks.base import Attack
from regrow.testing.attacks.files import leaked
from regrow.testing.attacks.scene import MEMORY_BYTES, PROCESSES, Scene

_GONE_S = 5.0


def _decoy(scene: Scene) -> psutil.Process:
    assert scene.decoy is not None
    return psutil.Process(scene.decoy.pid)


def _stopped(scene: Scene, done: Completed, token: str) -> bool:
    decoy = _decoy(scene)
    stopped = bool(decoy.status() == psutil.STATUS_STOPPED)
    decoy.resume()
    return stopped


def _slowed(scene: Scene, done: Completed, token: str) -> bool:
    return bool(_decoy(scene).nice() == 19)


def _seen(scene: Scene, done: Completed, token: str) -> bool:
    return scene.decoy_mark in done.output


async def _survives(scene: Scene, done: Completed, token: str) -> bool:
    """Whether a process of the attack is still there a while after its command has ended."""
    from regrow.testing.attacks.trial import alive

    try:
        async with asyncio.timeout(_GONE_S):
            while alive(token):  # noqa: ASYNC110  nothing tells of the end of a grandchild
                await asyncio.sleep(0.02)
    except TimeoutError:
        return True
    return False


_PID = "pid = int(args[0])\n"
_SURVIVOR = (
    "if os.fork() == 0:\n    os.setsid()\n    for n in (0, 1, 2): os.close(n)\n"
    "    if os.fork() == 0:\n        signal.signal(signal.SIGTERM, signal.SIG_IGN)\n        time.sleep(60)\n"
    "    os._exit(0)\n"
)


def _target(scene: Scene) -> list[object]:
    return [_decoy(scene).pid, scene.decoy_address, len(scene.canary), scene.decoy_file]


ATTACKS = (
    Attack(
        "a signal",
        "stops a process of this machine",
        _PID + "os.kill(pid, signal.SIGSTOP)\ntime.sleep(0.05)",
        _target,
        _stopped,
    ),
    Attack(
        "a signal by a process descriptor",
        "stops a process of this machine through a pidfd",
        _PID + "signal.pidfd_send_signal(os.pidfd_open(pid), signal.SIGSTOP)\ntime.sleep(0.05)",
        _target,
        _stopped,
    ),
    Attack(
        "the list of processes",
        "reads every command line",
        "for name in glob.glob('/proc/[0-9]*/cmdline'):\n    got(open(name).read()[-150:])",
        out=_seen,
    ),
    Attack(
        "a debugger",
        "attaches to a process of this machine",
        _PID + "call('ptrace', 16, pid, 0, 0)\ngot()",
        _target,
        root=True,
    ),
    Attack(
        "the memory of another process",
        "reads it by process_vm_readv",
        _PID + "buffer = ctypes.create_string_buffer(100)\n"
        "class Piece(ctypes.Structure):\n    _fields_ = [('base', ctypes.c_void_p), ('length', ctypes.c_size_t)]\n"
        "near = Piece(ctypes.addressof(buffer), int(args[2]))\nfar = Piece(int(args[1]), int(args[2]))\n"
        "call((310, 270), pid, ctypes.byref(near), 1, ctypes.byref(far), 1, 0)\ngot(buffer.value)",
        _target,
        leaked,
        root=True,
    ),
    Attack(
        "the memory file of another process",
        "reads /proc/PID/mem",
        _PID + "memory = os.open(f'/proc/{pid}/mem', os.O_RDONLY)\ngot(os.pread(memory, int(args[2]), int(args[1])))",
        _target,
        leaked,
        root=True,
    ),
    Attack(
        "a descriptor of another process",
        "takes an open file away by pidfd_getfd",
        _PID + "taken = call((438, 438), os.pidfd_open(pid), int(args[3]), 0)\ngot(os.pread(taken, 100, 0))",
        _target,
        leaked,
        root=True,
    ),
    Attack(
        "the priority of another process",
        "slows it down",
        _PID + "os.setpriority(os.PRIO_PROCESS, pid, 19)",
        _target,
        _slowed,
    ),
    Attack(
        "the limits of another process",
        "lowers them by prlimit",
        _PID + "got(resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0)))",
        _target,
    ),
    Attack(
        "a segment of shared memory",
        "attaches one of the machine by its key",
        "libc.shmat.restype = ctypes.c_void_p\nsegment = call('shmget', int(args[0]), 0, 0)\n"
        "address = libc.shmat(segment, None, 0o10000)\ngot(ctypes.string_at(address, 32))",
        lambda s: [s.shared],
        leaked,
    ),
    Attack("the end of its command", "leaves a process of another session behind", _SURVIVOR, out=_survives),
    Attack(
        "its deadline",
        "hangs, in two sessions and deaf to signals",
        _SURVIVOR + "print('over', token, flush=True)\nsignal.pause()",
        out=_survives,
        timeout_s=3.0,
    ),
    Attack(
        "a fork bomb",
        "has more processes at once than allowed",
        "children = []\ntry:\n"
        "    for n in range(int(args[0])):\n"
        "        child = os.fork()\n"
        "        if child == 0:\n            signal.pause()\n"
        "        children.append(child)\n    got()\n"
        "finally:\n    for child in children: os.kill(child, signal.SIGKILL)",
        lambda s: [PROCESSES + 20],
        control="unlimited",
    ),
    Attack(
        "all memory",
        "takes twice what it may",
        "try:\n    taken = [bytearray(b'x') * (16 << 20) for n in range(int(args[0]) // (16 << 20))]\n"
        "except MemoryError as error:\n    print('held', error)\nelse:\n    got(len(taken))",
        lambda s: [2 * MEMORY_BYTES],
        control="unlimited",
        dies=True,
    ),
    Attack("root's number", "becomes user 0", "os.setuid(0)\ngot(os.getuid())", root=True),
    Attack(
        "another user's files",
        "gives a file of its own to somebody else",
        "name = '/tmp/' + token if case == 'test' else {'agent': args[0], 'build': args[1]}.get(case) + '/' + "
        "token\n"
        "open(name, 'w').close()\ntry:\n    os.chown(name, 12345, 12345)\nfinally:\n    os.unlink(name)\ngot()",
        lambda s: [s.workspace / "src", s.out],
        root=True,
    ),
    Attack(
        "capabilities",
        "takes all of them",
        "fields = dict(line.split(':\\t', 1) for line in open('/proc/self/status').read().splitlines() if "
        "':\\t' in line)\n"
        "if any(int(fields[name], 16) for name in ('CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb')):\n"
        "    got(fields)",
        control="nested",
    ),
    Attack(
        "new privileges",
        "looks whether a set-uid program would give it some",
        "shown = [line for line in open('/proc/self/status') if line.startswith(('NoNewPrivs', 'Uid'))]\n"
        "if shown != ['Uid:\\t' + '\\t'.join([str(os.getuid())] * 4) + '\\n', 'NoNewPrivs:\\t1\\n']:\n"
        "    got(shown)",
    ),
    Attack(
        "root in the box",
        "looks whether its user is root's outside",
        # The second column of the mapping is who it is on the machine.
        "mine = os.getuid()\nfor line in open('/proc/self/uid_map'):\n"
        "    inside, outside, count = map(int, line.split())\n"
        "    if inside <= mine < inside + count and outside + mine - inside == 0:\n        got(line)",
        root=True,
    ),
    Attack(
        "the name of the machine",
        "reads it",
        "if os.uname().nodename != 'regrow':\n    got(os.uname().nodename)",
    ),
    Attack(
        "a terminal",
        "opens the terminal of whoever started the daemon",
        "got(os.open('/dev/tty', os.O_RDWR))",
        control="none",
        why="a control would need a terminal, and a daemon has none",
    ),
)
