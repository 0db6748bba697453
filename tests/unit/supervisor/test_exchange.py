"""Data set aside and brought back: exact bytes, no write-ahead log of other data, and whole after a kill anywhere."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from regrow.supervisor import exchange

PROGRAM = Path(exchange.__file__)
KILLED_AT = """
import os, runpy, signal, sys
at, count = int(sys.argv[1]), 0
def watch(event, arguments):
    global count
    if event in ("os.rename", "os.link", "os.remove", "os.mkdir", "shutil.rmtree"):
        count += 1
        if count == at:
            os.kill(os.getpid(), signal.SIGKILL)
sys.addaudithook(watch)
sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.fixture
def live(tmp_path: Path) -> Path:
    """The service's directory: one database whose last row is in its write-ahead log alone, and one that is absent."""
    directory = tmp_path / "state"
    directory.mkdir()
    make(directory / "claw.db", "old")
    return directory


def make(path: Path, *notes: str, version: int = 1) -> None:
    """A database as a killed service leaves it: the log holds what the file does not."""
    script = (
        "import os, sqlite3, sys\n"
        "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "c.execute('PRAGMA journal_mode=WAL'); c.execute('PRAGMA wal_autocheckpoint=0')\n"
        "c.execute('create table if not exists notes (text)')\n"
        "c.execute('PRAGMA user_version=' + sys.argv[2])\n"
        "[c.execute('insert into notes values (?)', (note,)) for note in sys.argv[3:]]\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path), str(version), *notes], check=True, timeout=60)


def notes(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return [text for (text,) in connection.execute("select text from notes order by rowid")]


def plan(live: Path, put: Path | None = None, *more: str) -> dict[str, Any]:
    files = [str(live / name) for name in ("claw.db", *more)]
    return {"files": files, "aside": str(live / "displaced" / "job-7"), "put": str(put) if put else None}


def run(what: str, given: dict[str, Any], at: int = 0) -> subprocess.CompletedProcess[str]:
    words = [str(PROGRAM), what, json.dumps(given)]
    argv = ["-c", KILLED_AT, str(at), *words] if at else words
    return subprocess.run([sys.executable, "-I", "-S", *argv], capture_output=True, text=True, timeout=60, check=False)


def bytes_of(directory: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file() and path.suffix != ".lock"}


def snapshot(tmp_path: Path, *texts: str) -> Path:
    """A directory with a database to be put in place."""
    directory = tmp_path / "put"
    directory.mkdir()
    with closing(sqlite3.connect(directory / "claw.db", isolation_level=None)) as connection:
        connection.execute("create table notes (text)")
        connection.executemany("insert into notes values (?)", [(text,) for text in texts])
    return directory


def test_what_was_set_aside_comes_back_byte_for_byte(live: Path) -> None:
    """F21: the newer code migrated and wrote; afterwards nothing of it is in the data, and nothing of it is lost."""
    before = {name: content for name, content in bytes_of(live).items() if not name.endswith("-shm")}
    assert set(before) == {"claw.db", "claw.db-wal"}
    given = plan(live)
    assert run("set_aside", given).returncode == 0
    assert {name: content for name, content in bytes_of(live).items() if not name.endswith("-shm")} == before
    make(live / "claw.db", "new", version=2)
    make(live / "extra.db", "elsewhere")
    assert run("bring_back", given).returncode == 0
    after = bytes_of(live)
    assert {name: after[name] for name in before} == before
    assert "claw.db-shm" not in after, "a stale index of another log was left (F22)"
    assert notes(live / "claw.db") == ["old"]
    assert notes(live / "displaced" / "job-7.left" / "claw.db") == ["old", "new"]
    assert notes(live / "extra.db") == ["elsewhere"]


def test_a_snapshot_takes_the_place_of_newer_data_and_of_its_log(live: Path, tmp_path: Path) -> None:
    """F22: a log that is planted beside the target is not replayed into what was put."""
    put = snapshot(tmp_path, "from the snapshot")
    given = plan(live, put)
    assert run("set_aside", given).returncode == 0
    assert set(bytes_of(live)) == {"claw.db"}
    assert notes(live / "claw.db") == ["from the snapshot"]
    assert notes(live / "displaced" / "job-7" / "claw.db") == ["old"]
    make(live / "claw.db", "written after")
    assert run("bring_back", given).returncode == 0
    assert notes(live / "claw.db") == ["old"]
    assert notes(live / "displaced" / "job-7.left" / "claw.db") == ["from the snapshot", "written after"]


def test_a_database_that_did_not_exist_is_gone_again(live: Path) -> None:
    given = plan(live, None, "new.db")
    assert run("set_aside", given).returncode == 0
    make(live / "new.db", "of the newer code")
    assert run("bring_back", given).returncode == 0
    assert set(bytes_of(live)) == {"claw.db", "claw.db-wal"}
    assert notes(live / "displaced" / "job-7.left" / "new.db") == ["of the newer code"]


def test_bringing_back_what_was_never_set_aside_changes_nothing(live: Path) -> None:
    before = bytes_of(live)
    assert run("bring_back", plan(live)).returncode == 0
    assert bytes_of(live) == before


def test_brought_back_once_is_enough(live: Path) -> None:
    """A supervisor that could not write down that it is done asks again, while the old release writes already."""
    given = plan(live)
    run("set_aside", given)
    make(live / "claw.db", "new", version=2)
    run("bring_back", given)
    make(live / "claw.db", "by the old release")
    assert run("bring_back", given).returncode == 0
    assert notes(live / "claw.db") == ["old", "by the old release"]


def test_owner_and_mode_stay(live: Path, tmp_path: Path) -> None:
    """F15."""
    (live / "claw.db").chmod(0o640)
    given = plan(live, snapshot(tmp_path, "other"))
    run("set_aside", given)
    assert (live / "claw.db").stat().st_mode & 0o777 == 0o640
    run("bring_back", given)
    assert (live / "claw.db").stat().st_mode & 0o777 == 0o640
    assert (live / "displaced").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("what", ["set_aside", "put", "bring_back"])
def test_a_kill_anywhere_is_made_good_by_doing_it_again(tmp_path: Path, what: str) -> None:
    for at in range(1, 100):
        live = tmp_path / str(at) / "state"
        live.mkdir(parents=True)
        put = snapshot(live.parent, "from the snapshot") if what != "set_aside" else None
        make(live / "claw.db", "old")
        given = plan(live, put)
        if what == "bring_back":
            assert run("set_aside", given).returncode == 0
            make(live / "claw.db", "written after")
        verb = "bring_back" if what == "bring_back" else "set_aside"
        done = run(verb, given, at)
        assert run(verb, given).returncode == 0
        aside = live / "displaced" / "job-7"
        if what == "bring_back":
            assert notes(live / "claw.db") == ["old"]
            assert notes(aside.with_name("job-7.left") / "claw.db") == ["from the snapshot", "written after"]
        else:
            assert notes(live / "claw.db") == (["from the snapshot"] if put else ["old"])
            assert notes(aside / "claw.db") == ["old"]
        if done.returncode == 0:
            assert at > 4, "nothing was killed"
            return
        assert done.returncode == -signal.SIGKILL, done.stdout + done.stderr
    raise AssertionError("it never came to its end")


def fails(live: Path) -> None:
    (live / "displaced").write_text("a file")


def unreadable(live: Path) -> None:
    (live / "claw.db").unlink()
    (live / "claw.db").mkdir()


@pytest.mark.parametrize("breaks", [fails, unreadable])
def test_what_cannot_be_done_is_said_in_one_line(live: Path, breaks: Callable[[Path], None]) -> None:
    breaks(live)
    done = run("set_aside", plan(live))
    assert done.returncode == 1
    assert done.stdout.startswith("cannot move the data: ")
    assert (done.stdout.count("\n"), done.stderr) == (1, "")
    assert not (live / "displaced" / "job-7").exists()


def test_where_links_cannot_be_had_it_copies(live: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_links(*_: object) -> None:
        raise OSError(18, os.strerror(18))

    given = plan(live, snapshot(tmp_path, "other"))
    monkeypatch.setattr(os, "link", no_links)
    (live / "displaced").mkdir()
    exchange.set_aside(given)
    assert notes(live / "claw.db") == ["other"]
    exchange.bring_back(given)
    assert notes(live / "claw.db") == ["old"]
