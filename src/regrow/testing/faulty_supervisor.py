"""A supervisor in whose state writes things go wrong, run by path like the real one.

It is the real supervisor; only what `record.py` asks of the operating system goes through here. DIR/faults.json says
what is to happen, and is read at every instant, so that a fault can be lifted:

    {"fault": "kill", "at": ["tell proved r2: open", ...], "ever": false}

fault  kill    SIGKILL
       error   the write fails as on a full disk (every instant but "end" and "send")
       hang    the process stops (SIGSTOP) until somebody continues or kills it
at     the instants, or "everywhere"; each counts once, or with "ever" each time

An instant is a write and its step, and stands before what it names; so what lies after a step is before the next:

    tell EVENT RELEASE: open, write, end                            a line of the journal
    save STATES: open, write, link, backup, rename, sync, end       the record, by the states that it has in it
    rewrite: open, write, rename, end                               the journal as a whole, when a supervisor starts
    send SIGNAL: send, end                                          to a process of the service; has no errors

DIR/instants gets a line for each instant passed and DIR/faults.met one, "PID INSTANT", for each fault. Standard library
only, as the supervisor itself.
"""

from __future__ import annotations

import builtins
import errno
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PROGRAM = Path(__file__)
FAULTS, MET, INSTANTS = "faults.json", "faults.met", "instants"


def shape(record: Json) -> str:
    """The states in a record, short: "r1 standby, r2 active, trial r2, untold switched, good r1"."""
    entries = record["instances"].values()
    told = [f"{entry['spec']['id']} {entry['state']}{'' if entry['pid'] else ' unborn'}" for entry in entries]
    trial, falling = record["trial"], record["falling"]
    told += [f"trial {trial['release']}{'' if trial['switched'] else ' to come'}"] if trial else []
    told += [f"falling to {falling['to']}"] if falling else []
    told += [f"untold {entry['event']}" for entry in record["untold"]]
    told += [f"good {record['good']['id']}"] if record["good"] else []
    told += [f"bad {pin['id']}" for pin in record["pins"].values()]
    told += [f"{len(record['crashes'])} crashes"] if record["crashes"] else []
    return ", ".join(told) or record["desired"]


class Faults:
    """Says at every instant whether one is due."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.write = ""  # the write that is under way

    def instant(self, step: str) -> None:
        """Pass an instant, or meet its fault there. Raises OSError for an error."""
        name = f"{self.write}: {step}"
        self._note(INSTANTS, name)
        try:
            wanted = json.loads((self._directory / FAULTS).read_text())
        except FileNotFoundError:
            return
        met = self._met()
        if (wanted["at"] != "everywhere" and name not in wanted["at"]) or (name in met and not wanted["ever"]):
            return
        if wanted["fault"] == "error" and step in ("end", "send"):
            return
        self._note(MET, f"{os.getpid()} {name}")
        if wanted["fault"] == "error":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.kill(os.getpid(), signal.SIGKILL if wanted["fault"] == "kill" else signal.SIGSTOP)

    def _met(self) -> set[str]:
        try:
            lines = (self._directory / MET).read_text().splitlines()
        except FileNotFoundError:
            return set()
        return {line.partition(" ")[2] for line in lines}

    def _note(self, file: str, line: str) -> None:
        with (self._directory / file).open("a") as notes:
            notes.write(line + "\n")

    def around(self, call: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        """A write of which `call` is all: `name` of its arguments says which one it is."""

        def write(*args: Any) -> Any:
            outer, self.write = self.write, name(*args)
            try:
                done = call(*args)
                self.instant("end")
            finally:
                self.write = outer
            return done

        return write


class System:
    """`os` as record.py sees it: each step of a write is an instant; all else is as it was."""

    def __init__(self, faults: Faults) -> None:
        self._faults = faults

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def open(self, path: str, flags: int, mode: int = 0o777) -> int:
        """Open for writing, or a directory in order to sync it."""
        self._faults.instant("sync" if flags & os.O_DIRECTORY else "open")
        return os.open(path, flags, mode)

    def fsync(self, fd: int) -> None:
        """Of what was just written; a directory has had its instant."""
        if not os.path.isdir(f"/proc/self/fd/{fd}"):  # noqa: PTH112
            self._faults.instant("write")
        os.fsync(fd)

    def link(self, source: str, target: str) -> None:
        """The record's second name."""
        self._faults.instant("link")
        os.link(source, target)

    def rename(self, source: str, target: str) -> None:
        """Of the record, its copy or the journal."""
        self._faults.instant("backup" if target.endswith(".bak") else "rename")
        os.rename(source, target)  # noqa: PTH104


def main(words: list[str]) -> int:
    """Put the faults in, and be the supervisor."""
    sys.path.append(str(PROGRAM.parents[2]))
    from regrow.supervisor import __main__ as program
    from regrow.supervisor import processes, record

    directory = Path(words[words.index("--dir") + 1])
    directory.mkdir(parents=True, exist_ok=True)
    faults = Faults(directory)

    def open_file(file: str | int, mode: str = "r", **options: Any) -> Any:
        if isinstance(file, str) and mode != "r":
            faults.instant("open")
        return builtins.open(file, mode, **options)  # noqa: PTH123

    def send(process: Any, number: int) -> bool:
        faults.instant("send")
        return signals(process, number)

    signals = processes.Process.send
    processes.Process.send = faults.around(  # type: ignore[method-assign]
        send, lambda _, number: f"send {signal.Signals(number).name}"
    )
    record.os = System(faults)  # type: ignore[assignment, attr-defined]
    record.open = open_file  # type: ignore[attr-defined]
    journal = record.Journal
    record.Record.save = faults.around(  # type: ignore[method-assign]
        record.Record.save, lambda _, data: f"save {shape(data)}"
    )
    journal.append = faults.around(  # type: ignore[method-assign]
        journal.append, lambda _, event, fields: " ".join(filter(None, ("tell", event, fields.get("release"))))
    )
    journal._rewrite = faults.around(journal._rewrite, lambda *_: "rewrite")  # type: ignore[method-assign]
    return program.main(words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
