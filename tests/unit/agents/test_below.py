"""Files that the daemon opens for an agent, while the agent plays with its tree."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from regrow.agents import below
from regrow.errors import Refused

LONGEST = 1000


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "src").mkdir(parents=True)
    (root / "src" / "a").write_text("inside\n")
    (tmp_path / "outside").write_text("outside\n")
    (tmp_path / "away").mkdir()
    return root


def test_files_are_read_and_written_with_their_directories(root: Path) -> None:
    assert below.read(str(root), "src/a", longest=LONGEST) == b"inside\n"
    below.write(str(root), "src/new/deep/b", b"\xff new\n")
    assert (root / "src/new/deep/b").read_bytes() == b"\xff new\n"
    (root / "src/a").chmod(0o755)
    below.write(str(root), "src/a", b"changed\n")
    assert (root / "src/a").read_text() == "changed\n"
    assert stat.S_IMODE((root / "src/a").stat().st_mode) == 0o755
    assert sorted(path.name for path in (root / "src").iterdir()) == ["a", "new"], "something was left beside"


@pytest.mark.parametrize("path", ["", "/etc/passwd", "../outside", "src/../../outside", "src/\0", "nowhere/x", "src"])
def test_what_leads_out_or_nowhere_is_refused(root: Path, path: str) -> None:
    with pytest.raises(Refused) as caught:
        below.read(str(root), path, longest=LONGEST)
    assert caught.value.kind == "agent_path"


def test_links_are_never_followed(root: Path, tmp_path: Path) -> None:
    (root / "src" / "file").symlink_to(tmp_path / "outside")
    (root / "src" / "directory").symlink_to(tmp_path / "away")
    for path in ("src/file", "src/directory/x"):
        with pytest.raises(Refused):
            below.read(str(root), path, longest=LONGEST)
        with pytest.raises(Refused):
            below.write(str(root), path, b"leaked")
    assert (tmp_path / "outside").read_text() == "outside\n"
    assert list((tmp_path / "away").iterdir()) == []


def test_what_is_no_file_or_too_long_is_refused_at_once(root: Path) -> None:
    os.mkfifo(root / "src" / "pipe")
    (root / "src" / "long").write_bytes(b"x" * (LONGEST + 1))
    for path in ("src/pipe", "src/long", "src"):
        with pytest.raises(Refused):
            below.read(str(root), path, longest=LONGEST)
    with pytest.raises(Refused):
        below.write(str(root), "src/pipe", b"x")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
@given(path=st.text(alphabet="ab./\\\0 é", max_size=12))
def test_no_path_leads_out(root: Path, path: str) -> None:
    before = {entry for entry in root.parent.rglob("*") if root not in entry.parents}
    with contextlib.suppress(Refused):
        below.write(str(root), path, b"x")
    assert {entry for entry in root.parent.rglob("*") if root not in entry.parents} == before
