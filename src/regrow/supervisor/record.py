"""What the supervisor knows, on disk: one small record that is replaced as a whole, and a journal of events."""

import contextlib
import json
import os
import time
from typing import Any

Json = dict[str, Any]
FORMAT = 1
KEPT_EVENTS = 1000


class RecordError(Exception):
    """The record cannot be used; the text says what to do."""


def boot_id() -> str:
    with open("/proc/sys/kernel/random/boot_id") as file:  # noqa: PTH123 - pathlib costs memory here
        return file.read().strip()


def boottime() -> float:
    """Seconds since boot, sleep included: the one clock that outlives this process and no person can set."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def empty() -> Json:
    return {
        "format": FORMAT,
        "boot": "",
        "seq": 0,
        "desired": "stopped",  # what to do at start: running or stopped
        "active": None,  # tokens
        "standby": None,
        "candidate": None,
        "instances": {},
        "trial": None,  # the unproven release that serves, with its deadline
        "exchange": None,  # the data that changes hands with the release on trial
        "falling": None,  # a fallback that has begun and is not yet announced
        "good": None,  # specs: the last good release and the one before
        "previous": None,
        "pins": {},
        "sockets": {},  # address asked for -> {name, bound}
        "crashes": [],  # boottime seconds
        "down_since": None,
        "untold": [],  # events of this very write that are not in the journal yet
    }


def sync_directory(path: str) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class Record:
    """`supervisor.json` and its last good copy `supervisor.json.bak`."""

    def __init__(self, directory: str) -> None:
        self.directory = directory
        self.path = os.path.join(directory, "supervisor.json")  # noqa: PTH118
        self.backup = self.path + ".bak"

    def load(self) -> tuple[Json, str | None]:
        """Return the record and, if it was damaged, where the damaged file was put.

        Raises RecordError if the record was written by a newer version: an older one would misread it.
        """
        displaced = None
        for path in (self.path, self.backup):
            try:
                with open(path, encoding="utf-8") as file:  # noqa: PTH123
                    data = json.load(file)
                if not isinstance(data, dict) or not isinstance(data.get("format"), int):
                    raise ValueError("not a record")
                if data["format"] > FORMAT:
                    raise RecordError(
                        f"cannot read {path}: it has format {data['format']} and this version knows"
                        f" {FORMAT}; start the newer version that wrote it"
                    )
                if not isinstance(data.get("instances"), dict):
                    raise ValueError("not a record")
            except FileNotFoundError:
                continue
            except ValueError:  # torn, zero-filled or foreign: keep it for a person to look at
                displaced = f"{path}.unreadable-{time.time_ns()}"
                os.rename(path, displaced)  # noqa: PTH104
                continue
            return empty() | data, displaced
        return empty(), displaced

    def save(self, data: Json) -> None:
        """Replace the record; at every instant one complete record is on disk. Raises OSError (disk full)."""
        temporary = self.path + ".tmp"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="utf-8") as file:  # noqa: PTH123
            json.dump(data, file, ensure_ascii=False, separators=(",", ":"))
            file.flush()
            os.fsync(fd)
        with contextlib.suppress(FileNotFoundError):
            # A second name for the present record, moved into place: neither name is ever missing or half written.
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.backup + ".tmp")  # noqa: PTH108
            os.link(self.path, self.backup + ".tmp")
            os.rename(self.backup + ".tmp", self.backup)  # noqa: PTH104
        os.rename(temporary, self.path)  # noqa: PTH104
        sync_directory(self.directory)


class Journal:
    """`events.jsonl`: one event a line, numbered by `seq`, which never goes back."""

    def __init__(self, directory: str, seq: int) -> None:
        self.path = os.path.join(directory, "events.jsonl")  # noqa: PTH118
        self._unwritten: list[Json] = []
        events = self.after(0)
        self.seq = max([seq, *(event["seq"] for event in events)])
        self._rewrite(events)  # drops a torn last line too

    def append(self, event: str, fields: Json) -> Json:
        """Number and keep an event; what a full disk does not take is kept here, and written with a later one (F14)."""
        self.seq += 1
        entry = {"seq": self.seq, "at": round(time.time(), 3), "event": event, **fields}
        self._unwritten = [*self._unwritten, entry][-KEPT_EVENTS:]
        with contextlib.suppress(OSError):
            if self._lines >= 2 * KEPT_EVENTS:
                self._rewrite(self.after(0))
            with open(self.path, "a", encoding="utf-8") as file:  # noqa: PTH123
                # After a failure the file may end in half a line.
                file.write("\n" if len(self._unwritten) > 1 else "")
                file.writelines(json.dumps(kept, ensure_ascii=False) + "\n" for kept in self._unwritten)
                file.flush()
                os.fsync(file.fileno())
            self._lines += len(self._unwritten)
            self._unwritten = []
        return entry

    def after(self, seq: int) -> list[Json]:
        events = []
        with contextlib.suppress(FileNotFoundError), open(self.path, encoding="utf-8", errors="replace") as file:  # noqa: PTH123
            for line in file:
                with contextlib.suppress(ValueError, KeyError, TypeError):
                    event = json.loads(line)
                    if event["seq"] > seq:
                        events.append(event)
                        seq = event["seq"]  # one that was written twice is told once
        return events + [event for event in self._unwritten if event["seq"] > seq]

    def _rewrite(self, events: list[Json]) -> None:
        kept = events[-KEPT_EVENTS:]
        temporary = self.path + ".tmp"
        with contextlib.suppress(OSError):
            with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123
                file.writelines(json.dumps(event, ensure_ascii=False) + "\n" for event in kept)
                file.flush()
                os.fsync(file.fileno())
            os.rename(temporary, self.path)  # noqa: PTH104
        self._lines = len(kept)
