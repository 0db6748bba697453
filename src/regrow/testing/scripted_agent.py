"""A real program that edits a workspace as a script says: `python3 scripted_agent.py SCRIPT.json`, for the `command`
agent. It imports the standard library only, so that any Python 3 in a box runs it.

The script is a list of steps, done in order in the working directory; or an object with a list for each goal of the
task ("reproduce", "fix"), where the list of a further attempt at it may be under "fix 2", "fix 3":

    {"say": KIND, "text": TEXT}               tell an event
    {"write": PATH, "text": TEXT}             write a file, with its directories; "mode" sets its permissions
    {"replace": PATH, "old": A, "new": B}     replace text that is there once
    {"delete": PATH}                          delete a file
    {"link": PATH, "to": TARGET}              make a symbolic link
    {"mkfifo": PATH}                          make a named pipe
    {"run": [PROGRAM, ARGUMENT, ...]}         run a program; "check": true ends with its code when that is not 0
    {"save_task": PATH}                       write what came on stdin
    {"print": TEXT}                           print a plain line
    {"hang": true}                            wait for ever
    {"exit": CODE}                            end

A step that the box refuses is told as a log event and the next one is done, as an agent would try on; "must": true
ends with code 3 instead.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any


def main(argv: list[str]) -> int:
    """Do the steps of the script at `argv[0]`; the result is the exit code."""
    task = sys.stdin.read()
    script = json.loads(Path(argv[0]).read_text())
    if isinstance(script, dict):
        told = json.loads(task)
        script = script.get(f"{told['goal']} {told['attempt']}", script.get(told["goal"], []))
    for step in script:
        try:
            code = do(step, task)
        except (OSError, ValueError) as error:
            say("log", f"refused: {error}")
            code = 3 if step.get("must") else None
        if code is not None:
            return code
    return 0


def do(step: dict[str, Any], task: str) -> int | None:
    """Do one step; a number ends the program with it."""
    if "say" in step:
        say(step["say"], step["text"])
    elif "write" in step:
        path = Path(step["write"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(step["text"])
        if "mode" in step:
            path.chmod(step["mode"])
    elif "replace" in step:
        path = Path(step["replace"])
        text = path.read_text()
        if text.count(step["old"]) != 1:
            raise ValueError(f"{step['old']!r} is not once in {path}")
        path.write_text(text.replace(step["old"], step["new"]))
    elif "delete" in step:
        Path(step["delete"]).unlink()
    elif "link" in step:
        Path(step["link"]).symlink_to(step["to"])
    elif "mkfifo" in step:
        os.mkfifo(step["mkfifo"])
    elif "run" in step:
        done = subprocess.run(step["run"], stdin=subprocess.DEVNULL, check=False)
        if step.get("check") and done.returncode:
            return done.returncode
    elif "save_task" in step:
        Path(step["save_task"]).write_text(task)
    elif "print" in step:
        sys.stdout.write(step["print"] + "\n")
        sys.stdout.flush()
    elif "hang" in step:
        signal.pause()
    elif "exit" in step:
        return int(step["exit"])
    else:
        raise ValueError(f"unknown step {step}")
    return None


def say(kind: str, text: str) -> None:
    """Tell an event."""
    sys.stdout.write(json.dumps({"event": kind, "text": text}) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
