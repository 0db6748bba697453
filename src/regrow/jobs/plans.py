"""Plans: what each kind of job does, as a list of step names. The list is stored with the job, so a daemon of another
version finishes a job by the plan it was begun with."""

from __future__ import annotations

from regrow.api.types import Kind

_BUILD = ("workspace", "test", "build", "release")
_SERVE = ("rehearse", "settings", "candidate", "switch", "bake", "compare", "promote")
_SERVE_NEW = ("turn", "snapshot", *_SERVE[:-1], "confirm", "promote")

PLANS: dict[Kind, tuple[str, ...]] = {
    "restart": ("check", "turn", "snapshot", *_SERVE),
    "build": ("check", *_BUILD, "tidy"),
    "deploy": ("check", *_BUILD, *_SERVE_NEW, "tidy"),
    "repair": (
        *("check", "workspace", "reproduce", "agent", "gate", "verify", "weigh", "approve", "commit"),
        *("build", "release"),
        *(*_SERVE_NEW, "recheck", "merge", "tidy"),
    ),
    "rollback": ("check", "turn", "snapshot", "restore", *_SERVE),
    "configure": ("check", "turn", "settings", "configure", *_SERVE[2:-1], "confirm", "promote"),
}

DATA = frozenset({"snapshot", "restore", "rehearse"})
"""Steps about the service's databases; without any they cost nothing."""


FILES = frozenset({"settings", "compare"})
"""Steps about the service's own files of settings."""


def plan(kind: Kind, *, data: bool, keep: bool = False, settings: bool = False, start: bool = True) -> list[str]:
    """The steps of a job.

    Args:
        kind: of the job.
        data: whether the service has databases.
        keep: whether somebody has to say `keep`.
        settings: whether the service has files of settings.
        start: whether a changed setting takes a fresh process.
    """
    if kind == "configure" and not start:
        return ["check", "turn", "configure"]
    left_out = (DATA if not data else frozenset()) | (FILES if not settings else frozenset())
    return [step for step in PLANS[kind] if step not in left_out and (keep or step != "confirm")]


GOOD = frozenset({"promote", "recheck", "merge", "tidy"})
"""From here on the release stays: nothing is cancelled any more, and nobody's rights are asked for again."""

# Which steps change what runs: a failure from here on is reported against what serves now (F25).
SWITCHED = frozenset({"switch", "bake", "compare", "confirm", "promote"})

UNDOABLE = frozenset({"deploy", "repair", "rollback", "configure"})
"""The kinds of job of which `undo` brings back what was before."""
