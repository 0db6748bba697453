"""What importing the command costs, and what a bug leaves behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from regrow.cli import main

HEAVY = {"dbos", "sqlalchemy", "starlette", "uvicorn", "httpx", "pydantic", "rich.live", "asyncio", "regrow.api.types"}


def test_the_command_imports_nothing_heavy() -> None:
    code = "import sys, regrow.cli.main, regrow.api.client; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert HEAVY & set(loaded.stdout.split()) == set()


def test_a_bug_is_exit_70_with_a_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REGROW_STATE_DIR", str(tmp_path))
    monkeypatch.setattr(main, "application", lambda: 1 / 0)
    assert main.run(["repair", "what a person typed"]) == 70
    (report,) = (tmp_path / "reports").iterdir()
    text = report.read_text("utf-8")
    assert "ZeroDivisionError" in text
    assert "what a person typed" not in text
    assert str(report) in capsys.readouterr().err
