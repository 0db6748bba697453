"""The tiny service for peers that run any program: its release is in the file `release` of the working directory.

With one argument, a file descriptor, it serves on that socket instead of on a port of its own (circus).
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

TINY = Path(__file__).parents[3] / "src" / "regrow" / "testing" / "tiny_service.py"

for line in Path("release").read_text().splitlines():
    name, _, value = line.partition("=")
    os.environ[name] = value
if len(sys.argv) > 1:
    os.dup2(int(sys.argv[1]), 3)
    del os.environ["TINY_PORT"]
    os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDNAMES": "http"}
runpy.run_path(str(TINY), run_name="__main__")
