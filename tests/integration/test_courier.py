"""The example Courier: its own tests, and its settings. How it changes releases is in test_overlap.py."""

import os
import subprocess
import sys
from pathlib import Path

from regrow.config import load

EXAMPLE = Path(__file__).parents[2] / "examples" / "courier"


def test_its_own_tests() -> None:
    done = subprocess.run(
        (sys.executable, "-W", "error", "-m", "unittest", "discover", "-s", "tests"),
        cwd=EXAMPLE,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "\nOK" in done.stderr


def test_its_settings_load() -> None:
    service = load(EXAMPLE / "regrow.toml").service
    assert (service.effective_handover, service.standby, service.ready) == ("overlap", "running", "notify")
