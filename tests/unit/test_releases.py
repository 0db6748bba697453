"""Releases: sealed once whatever is killed when, never half there, and the last two good ones are never gone."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.errors import NotFound, Refused
from regrow.releases import Release, Releases, digest_tree
from regrow.store import Store
from regrow.testing.manual_clock import ManualClock


@pytest.fixture
def releases(tmp_path: Path, store: Store, clock: ManualClock) -> Releases:
    return Releases(store, tmp_path / "releases", "claw", clock)


async def sealed(releases: Releases, job: int, content: str = "", version: str = "") -> Release:
    """What `job` built."""
    staging = releases.staging(job)
    (staging / "program").write_text(content or f"content {job}")
    return await seal(releases, job, version)


async def seal(releases: Releases, job: int, version: str = "") -> Release:
    commit = f"{job:x}" * 40
    return await releases.seal(
        job, version=version or commit[:7], commit=commit[:40], subject=f"Change {job}", build_seconds=1.5
    )


async def test_a_build_becomes_a_release(tmp_path: Path, releases: Releases, clock: ManualClock) -> None:
    staging = releases.staging(7)
    (staging / "bin").mkdir()
    (staging / "bin/run").write_text("run")
    (staging / "bin/run").chmod(0o755)
    digest = digest_tree(staging)
    made = await seal(releases, 7)
    assert (made.id, made.number, made.job, made.bytes, made.built_at) == ("r1", 1, 7, 3, clock.now())
    assert made.digest == digest == digest_tree(made.directory)
    assert made.directory == tmp_path / "releases/r1"
    assert (made.directory / "bin/run").stat().st_mode & 0o777 == 0o555  # nobody writes into a release by mistake
    assert not staging.exists()
    assert '"commit"' in (tmp_path / "releases/r1.json").read_text()


async def test_a_job_has_one_release_however_often_it_is_sealed(releases: Releases) -> None:
    first = await sealed(releases, 1)
    assert await seal(releases, 1) == first
    # Built again after all: the release that is there stays as it is.
    assert await sealed(releases, 1, "something else") == first
    assert (first.directory / "program").read_text() == "content 1"
    assert await releases.all() == [first]
    assert (await sealed(releases, 2)).id == "r2"


SEAL_AND_DIE = """
import asyncio, os, pathlib, signal, sys
from regrow import files
from regrow.releases import Releases
from regrow.store import Store

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

async def main():
    state, where = pathlib.Path(sys.argv[1]), sys.argv[2]
    releases = Releases(Store(state / "regrow.db"), state / "releases", "claw")
    (releases.staging(1) / "program").write_text("content 1")
    if where == "before the record":
        Store.transact = die
    elif where == "before the files are durable":
        files.sync_tree = die
    elif where == "before the rename":
        pathlib.Path.rename = die
    else:
        files.sync_directory = lambda path: die() if (state / "releases/r1").exists() else None
    await releases.seal(1, version="1111111", commit="1" * 40, subject="Change 1", build_seconds=1.5)

asyncio.run(main())
"""


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    "where", ["before the record", "before the files are durable", "before the rename", "after the rename"]
)
async def test_a_kill_at_any_moment_leaves_one_whole_release(
    tmp_path: Path, store: Store, releases: Releases, where: str
) -> None:
    # F10: what is there under its name is whole, and the next seal of the job finishes what was begun.
    argv = [sys.executable, "-c", SEAL_AND_DIE, str(tmp_path), where]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (-9, "")
    assert (tmp_path / "releases/r1").exists() == (where == "after the rename")
    assert [r.id for r in await releases.all()] == (["r1"] if where == "after the rename" else [])
    made = await seal(releases, 1)
    assert (made.directory / "program").read_text() == "content 1"
    assert digest_tree(made.directory) == made.digest
    assert await releases.all() == [made]
    assert sorted(p.name for p in (tmp_path / "releases").iterdir()) == ["r1", "r1.json"]


async def test_a_release_whose_files_never_came_is_none(releases: Releases, monkeypatch: pytest.MonkeyPatch) -> None:
    # Killed after the record, and then the job was taken back: nobody may be offered an empty name.
    good = await sealed(releases, 1)

    def broken(self: Path, target: Path) -> None:
        raise OSError("no space")

    monkeypatch.setattr(Path, "rename", broken)
    with pytest.raises(OSError, match="no space"):
        await sealed(releases, 2)
    monkeypatch.undo()
    releases.discard_staging(2)
    assert await releases.all() == [good]
    assert await releases.of_commit("2" * 40) is None
    with pytest.raises(NotFound):
        await releases.get("r2")
    assert (await sealed(releases, 3)).id == "r3"  # its number is never used again


async def test_an_empty_build_is_refused(tmp_path: Path, releases: Releases) -> None:
    (releases.staging(1) / "empty/directories").mkdir(parents=True)
    with pytest.raises(Refused, match=r"correct \[build\] command") as caught:
        await seal(releases, 1)
    assert caught.value.kind == "empty_build"
    assert await releases.all() == []
    releases.discard_staging(1)
    assert list((tmp_path / "releases").iterdir()) == []


async def test_staging_is_empty_each_time(releases: Releases) -> None:
    (releases.staging(1) / "left over").write_text("x")
    assert list(releases.staging(1).iterdir()) == []


async def test_releases_of_another_service_are_not_seen(tmp_path: Path, store: Store, releases: Releases) -> None:
    other = Releases(store, tmp_path / "other", "other")
    await sealed(releases, 1)
    assert (await sealed(other, 2)).id == "r1"  # each counts by itself
    assert [r.job for r in await releases.all()] == [1]
    assert await other.prune(0, ()) == ["r1"]
    assert [r.job for r in await releases.all()] == [1]


async def test_a_release_is_found_by_each_of_its_names(releases: Releases) -> None:
    first, second = await sealed(releases, 0xA, version="v1.0"), await sealed(releases, 0xB)
    assert {await releases.get(name) for name in ("r1", "R1", "1", " v1.0 ", "V1.0", "aaaa", "a" * 40)} == {first}
    assert {await releases.get(name) for name in ("r2", "2", "bbbbbbb", "B" * 7)} == {second}
    assert await releases.of_commit("b" * 40) == second
    for name in ("r3", "aaa", "a" * 41, "", "main"):  # three letters of a commit say too little
        with pytest.raises(NotFound, match=r"known are r2 \(bbbbbbb\), r1 \(v1\.0\)") as caught:
            await releases.get(name)
        assert caught.value.kind == "no_such_release"


async def test_of_several_from_one_commit_the_newest_is_meant(releases: Releases) -> None:
    for job in (1, 2):
        (releases.staging(job) / "program").write_text(str(job))
        await releases.seal(job, version="v", commit="c" * 40, subject="s", build_seconds=0)
    newest = await releases.get("cccc")
    assert newest.id == (await releases.get("v")).id == "r2"
    assert await releases.of_commit("c" * 40) == newest
    assert await releases.of_commit("cccc") is None


async def test_the_first_proof_counts(releases: Releases, clock: ManualClock) -> None:
    for job in (1, 2):
        await sealed(releases, job)
    first = clock.now()
    await releases.promoted(1)
    clock.advance(60)
    await releases.promoted(1)
    assert [(r.id, r.promoted_at) for r in await releases.good()] == [("r1", first)]


async def test_the_last_two_good_ones_and_what_is_in_use_stay(tmp_path: Path, releases: Releases) -> None:
    for job in range(1, 8):
        await sealed(releases, job)
    for number in (1, 2, 3):
        await releases.promoted(number)
    # r3 and r2 are the last two good ones, r4 runs still; r7 is the one to keep.
    assert await releases.prune(1, {"r4"}) == ["r6", "r5", "r1"]
    assert [r.id for r in await releases.all()] == ["r7", "r4", "r3", "r2"]
    left = {p.name for p in (tmp_path / "releases").iterdir()}
    assert left == {name for r in ("r2", "r3", "r4", "r7") for name in (r, f"{r}.json")}
    assert await releases.prune(1, {"r4"}) == []
    assert (await sealed(releases, 8)).id == "r8"
    with pytest.raises(NotFound):
        await releases.get("r1")


async def test_a_program_that_has_a_file_of_a_pruned_release_open_keeps_it(releases: Releases) -> None:
    made = await sealed(releases, 1)
    with (made.directory / "program").open() as file:
        assert await releases.prune(0, ()) == ["r1"]
        assert file.read() == "content 1"


async def test_what_a_killed_prune_left_is_deleted_by_the_next(
    tmp_path: Path, releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    for job in (1, 2):
        await sealed(releases, job)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr("regrow.files.remove_tree", _interrupted)
        await releases.prune(1, ())
    assert [r.id for r in await releases.all()] == ["r2"]  # half deleted or not: it is none any more
    assert (tmp_path / "releases/r1").exists()
    staging = releases.staging(3)
    await releases.prune(1, ())
    assert {p.name for p in (tmp_path / "releases").iterdir()} == {"r2", "r2.json", staging.name}


def _interrupted(path: Path) -> None:
    raise KeyboardInterrupt


# The digest


def plant(root: Path) -> Path:
    (root / "package").mkdir(parents=True)
    (root / "package/module.py").write_text("x = 1\n")
    (root / "run").write_text("#!/bin/sh\n")
    (root / "run").chmod(0o755)
    (root / "link").symlink_to("run")
    return root


def test_the_digest_says_nothing_of_times_owners_and_empty_directories(tmp_path: Path) -> None:
    one, two = plant(tmp_path / "one"), plant(tmp_path / "two")
    os.utime(two / "run", (1, 1))
    (two / "run").chmod(0o744)
    (two / "empty").mkdir()
    assert digest_tree(one) == digest_tree(two)
    assert digest_tree(one).startswith("sha256:")


def test_the_digest_of_a_known_tree(tmp_path: Path) -> None:
    # Recorded with every release and pinned with every bad one: another way to count would forget them all.
    assert digest_tree(plant(tmp_path)) == "sha256:8b647c253844f9a1ac360ec118d33d27c766bbbcd636cf4c5ed2216ba0fa6dd4"


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "package/module.py").write_text("x = 2\n"),
        lambda root: (root / "package/module.py").rename(root / "package/other.py"),
        lambda root: (root / "package/module.py").chmod(0o755),
        lambda root: (root / "run").chmod(0o644),
        lambda root: (root / "package/more.py").write_text(""),
        lambda root: (root / "link").unlink(),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("package")),
        lambda root: ((root / "link").unlink(), (root / "link").write_text("#!/bin/sh\n")),
        lambda root: (root / "package").rename(root / "other"),
    ],
)
def test_the_digest_sees_every_change(tmp_path: Path, change: object) -> None:
    root = plant(tmp_path / "tree")
    before = digest_tree(root)
    assert callable(change)
    change(root)
    assert digest_tree(root) != before


def test_names_cannot_be_mistaken_for_contents(tmp_path: Path) -> None:
    for name, files in (("one", {"a": "b", "c": "d"}), ("two", {"a": "bc", "d": ""}), ("three", {"ab": "", "c": "d"})):
        (tmp_path / name).mkdir()
        for file, content in files.items():
            (tmp_path / name / file).write_text(content)
    assert len({digest_tree(tmp_path / name) for name in ("one", "two", "three")}) == 3


def test_a_name_that_is_no_text_has_a_digest(tmp_path: Path) -> None:
    before = digest_tree(tmp_path)
    (tmp_path / os.fsdecode(b"\xff")).write_text("")
    assert digest_tree(tmp_path) != before
