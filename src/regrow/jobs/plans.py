"""Plans: what each kind of job does, as a list of step names. The list is stored with the job, so a daemon of another
version finishes a job by the plan it was begun with."""

from __future__ import annotations

from regrow.api.types import Kind

_BUILD = ("workspace", "test", "build", "release")
_SERVE = ("rehearse", "candidate", "switch", "bake", "promote")
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
}

DATA = frozenset({"snapshot", "restore", "rehearse"})
"""Steps about the service's databases; without any they cost nothing."""


def plan(kind: Kind, *, data: bool, keep: bool = False) -> list[str]:
    """The steps of a job, of a service with `data` or without, and where somebody has to say `keep` or nobody."""
    return [step for step in PLANS[kind] if (data or step not in DATA) and (keep or step != "confirm")]


GOOD = frozenset({"promote", "recheck", "merge", "tidy"})
"""From here on the release stays: nothing is cancelled any more, and nobody's rights are asked for again."""

# Which steps change what runs: a failure from here on is reported against what serves now (F25).
SWITCHED = frozenset({"switch", "bake", "confirm", "promote"})
