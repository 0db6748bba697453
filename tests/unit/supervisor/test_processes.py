"""A forked child: what it inherits, what it says when it cannot run, and that it never runs without `go`."""

import errno
import os
import select
import socket
from pathlib import Path

import pytest

from regrow.supervisor import processes


def run(argv, tmp_path, env=None, fds=(), go=True):
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    birth = processes.fork(list(argv), str(tmp_path), {"PATH": os.environ["PATH"], **(env or {})}, list(fds), log)
    os.close(log)
    birth.go() if go else birth.abandon()
    assert select.select([birth.process.pidfd], [], [], 20)[0]
    error = birth.error()
    os.close(birth.errors)
    return birth.process.reap(), error, (tmp_path / "log").read_text()


def test_inherits_the_given_sockets_as_three_and_on_and_nothing_else(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        # No pipe: a shell holds the ends of one for a moment, and they would be listed.
        code = "ls /proc/$$/fd; echo $LISTEN_PID $$; read x || echo eof"
        env = {"LISTEN_FDS": "2"}
        how, error, text = run(["/bin/sh", "-c", code], tmp_path, env, [two.fileno(), one.fileno()])
    assert (how, error) == ("exit code 0", None)
    *numbers, pids, end = text.splitlines()
    assert numbers == ["0", "1", "2", "3", "4"]
    assert len(set(pids.split())) == 1
    assert end == "eof"


@pytest.mark.parametrize(
    ("argv", "text"),
    [
        (["/no/such"], "cannot run /no/such: No such file or directory"),
        (["/etc"], "cannot run /etc: Permission denied"),
    ],
)
def test_says_why_it_cannot_run(tmp_path, argv, text):
    how, error, _ = run(argv, tmp_path)
    assert how == "exit code 127"
    assert error[1] == text


def test_without_go_the_program_never_runs(tmp_path):
    how, error, text = run(["/bin/sh", "-c", "echo ran"], tmp_path, go=False)
    assert (how, error, text) == ("exit code 127", None, "")


def birth_of(tmp_path, prepare):
    log = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    birth = processes.fork(["/bin/sh", "-c", "echo ran"], str(tmp_path), {}, [], log, prepare=prepare)
    os.close(log)
    return birth


def buried(birth):
    birth.go()
    assert select.select([birth.process.pidfd], [], [], 20)[0]
    error = birth.error()
    os.close(birth.errors)
    return birth.process.reap(), error


def test_what_the_child_prepares_arrives_before_its_program_runs(tmp_path):
    birth = birth_of(tmp_path, lambda channel: socket.send_fds(socket.socket(fileno=os.dup(channel)), [b"x"], [0]))
    fd = birth.descriptor(20)
    assert os.fstat(fd).st_rdev == Path("/dev/null").stat().st_rdev
    os.close(fd)
    assert (tmp_path / "log").read_text() == ""
    assert buried(birth) == ("exit code 0", None)
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_child_that_cannot_be_prepared_says_why_and_never_runs(tmp_path):
    def fail(channel):
        raise OSError(errno.ENOSYS, "")

    birth = birth_of(tmp_path, fail)
    assert birth.descriptor(20) is None
    assert buried(birth) == ("exit code 127", (errno.ENOSYS, "cannot start: Function not implemented"))
    assert (tmp_path / "log").read_text() == ""


def test_tells_the_signal_that_killed_it(tmp_path):
    assert run(["/bin/sh", "-c", "kill -9 $$"], tmp_path)[0] == "killed by SIGKILL"


def test_signals_and_their_mask_are_reset(tmp_path):
    text = run(["/bin/sh", "-c", "grep -E '^Sig(Blk|Ign)' /proc/self/status"], tmp_path)[2]
    assert all(int(line.split()[1], 16) == 0 for line in text.splitlines())


def test_f41_another_start_time_is_another_process():
    start = processes.start_time(os.getpid())
    assert processes.adopt(os.getpid(), start + 1) is None
    mine = processes.adopt(os.getpid(), start)
    assert mine.alive()
    mine.close()
