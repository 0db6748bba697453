"""What holds for the whole run, tried on runs of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

CONFTEST = Path(__file__).resolve().parents[1] / "conftest.py"
PASSES = "import os, pathlib\ndef test_home():\n    assert str(pathlib.Path.home()) != os.environ['REAL']\n"
SKIPS = "import pytest\ndef test_two():\n    pytest.skip('no')\n"
SKIPS_ALL = "import pytest\npytest.skip('no', allow_module_level=True)\n"
EXPECTS_TO_FAIL = "import pytest\n@pytest.mark.xfail\ndef test_three():\n    assert False\n"


def run(directory: Path, test: str, ci: str, *options: str) -> tuple[int, str]:
    (directory / "conftest.py").write_text(CONFTEST.read_text())
    (directory / "test_it.py").write_text(PASSES)
    (directory / "test_other.py").write_text(test)
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            str(directory),
            str(directory),
            *options,
        ],
        env={**os.environ, "CI": ci, "REAL": os.environ["HOME"]},
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("options", [(), ("--numprocesses", "2")], ids=["alone", "several"])
@pytest.mark.parametrize("test", [SKIPS, SKIPS_ALL, EXPECTS_TO_FAIL])
def test_in_ci_nothing_may_be_skipped(tmp_path: Path, test: str, options: tuple[str, ...]) -> None:
    code, output = run(tmp_path, test, "true", *options)
    assert code == 1
    assert "in CI nothing may be skipped" in output
    assert "test_other.py" in output.partition("in CI nothing may be skipped")[2]


def test_elsewhere_it_may(tmp_path: Path) -> None:
    assert run(tmp_path, SKIPS, ci="")[0] == 0


def test_in_ci_a_whole_run_passes(tmp_path: Path) -> None:
    assert run(tmp_path, PASSES.replace("test_home", "test_again"), ci="true")[0] == 0
