"""What an attack is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from regrow.process import Completed
from regrow.testing.attacks.scene import Scene

Case = Literal["agent", "test", "build"]
CASES: tuple[Case, ...] = ("agent", "test", "build")

Control = Literal["plain", "nested", "unfiltered", "unlimited", "none"]
"""How an attack is shown to work where the defence is missing, in a throw-away scene:

plain        without a box
nested       without a box, as root of namespaces of its own: what it does there ends with it
unfiltered   in the box, without its system-call filter
unlimited    without a box and without limits
none         it cannot be shown safely; `Attack.why` says why
"""

PRELUDE = """
import ctypes, errno, fcntl, glob, os, pathlib, resource, signal, socket, stat, struct, subprocess, sys, time
token, case, args = sys.argv[1], sys.argv[2], sys.argv[3:]
libc = ctypes.CDLL(None, use_errno=True)
x86 = os.uname().machine == 'x86_64'
def call(name, *arguments):
    if isinstance(name, tuple):
        name, arguments = 'syscall', (name[0 if x86 else 1], *arguments)
    ctypes.set_errno(0)
    result = getattr(libc, name)(*arguments)
    if result == -1:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
def reached(name, *arguments):
    # The kernel's own refusal of bad arguments shows that the call came through to it.
    try:
        call(name, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS, errno.EACCES):
            raise
def got(detail=''):
    print('got', token, str(detail)[:200], flush=True)
def attack():
"""
"""Before the code of each attack, which is the body of `attack`: a token that only this run knows, which box it is, and
the arguments. An error of the system means that it was held off."""

POSTLUDE = """
try:
    attack()
except (OSError, subprocess.CalledProcessError) as error:
    print('held', error, flush=True)
print('over', token, flush=True)
"""


def said(scene: Scene, done: Completed, token: str) -> bool:
    """The attack got what it wanted inside the box, by its own word. It is ours and honest; its control shows that it
    can say so."""
    return f"got {token}" in done.output


@dataclass(frozen=True)
class Attack:
    """One way out.

    Attributes:
        name: a noun, unique.
        tries: what it does, in one line.
        code: Python, the body of a function; see `PRELUDE`.
        arguments: what it is told, besides the token.
        out: the witness, outside of the box: whether it got out.
        control: how it is shown to work without the defence.
        why: why there is no control.
        root: whether only root's box can be attacked so, or only root can show that it works.
        optional: whether the control may fail, for want of a feature of the kernel.
        dies: whether the box may kill it for trying.
        cases: which boxes it is for.
        box: another box of the scene than that of its case.
        before: puts something into the scene first.
        timeout_s: seconds until it is ended.
    """

    name: str
    tries: str
    code: str
    arguments: Callable[[Scene], Sequence[object]] = lambda scene: ()
    out: Callable[[Scene, Completed, str], bool | Awaitable[bool]] = said
    control: Control = "plain"
    why: str = ""
    root: bool = False
    optional: bool = False
    dies: bool = False
    cases: tuple[Case, ...] = CASES
    box: str = ""
    before: Callable[[Scene, str], None] = lambda scene, token: None
    timeout_s: float = 30.0

    def program(self) -> str:
        """The whole program."""
        body = "\n".join("    " + line for line in self.code.strip("\n").splitlines())
        return PRELUDE + body + POSTLUDE
