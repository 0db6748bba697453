"""What an agent is told: the task in words. The bug stays as the person wrote it."""

from __future__ import annotations

from regrow.agents.base import Task

_FIRST = """\
A long-running service has a bug. Find its cause in this repository and mend it with the smallest change that does.

The bug, in the words of the person who reported it:
<bug>
{bug}
</bug>
"""
_TEST = """\
A long-running service has a bug. Do not mend it. Write the smallest test that fails because of it, in the style of the
tests that are there, and run it: it must fail for the reason that the person reports, and for no other.

The bug, in the words of the person who reported it:
<bug>
{bug}
</bug>
"""
_AGAIN = """\
The person who reported the bug has answered. Their words:
<answer>
{bug}
</answer>

The workspace now holds the code as it serves at this moment. What you changed before and was not deployed is not in it:
make it again if it is still wanted.
"""
_RULES = """
Rules:
- You are in {workspace}. Only these paths can be written (gitignore patterns): {allowed}. Everything else is read-only.
- There is no network but your model. Install nothing. Do not commit: the change is read from the files.
- Do not weaken, skip or delete tests. The change is proved from outside by tests, and read by a person.
- End with one short paragraph in the language of the report: what the cause was, and what you changed.
"""
_REPRODUCTION = """
This shell script ends with a code other than 0 while the bug is there, and must end with 0 afterwards:
<script>
{reproduction}
</script>
"""
_FAILING = """
This is what it prints while the bug is there:
<output>
{failing}
</output>
"""
_EARLIER = """
Earlier attempts were not accepted, for these reasons:
<reasons>
{earlier}
</reasons>
"""
_NO_TESTS = "- Tests are not yours to change: those that are there decide, the one that shows the bug among them.\n"


def briefing(task: Task) -> str:
    """The prompt for a task; for one that goes on with a session, only what is new."""
    begin = _TEST if task.goal == "reproduce" else _AGAIN if task.session else _FIRST
    said = begin.format_map({"bug": task.bug})
    if task.reproduction:
        said += _REPRODUCTION.format_map({"reproduction": task.reproduction})
    if task.failing and task.goal == "fix":
        said += _FAILING.format_map({"failing": task.failing})
    if task.earlier:
        said += _EARLIER.format_map({"earlier": "\n\n".join(task.earlier)})
    said += _RULES.format_map({"workspace": task.workspace, "allowed": ", ".join(task.allowed)})
    return said + _NO_TESTS if task.goal == "fix" and task.sealed else said
