"""Runs `exchange.py` in a process of its own: a large copy must not hold up the loop, nor what it needs stay here."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

from .loop import Loop
from .processes import fork

Json = dict[str, Any]
_PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "exchange.py")  # noqa: PTH100, PTH118, PTH120
_LONGEST_S = 3600.0


def move(loop: Loop, what: str, exchange: Json, done: Callable[[str], None]) -> None:
    """Move data; `done` is called once, later, with what went wrong, or "". Raises OSError."""
    said = os.memfd_create("exchange", os.MFD_CLOEXEC)
    try:
        birth = fork([sys.executable, "-I", "-S", _PROGRAM, what, json.dumps(exchange)], "/", {}, [], said)
    except OSError:
        os.close(said)
        raise
    late = loop.after(_LONGEST_S, birth.process.kill_session)

    def ended() -> None:
        late.cancel()
        loop.unwatch(birth.process.pidfd)
        error = birth.error()
        os.close(birth.errors)
        how = birth.process.reap()
        text = os.pread(said, 4096, 0).decode(errors="replace").strip()
        os.close(said)
        done("" if how == "exit code 0" else error[1] if error else text or f"cannot move the data: {how}")

    birth.go()
    loop.watch(birth.process.pidfd, ended)
