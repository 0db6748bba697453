"""Causes: why a process died or was never started, in one line that helps whoever reads it (F31)."""

import contextlib
import errno
import os
import re
import stat
from collections.abc import Callable, Sequence
from typing import Any

Json = dict[str, Any]
LONGEST = 300
_UNRELATED = 8  # so many lines may follow a traceback that are not of it; with more, the program had lived on
# Signals that somebody sends: the last line of the log has nothing to do with them.
_SENT = ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT")
# Lines that follow the decisive one in a trace.
_TRACE = re.compile(
    r"\s|$|goroutine |created by |[\w./*$]+\(.*\)$|exit status |note: |stack backtrace|Node\.js v|[}\]]|\.\.\. "
    r"|Caused by: |Emitted |Require stack|- /|\(Use `node|\[signal "
)


# What the program itself said last


def decisive_line(text: str) -> str:
    """The line of a program's output that says why it ended: the head of the last trace, else the last line.

    Args:
        text: the end of its output.
    """
    lines = [line.rstrip() for line in text.splitlines()]
    for table in (_HEADS, _STACKS):
        found = [
            (number, said)
            for number, line in enumerate(lines)
            for head, read in table
            if (match := head.match(line)) and (said := read(match, lines[number:]))
        ]
        if found:
            number, said = max(found, key=lambda one: one[0])
            if sum(not _TRACE.match(line) for line in lines[number + 1 :]) <= _UNRELATED:
                return said.strip()
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def _python(head: re.Match[str], lines: Sequence[str]) -> str:
    """The first line that is not indented; of an exception group also its first exception."""
    margin = len(head[1])
    rest = [line[margin:] for line in lines[1:]]
    said = next((line for line in rest if line and not line.startswith(" ")), "")
    inner = next((line.lstrip(" |") for line in lines if re.match(r"\s+\| (?! )\S", line) and said not in line), "")
    return f"{said}: {inner}" if margin and inner else said


def _rust(head: re.Match[str], lines: Sequence[str]) -> str:
    """Where and what; a thread that only passes on the panic of another says nothing."""
    said = f"panicked at {head[1]} {lines[1].strip() if len(lines) > 1 and head[1].endswith(':') else ''}"
    return "" if "Any { .. }" in said else said


def _node(head: re.Match[str], lines: Sequence[str]) -> str:
    """The line below the caret, and the innermost cause."""
    said = next((line for line in lines[1:3] if line), "")
    inner = [match[1] for line in lines if (match := re.match(r"\s+\[cause\]: (.+?)(?: \{)?$", line))]
    return f"{said} (caused by {inner[-1]})" if inner else said


def _java(head: re.Match[str], lines: Sequence[str]) -> str:
    inner = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return f"{head[1]} (caused by {inner[-1]})" if inner else head[1]


def _cplusplus(head: re.Match[str], lines: Sequence[str]) -> str:
    what = next((line.partition("what():")[2].strip() for line in lines[1:2] if "what():" in line), "")
    return f"{head[1]}: {what}" if what else head[1]


def _itself(head: re.Match[str], _: Sequence[str]) -> str:
    return head[1]


_Rule = tuple[re.Pattern[str], Callable[[re.Match[str], Sequence[str]], str]]
_HEADS: tuple[_Rule, ...] = (
    (re.compile(r"([ |+-]*)(?:Exception Group )?Traceback \(most recent call last\):"), _python),
    (re.compile(r"thread '.*'(?: \(\d+\))? panicked at (.+)"), _rust),
    (re.compile(r"((?:panic|fatal error): .+?)(?: \[recovered.*)?$"), _itself),  # Go
    (re.compile(r"\s*\^+$"), _node),
    (re.compile(r'Exception in thread "[^"]*" (.+)'), _java),
    (re.compile(r"Error: (Could not find or load main class .+)"), _java),
    (re.compile(r"terminate called after throwing an instance of '(.+)'"), _cplusplus),
    (re.compile(r"Unhandled exception\.? (.+)"), _itself),  # .NET
    (re.compile(r"\S+:\d+:in [`'].*': (.+ \([\w:]+\))$"), _itself),  # Ruby
    (re.compile(r"PHP Fatal error: +(.+)"), _itself),
    (re.compile(r"==\d+==ERROR: (\w+Sanitizer: .+)"), _itself),
)


def _above_stack(head: re.Match[str], lines: Sequence[str]) -> str:
    return head[1] if len(lines) > 1 and re.match(r"\s+at \S", lines[1]) else ""


_STACKS: tuple[_Rule, ...] = ((re.compile(r"(\S.*)"), _above_stack),)


# How it ended


def of_death(how: str, text: str, memory: str) -> str:
    """One line on a death.

    Args:
        how: "exit code 1" or "killed by SIGSEGV".
        text: the end of what it printed, without secrets.
        memory: evidence that it ran out of memory, "" if there is none; see `Memory`.
    """
    if how == "killed by SIGKILL" and memory:
        return f"{how} ({memory})"
    said = "" if how.rpartition(" ")[2] in _SENT else decisive_line(text)
    return (f"{how}: {said}" if said else how)[:LONGEST]


class Memory:
    """Whether the kernel killed for want of memory: its counters now, to be compared after a death."""

    def __init__(self, pid: int) -> None:
        self._group = _group_file(pid)
        self._before = (_killed(self._group), _killed("/proc/vmstat"))

    def evidence(self) -> str:
        """What changed since, in words: certain of the process's control group, a question of the whole machine."""
        group, machine = _killed(self._group), _killed("/proc/vmstat")
        if group > self._before[0]:
            return "out of memory: the limit of its control group"
        if machine > self._before[1]:
            return "out of memory? the kernel has killed for memory since it started"
        return ""


def _group_file(pid: int) -> str:
    """The file in which the kernel counts kills for memory in a process's control group, version 2 or 1."""
    found = ""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/cgroup", encoding="utf-8") as file:  # noqa: PTH123
        for line in file:
            number, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                return f"/sys/fs/cgroup/memory{path}/memory.oom_control"
            if number == "0":
                found = f"/sys/fs/cgroup{path}/memory.events"
    return found


def _killed(path: str) -> int:
    with contextlib.suppress(OSError, ValueError), open(path, encoding="ascii") as file:  # noqa: PTH123
        for line in file:
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0


# Why it was never started


def of_start(number: int, text: str, release: Json) -> str:
    """One line on a program that could not be run, with what to do.

    Args:
        number: the errno.
        text: "cannot run PROGRAM: ..." or "cannot enter DIRECTORY: ...".
        release: the spec; `argv` and `cwd` are used.
    """
    program, cwd = release["argv"][0], release["cwd"]
    path = os.path.join(cwd, program) if "/" in program else ""  # noqa: PTH118
    if number == errno.ENOENT and not os.path.isdir(cwd):  # noqa: PTH112
        return f"cannot enter {cwd}: the directory of the release is gone; deploy another release"
    try:
        if number == errno.EACCES:
            text += _denied(path or program)
        elif number == errno.ENOENT and path and os.path.exists(path):  # noqa: PTH110
            text += f"; the file is there, and the interpreter named in its first line is not: {_first_line(path)}"
        elif number == errno.ENOEXEC:
            text += "; it has no #! line, or is for another kind of processor"
    except OSError:
        pass
    return text[:LONGEST]


def _denied(path: str) -> str:
    """Who may not do what with which file (F15)."""
    if not os.path.isabs(path):  # noqa: PTH117
        return f"; no {path} in PATH may be run by uid {os.geteuid()}"
    parent = os.path.dirname(path)  # noqa: PTH120
    shut = next((up for up in _parents(parent) if not os.access(up, os.X_OK)), "")
    entry = os.stat(shut or path)  # noqa: PTH116
    facts = f"mode {stat.S_IMODE(entry.st_mode):04o}, owner uid {entry.st_uid}"
    who = f"it is run by uid {os.geteuid()}"
    if shut:
        return f"; the directory {shut} cannot be entered ({facts}; {who})"
    if stat.S_ISDIR(entry.st_mode):
        return "; it is a directory"
    if os.statvfs(path).f_flag & os.ST_NOEXEC:
        return "; it lies on a file system that is mounted noexec"
    return f" ({facts}; {who})"


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[: count + 1]) or "/" for count in range(len(parts))]


def _first_line(path: str) -> str:
    with open(path, "rb") as file:  # noqa: PTH123
        return file.readline(100).decode("utf-8", "replace").strip()
