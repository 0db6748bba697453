"""Real agents against the scripted model: the programs that `scripts/agents` installs, and the one of the wheel."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def programs() -> Path:
    """The directory with the agents of npm."""
    # The run has a home of its own; the agents are in the one of the user.
    home = pwd.getpwuid(os.getuid()).pw_dir
    env = {"HOME": home, "PATH": os.environ["PATH"]}
    script = Path(__file__).parents[3] / "scripts/agents"
    done = subprocess.run([str(script)], env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"cannot install the agents of npm: {done.stderr}"
    return Path(done.stdout.strip())
