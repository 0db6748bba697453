from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from regrow.api.types import Error, Job
from regrow.cli import exits
from regrow.errors import ConfigError, NotFound, Refused, RegrowError, StoreError

DOCUMENT = Path(__file__).parents[3] / "docs/reference/exit-codes.md"


def job(kind: Any, status: Any, step: str = "", error: str = "failed") -> Job:
    return Job(
        id=1, service="claw", kind=kind, status=status, title="", asked_by="", channel="", chat="", created_at=0,
        error=Error(kind=error, text="cannot", step=step) if step or error != "failed" else None,
    )  # fmt: skip


CASES = [
    (job("restart", "done"), 0),
    (job("restart", "doing"), 0),
    (job("restart", "waiting"), 0),
    (job("repair", "cancelled"), 6),
    (job("repair", "failed", "workspace"), 1),
    (job("repair", "failed", "agent"), 1),
    (job("repair", "failed", "gate", "refused"), 1),
    (job("repair", "failed", "reproduce"), 1),
    (job("repair", "failed", "verify"), 1),
    (job("repair", "failed", "approve", "rejected"), 1),
    (job("deploy", "failed", "approve", "rejected"), 5),
    (job("repair", "undone", "build", "process_failed"), 2),
    (job("deploy", "failed", "workspace"), 2),
    (job("deploy", "failed", "test"), 2),
    (job("build", "failed", "release"), 2),
    (job("restart", "failed", "candidate", "candidate_failed"), 3),
    (job("deploy", "undone", "candidate", "candidate_failed"), 3),
    (job("rollback", "failed", "snapshot"), 3),
    (job("deploy", "failed", "switch"), 3),
    (job("deploy", "undone", "switch"), 4),
    (job("deploy", "undone", "bake"), 4),
    (job("restart", "failed", "promote"), 4),
    (job("deploy", "failed", "check", "pinned"), 5),
    (job("deploy", "failed", "check", "something"), 5),
    (job("deploy", "failed", "check", "forbidden"), 77),
    (job("deploy", "failed", "check", "config"), 78),
    (job("deploy", "failed", "build", "store"), 75),
    (job("deploy", "failed"), 70),
    (job("deploy", "failed", "a step of a later version"), 70),
]


@pytest.mark.parametrize(("ended", "code"), CASES)
def test_the_code_of_a_job(ended: Job, code: int) -> None:
    assert exits.exit_code(ended) == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (ConfigError("cannot"), 78),
        (StoreError("cannot"), 75),
        (NotFound("cannot"), 5),
        (Refused("cannot", kind="a kind of a later version"), 5),
        (RegrowError("cannot", kind="no_daemon"), 69),
        (RegrowError("cannot", kind="bad_request"), 64),
        (RegrowError("cannot", kind="protocol"), 70),
        (RegrowError("cannot", kind="service"), 69),
    ],
)
def test_the_code_of_an_error(error: RegrowError, code: int) -> None:
    assert exits.error_code(error) == code


def test_every_code_is_documented() -> None:
    text = DOCUMENT.read_text("utf-8")
    codes = {value for name, value in vars(exits).items() if name.isupper() and type(value) is int}
    assert [code for code in sorted(codes) if f"| {code} |" not in text] == []
