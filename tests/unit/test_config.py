from __future__ import annotations

import sys
from pathlib import Path

import pytest

from regrow.config import load

MINIMAL = '[service]\nname = "claw"\ncommand = ["{python}"]\n[sandbox]\nreadable = ["{python}", "kit"]\n'


@pytest.mark.parametrize(
    ("prefix", "base", "expected"),
    [
        # A virtual environment of the system's Python: every box shows /usr already, and refuses to be told to.
        ("/srv/regrow/.venv", "/usr", ["/srv/regrow/.venv"]),
        ("/usr", "/usr", []),
        ("/srv/regrow/.venv", "/usr/local", ["/srv/regrow/.venv", "/usr/local"]),
        ("/opt/python", "/opt/python", ["/opt/python"]),
    ],
)
def test_the_box_reads_the_prefixes_of_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, prefix: str, base: str, expected: list[str]
) -> None:
    (tmp_path / "regrow.toml").write_text(MINIMAL)
    monkeypatch.setattr(sys, "prefix", prefix)
    monkeypatch.setattr(sys, "base_prefix", base)
    assert load(tmp_path / "regrow.toml").readable() == (*map(Path, expected), tmp_path / "kit")
