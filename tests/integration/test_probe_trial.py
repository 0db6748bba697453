"""A failing probe becomes a reproduction that runs in the box."""

import sys
from pathlib import Path

import pytest

from regrow import probes
from regrow.config import load
from regrow.sandboxes import sandbox
from regrow.sandboxes.base import Box

PROGRAM = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(STATUS)
        self.end_headers()
if STATUS == 0:
    sys.exit(3)
assert int(os.environ["LISTEN_PID"]) == os.getpid() and os.environ["LISTEN_FDNAMES"] == "http"
server = http.server.HTTPServer(("127.0.0.1", 0), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""


BINDS_ITSELF = (
    PROGRAM.partition("assert")[0]
    + """
assert "LISTEN_PID" not in os.environ or os.environ["LISTEN_FDS"] == "0"
http.server.HTTPServer(("127.0.0.1", 8123), Handler).serve_forever()
"""
)


@pytest.mark.parametrize(("status", "code"), [(200, 0), (500, 1), (0, 1)])
@pytest.mark.parametrize("program", [PROGRAM, BINDS_ITSELF])
async def test_a_failing_probe_reproduces_in_the_box(tmp_path: Path, status: int, code: int, program: str) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tree / "program.py").write_text(f"STATUS = {status}\n{program}")
    settings = tmp_path / "regrow.toml"
    settings.write_text(
        '[service]\nname = "small"\ncommand = ["{python}", "program.py"]\nstart_timeout = "2s"\n'
        f"trap_bind = {'true' if program is BINDS_ITSELF else 'false'}\n"
        '[service.listen]\nhttp = "127.0.0.1:8123"\n[probe.health]\ntarget = "/health"\n'
    )
    script = probes.reproduction(load(settings), "health")
    box = Box(workspace=tree, readable=(Path(sys.prefix), Path(sys.base_prefix)))
    done = await sandbox("bubblewrap").run(["/bin/sh", "-eu", "-c", script], box, timeout_s=30)
    assert done.code == code, done.output
