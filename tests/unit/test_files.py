"""Files as a crash leaves them: real renames, real kernel locks, real processes that are killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from regrow import files
from regrow.errors import Refused

HOLD = """
import pathlib, sys
from regrow.files import exclusive_lock
with exclusive_lock(pathlib.Path(sys.argv[1]), "daemon"):
    print("held", flush=True)
    sys.stdin.read()
"""

REMOVE = """
import os, pathlib, sys
from regrow.files import remove_tree
if os.getuid() == 0:
    os.setgroups([])
    os.setgid(int(sys.argv[2]))
    os.setuid(int(sys.argv[2]))
remove_tree(pathlib.Path(sys.argv[1]))
"""


def test_a_write_replaces_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "state"
    files.write_atomic(path, b"a long first content")
    files.write_atomic(path, b"second", 0o640)
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o640
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("where", ["fsync", "replace"])
def test_a_write_that_breaks_leaves_the_old_bytes_and_no_trace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    path = tmp_path / "state"
    files.write_atomic(path, b"old")

    def broken(*_: object) -> None:
        raise KeyboardInterrupt  # not an Exception: what a person or a signal does

    monkeypatch.setattr(*((os, "fsync") if where == "fsync" else (Path, "replace")), broken)
    with pytest.raises(KeyboardInterrupt):
        files.write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_to_a_full_place_leaves_the_old_bytes(tmp_path: Path) -> None:
    # A limit of the kernel on the size of files, in a process of its own, is as true a failure as a full disk.
    path = tmp_path / "state"
    files.write_atomic(path, b"old")
    script = (
        "import pathlib, resource, sys; from regrow import files; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)); "
        "files.write_atomic(pathlib.Path(sys.argv[1]), b'x' * 5000)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)], capture_output=True, text=True, timeout=30, check=False
    )
    assert "File too large" in done.stderr
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock."""
    argv = [sys.executable, "-c", HOLD, str(tmp_path / "lock")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child
        child.kill()


def test_a_second_process_is_told_who_holds_the_lock(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(Refused) as caught, files.exclusive_lock(tmp_path / "lock", "daemon"):
        raise AssertionError("held twice")
    assert caught.value.kind == "locked"
    assert str(holder.pid) in str(caught.value)


def test_the_lock_of_a_killed_holder_is_free(tmp_path: Path, holder: subprocess.Popen[str]) -> None:
    # F42: what it wrote into the file is still there, and is no lock.
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=30)
    assert (tmp_path / "lock").read_text() == str(holder.pid)
    with files.exclusive_lock(tmp_path / "lock", "daemon"):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_lock_can_be_taken_again_after_it_was_let_go(tmp_path: Path) -> None:
    for _ in range(2):
        with pytest.raises(ValueError, match="inside"), files.exclusive_lock(tmp_path / "lock", "daemon"):
            raise ValueError("inside")


def plant(root: Path) -> None:
    """A tree as a build leaves it: nothing may be written, one directory may not even be read."""
    (root / "package/deep").mkdir(parents=True)
    (root / "package/deep/module.py").write_text("x")
    (root / "package/link").symlink_to("/etc")
    (root / "shut").mkdir()
    (root / "shut/file").write_text("x")
    for path in (root / "package/deep/module.py", root / "package/deep", root / "package"):
        path.chmod(0o444 if path.is_file() else 0o555)
    (root / "shut").chmod(0)


@pytest.mark.parametrize("top", [0o555, 0])
def test_a_read_only_tree_is_removed(top: int) -> None:
    # root may write anywhere, so this is tried as somebody who may not.
    with tempfile.TemporaryDirectory() as place:
        root = Path(place) / "tree"
        plant(root)
        root.chmod(top)
        nobody = 65534
        if os.getuid() == 0:
            for path in (Path(place), root, *root.rglob("*")):
                os.chown(path, nobody, nobody, follow_symlinks=False)
        done = subprocess.run(
            [sys.executable, "-c", REMOVE, str(root), str(nobody)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.stderr, root.exists()) == ("", False)
    assert Path("/etc").exists()


def test_a_link_is_removed_and_not_what_it_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "real/file").write_text("kept")
    (tmp_path / "link").symlink_to("real")
    files.remove_tree(tmp_path / "link")
    files.remove_tree(tmp_path / "missing")
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "real/file").read_text() == "kept"


def test_bytes_of_a_tree_are_those_of_its_files(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below/one").write_bytes(b"12345")
    (tmp_path / "two").write_bytes(b"678")
    (tmp_path / "link").symlink_to("two")
    assert files.tree_bytes(tmp_path) == 8
    files.sync_tree(tmp_path)


def test_a_private_directory_is_for_its_user_alone(tmp_path: Path) -> None:
    made = files.private_directory(tmp_path / "state")
    assert made.stat().st_mode & 0o777 == 0o700
    assert files.private_directory(made) == made
    assert files.free_bytes(made) > 0


def test_threads_that_write_one_file_at_once_leave_a_whole_one(tmp_path: Path) -> None:
    path = tmp_path / "runs.json"
    texts = [bytes([letter]) * 4096 for letter in b"abcdefgh"]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda text: files.write_atomic(path, text), texts))
            assert path.read_bytes() in texts
    assert [one.name for one in tmp_path.iterdir()] == ["runs.json"]
