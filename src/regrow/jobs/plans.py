"""Plans: what each kind of job does, as a list of step names. The list is stored with the job, so a daemon of another
version finishes a job by the plan it was begun with."""

from __future__ import annotations

from regrow.api.types import Kind

_BUILD = ("workspace", "test", "build", "release")
_SERVE = ("turn", "snapshot", "candidate", "switch", "bake", "promote")
_SERVE_NEW = (*_SERVE[:-1], "confirm", "promote")

PLANS: dict[Kind, tuple[str, ...]] = {
    "restart": ("check", *_SERVE),
    "build": ("check", *_BUILD, "tidy"),
    "deploy": ("check", *_BUILD, *_SERVE_NEW, "tidy"),
    "repair": (
        *("check", "workspace", "agent", "gate", "verify", "approve", "commit"),
        *("build", "release"),
        *(*_SERVE_NEW, "merge", "tidy"),
    ),
    "rollback": ("check", *_SERVE),
}

# Which steps change what runs: a failure from here on is reported against what serves now (F25).
SWITCHED = frozenset({"switch", "bake", "confirm", "promote"})
