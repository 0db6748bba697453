"""One line of cause, from what real programs print when they die."""

import errno
import os
import pwd
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regrow.supervisor import cause

PYTHON = [sys.executable, "-c"]
NODE = ["node", "-e"]
# (name, argv or file name and program, the cause)
PROGRAMS = [
    ("raised", [*PYTHON, "1/0"], "ZeroDivisionError: division by zero"),
    ("chained", [*PYTHON, "try:\n 1/0\nexcept Exception as e:\n raise RuntimeError('outer') from e"],
     "RuntimeError: outer"),
    ("group", [*PYTHON, "raise ExceptionGroup('many', [ValueError('a'), KeyError('b')])"],
     "ExceptionGroup: many (2 sub-exceptions): ValueError: a"),
    ("syntax", [*PYTHON, "def f( :"], "SyntaxError: invalid syntax"),
    ("exit", [*PYTHON, "raise SystemExit('no settings')"], "no settings"),
    ("logged before", [*PYTHON, "import logging\ntry:\n 1/0\nexcept Exception: logging.exception('once')\n"
     "for n in range(20): print('busy', n, flush=True)\nraise SystemExit('no settings')"], "no settings"),
    ("thrown", [*NODE, "function f() { throw new TypeError('boom') }; f()"], "TypeError: boom"),
    ("rejected", [*NODE, "Promise.reject(new Error('late'))"], "Error: late"),
    ("plain", [*NODE, "throw 'plain'"], "plain"),
    ("inner", [*NODE, "try { JSON.parse('{') } catch (e) { throw new Error('cannot read settings', {cause: e}) }"],
     "Error: cannot read settings (caused by SyntaxError: "),
    ("module", [*NODE, "require('nope')"], "Error: Cannot find module 'nope'"),
    ("panic", ("a.go", 'package main\nimport "errors"\nfunc main() { panic(errors.New("no such table")) }'),
     "panic: no such table"),
    ("deadlock", ("a.go", "package main\nfunc main() { c := make(chan int); <-c }"),
     "fatal error: all goroutines are asleep - deadlock!"),
    ("fatal", ("a.go", 'package main\nimport "log"\nfunc main() { log.SetFlags(0); log.Fatal("no settings") }'),
     "no settings"),
    ("unwrap", ("a.rs", 'fn main() { "x".parse::<u8>().unwrap(); }'),
     "panicked at a.rs:1:31: called `Result::unwrap()` on an `Err` value: ParseIntError { kind: InvalidDigit }"),
    ("thread", ("a.rs", 'fn main() { std::thread::spawn(|| { panic!("inside") }).join().unwrap(); }'),
     "panicked at a.rs:1:37: inside"),
    ("returned", ("a.rs", 'fn main() -> Result<(), String> { Err("no settings".into()) }'), 'Error: "no settings"'),
    ("java", ("Main.java", 'public class Main { public static void main(String[] a) { try { new java.io.FileInputStream'
     '("/no/such"); } catch (Exception e) { throw new IllegalStateException("cannot start", e); } } }'),
     "java.lang.IllegalStateException: cannot start (caused by java.io.FileNotFoundException: /no/such (No such file"),
    ("c++", ("a.cc", '#include <stdexcept>\nint main() { throw std::runtime_error("bad config"); }'),
     "std::runtime_error: bad config"),
    ("shell", ["/bin/sh", "-c", "nope"], "nope"),
]  # fmt: skip
COMPILERS = {
    ".go": ["go", "build", "-o", "a.out"],
    ".rs": ["rustc", "-o", "a.out"],
    ".cc": ["g++", "-o", "a.out"],
    ".java": ["javac"],
}


def toolchain(program):
    return shutil.which(COMPILERS[Path(program[0]).suffix][0] if isinstance(program, tuple) else program[0])


HERE = [one for one in PROGRAMS if toolchain(one[1])]  # what other machines' programs print is stored below


@pytest.fixture(scope="module")
def home():
    """The home of whoever runs the tests: rustup finds its compiler there."""
    return pwd.getpwuid(os.getuid()).pw_dir


@pytest.mark.parametrize(("program", "expected"), [one[1:] for one in HERE], ids=[one[0] for one in HERE])
def test_what_a_real_program_prints_when_it_dies(program, expected, tmp_path, home):
    env = {key: value for key, value in os.environ.items() if key != "RUST_BACKTRACE"}
    argv = program
    if isinstance(program, tuple):
        name, text = program
        (tmp_path / name).write_text(text)
        there = env | {"HOME": home, "GOCACHE": str(tmp_path / "cache"), "GO111MODULE": "off"}
        subprocess.run([*COMPILERS[Path(name).suffix], name], cwd=tmp_path, env=there, check=True, capture_output=True)
        argv = ["java", "-cp", str(tmp_path), "Main"] if name.endswith(".java") else [str(tmp_path / "a.out")]
    done = subprocess.run(
        argv, cwd=tmp_path, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    assert done.returncode != 0
    assert expected in cause.decisive_line(done.stdout), done.stdout


STORED = [
    ("panic: old [recovered]\n\tpanic: new\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:1 +0x2\n", "panic: old"),
    ("thread 'main' panicked at 'no settings', src/main.rs:3:5\nnote: run with `RUST_BACKTRACE=1`\n",
     "panicked at 'no settings', src/main.rs:3:5"),
    ("a.rb:1:in `load': no settings (RuntimeError)\n\tfrom a.rb:9:in `<main>'\n", "no settings (RuntimeError)"),
    ("Unhandled exception. System.Exception: no settings\n   at Program.Main() in /a.cs:line 3\n",
     "System.Exception: no settings"),
    ("PHP Fatal error:  Uncaught Error: no settings in /a.php:1\nStack trace:\n#0 {main}\n  thrown\n",
     "Uncaught Error: no settings in /a.php:1"),
    ("ERROR worker failed\njava.lang.Error: no settings\n\tat Main.main(Main.java:1)\n",
     "java.lang.Error: no settings"),
    ("panic: no such table: message\n\ngoroutine 1 [running]:\nmain.main()\n\t/a.go:3 +0x47\nexit status 2\n",
     "panic: no such table: message"),
    ("\nthread 'main' (27731) panicked at a.rs:1:78:\ncalled `unwrap()` on an `Err` value\nstack backtrace:\n"
     "   0: rust_begin_unwind\n             at /rustc/std/src/panicking.rs:689:5\nnote: Some details are omitted\n",
     "panicked at a.rs:1:78: called `unwrap()` on an `Err` value"),
    ("/a.js:1\nthrow new E('boom')\n^\n\nE [Error]: boom\nsecond\n    at f (/a.js:1:50)\n\nNode.js v20.20.2\n",
     "E [Error]: boom"),
    ('Exception in thread "main" java.lang.Error: no settings\n\tat Main.f(Main.java:1)\n'
     "Caused by: java.io.IOException: gone\n\tat java.base/F.open(Native Method)\n\t... 2 more\n",
     "java.lang.Error: no settings (caused by java.io.IOException: gone)"),
    ("one\n\n  last  \n\n", "last"),
    ("", ""),
]  # fmt: skip


@pytest.mark.parametrize(("text", "expected"), STORED)
def test_what_other_programs_print(text, expected):
    assert cause.decisive_line(text) == expected


def test_a_signal_that_somebody_sent_is_not_blamed_on_the_last_line():
    assert cause.of_death("killed by SIGKILL", "tick 7\n", "") == "killed by SIGKILL"
    assert cause.of_death("killed by SIGSEGV", "tick 7\n", "") == "killed by SIGSEGV: tick 7"


def test_out_of_memory_is_said_only_with_evidence():
    said = cause.of_death("killed by SIGKILL", "tick 7\n", "out of memory: the limit of its control group")
    assert said == "killed by SIGKILL (out of memory: the limit of its control group)"
    assert cause.of_death("exit code 1", "boom", "out of memory: x") == "exit code 1: boom"


GROUPS = Path("/sys/fs/cgroup/memory")


@pytest.mark.parametrize("where", ["files", *(["kernel"] if os.access(GROUPS / "cgroup.procs", os.W_OK) else [])])
def test_a_kill_for_the_limit_of_its_control_group_is_evidence(where, tmp_path, monkeypatch):
    """With the kernel's own counter where a group can be made, and with a file that looks like it everywhere."""
    if where == "files":
        counter = tmp_path / "memory.events"
        counter.write_text("low 0\noom 1\noom_kill 3\n")
        monkeypatch.setattr(cause, "_group_file", lambda pid: str(counter))
        memory = cause.Memory(os.getpid())
        assert memory.evidence() == ""
        counter.write_text("low 0\noom 2\noom_kill 4\n")
        found = memory.evidence()
    else:
        found = killed_for_memory(GROUPS / f"regrow-test-{os.getpid()}")
    assert found == "out of memory: the limit of its control group"


def killed_for_memory(group):
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text("30000000")
    code = "import sys\nsys.stdin.readline()\nx = bytearray(200_000_000)\nfor n in range(0, len(x), 4096): x[n] = 1"
    try:
        with subprocess.Popen([*PYTHON, code], stdin=subprocess.PIPE) as process:
            (group / "cgroup.procs").write_text(str(process.pid))
            memory = cause.Memory(process.pid)
            assert memory.evidence() == ""
            process.stdin.write(b"\n")
            process.stdin.close()
            assert process.wait() == -signal.SIGKILL
        return memory.evidence()
    finally:
        group.rmdir()


def test_f15_a_directory_that_may_not_be_entered_is_named(tmp_path, monkeypatch):
    shut = tmp_path / "shut"
    shut.mkdir(mode=0o700)
    (shut / "program").touch(mode=0o755)
    real = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: path != str(shut) and real(path, mode))
    release = {"argv": [str(shut / "program")], "cwd": str(tmp_path)}
    text = cause.of_start(errno.EACCES, "cannot run it: Permission denied", release)
    assert f"the directory {shut} cannot be entered (mode 0700, owner uid {os.getuid()}" in text


def test_a_file_of_another_kind_of_machine(tmp_path):
    release = {"argv": ["./program"], "cwd": str(tmp_path)}
    assert "another kind of processor" in cause.of_start(errno.ENOEXEC, "cannot run ./program: x", release)
