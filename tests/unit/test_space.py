"""Space is measured on the file systems that a job writes to, all that goes to one added up (F14)."""

from __future__ import annotations

from pathlib import Path

import pytest

from regrow import files, space
from regrow.space import SPARE_BYTES, Need


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> dict[Path, int]:
    """Free bytes by place; what is not named has plenty."""
    left: dict[Path, int] = {}
    monkeypatch.setattr(files, "free_bytes", lambda path: left.get(path, 10**15))
    return left


def test_all_that_goes_to_one_file_system_is_added_up(tmp_path: Path, free: dict[Path, int]) -> None:
    needs = [Need("the workspace", tmp_path / "w", 100), Need("the release", tmp_path / "r" / "deep", 50)]
    free[tmp_path] = SPARE_BYTES + 150
    assert space.shortage(needs) is None
    free[tmp_path] -= 1
    lack = space.shortage(needs)
    assert lack is not None
    assert (lack.path, lack.needed, lack.free) == (tmp_path, SPARE_BYTES + 150, SPARE_BYTES + 149)
    assert lack.what == ("the workspace", "the release")


def test_the_reserve_is_asked_for_also_where_nothing_is_needed(tmp_path: Path, free: dict[Path, int]) -> None:
    free[tmp_path] = SPARE_BYTES - 1
    lack = space.shortage([Need("the job's log", tmp_path, 0)])
    assert lack is not None
    assert lack.what == ()


def test_another_file_system_is_measured_for_itself(tmp_path: Path) -> None:
    """/dev/shm is a file system of its own on every Linux."""
    there = Path("/dev/shm")
    assert there.stat().st_dev != tmp_path.stat().st_dev
    lack = space.shortage([Need("a", tmp_path, 0), Need("b", there / "regrow-nowhere", 10**15)])
    assert lack is not None
    assert (lack.path, lack.what) == (there, ("b",))


def test_a_database_counts_with_its_log(tmp_path: Path) -> None:
    database = tmp_path / "claw.db"
    assert space.database_bytes(database) == 0
    database.write_bytes(b"x" * 100)
    (tmp_path / "claw.db-wal").write_bytes(b"x" * 23)
    assert space.database_bytes(database) == 123
