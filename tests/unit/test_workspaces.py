from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from regrow.errors import NotFound, Refused
from regrow.git import Repository
from regrow.testing.repositories import Checkout
from regrow.workspaces import Workspaces


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    checkout = Checkout(tmp_path / "live")
    checkout.commit("one", {"src/a.py": "a\n", "b": "b\n"})
    return checkout


@pytest.fixture
async def workspaces(checkout: Checkout, tmp_path: Path) -> Workspaces:
    return Workspaces(tmp_path / "state" / "workspaces", await Repository.open(checkout.path))


def names(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


async def test_a_workspace_is_plain_files_for_this_user_alone(workspaces: Workspaces, checkout: Checkout) -> None:
    made = await workspaces.make(7, "main")
    assert made.commit == checkout.git("rev-parse", "HEAD")
    assert made.job == 7
    assert names(made.path) == {"src/a.py", "b"}
    assert not (made.path / ".git").exists()
    assert workspaces.root.stat().st_mode & 0o077 == 0
    assert workspaces.job_of(made.path) == 7
    assert await workspaces.of(made.path) == made


async def test_a_finished_one_is_adopted_with_its_edits(workspaces: Workspaces) -> None:
    made = await workspaces.make(7, "main")
    (made.path / "b").write_text("edited\n")
    assert await workspaces.make(7, "main") == made
    assert (made.path / "b").read_text() == "edited\n"


async def test_another_commit_for_the_same_job_is_refused(workspaces: Workspaces, checkout: Checkout) -> None:
    first = checkout.git("rev-parse", "HEAD")
    await workspaces.make(7, first)
    second = checkout.commit("two", {"b": "2\n"})
    with pytest.raises(Refused, match="discard") as caught:
        await workspaces.make(7, second)
    assert caught.value.kind == "workspace_taken"
    await workspaces.discard(7)
    assert (await workspaces.make(7, second)).commit == second


async def test_a_half_made_one_is_made_anew(workspaces: Workspaces) -> None:
    made = await workspaces.make(7, "main")
    half = made.path.with_name(".building-workspace")
    made.path.rename(half)
    (half / "src" / "a.py").unlink()
    assert await workspaces.list() == ()
    again = await workspaces.make(7, "main")
    assert names(again.path) == {"src/a.py", "b"}
    assert not half.exists()


async def test_one_from_before_the_machine_started_is_made_anew(workspaces: Workspaces) -> None:
    made = await workspaces.make(7, "main")
    record = made.path.with_name("workspace.json")
    record.write_text(json.dumps({**json.loads(record.read_text()), "boot": "another"}))
    (made.path / "b").write_text("")
    again = await workspaces.make(7, "main")
    assert (again.path / "b").read_text() == "b\n"


async def test_fresh_exports_are_always_fresh(workspaces: Workspaces) -> None:
    path = await workspaces.fresh(7, "check-1", "main")
    (path / "b").write_text("edited\n")
    (path / "added").write_text("x")
    assert await workspaces.fresh(7, "check-1", "main") == path
    assert names(path) == {"src/a.py", "b"}
    await workspaces.drop(path)
    assert not path.exists()
    for bad in ("../x", "a/b", "", "A", ".x"):
        with pytest.raises(Refused):
            await workspaces.fresh(7, bad, "main")


async def test_only_own_exports_are_dropped(workspaces: Workspaces, tmp_path: Path) -> None:
    made = await workspaces.make(7, "main")
    for path in (made.path, tmp_path, workspaces.root):
        with pytest.raises(Refused) as caught:
            await workspaces.drop(path)
        assert caught.value.kind == "not_ours"
    with pytest.raises(Refused):
        workspaces.job_of(tmp_path)
    with pytest.raises(Refused):
        await workspaces.of(workspaces.root / "8" / "workspace")


async def test_list_discard_and_prune(workspaces: Workspaces) -> None:
    assert await workspaces.list() == ()
    for job in (3, 1, 20):
        await workspaces.make(job, "main")
    await workspaces.fresh(4, "x", "main")
    (workspaces.root / ".gone-left").mkdir()
    assert [workspace.job for workspace in await workspaces.list()] == [1, 3, 20]
    await workspaces.discard(3)
    await workspaces.discard(3)
    assert await workspaces.prune(keep=[20]) == (1, 4)
    assert [path.name for path in workspaces.root.iterdir()] == ["20"]


async def test_a_hostile_tree_is_deleted(workspaces: Workspaces, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("x")
    made = await workspaces.make(7, "main")
    (made.path / "link").symlink_to(outside)
    here = os.open(made.path, os.O_DIRECTORY)
    for _ in range(3000):  # deeper than a path can be long, so it is made step by step
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_DIRECTORY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    (made.path / "locked").mkdir()
    (made.path / "locked" / "x").write_text("x")
    (made.path / "locked").chmod(0)
    await workspaces.discard(7)
    assert list(workspaces.root.iterdir()) == []
    assert (outside / "kept").exists()


async def test_an_unknown_commit_is_not_found(workspaces: Workspaces) -> None:
    with pytest.raises(NotFound):
        await workspaces.make(7, "absent")
    assert not workspaces.root.exists()
