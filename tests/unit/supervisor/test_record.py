"""The record survives a crash between any two of its writes, and a torn file."""

import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrow.supervisor import record
from regrow.supervisor.record import KEPT_EVENTS, Journal, Record, RecordError, empty


class Crash(BaseException):
    """The power goes."""


class CrashingOs:
    """The real os, until the call with this number."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in ("open", "fsync", "link", "rename", "unlink", "close"):
            return real

        def call(*args):
            self.left -= 1
            if self.left < 0:
                raise Crash
            return real(*args)

        return call


def stored(number: int):
    return empty() | {"seq": number, "desired": "x" * number}


@given(before=st.integers(0, 4), crash_at=st.integers(0, 14))
def test_a_crash_between_any_two_writes_leaves_the_old_or_the_new_record(before, crash_at):
    with tempfile.TemporaryDirectory() as directory:
        file = Record(directory)
        for number in range(1, before + 1):
            file.save(stored(number))
        real, record.os = record.os, CrashingOs(crash_at)
        try:
            file.save(stored(before + 1))
            finished = True
        except Crash:
            finished = False
        finally:
            record.os = real
        data, displaced = Record(directory).load()
        assert displaced is None
        assert data["seq"] in ((before + 1,) if finished else (before, before + 1))
        file.save(stored(before + 2))  # what the crash left behind is in nobody's way
        assert Record(directory).load()[0]["seq"] == before + 2


@given(saves=st.integers(1, 4), cut=st.integers(0, 200), zeroed=st.booleans())
def test_a_torn_record_is_kept_aside_and_the_copy_before_is_used(saves, cut, zeroed):
    with tempfile.TemporaryDirectory() as directory:
        file = Record(directory)
        for number in range(1, saves + 1):
            file.save(stored(number))
        path = Path(file.path)
        whole = path.read_bytes()
        torn = bytes(len(whole)) if zeroed else whole[: min(cut, len(whole) - 1)]
        path.unlink()  # the backup may be the same file under another name
        path.write_bytes(torn)
        data, displaced = Record(directory).load()
        assert data["seq"] == saves - 1
        assert displaced is not None
        assert Path(displaced).read_bytes() == torn


def test_no_record_is_an_empty_one(tmp_path):
    assert Record(str(tmp_path)).load() == (empty(), None)


@pytest.mark.parametrize("name", ["supervisor.json", "supervisor.json.bak"])
def test_newer_format_is_refused_and_left_alone(tmp_path, name):
    path = tmp_path / name
    path.write_text(json.dumps(empty() | {"format": record.FORMAT + 1}))
    before = path.read_bytes()
    with pytest.raises(RecordError, match=r"^cannot read"):
        Record(str(tmp_path)).load()
    assert path.read_bytes() == before


def test_journal_numbers_on_after_a_restart_and_drops_a_torn_line(tmp_path):
    journal = Journal(str(tmp_path), 0)
    for _ in range(3):
        journal.append("proved", {"token": "a"})
    with Path(journal.path).open("a") as file:
        file.write('{"seq": 4, "ev')
    again = Journal(str(tmp_path), 0)
    assert again.append("switched", {})["seq"] == 4
    assert [event["seq"] for event in again.after(1)] == [2, 3, 4]
    assert Journal(str(tmp_path), 90).append("switched", {})["seq"] == 91


def test_journal_keeps_the_last_events(tmp_path):
    journal = Journal(str(tmp_path), 0)
    lines = [json.dumps({"seq": n, "at": 0, "event": "x"}) for n in range(1, 3 * KEPT_EVENTS)]
    Path(journal.path).write_text("\n".join(lines) + "\n")
    kept = Journal(str(tmp_path), 0).after(0)
    assert len(kept) == KEPT_EVENTS
    assert kept[-1]["seq"] == 3 * KEPT_EVENTS - 1


def test_f14_events_that_a_full_disk_did_not_take_are_told_and_written_later(tmp_path, monkeypatch):
    journal = Journal(str(tmp_path), 0)
    journal.append("first", {})
    sync = os.fsync

    def full(fd):
        os.truncate(fd, os.fstat(fd).st_size - 5)
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    journal.append("second", {})
    journal.append("third", {})
    assert [event["event"] for event in journal.after(0)] == ["first", "second", "third"]
    assert [event["event"] for event in journal.after(2)] == ["third"]
    monkeypatch.setattr(os, "fsync", sync)
    journal.append("fourth", {})
    again = Journal(str(tmp_path), 0).after(0)
    assert [(event["seq"], event["event"]) for event in again] == [
        (1, "first"),
        (2, "second"),
        (3, "third"),
        (4, "fourth"),
    ]
