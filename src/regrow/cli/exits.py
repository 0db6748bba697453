"""Exit codes: what a script may branch on. The page `docs/reference/exit-codes.md` explains them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regrow.errors import NotFound, Refused, RegrowError

if TYPE_CHECKING:
    from regrow.api.types import Job

DONE = 0
NO_REPAIR = 1
NOT_BUILT = 2
NOT_STARTED = 3
WENT_BACK = 4
UNWELL = 1
"""`regrow doctor`: something is wrong."""
REFUSED = 5
CANCELLED = 6
USAGE = 64
NO_DAEMON = 69
BUG = 70
STORE = 75
FORBIDDEN = 77
CONFIG = 78
INTERRUPTED = 130

BY_KIND = {
    "refused": REFUSED,
    "pinned": REFUSED,
    "locked": REFUSED,
    "install": REFUSED,
    "unfit": REFUSED,
    "went_back": WENT_BACK,
    "busy": REFUSED,
    "not_found": REFUSED,
    "bad_request": USAGE,
    "usage": USAGE,
    "no_daemon": NO_DAEMON,
    "no_answer": NO_DAEMON,
    "confined": REFUSED,
    "lost": NO_DAEMON,
    "still_running": NO_DAEMON,
    "starting": NO_DAEMON,
    "stopping": NO_DAEMON,
    "protocol": BUG,
    "no_systemd": REFUSED,
    "foreign": REFUSED,
    "no_polkit": REFUSED,
    "running": REFUSED,
    "store": STORE,
    "forbidden": FORBIDDEN,
    "forbidden_here": FORBIDDEN,
    "frozen": REFUSED,
    "unauthorized": FORBIDDEN,
    "config": CONFIG,
    "feishu_refused": CONFIG,
}
"""What an error means wherever it happens."""

BY_STEP = {
    "check": REFUSED,
    "workspace": NOT_BUILT,
    "reproduce": NO_REPAIR,
    "agent": NO_REPAIR,
    "gate": NO_REPAIR,
    "verify": NO_REPAIR,
    "approve": NO_REPAIR,
    "test": NOT_BUILT,
    "build": NOT_BUILT,
    "release": NOT_BUILT,
    "snapshot": NOT_STARTED,
    "restore": REFUSED,
    "rehearse": NOT_STARTED,
    "candidate": NOT_STARTED,
    "switch": WENT_BACK,
    "bake": WENT_BACK,
    "confirm": WENT_BACK,
    "promote": WENT_BACK,
}
"""How far a job came: the step that failed."""

OWN_MEANING = frozenset({"reproduce", "agent", "gate", "verify", "approve"})
"""Steps that refuse as their work: a gate that says "refused" has not refused the job but the repair."""

EXCEPTIONS = {
    ("repair", "workspace"): NO_REPAIR,
    ("deploy", "approve"): REFUSED,
    ("rollback", "approve"): REFUSED,
    ("restart", "approve"): REFUSED,
    ("build", "approve"): REFUSED,
}
"""Where the kind of the job changes what a step's failure means."""


def exit_code(job: Job) -> int:
    """The exit code of a job as it is; 0 also while it has not ended."""
    if job.status == "cancelled":
        return CANCELLED
    if job.status not in ("failed", "undone"):
        return DONE
    if job.error is None:
        return BUG
    step, kind = job.error.step, job.error.kind
    if step not in OWN_MEANING and kind in BY_KIND:
        return BY_KIND[kind]
    if step == "switch" and job.status == "failed":
        return NOT_STARTED  # nothing to undo: the old version never stopped serving
    return EXCEPTIONS.get((job.kind, step), BY_STEP.get(step, BUG))


def error_code(error: RegrowError) -> int:
    """The exit code of an expected error."""
    if error.kind in BY_KIND:
        return BY_KIND[error.kind]
    return REFUSED if isinstance(error, Refused | NotFound) else NO_DAEMON
