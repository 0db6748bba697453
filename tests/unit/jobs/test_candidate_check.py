"""The environment of a check is the one that the release is started with."""

import os
from pathlib import Path

import pytest

from regrow.errors import ConfigError
from regrow.jobs import candidate_check
from regrow.services.base import ReleaseSpec
from regrow.supervisor import spec as supervisor_spec


def test_the_environment_is_the_supervisors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "value").write_text("x\n")
    monkeypatch.setenv("SOME_OTHER", "not passed on")
    monkeypatch.setenv("LANG", "C.UTF-8")
    spec = ReleaseSpec(
        "r1", "d", "c", ("/bin/true",), "/tmp/log", env={"A": "1"}, secrets={"B": f"file:{tmp_path / 'value'}"}
    )
    given = supervisor_spec.check(spec.to_json())
    theirs = supervisor_spec.environment(given, supervisor_spec.secrets(given))
    assert candidate_check.environment(spec, os.environ) == theirs
    assert theirs["B"] == "x"
    assert "SOME_OTHER" not in theirs


def test_a_secret_that_is_not_there_is_named() -> None:
    spec = ReleaseSpec("r1", "d", "c", ("/bin/true",), "/tmp/log", secrets={"B": "env:NOT_SET"})
    with pytest.raises(ConfigError, match="env:NOT_SET"):
        candidate_check.environment(spec, {})
