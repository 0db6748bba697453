"""C20: one process an app."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import regrow
from regrow.channels.feishu.lease import lease
from regrow.errors import Refused

HOLDER = """
import sys
from regrow.channels.feishu.lease import lease

with lease("u", sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_c20_a_second_holder_is_told_of_the_first_and_a_killed_one_lets_go() -> None:
    app = f"cli_{id(object())}"
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, app],
        env={"PYTHONPATH": str(Path(regrow.__file__).parents[1])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdin
    assert process.stdout.readline() == "held\n"
    with pytest.raises(Refused, match=f"process {process.pid} ") as error, lease("u", app):
        pass
    assert error.value.kind == "locked"
    with lease("another platform", app), lease("u", app + "x"):
        pass
    process.kill()
    process.wait(30)
    process.stdin.close()
    process.stdout.close()
    with lease("u", app):
        pass
    with lease("u", app):
        pass
