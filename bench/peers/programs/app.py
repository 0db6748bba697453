"""The tiny service as a WSGI application: the same release file, the same faults."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

RELEASE = dict(line.split("=", 1) for line in Path("release").read_text().splitlines())


def die() -> None:
    """As an unhandled error does in the tiny service: the process ends."""
    os._exit(1)


if "TINY_DIE_AT_START" in RELEASE:
    raise RuntimeError("no such table: users")
time.sleep(float(RELEASE["TINY_INIT"]))
if after := RELEASE.get("TINY_DIE_AFTER"):
    threading.Timer(float(after), die).start()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """The version and the pid, as the tiny service answers."""
    body = json.dumps({"version": RELEASE["TINY_VERSION"], "pid": os.getpid()}).encode()
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
