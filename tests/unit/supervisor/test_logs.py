"""Rotation of a log that is written to: every line is kept, once and in order, whoever is killed."""

import errno
import os
import random
import signal
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

import regrow.supervisor
from regrow.supervisor import logs
from regrow.supervisor.loop import Loop

LIMIT = 100_000
WRITER = """
import os, sys
for number in range(int(sys.argv[2])):
    os.write(1, b"%s %d %s\\n" % (sys.argv[1].encode(), number, b"x" * (number % 90)))
"""
# A supervisor of which nothing is left but its logs.
KEEPER = """
import sys
sys.path.append(sys.argv[1])
from supervisor import logs
from supervisor.loop import Loop
logs._SOONEST_S = 0.001
loop = Loop()
logs.Logs(loop, lambda *_: None, lambda *_: None).use(sys.argv[2], int(sys.argv[3]), 1_000, False)
print("up", flush=True)
loop.run()
"""


@pytest.fixture(params=["disk", "memory"])
def path(request, tmp_path):
    """A log on this machine's disk, where a head is cut out, and on a tmpfs, where it stays as a hole."""
    if request.param == "disk":
        yield str(tmp_path / "r1.log")
        return
    directory = Path(f"/dev/shm/regrow-test-{os.getpid()}")
    directory.mkdir()
    yield str(directory / "r1.log")
    for left in directory.iterdir():
        left.unlink()
    directory.rmdir()


class Keeper:
    """Logs in a loop of their own, which ends when the given processes have and nothing is left to do."""

    def __init__(self, path, limit=LIMIT, keep=1_000, fresh=True):
        self.path, self.loop = path, Loop()
        self.moved, self.told = 0, []
        self.logs = logs.Logs(self.loop, self._moved, lambda _, what: self.told.append(what))
        self.logs.use(path, limit, keep, fresh)

    def _moved(self, path, count):
        self.moved += count

    def run(self, *processes):
        left = {process.pid for process in processes}

        def ended(process, fd):
            left.discard(process.pid)
            process.wait()
            self.loop.unwatch(fd)
            os.close(fd)

        for process in processes:
            fd = os.pidfd_open(process.pid)
            self.loop.watch(fd, lambda process=process, fd=fd: ended(process, fd))
        self._wait(left)
        self.loop.run()

    def _wait(self, left):
        # Nothing is waited for by the log when its only timer has gone: the kernel will tell of the next write.
        if not left and self.logs._alarms:
            self.loop.after(0, self.loop.stop)
        else:
            self.loop.after(0.02, lambda: self._wait(left))


def write(path, name, count):
    fd = logs.opened(path)
    try:
        return subprocess.Popen([sys.executable, "-c", WRITER, name, str(count)], stdout=fd)
    finally:
        os.close(fd)


def parts(path):
    """The older parts, oldest first, then the log itself."""
    older = sorted(Path(path).parent.glob(f"{Path(path).name}.*"), key=lambda part: -int(part.suffix[1:]))
    return [*older, Path(path)]


def lines(path):
    """What each writer wrote, as numbers, in the order of the files."""
    text = b"".join(part.read_bytes()[logs.first_byte(str(part)) :] for part in parts(path))
    found = sorted((line.split() for line in text.splitlines() if line.strip()), key=lambda words: words[0])
    return {name.decode(): [int(words[1]) for words in group] for name, group in groupby(found, lambda words: words[0])}


@pytest.fixture
def eager(monkeypatch):
    monkeypatch.setattr(logs, "_SOONEST_S", 0.005)


def test_no_line_is_lost_or_doubled_while_it_is_written(path, eager):
    keeper = Keeper(path)
    writers = [write(path, name, 40_000) for name in ("a", "b", "c")]
    keeper.run(*writers)
    assert lines(path) == {name: list(range(40_000)) for name in ("a", "b", "c")}
    older = parts(path)[:-1]
    assert len(older) > 20, "it was hardly rotated"
    assert all(part.read_bytes()[-1:] == b"\n" for part in older), "a line was cut in two"
    assert Path(path).stat().st_blocks * 512 < LIMIT + 2 * logs.KEPT_TAIL
    assert keeper.told == []
    assert keeper.loop._wait() is None, "something is due although nothing is written"


def test_what_is_left_in_the_file_has_moved_by_what_was_told(tmp_path, eager):
    path = str(tmp_path / "r1.log")
    keeper = Keeper(path)
    writer = write(path, "a", 40_000)
    keeper.run(writer)
    whole = sum(len(b"a %d %s\n" % (number, b"x" * (number % 90))) for number in range(40_000))
    assert Path(path).stat().st_size == whole - keeper.moved


def test_killed_at_any_instant_no_line_is_lost_or_doubled(path):
    package = str(Path(regrow.supervisor.__file__).parents[1])
    writer = write(path, "a", 400_000)
    pauses = random.Random(7)
    kills = 0
    while writer.poll() is None:
        argv = [sys.executable, "-I", "-S", "-c", KEEPER, package, path, str(LIMIT)]
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as keeper:
            assert keeper.stdout.readline() == b"up\n"
            try:
                writer.wait(pauses.uniform(0, 0.05))
            except subprocess.TimeoutExpired:
                kills += 1
            os.kill(keeper.pid, signal.SIGKILL)
    Keeper(path, fresh=False).run()
    assert kills > 3
    assert len(parts(path)) > 10
    assert lines(path) == {"a": list(range(400_000))}


@pytest.mark.parametrize("keep", [0, 2])
def test_no_more_is_kept_than_asked_for(tmp_path, eager, keep):
    path = str(tmp_path / "r1.log")
    keeper = Keeper(path, keep=keep)
    keeper.run(write(path, "a", 40_000))
    assert len(parts(path)) == keep + 1
    kept = lines(path)["a"]
    assert kept == list(range(kept[0], 40_000))
    assert sum(part.stat().st_size for part in parts(path)) <= (keep + 1) * LIMIT + 2 * logs.KEPT_TAIL


def test_where_a_head_cannot_be_freed_it_is_told_and_the_next_start_rotates(tmp_path, eager, monkeypatch):
    def refuse(*_):
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    path = str(tmp_path / "r1.log")
    with monkeypatch.context() as patched:
        patched.setattr(logs, "_fallocate", refuse)
        patched.setattr(logs, "_BLIND_S", 0.0)
        keeper = Keeper(path)
        writer = write(path, "a", 10_000)
        writer.wait()
        while not keeper.told:
            keeper.loop.after(0.02, keeper.loop.stop)
            keeper.loop.run()
        keeper.logs.leave(path)
    assert keeper.told == ["cannot rotate the log before the next start: Operation not supported"]
    assert len(parts(path)) == 1
    Keeper(path)
    assert [part.name for part in Path(path).parent.iterdir()] == ["r1.log.1"]


def test_reading_gives_whole_lines_once(tmp_path):
    path = tmp_path / "r1.log"
    path.write_bytes(b"old\nfirst\nhal")
    reading = logs.Reading(str(path), 4)
    assert reading.lines() == ["first"]
    with path.open("ab") as file:
        file.write(b"f\nlast\n")
    assert reading.lines() == ["half", "last"]
    assert reading.lines() == []


def test_f14_on_a_full_disk_a_process_writes_nowhere_rather_than_not_at_all(tmp_path, monkeypatch):
    real = os.open

    def full(path, *rest):
        if str(path).endswith(".log"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, *rest)

    monkeypatch.setattr(os, "open", full)
    fd = logs.opened(str(tmp_path / "r1.log"))
    assert str(Path(f"/proc/self/fd/{fd}").readlink()) == os.devnull
    os.close(fd)
