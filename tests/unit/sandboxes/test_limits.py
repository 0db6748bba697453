from __future__ import annotations

import os
from pathlib import Path

import pytest

from regrow.sandboxes import limits
from regrow.sandboxes.base import NO_MOST, Box, Most


def test_most_holds_whatever_a_box_asks_for() -> None:
    most = Most(memory_bytes=100, processes=10, cpus=1.5, temporary_bytes=50)
    asked = Box(Path("/w"), memory_bytes=200, processes=0, cpus=0.5)
    assert most.of(asked) == Box(Path("/w"), memory_bytes=100, processes=10, cpus=0.5, temporary_bytes=50)
    assert NO_MOST.of(asked) == asked


def test_what_a_control_group_holds_is_not_held_twice() -> None:
    box = Box(Path("/w"), memory_bytes=1000, processes=5, file_bytes=7)
    assert "--data=1000" in limits.rlimits(box)
    assert "--data=1000" not in limits.rlimits(box, frozenset({"memory"}))
    assert {"--nproc=5", "--fsize=7", "--core=0"} <= set(limits.rlimits(box))


@pytest.fixture
def version_2(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Control groups of version 2 as plain files: their kernel is not there, their names are."""
    root = tmp_path / "cgroup"
    (root / "daemon.service" / "main").mkdir(parents=True)
    (root / "cgroup.controllers").write_text("cpu memory pids")
    (tmp_path / "own").write_text("0::/daemon.service/main\n")
    monkeypatch.setattr(limits, "_CGROUPS", root)
    monkeypatch.setattr(limits, "_OWN_CGROUPS", tmp_path / "own")
    made = Path.mkdir

    def mkdir(path: Path, *words: object, **more: object) -> None:
        made(path)
        (path / "cgroup.procs").touch()

    monkeypatch.setattr(Path, "mkdir", mkdir)

    async def removed(group: Path) -> None:
        for file in group.iterdir():
            file.unlink()
        group.rmdir()

    monkeypatch.setattr(limits, "_remove_group", removed)
    return root


async def test_a_delegated_group_is_used_beside_the_daemons_own(version_2: Path) -> None:
    async with limits.grouped(Box(Path("/w"), memory_bytes=1 << 20, processes=9, cpus=1.5)) as group:
        [made] = [path for path in (version_2 / "daemon.service").iterdir() if path.name != "main"]
        found = {name: (made / name).read_text() for name in ("pids.max", "memory.max", "cpu.max")}
        assert found == {"pids.max": "9", "memory.max": str(1 << 20), "cpu.max": "150000 100000"}
        assert group.held == {"pids", "memory", "cpu"}
        assert group.prefix[-1] == str(made / "cgroup.procs")
    assert [path.name for path in (version_2 / "daemon.service").iterdir()] == ["main"]


async def test_without_limits_and_without_a_place_there_is_no_group(
    version_2: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with limits.grouped(Box(Path("/w"))) as group:
        assert group == limits.Group()
    monkeypatch.setattr(limits, "_CGROUPS", version_2 / "absent")
    async with limits.grouped(Box(Path("/w"), processes=9)) as group:
        assert group == limits.Group()


async def test_real_groups_hold_where_they_can_be_made(tmp_path: Path) -> None:
    """On this machine, whichever version it has; nothing of them stays."""
    before = set(Path("/sys/fs/cgroup").rglob(f"regrow-{os.getpid()}-*"))
    async with limits.grouped(Box(tmp_path, memory_bytes=1 << 30, processes=50, cpus=1.0)) as group:
        assert bool(group.prefix) is bool(group.held)
        assert os.geteuid() != 0 or group.held or not os.access("/sys/fs/cgroup", os.W_OK)
    assert set(Path("/sys/fs/cgroup").rglob(f"regrow-{os.getpid()}-*")) == before
